"""Filling a ledger with finished cases, as years leave them: quickly, by the database itself.

What is made is what detachd writes: ids as long as uuids and as scattered, those of cases beginning
with the time, a case with the messages, history and announcement that one has, a million cases a
year. The oldest are where the service would have put them: in the archive, without a claims row.
Foreign keys are not checked and nothing waits for the disk while it is made; afterwards the
database is as it would be in use, its statistics gathered and nothing left to write.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import Database
from handlers.correlation.transitions import UNITS_A_SECOND

BEGIN = "2025-06-01 12:00:00"
A_YEAR = 1_000_000
EACH_SECONDS = 365 * 86_400 / A_YEAR
EACH_UNITS = round(EACH_SECONDS * UNITS_A_SECOND)
SETTLED_SECONDS = 300.0

# ``i`` counts the cases and ``k`` what belongs to one. In braces: what each database spells its own
# way. md5 has the scatter of a uuid, and the tail its length.
NAMES = {
    "volume": ("volume", "i"), "instance": ("instance", "i"),
    "attachment": ("attachment", "i"), "request": ("request", "i"),
    "message": ("message", "i * 10 + k"), "ours": ("ours", "i"), "out": ("out", "i * 10 + k"),
}  # fmt: skip
REASON = "'both sides are clean: the volume is available and nothing is exported to any host'"
# The columns of each table, and how many of its rows a case has.
FINISHED: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "cases": (1, {
        "case_id": "{case}", "cloud": "'default'", "volume_id": "{volume}",
        "operation": "'attach'", "attachment_id": "{attachment}", "instance_id": "{instance}",
        "host": "'compute-17.example'", "backend": "'storage-1@tgt'",
        "request_ids": "'[\"req-0b7f9a52-2ad5-4f30-8bb4-6e0b8a1c2d3e\"]'",
        "triggered_by": "'error'", "state": "'closed'", "opened_at": "{then}",
        "updated_at": "{then}", "closed_at": "{then}", "signal_seq": "4", "starts": "1",
        "end_seen": "{no}", "released_unasked": "{no}", "attempts": "2", "failures": "0",
        "mended_attempt": "1", "crashes": "0", "rule": "'R1.clean'", "verdict": "'clean'",
        "reason": REASON, "conclusion": "'healthy'",
    }),
    "claims": (1, {
        "cloud": "'default'", "volume_id": "{volume}", "fence": "2", "claimed_at": "{then}",
    }),
    "notifications": (3, {
        "message_id": "{message}", "cloud": "'default'", "case_id": "{case}",
        "source": "'cinder'", "event_type": "'volume.attach.start'",
        "publisher_id": "'volume.storage-1@tgt'", "operation": "'attach'", "phase": "'start'",
        "volume_id": "{volume}", "instance_id": "{instance}", "attachment_id": "{attachment}",
        "request_id": "{request}", "host": "'compute-17.example'", "backend": "'storage-1@tgt'",
        "volume_status": "'attaching'", "project_id": "'7d4f2e8f5b5c4a2f9f5e9b0c1d2e3f40'",
        "user_id": "'7d4f2e8f5b5c4a2f9f5e9b0c1d2e3f41'",
        "attachment_rows": "'[{{\"attachment_id\":\"0b7f9a52-2ad5-4f30-8bb4-6e0b8a1c2d3e\","
        "\"connector\":null,\"host\":null,\"instance_id\":null,\"status\":\"attaching\"}}]'",
        "published_at": "{then}", "received_at": "{then}", "bus": "'bus'",
        "body_sha256": "'9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
    }),
    "history": (2, {
        "case_id": "{case}", "recorded_at": "{then}", "kind": "'concluded'",
        "actor": "'controller-1:4711:0badcafe'", "fence": "2", "state": "'closed'",
        "rule": "'R1.clean'", "verdict": "'clean'", "reason": REASON,
    }),
    "intents": (1, {
        "request_id": "{ours}", "case_id": "{case}", "fence": "2", "attempt": "1",
        "kind": "'backend.force_detach'", "target": "'{{}}'", "evidence": "'{{}}'",
        "intended_at": "{then}", "result": "'done'",
    }),
    "outbox": (1, {
        "message_id": "{out}", "cloud": "'default'", "case_id": "{case}",
        "event_type": "'volume.force_detach.end'", "priority": "'info'", "payload": "'{{}}'",
        "created_at": "{then}", "attempts": "1", "sent_at": "{then}",
    }),
}  # fmt: skip

# The numbers that a table of those that are worked on gives by itself.
NUMBERED = {"history": "history_id", "intents": "intent_id", "outbox": "outbox_id"}

ROOMY = {
    "innodb_buffer_pool_size": 2 << 30,
    "innodb_log_file_size": 2 << 30,
    "innodb_flush_log_at_trx_commit": 0,
    "innodb_io_capacity": 20_000,
}

Statements = Mapping[str, str]


def after_days(finished: int, days: int) -> int:
    """Return how many of so many cases are older than so many days when the last one ends."""
    return max(0, finished - round(days * A_YEAR / 365))


def fill(url: str, finished: int, archived: int = 0) -> None:
    """Put so many finished cases, and what belongs to them, into an upgraded, empty ledger.

    The first ``archived`` of them into the archive. Blocks for about a minute a million.
    """
    database = Database(url)
    with contextlib.closing(database):
        kind = database.engine.dialect.name
        worked_on = {t: _statement(kind, t, range(archived, finished)) for t in FINISHED}
        over = {
            f"archived_{t}": _archived(kind, t, range(archived)) for t in FINISHED if t != "claims"
        }
        how: Mapping[str, Callable[[Database, Statements], None]] = {
            "sqlite": _into_sqlite,
            "postgresql": _into_postgresql,
            "mariadb": _into_mariadb,
        }
        how[kind](database, {**worked_on, **over} if archived else worked_on)


def _archived(kind: str, table: str, of: range) -> str:
    each, columns = FINISHED[table]
    numbered = {NUMBERED[table]: f"i * {each} + k + 1"} if table in NUMBERED else {}
    return _insert(kind, f"archived_{table}", each, {**columns, **numbered}, of)


def _statement(kind: str, table: str, of: range) -> str:
    return _insert(kind, table, *FINISHED[table], of)


def _insert(kind: str, table: str, each: int, columns: Mapping[str, str], of: range) -> str:
    spelled = _spelling(kind)
    values = ", ".join(value.format(**spelled) for value in columns.values())
    first, last = of.start * each, of.stop * each - 1
    numbers = {
        "sqlite": f"(WITH RECURSIVE n(j) AS (SELECT {first} UNION ALL SELECT j + 1 FROM n "
        f"WHERE j < {last}) SELECT j / {each} AS i, j % {each} AS k FROM n)",
        "postgresql": f"(SELECT j / {each} AS i, MOD(j, {each}) AS k "
        f"FROM generate_series({first}, {last}) AS j)",
        "mariadb": f"(SELECT seq DIV {each} AS i, seq MOD {each} AS k FROM seq_{first}_to_{last})",
    }[kind]
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {numbers} AS numbered"


def _spelling(kind: str) -> Mapping[str, str]:
    text = {"sqlite": "TEXT", "postgresql": "TEXT", "mariadb": "CHAR"}[kind]
    names = {
        name: f"md5(CONCAT('{of}', CAST({number} AS {text})))"
        for name, (of, number) in NAMES.items()
    }
    if kind == "sqlite":
        names = {name: f"scattered('{of}', {number})" for name, (of, number) in NAMES.items()}
    longer = {name: f"{value} || '-{name[:3]}'" for name, value in names.items()}
    if kind == "mariadb":
        longer = {name: f"CONCAT({value}, '-{name[:3]}')" for name, value in names.items()}
    age = f"(i * {EACH_SECONDS:f})"
    then = {
        "sqlite": f"strftime('%Y-%m-%d %H:%M:%f', '{BEGIN}', {age} || ' seconds') || '000'",
        "postgresql": f"TIMESTAMPTZ '{BEGIN}+00' + {age} * INTERVAL '1 second'",
        "mariadb": f"TIMESTAMP '{BEGIN}' + INTERVAL {age} SECOND",
    }[kind]
    units = f"(i * {EACH_UNITS})"
    scatter = f"SUBSTR({names['volume']}, 1, 28)"
    case = {
        "sqlite": f"printf('%08x', {units}) || {scatter}",
        "postgresql": f"LPAD(TO_HEX({units}::bigint), 8, '0') || {scatter}",
        "mariadb": f"CONCAT(LOWER(LPAD(HEX({units}), 8, '0')), {scatter})",
    }[kind]
    return {**longer, "case": case, "then": then, "no": "false" if kind == "postgresql" else "0"}


# --- each database by its own means -------------------------------------------------------------


def _into_sqlite(database: Database, statements: Statements) -> None:
    assert database.file is not None
    with contextlib.closing(sqlite3.connect(database.file, isolation_level=None)) as connection:
        connection.create_function("scattered", 2, _scattered, deterministic=True)
        for pragma in ("foreign_keys = OFF", "synchronous = OFF", "cache_size = -500000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        _without_indices(
            lambda text: connection.execute(text).fetchall(),
            "SELECT 'DROP INDEX ' || name, sql FROM sqlite_master "
            "WHERE type = 'index' AND sql IS NOT NULL",
            statements,
        )
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _scattered(of: str, number: int) -> str:
    return hashlib.md5(f"{of}{number}".encode(), usedforsecurity=False).hexdigest()


def _into_postgresql(database: Database, statements: Statements) -> None:
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in (
            "session_replication_role = replica", "synchronous_commit = off",
            "maintenance_work_mem = '256MB'", "work_mem = '64MB'",
        ):  # fmt: skip
            connection.exec_driver_sql(f"SET {setting}")
        # Scattered keys would take most of the time; at the end they are sorted once.
        key = "ALTER TABLE notifications {} CONSTRAINT pk_notifications {}"
        connection.exec_driver_sql(key.format("DROP", ""))
        _without_indices(
            functools.partial(_rows, connection),
            "SELECT 'DROP INDEX ' || indexname, indexdef FROM pg_indexes "
            "WHERE schemaname = 'public' AND starts_with(indexname, 'ix_')",
            statements,
        )
        connection.exec_driver_sql(key.format("ADD", "PRIMARY KEY (message_id)"))
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


def _without_indices(run: Callable[[str], list[Any]], listed: str, statements: Statements) -> None:
    """Fill with the indices that are not constraints taken away, and make them again."""
    indices = run(listed)
    for drop, _ in indices:
        run(drop)
    for statement in statements.values():
        run(statement)
    for _, create in indices:
        run(create)


def _rows(connection: sa.Connection, text: str) -> list[Any]:
    result = connection.exec_driver_sql(text)
    return list(result) if result.returns_rows else []


def _into_mariadb(database: Database, statements: Statements) -> None:
    """Fill empty tables with checks off: then InnoDB sorts and builds each index at once."""
    with database.engine.connect() as connection:
        # The pool's read_timeout is too short for a million rows in one statement.
        driver: Any = connection.connection.dbapi_connection
        driver._read_timeout = driver._write_timeout = None
        for setting in ("foreign_key_checks = 0", "unique_checks = 0"):
            connection.exec_driver_sql(f"SET {setting}")
        with _roomy(connection):
            for statement in statements.values():
                connection.exec_driver_sql(statement)
                connection.commit()
            _settle(connection)
        connection.exec_driver_sql(f"ANALYZE TABLE {', '.join(statements)}")


@contextlib.contextmanager
def _roomy(connection: sa.Connection) -> Iterator[None]:
    """Give the server memory and patience for the while, then back what it is shipped with."""
    usual = {name: _variable(connection, name) for name in ROOMY}
    for name, value in ROOMY.items():
        connection.exec_driver_sql(f"SET GLOBAL {name} = {value}")
    yield
    for name, before in usual.items():
        connection.exec_driver_sql(f"SET GLOBAL {name} = {before}")


def _variable(connection: sa.Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SELECT @@GLOBAL.{name}").scalar_one())


def _settle(connection: sa.Connection) -> None:
    """Wait until InnoDB has written its dirty pages, at most some minutes."""
    usual = _variable(connection, "innodb_max_dirty_pages_pct")
    connection.exec_driver_sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")
    ends_at = time.monotonic() + SETTLED_SECONDS
    left = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'"
    while int(connection.exec_driver_sql(left).one()[1]) > 100 and time.monotonic() < ends_at:
        time.sleep(0.5)
    connection.exec_driver_sql(f"SET GLOBAL innodb_max_dirty_pages_pct = {usual}")
