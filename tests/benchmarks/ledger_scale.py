"""Whether a ledger that has seen much is as quick as one that has seen little.

    python -m tests.benchmarks.ledger_scale [--finished 1000000] [--databases sqlite,postgresql]

Accept and claim are measured beside 1,000 finished cases and beside many, in turn on two databases
of one server, so that what disturbs the one disturbs the other. The ratio is what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from consumer.ledger import Arrival, Ledger, Timing
from consumer.ledger.engine import Database
from handlers.notification import Notification, Operation, Phase, Source
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL

FEW = 1_000
BATCH = 200
ROUNDS = 15
NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1} - 1) "
    "SELECT {2} FROM n",
    "postgresql": "SELECT {2} FROM generate_series({0}, {1} - 1) AS n(i)",
    "mariadb": "SELECT {2} FROM (SELECT seq AS i FROM seq_{0}_to_{3}) AS n",
}
TEXT = {"sqlite": "TEXT", "postgresql": "TEXT", "mariadb": "CHAR"}
CHUNK = 100_000
# A finished case as a year leaves it: with its notifications, a claims row and its history.
FINISHED = {
    "cases": {
        "case_id": "{case}", "cloud": "'default'", "volume_id": "{volume}",
        "operation": "'attach'", "request_ids": "'[]'", "triggered_by": "'error'",
        "state": "'closed'", "opened_at": "{then}", "updated_at": "{then}", "closed_at": "{then}",
        "signal_seq": "2", "starts": "1", "end_seen": "{no}", "released_unasked": "{no}",
        "attempts": "2", "failures": "0", "mended_attempt": "1", "crashes": "0",
        "backend": "'storage-1@tgt'", "conclusion": "'mended'",
    },
    "claims": {"cloud": "'default'", "volume_id": "{volume}", "fence": "2"},
    "notifications": {
        "message_id": "{message}", "cloud": "'default'", "case_id": "{case}",
        "source": "'cinder'", "event_type": "'volume.attach.start'",
        "publisher_id": "'volume.storage-1@tgt'", "phase": "'start'", "volume_id": "{volume}",
        "request_id": "{request}", "attachment_rows": "'[]'", "received_at": "{then}",
        "bus": "'bus'", "body_sha256": "'0'",
    },
    "history": {
        "case_id": "{case}", "recorded_at": "{then}", "kind": "'concluded'", "actor": "'worker'",
        "state": "'closed'",
    },
    "intents": {
        "request_id": "{request}", "case_id": "{case}", "fence": "2", "attempt": "1",
        "kind": "'backend.force_detach'", "target": "'{{}}'", "evidence": "'{{}}'",
        "intended_at": "{then}", "result": "'done'",
    },
    "outbox": {
        "message_id": "{announced}", "cloud": "'default'", "case_id": "{case}",
        "event_type": "'volume.force_detach.end'", "priority": "'INFO'", "payload": "'{{}}'",
        "created_at": "{then}", "attempts": "1", "sent_at": "{then}",
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Median seconds of one accept of 200 notifications, one claim of 20 cases, one count."""

    accept: float
    claim: float
    count: float


def fill(url: str, finished: int) -> None:
    """Put finished cases into an upgraded ledger, made by the database itself."""
    database = Database(url)
    kind = database.engine.dialect.name
    with contextlib.closing(database):
        for table, columns in FINISHED.items():
            values = ", ".join(_spelled(value, kind) for value in columns.values())
            for low in range(0, finished, CHUNK):
                high = min(low + CHUNK, finished)
                rows = NUMBERS[kind].format(low, high, values, high - 1)
                into = f"INSERT INTO {table} ({', '.join(columns)})"
                text = f"{into} {rows}"
                database.write(lambda c, text=text: c.exec_driver_sql(text))
    _analyze(url)


