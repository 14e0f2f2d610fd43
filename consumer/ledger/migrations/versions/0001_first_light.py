"""First light: cases, notifications, claims, history, intents, outbox and what goes with them."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _cases()
    _claims()
    _connectors()
    _pauses()
    _quarantine()
    _history()
    _intents()
    _notifications()
    _outbox()
    _indexes()


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


def _cases() -> None:
    _table(
        "cases",
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
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
    )


def _claims() -> None:
    _table(
        "claims",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("case_id", sa.String(36)),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", MOMENT),
        sa.Column("lease_expires_at", MOMENT),
        sa.PrimaryKeyConstraint("cloud", "volume_id", name=op.f("pk_claims")),
    )


def _connectors() -> None:
    _table(
        "connectors",
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("connector", LONG, nullable=False),
        sa.Column("attachment_id", sa.String(255)),
        sa.Column("learned_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cloud", "host", name=op.f("pk_connectors")),
    )


def _pauses() -> None:
    _table(
        "pauses",
        sa.Column("pause_id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("paused_at", MOMENT, nullable=False),
        sa.Column("paused_by", sa.String(255), nullable=False),
        sa.Column("reason", LONG, nullable=False),
        sa.Column("resumed_at", MOMENT),
        sa.Column("resumed_by", sa.String(255)),
        sa.PrimaryKeyConstraint("pause_id", name=op.f("pk_pauses")),
    )


def _quarantine() -> None:
    _table(
        "quarantine",
        sa.Column("quarantine_id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("bus", sa.String(255), nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("reason", LONG, nullable=False),
        sa.Column("excerpt", LONG, nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("cloud", "body_sha256", name=op.f("uq_quarantine_cloud_body_sha256")),
    )


def _history() -> None:
    _table(
        "history",
        sa.Column("history_id", SERIAL, nullable=False, autoincrement=True),
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
        sa.PrimaryKeyConstraint("history_id", name=op.f("pk_history")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.case_id"], name=op.f("fk_history_case_id_cases")
        ),
    )


def _intents() -> None:
    _table(
        "intents",
        sa.Column("intent_id", SERIAL, nullable=False, autoincrement=True),
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
        sa.PrimaryKeyConstraint("intent_id", name=op.f("pk_intents")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.case_id"], name=op.f("fk_intents_case_id_cases")
        ),
        sa.UniqueConstraint("request_id", name=op.f("uq_intents_request_id")),
    )


def _notifications() -> None:
    _table(
        "notifications",
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(36)),
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
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_notifications")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.case_id"], name=op.f("fk_notifications_case_id_cases")
        ),
    )


def _outbox() -> None:
    _table(
        "outbox",
        sa.Column("outbox_id", SERIAL, nullable=False, autoincrement=True),
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
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.case_id"], name=op.f("fk_outbox_case_id_cases")
        ),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
    )


def _indexes() -> None:
    for table, columns in (
        ("cases", ["cloud", "next_attempt_at"]),
        ("cases", ["cloud", "opened_at"]),
        ("cases", ["cloud", "state", "opened_at"]),
        ("cases", ["cloud", "volume_id"]),
        ("claims", ["cloud", "lease_expires_at"]),
        ("pauses", ["cloud", "resumed_at"]),
        ("history", ["case_id"]),
        ("intents", ["case_id"]),
        ("notifications", ["case_id"]),
        ("notifications", ["cloud", "request_id"]),
        ("notifications", ["cloud", "volume_id", "received_at"]),
        ("outbox", ["case_id", "due_at"]),
        ("outbox", ["cloud", "due_at"]),
    ):
        name = op.f("_".join(("ix", table, *columns)))
        op.create_index(name, table, columns, if_not_exists=True)
