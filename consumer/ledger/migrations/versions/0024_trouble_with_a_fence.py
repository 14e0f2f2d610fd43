"""What keeps a fence from becoming as it is meant to be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("fences")}
    if "trouble" not in present:
        op.add_column("fences", sa.Column("trouble", LONG))
