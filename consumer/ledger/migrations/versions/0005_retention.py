"""Retention: indices by which what is over is found, and ids that are never given again."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NEW = (
    # A foreign key needs an index that begins with its column, so this comes before the old goes.
    ("notifications", ["case_id", "volume_id", "received_at"]),
    ("quarantine", ["cloud", "state", "last_at"]),
)
OLD = (
    ("notifications", ["case_id"]),
    ("notifications", ["cloud", "volume_id", "received_at"]),
)


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off has to be able to go on.
    for table, columns in NEW:
        op.create_index(_named(table, columns), table, columns, if_not_exists=True)
    for table, columns in OLD:
        op.drop_index(_named(table, columns), table, if_exists=True)
    if op.get_bind().dialect.name == "sqlite":
        _never_the_same_id_twice()


def _never_the_same_id_twice() -> None:
    """Make SQLite give no id again that a row had which was forgotten; the others do so anyhow."""
    with op.batch_alter_table(
        "outbox", recreate="always", table_kwargs={"sqlite_autoincrement": True}
    ):
        pass


def _named(table: str, columns: list[str]) -> str:
    return op.f("_".join(("ix", table, *columns)))
