"""What people decided, so that the service can log it; and until when a case is acknowledged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MARIADB = {
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}
ACKNOWLEDGEMENT = (
    ("acknowledged_until", MOMENT),
    ("acknowledged_by", sa.String(255)),
    ("acknowledged_rule", sa.String(255)),
)


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    op.create_table(
        "decisions",
        sa.Column("decision_id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", LONG, nullable=False),
        sa.Column("case_id", sa.String(36)),
        sa.Column("detail", LONG),
        sa.Column("logged_at", MOMENT),
        sa.PrimaryKeyConstraint("decision_id", name="pk_decisions"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index(
        "ix_decisions_cloud_logged_at", "decisions", ["cloud", "logged_at"], if_not_exists=True
    )
    for table in ("cases", "archived_cases"):
        _acknowledgement(table)


def _acknowledgement(table: str) -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for name, kind in ACKNOWLEDGEMENT:
        if name not in present:
            op.add_column(table, sa.Column(name, kind))
