"""Which client of a backend has a volume open for which attachment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0020"
down_revision = "0019"
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
        "learned_clients",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("attachment_id", sa.String(255), nullable=False),
        sa.Column("backend", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("address", sa.String(255)),
        sa.Column("client", sa.String(255)),
        sa.Column("cookie", sa.String(32)),
        sa.Column("first_seen_at", MOMENT),
        sa.Column("last_seen_at", MOMENT),
        sa.Column("listed_at", MOMENT, nullable=False),
        sa.Column("looked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cloud", "volume_id", "attachment_id", name="pk_learned_clients"),
        if_not_exists=True,
        **MARIADB,
    )
    for column in ("looked_at", "listed_at"):
        op.create_index(
            f"ix_learned_clients_cloud_{column}",
            "learned_clients",
            ["cloud", column],
            if_not_exists=True,
        )
