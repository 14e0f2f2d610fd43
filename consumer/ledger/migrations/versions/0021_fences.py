"""The fences that were made: which client of which backend is refused, and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0021"
down_revision = "0020"
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


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    op.create_table(
        "fences",
        sa.Column("fence_id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("backend", sa.String(255), nullable=False),
        sa.Column("cluster", sa.String(255)),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("client", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("attachment_id", sa.String(255)),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("request_id", sa.String(255), nullable=False),
        sa.Column("reason", LONG, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("fenced_at", MOMENT, nullable=False),
        sa.Column("until", MOMENT),
        sa.Column("renewed_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("ended_by", sa.String(255)),
        sa.Column("ended_why", LONG),
        sa.PrimaryKeyConstraint("fence_id", name="pk_fences"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index("ix_fences_cloud_state", "fences", ["cloud", "state"], if_not_exists=True)
    op.create_index("ix_fences_request_id", "fences", ["request_id"], if_not_exists=True)