def _spelled(value: str, kind: str) -> str:
    number = f"CAST(i AS {TEXT[kind]})"
    # Scattered ids, as uuids are; sorted ones would flatter the indices.
    digest = f"md5({number})" if kind != "sqlite" else "lower(hex(randomblob(8)))"
    joined = {
        "case": f"'case-' || {number}", "volume": f"'old-' || {number}",
        "message": f"{digest} || '-' || {number}", "request": f"'req-' || {number}",
        "announced": f"'out-' || {number}",
        "then": "'2026-06-01 12:00:00'",
        "no": "false" if kind == "postgresql" else "0",
    }  # fmt: skip
    if kind == "postgresql":
        joined["then"] = "TIMESTAMPTZ '2026-06-01 12:00:00+00'"
    if kind == "sqlite":
        joined["then"] = "'2026-06-01 12:00:00.000000'"
    spelled = value.format(**joined)
    if kind == "mariadb" and "||" in spelled:
        return f"CONCAT({', '.join(spelled.split(' || '))})"
    return spelled


def _analyze(url: str) -> None:
    database = Database(url)
    with contextlib.closing(database):
        tables = ", ".join(FINISHED)
        words = f"ANALYZE TABLE {tables}" if "mariadb" in url or "mysql" in url else "ANALYZE"
        database.write(lambda c: c.exec_driver_sql(words))


def batch() -> list[Arrival]:
    """Make a batch of errors, each on a volume of its own, so that each opens a case."""
    return [Arrival(_told(uuid.uuid4().hex), hashlib.sha256().hexdigest(), "bus")
            for _ in range(BATCH)]  # fmt: skip


def _told(name: str) -> Notification:
    return Notification(
        message_id=name, source=Source.NOVA_VERSIONED, event_type="instance.volume_attach.error",
        publisher_id="nova-compute:compute-1", operation=Operation.ATTACH, phase=Phase.ERROR,
        volume_id=f"vol-{name}", instance_id=f"inst-{name}", attachment_id=None,
        request_id=f"req-{name}", own_request_id=None, host="compute-1", backend=None,
        volume_status=None, project_id=None, user_id=None, fault=None, rows=(), published_at=None,
    )  # fmt: skip


def measure(ledgers: list[Ledger]) -> list[Speed]:
    """Measure the ledgers in turn, round by round; return what each needs."""
    taken: list[list[tuple[float, float, float]]] = [[] for _ in ledgers]
    for _ in range(ROUNDS):
        for ledger, times in zip(ledgers, taken, strict=True):
            arrivals = batch()
            times.append((
                _timed(lambda: ledger.accept(arrivals)),  # noqa: B023 - called at once
                _timed(lambda: _claimed(ledger)),  # noqa: B023 - called at once
                _timed(ledger.counts),
            ))  # fmt: skip
    return [Speed(*map(statistics.median, zip(*times, strict=True))) for times in taken]


def _claimed(ledger: Ledger) -> None:
    claims = ledger.claim("w", limit=20, lease_seconds=600, deadlines=True)
    assert len(claims) == 20, len(claims)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextlib.contextmanager
def places(kind: str) -> Iterator[Iterator[str]]:
    """Give fresh databases of a kind."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            yield (f"sqlite:///{directory}/{number}.sqlite" for number in itertools.count())
        else:
            server = stack.enter_context(PostgreSQL() if kind == "postgresql" else MariaDB())
            yield (server.fresh_database() for _ in itertools.count())


def scale(kind: str, finished: int) -> tuple[Speed, Speed]:
    """Return how fast a ledger is beside few finished cases, and beside so many."""
    with places(kind) as urls, contextlib.ExitStack() as stack:
        ledgers = []
        for number in (FEW, finished):
            url = next(urls)
            ledger = stack.enter_context(contextlib.closing(_upgraded(url)))
            fill(url, number)
            ledgers.append(ledger)
        few, many = measure(ledgers)
        return few, many


def _upgraded(url: str) -> Ledger:
    ledger = Ledger(url, timing=Timing(error_settle_seconds=0.0))
    ledger.upgrade()
    return ledger


def report(kind: str, few: Speed, many: Speed) -> str:
    """Say it in words."""
    return f"{kind:10} " + "  ".join(
        f"{name} {1000 * getattr(few, name):.1f} -> {1000 * getattr(many, name):.1f} ms "
        f"({getattr(many, name) / getattr(few, name):.2f}x)"
        for name in ("accept", "claim", "count")
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure a ledger that has seen much.")
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--databases", default="sqlite,postgresql,mariadb")
    given = parser.parse_args()
    for kind in given.databases.split(","):
        sys.stdout.write(f"{report(kind, *scale(kind, given.finished))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
