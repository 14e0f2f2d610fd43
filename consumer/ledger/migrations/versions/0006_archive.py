"""The archive: what is over, apart from what is worked on; the service fills it by and by."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _cases()
    _notifications()
    _history()
    _intents()
    _outbox()


def _table(name: str, *parts: sa.Column[Any] | sa.Constraint) -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off has to be able to go on.
    op.create_table(
        name,
        *parts,
        if_not_exists=True,
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_nopad_bin",
    )


def _of_a_case(name: str, key: str, *parts: sa.Column[Any]) -> None:
    _table(
        name,
        *parts,
        sa.PrimaryKeyConstraint("case_id", key, name=op.f(f"pk_{name}")),
        sa.ForeignKeyConstraint(
            ["case_id"],
            ["archived_cases.case_id"],
            name=op.f(f"fk_{name}_case_id_archived_cases"),
        ),
    )


def _cases() -> None:
    _table(
        "archived_cases",
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("operation", sa.String(16), nullable=False),
        sa.Column("attachment_id", sa.String(255)),
        sa.Column("instance_id", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("backend", sa.String(255)),
        sa.Column("connector", LONG),
        sa.Column("request_ids", LONG, nullable=False),
        sa.Column("triggered_by", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("rearmed_at", MOMENT),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT),
        sa.Column("next_attempt_at", MOMENT),
        sa.Column("signal_seq", sa.Integer(), nullable=False),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("end_seen", sa.Boolean(), nullable=False),
        sa.Column("released_unasked", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("mended_at", MOMENT),
        sa.Column("mended_attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("first_clean_at", MOMENT),
        sa.Column("rule", sa.String(255)),
        sa.Column("verdict", sa.String(255)),
        sa.Column("reason", LONG),
        sa.Column("conclusion", sa.String(32)),
        sa.Column("use_case", sa.String(16)),
        sa.Column("verified_by", sa.String(16)),
        sa.Column("fingerprint", sa.String(255)),
        sa.Column("approved_by", sa.String(255)),
        sa.Column("approved_fingerprint", sa.String(255)),
        sa.Column("approved_at", MOMENT),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_archived_cases")),
    )
    name = op.f("ix_archived_cases_cloud_opened_at")
    op.create_index(name, "archived_cases", ["cloud", "opened_at"], if_not_exists=True)


def _notifications() -> None:
    _of_a_case(
        "archived_notifications",
        "message_id",
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("publisher_id", sa.String(255), nullable=False),
        sa.Column("operation", sa.String(16)),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("volume_id", sa.String(255)),
        sa.Column("instance_id", sa.String(255)),
        sa.Column("attachment_id", sa.String(255)),
        sa.Column("request_id", sa.String(255)),
        sa.Column("own_request_id", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("backend", sa.String(255)),
        sa.Column("volume_status", sa.String(255)),
        sa.Column("project_id", sa.String(255)),
        sa.Column("user_id", sa.String(255)),
        sa.Column("fault", LONG),
        sa.Column("attachment_rows", LONG, nullable=False),
        sa.Column("published_at", MOMENT),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("bus", sa.String(255), nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
    )


def _history() -> None:
    _of_a_case(
        "archived_history",
        "history_id",
        sa.Column("history_id", SERIAL, nullable=False, autoincrement=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("fence", sa.BigInteger()),
        sa.Column("state", sa.String(32)),
        sa.Column("rule", sa.String(255)),
        sa.Column("verdict", sa.String(255)),
        sa.Column("reason", LONG),
        sa.Column("detail", LONG),
    )


def _intents() -> None:
    _of_a_case(
        "archived_intents",
        "intent_id",
        sa.Column("intent_id", SERIAL, nullable=False, autoincrement=False),
        sa.Column("request_id", sa.String(255), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("target", LONG, nullable=False),
        sa.Column("evidence", LONG, nullable=False),
        sa.Column("intended_at", MOMENT, nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("detail", LONG),
        sa.Column("result_at", MOMENT),
    )


def _outbox() -> None:
    _of_a_case(
        "archived_outbox",
        "outbox_id",
        sa.Column("outbox_id", SERIAL, nullable=False, autoincrement=False),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("taken_by", sa.String(255)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", LONG),
        sa.Column("sent_at", MOMENT),
        sa.Column("unrouted_at", MOMENT),
    )
