"""Sweeps: whose turn the next one is, and what the last ones saw in transition."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
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
        "sweeps",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.Column("swept_at", MOMENT),
        sa.Column("counted", sa.Integer()),
        sa.Column("doubted_at", MOMENT),
        sa.PrimaryKeyConstraint("cloud", name="pk_sweeps"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "sightings",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("attachment_id", sa.String(255), nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("offers", sa.Integer(), nullable=False),
        sa.Column("offered_at", MOMENT),
        sa.PrimaryKeyConstraint("cloud", "volume_id", "attachment_id", name="pk_sightings"),
        if_not_exists=True,
        **MARIADB,
    )
