"""Servers to which something happened: Cinder is asked later what they left behind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
MARIADB = {
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off has to be able to go on.
    op.create_table(
        "server_looks",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("instance_id", sa.String(255), nullable=False),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("told_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cloud", "instance_id", name="pk_server_looks"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index(
        "ix_server_looks_cloud_due_at", "server_looks", ["cloud", "due_at"], if_not_exists=True
    )
