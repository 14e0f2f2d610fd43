"""The rows among which the start of a detach did not choose: its end tells which of them went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    long = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
    for table in ("cases", "archived_cases"):
        # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
        columns = sa.inspect(op.get_bind()).get_columns(table)
        if "shown" not in {column["name"] for column in columns}:
            op.add_column(table, sa.Column("shown", long))
