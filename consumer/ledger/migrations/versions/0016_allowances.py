"""How many plans were begun for each backend, host and project, and on each day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
MARIADB = {
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    op.create_table(
        "allowances",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("full_at", MOMENT),
        sa.Column("held_at", MOMENT),
        sa.PrimaryKeyConstraint("cloud", "scope", "name", name="pk_allowances"),
        if_not_exists=True,
        **MARIADB,
    )
