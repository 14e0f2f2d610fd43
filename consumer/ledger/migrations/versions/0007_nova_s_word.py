"""Whether Nova itself said that an operation began, and that it ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAMES = ("nova_started", "nova_ended")


def upgrade() -> None:
    for table in ("cases", "archived_cases"):
        _add(table)


def _add(table: str) -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off has to be able to go on.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for name in NAMES:
        if name not in present:
            column: sa.Column[bool] = sa.Column(name, sa.Boolean())
            op.add_column(table, column)
