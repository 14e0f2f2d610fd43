"""The ledger's tables, as SQLAlchemy Core sees them.

Ids and names compare byte for byte on all three databases: SQLite and PostgreSQL do so by
themselves, MariaDB by the tables' collation.

The column types are what the three databases have in common.

Times are UTC. JSON is text that the ledger itself reads and writes, so that differences between
the databases do not matter.

The archive has tables with the same columns, for finished cases. Their keys begin with the case's
id, and an id begins with the time. So each insert goes to the end of every index and touches only
pages that are in the cache, however large the archive is. That is why no index of the archive
begins with scattered values: a volume, a message's id, a request.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

# TEXT of MariaDB ends at 64 KiB.
LongText = Text().with_variant(mysql.LONGTEXT(), "mariadb")
# SQLite numbers rows by itself only in a column of exactly the type INTEGER.
BigSerial = BigInteger().with_variant(Integer(), "sqlite")


class Moment(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond. A naive one raises ValueError."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the aware value for PostgreSQL, and naive UTC for the others."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value}")
        # DATETIME of MariaDB and of SQLite has no zone, so all are written in one.
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Return the time as aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """Plain JSON values as text with sorted keys; None is NULL."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write JSON text; TypeError on what is no JSON value."""
        return None if value is None else _json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Read back what was written."""
        return None if value is None else orjson.loads(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # a half surrogate pair, or no JSON value at all
        return _encodable(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class FreeText(TypeDecorator[str]):
    """Text of any origin. Characters that a database cannot store are replaced."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Replace NUL (PostgreSQL refuses it) and half surrogate pairs (no UTF-8 has them)."""
        return None if value is None else _encodable(value.replace("\0", "\ufffd"))


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
    # nopad: with the other collations an id with a space at its end is the same id.
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
    Column("nova_started", Boolean),  # NULL in older cases, which means false
    Column("nova_ended", Boolean),
    Column("end_seen", Boolean, nullable=False),
    Column("released_unasked", Boolean, nullable=False),
    Column("shown", JsonText),  # NULL in older cases, which means none
    Column("volume_seen", Boolean),  # NULL in older cases, which means false
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("mended_at", Moment),
    Column("mended_attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("first_clean_at", Moment),
    Column("rule", String(255)),
    Column("verdict", String(255)),
    Column("reason", FreeText),
    Column("told", JsonText),  # NULL in older cases, which means none
    Column("conclusion", String(32)),
    Column("use_case", String(16)),
    Column("verified_by", String(16)),
    Column("fingerprint", String(255)),
    Column("approved_by", String(255)),
    Column("approved_fingerprint", String(255)),
    Column("approved_at", Moment),
    Column("approved_action", String(16)),
    Column("acknowledged_until", Moment),
    Column("acknowledged_by", String(255)),
    Column("acknowledged_rule", String(255)),
    Index(None, "cloud", "next_attempt_at"),
    Index(None, "cloud", "volume_id"),
    # The last column, so that the open cases are counted without reading their rows.
    Index(None, "cloud", "state", "opened_at", "acknowledged_until"),
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
    Column("fault", FreeText),
    Column("attachment_rows", JsonText, nullable=False),
    Column("published_at", Moment),
    Column("received_at", Moment, nullable=False),
    Column("bus", String(255), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Index(
        None, "case_id", "volume_id", "received_at"
    ),  # without a case: an end that waits for its start
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
    # Changed by each lock of the row, where a lock alone does not reach other nodes (``locks``).
    Column("turn", BigInteger, nullable=False, server_default="0"),
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
    Column("reason", FreeText),
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
    Column("detail", FreeText),
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
    # For people only: the lease is due_at.
    Column("taken_by", String(255)),
    Column("attempts", Integer, nullable=False),
    Column("last_error", FreeText),
    Column("sent_at", Moment),
    Column("unrouted_at", Moment),
    UniqueConstraint("message_id"),
    Index(None, "cloud", "due_at"),
    Index(None, "case_id", "due_at"),
    # An id must not be used again: a publisher marks by it what it has sent.
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
    Column("reason", FreeText, nullable=False),
    Column("resumed_at", Moment),
    Column("resumed_by", String(255)),
    Column("backend", String(255)),  # none: every backend
    Index(None, "cloud", "resumed_at"),
    **MARIADB,
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", BigSerial, primary_key=True, autoincrement=True),
    _cloud(),
    Column("decided_at", Moment, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("case_id", String(36)),  # refers to no row: the case may be in the archive, or deleted
    Column("detail", JsonText),
    Column("logged_at", Moment),
    Index(None, "cloud", "logged_at"),
    **MARIADB,
)

off_words = Table(
    "off_words",
    metadata,
    Column("word_id", BigSerial, primary_key=True, autoincrement=True),
    _cloud(),
    Column("host", String(255), nullable=False),
    Column("said_by", String(255), nullable=False),
    Column("said_at", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("ended_at", Moment),
    Column("ended_by", String(255)),
    Column("ended_why", FreeText),
    Column("told_at", Moment),
    Index(None, "cloud", "ended_at"),
    **MARIADB,
)

off_words_counted = Table(
    "off_words_counted",
    metadata,
    Column("word_id", BigSerial, ForeignKey("off_words.word_id"), primary_key=True),
    Column("volume_id", String(255), primary_key=True),
    Column("counted_at", Moment, nullable=False),
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
    Column("reason", FreeText, nullable=False),
    Column("excerpt", FreeText, nullable=False),
    Column("times", Integer, nullable=False),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("state", String(16), nullable=False, server_default="held"),
    Column("decided_at", Moment),
    Column("decided_by", String(255)),
    Column("decision", FreeText),
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
    Column("place", String(255)),
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
    Column("first_swept_at", Moment),
    Column("acknowledged_at", Moment),
    Column("acknowledged_by", String(255)),
    Column("acknowledgement", FreeText),
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


server_looks = Table(
    "server_looks",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("instance_id", String(255), primary_key=True),
    Column("event_type", String(255), nullable=False),
    Column("told_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Index(None, "cloud", "due_at"),
    **MARIADB,
)


rounds = Table(
    "rounds",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("stage", String(64), nullable=False),
    Column("marker", String(255)),
    Column("began_at", Moment, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("devices_before", Integer),
    **MARIADB,
)

inventory = Table(
    "inventory",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("volume_id", String(255), primary_key=True),
    Column("instance_id", String(255), primary_key=True),
    Column("device_round", Integer, nullable=False),
    Column("row_round", Integer, nullable=False),
    Column("checked_round", Integer, nullable=False),
    Column("offered_at", Moment),
    **MARIADB,
)


allowances = Table(
    "allowances",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("taken", BigInteger, nullable=False),
    Column("full_at", Moment),
    Column("held_at", Moment),
    **MARIADB,
)


breakers = Table(
    "breakers",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("backend", String(255), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("opens", Integer, nullable=False),
    Column("opened_at", Moment),
    Column("probe_until", Moment),
    Column("turn", BigInteger, nullable=False),
    **MARIADB,
)


learned_clients = Table(
    "learned_clients",
    metadata,
    Column("cloud", String(64), primary_key=True),
    Column("volume_id", String(255), primary_key=True),
    Column("attachment_id", String(255), primary_key=True),
    Column("backend", String(255)),
    Column("host", String(255)),
    Column("address", String(255)),
    Column("client", String(255)),
    Column("cookie", String(32)),  # a number of 64 bits without a sign
    Column("first_seen_at", Moment),
    Column("last_seen_at", Moment),
    Column("listed_at", Moment, nullable=False),
    Column("looked_at", Moment, nullable=False),
    Index(None, "cloud", "looked_at"),
    Index(None, "cloud", "listed_at"),
    **MARIADB,
)


fences = Table(
    "fences",
    metadata,
    Column("fence_id", BigSerial, primary_key=True, autoincrement=True),
    _cloud(),
    Column("backend", String(255), nullable=False),
    Column("cluster", String(255)),
    Column("address", String(255), nullable=False),
    Column("client", String(255)),
    Column("host", String(255)),
    Column("volume_id", String(255), nullable=False),
    Column("attachment_id", String(255)),
    Column("case_id", String(36), nullable=False),  # refers to no row, as that of a decision
    Column("request_id", String(255), nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("fenced_at", Moment, nullable=False),
    Column("until", Moment),
    Column("renewed_at", Moment),
    Column("ended_at", Moment),
    Column("ended_by", String(255)),
    Column("ended_why", FreeText),
    Column("trouble", FreeText),
    Index(None, "cloud", "state"),
    Index(None, "request_id"),
    **MARIADB,
)


def _archived(of: Table, also: str | None = None, *indices: Index) -> Table:
    """Return the archive's table; its key is the case's id, and ``also`` within the case."""
    key_names = ("case_id", also)
    return Table(
        f"archived_{of.name}", metadata, *(_column(c, key_names) for c in of.columns), *indices,
        **MARIADB,
    )  # fmt: skip


def _column(of: Column[object], key_names: tuple[str | None, ...]) -> Column[object]:
    key = of.name in key_names
    own = of.name == "case_id" and key_names[1] is not None
    refers = [ForeignKey("archived_cases.case_id")] if own else []
    return Column(
        of.name, of.type, *refers, primary_key=key, nullable=of.nullable and not key,
        autoincrement=False,
    )  # fmt: skip


archived_cases = _archived(cases, None, Index(None, "cloud", "opened_at"))
archived_notifications = _archived(notifications, "message_id")
archived_history = _archived(history, "history_id")
archived_intents = _archived(intents, "intent_id")
archived_outbox = _archived(outbox, "outbox_id")

ARCHIVE_OF: dict[Table, Table] = {
    cases: archived_cases,
    notifications: archived_notifications,
    history: archived_history,
    intents: archived_intents,
    outbox: archived_outbox,
}
"""Where each table's rows go. The cases come first: the others refer to them."""
