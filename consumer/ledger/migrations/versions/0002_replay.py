"""Replay: when a case was last sent round again, and what was decided of a quarantined body."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")


def upgrade() -> None:
    _add("cases", sa.Column("rearmed_at", MOMENT))
    _add(
        "quarantine",
        sa.Column("state", sa.String(16), nullable=False, server_default="held"),
        sa.Column("decided_at", MOMENT),
        sa.Column("decided_by", sa.String(255)),
        sa.Column("decision", LONG),
    )


def _add(table: str, *columns: sa.Column[Any]) -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off has to be able to go on.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)
