"""The ledger's tables, as SQLAlchemy Core sees them.

Ids and names compare byte for byte on all three databases: SQLite and PostgreSQL do so by
themselves, MariaDB by the tables' collation.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from consumer.ledger.database.columns import BigSerial, JsonText, Moment, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MARIADB: dict[str, Any] = {
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
}


def _cloud() -> Column[str]:
    return Column("cloud", String(64), nullable=False)


def _case(*, nullable: bool = False) -> Column[str]:
    return Column("case_id", String(36), ForeignKey("cases.case_id"), nullable=nullable)


cases = Table(
    "cases",
    metadata,
    Column("case_id", String(36), primary_key=True),
    _cloud(),
    Column("volume_id", String(255), nullable=False),
    Column("operation", String(16), nullable=False),
    Column("attachment_id", String(255)),
    Column("instance_id", String(255)),
    Column("host", String(255)),
    Column("backend", String(255)),
    Column("connector", JsonText),
    Column("request_ids", JsonText, nullable=False),
    Column("triggered_by", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("rearmed_at", Moment),
    Column("updated_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("next_attempt_at", Moment),
    Column("signal_seq", Integer, nullable=False),
    Column("starts", Integer, nullable=False),
    Column("nova_started", Boolean),  # none, of cases from before there was such a column: no
    Column("nova_ended", Boolean),
    Column("end_seen", Boolean, nullable=False),
    Column("released_unasked", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("mended_at", Moment),
    Column("mended_attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("first_clean_at", Moment),
    Column("rule", String(255)),
    Column("verdict", String(255)),
    Column("reason", Words),
    Column("conclusion", String(32)),
    Column("use_case", String(16)),
    Column("verified_by", String(16)),
    Column("fingerprint", String(255)),
    Column("approved_by", String(255)),
    Column("approved_fingerprint", String(255)),
    Column("approved_at", Moment),
    Index(None, "cloud", "next_attempt_at"),
    Index(None, "cloud", "volume_id"),
    Index(None, "cloud", "state", "opened_at"),
    Index(None, "cloud", "opened_at"),
    **MARIADB,
)

notifications = Table(
    "notifications",
    metadata,
    Column("message_id", String(255), primary_key=True),
    _cloud(),
    _case(nullable=True),
    Column("source", String(32), nullable=False),
    Column("event_type", String(255), nullable=False),
    Column("publisher_id", String(255), nullable=False),
    Column("operation", String(16)),
    Column("phase", String(16), nullable=False),
    Column("volume_id", String(255)),
    Column("instance_id", String(255)),
    Column("attachment_id", String(255)),
    Column("request_id", String(255)),
    Column("own_request_id", String(255)),
    Column("host", String(255)),
    Column("backend", String(255)),
    Column("volume_status", String(255)),
    Column("project_id", String(255)),
    Column("user_id", String(255)),
    Column("fault", Words),
    Column("attachment_rows", JsonText, nullable=False),
    Column("published_at", Moment),
    Column("received_at", Moment, nullable=False),
    Column("bus", String(255), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Index(None, "case_id", "volume_id", "received_at"),  # without a case: those kept for a start
    Index(None, "cloud", "request_id"),
    **MARIADB,
)

claims = Table(
    "claims",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("volume_id", String(255), primary_key=True),
    Column("owner", String(255)),
    Column("case_id", String(36)),
    Column("fence", BigInteger, nullable=False),
    Column("claimed_at", Moment),
    Column("lease_expires_at", Moment),
    Index(None, "cloud", "lease_expires_at"),
    **MARIADB,
)

history = Table(
    "history",
    metadata,
    Column("history_id", BigSerial, primary_key=True, autoincrement=True),
    _case(),
    Column("recorded_at", Moment, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("fence", BigInteger),
    Column("state", String(32)),
    Column("rule", String(255)),
    Column("verdict", String(255)),
    Column("reason", Words),
    Column("detail", JsonText),
    Index(None, "case_id"),
    **MARIADB,
)

intents = Table(
    "intents",
    metadata,
    Column("intent_id", BigSerial, primary_key=True, autoincrement=True),
    Column("request_id", String(255), nullable=False),
    _case(),
    Column("fence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("target", JsonText, nullable=False),
    Column("evidence", JsonText, nullable=False),
    Column("intended_at", Moment, nullable=False),
    Column("result", String(32), nullable=False),
    Column("detail", Words),
    Column("result_at", Moment),
    UniqueConstraint("request_id"),
    Index(None, "case_id"),
    **MARIADB,
)

outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", BigSerial, primary_key=True, autoincrement=True),
    Column("message_id", String(36), nullable=False),
    _cloud(),
    _case(),
    Column("event_type", String(255), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("payload", JsonText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment),
    Column("taken_by", String(255)),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Words),
    Column("sent_at", Moment),
    Column("unrouted_at", Moment),
    UniqueConstraint("message_id"),
    Index(None, "cloud", "due_at"),
    Index(None, "case_id", "due_at"),
    # A publisher marks what it sent by its id, which must not mean another one by then.
    sqlite_autoincrement=True,
    **MARIADB,
)

connectors = Table(
    "connectors",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("connector", JsonText, nullable=False),
    Column("attachment_id", String(255)),
    Column("learned_at", Moment, nullable=False),
    **MARIADB,
)

pauses = Table(
    "pauses",
    metadata,
    Column("pause_id", BigSerial, primary_key=True, autoincrement=True),
    _cloud(),
    Column("paused_at", Moment, nullable=False),
    Column("paused_by", String(255), nullable=False),
    Column("reason", Words, nullable=False),
    Column("resumed_at", Moment),
    Column("resumed_by", String(255)),
    Index(None, "cloud", "resumed_at"),
    **MARIADB,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", BigSerial, primary_key=True, autoincrement=True),
    _cloud(),
    Column("body_sha256", String(64), nullable=False),
    Column("bus", String(255), nullable=False),
    Column("routing_key", String(255), nullable=False),
    Column("size", Integer, nullable=False),
    Column("reason", Words, nullable=False),
    Column("excerpt", Words, nullable=False),
    Column("times", Integer, nullable=False),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("state", String(16), nullable=False, server_default="held"),
    Column("decided_at", Moment),
    Column("decided_by", String(255)),
    Column("decision", Words),
    UniqueConstraint("cloud", "body_sha256"),
    Index(None, "cloud", "state", "last_at"),
    **MARIADB,
)

replicas = Table(
    "replicas",
    metadata,
    Column("owner", String(255), primary_key=True),
    _cloud(),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("heartbeat_at", Moment, nullable=False),
    **MARIADB,
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("swept_at", Moment),
    Column("counted", Integer),
    Column("doubted_at", Moment),
    **MARIADB,
)

sightings = Table(
    "sightings",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("volume_id", String(255), primary_key=True),
    Column("attachment_id", String(255), primary_key=True),
    Column("status", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("first_seen_at", Moment, nullable=False),
    Column("offers", Integer, nullable=False),
    Column("offered_at", Moment),
    **MARIADB,
)
