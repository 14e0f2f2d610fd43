"""What persons say of hosts that are powered off, and for which volumes that counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0019"
down_revision = "0018"
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
        "off_words",
        sa.Column("word_id", NUMBER, nullable=False, autoincrement=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("said_by", sa.String(255), nullable=False),
        sa.Column("said_at", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("reason", LONG, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("ended_by", sa.String(255)),
        sa.Column("ended_why", LONG),
        sa.Column("told_at", MOMENT),
        sa.PrimaryKeyConstraint("word_id", name="pk_off_words"),
        if_not_exists=True,
        **MARIADB,
    )
    op.create_index(
        "ix_off_words_cloud_ended_at", "off_words", ["cloud", "ended_at"], if_not_exists=True
    )
    op.create_table(
        "off_words_counted",
        sa.Column("word_id", NUMBER, nullable=False, autoincrement=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("counted_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["word_id"], ["off_words.word_id"], name="fk_off_words_counted_word_id_off_words"
        ),
        sa.PrimaryKeyConstraint("word_id", "volume_id", name="pk_off_words_counted"),
        if_not_exists=True,
        **MARIADB,
    )
