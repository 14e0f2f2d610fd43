"""The slow round of the sweep, and a person's acknowledgement of what the first sweeps found.

A ledger that has swept before this migration counts as acknowledged.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
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
        "rounds",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("marker", sa.String(255)),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("devices_before", sa.Integer()),
        sa.PrimaryKeyConstraint("cloud", name="pk_rounds"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_table(
        "inventory",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("instance_id", sa.String(255), nullable=False),
        sa.Column("device_round", sa.Integer(), nullable=False),
        sa.Column("row_round", sa.Integer(), nullable=False),
        sa.Column("checked_round", sa.Integer(), nullable=False),
        sa.Column("offered_at", MOMENT),
        sa.PrimaryKeyConstraint("cloud", "volume_id", "instance_id", name="pk_inventory"),
        if_not_exists=True,
        **MARIADB,
    )
    _acknowledgement()


def _acknowledgement() -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("sweeps")}
    long = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
    columns: tuple[sa.Column[Any], ...] = (
        sa.Column("first_swept_at", MOMENT),
        sa.Column("acknowledged_at", MOMENT),
        sa.Column("acknowledged_by", sa.String(255)),
        sa.Column("acknowledgement", long),
    )
    for column in columns:
        if column.name not in present:
            op.add_column("sweeps", column)
    names = ("swept_at", "first_swept_at", "acknowledged_at")
    swept = sa.table("sweeps", *(sa.column(name) for name in names))
    op.execute(
        swept.update()
        .where(swept.c.swept_at.is_not(None), swept.c.acknowledged_at.is_(None))
        .values(acknowledged_at=swept.c.swept_at, first_swept_at=swept.c.swept_at)
    )
