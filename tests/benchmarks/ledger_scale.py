"""Whether a ledger that has seen much is as quick as one that has seen little.

    python -m tests.benchmarks.ledger_scale [--finished 1000000] [--databases sqlite,postgresql]

Accept and claim are measured beside 1,000 finished cases and beside many, in turn on two databases
of one server, so that what disturbs the one disturbs the other. The ratio is what counts. Both are
left as detachd leaves them when a million cases a year end: what is older than the default of
``[ledger] archive_days`` is in the archive, so all of a thousand are where they were worked on.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from consumer.ledger import Arrival, Ledger, Timing
from consumer.settings.ledger import OPTS
from handlers.notification import Notification, Operation, Phase, Source
from tests.benchmarks.filling import after_days, fill
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL

FEW = 1_000
ARCHIVE_DAYS = next(int(o.default) for o in OPTS if o.name == "archive_days")
BATCH = 200
ROUNDS = 30
WARM_UP = 3


Times = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Median seconds of one accept of 200 notifications, one claim of 20 cases, one count.

    Or how many times longer one ledger took for them than another.
    """

    accept: float
    claim: float
    count: float


def batch() -> list[Arrival]:
    """Make a batch of errors, each on a volume of its own, so that each opens a case.

    Its ids fall among those of the finished cases, as uuids do.
    """
    return [Arrival(_told(uuid.uuid4().hex), hashlib.sha256().hexdigest(), "bus")
            for _ in range(BATCH)]  # fmt: skip


def _told(name: str) -> Notification:
    return Notification(
        message_id=name, source=Source.NOVA_VERSIONED, event_type="instance.volume_attach.error",
        publisher_id="nova-compute:compute-1", operation=Operation.ATTACH, phase=Phase.ERROR,
        volume_id=f"{name}-vol", instance_id=f"{name}-ins", attachment_id=None,
        request_id=f"{name}-req", own_request_id=None, host="compute-1", backend=None,
        volume_status=None, project_id=None, user_id=None, fault=None, attachments=(),
        published_at=None,
    )  # fmt: skip


def measure(few: Ledger, many: Ledger) -> tuple[Speed, Speed, Speed]:
    """Measure both in turn, round by round; return what each needs, and the ratio.

    The ratio is the median of each round's own, and the rounds change who is first: what disturbs
    the machine for a while falls on both.
    """
    taken: dict[Ledger, list[Times]] = {few: [], many: []}
    for number in range(WARM_UP + ROUNDS):
        for ledger in (few, many) if number % 2 else (many, few):
            taken[ledger].append(once(ledger))
    first, second = (times[WARM_UP:] for times in taken.values())
    ratios = [_each(after, before) for before, after in zip(first, second, strict=True)]
    return _medians(first), _medians(second), _medians(ratios)


def once(ledger: Ledger) -> Times:
    """Accept a batch, claim some of it, count; return how long each took."""
    arrivals = batch()
    accepted = _timed(lambda: ledger.accept(arrivals))
    return accepted, _timed(lambda: _claimed(ledger)), _timed(ledger.counts)


def _each(of: Times, by: Times) -> Times:
    return of[0] / by[0], of[1] / by[1], of[2] / by[2]


def _medians(times: Sequence[Times]) -> Speed:
    return Speed(*map(statistics.median, zip(*times, strict=True)))


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


def scale(kind: str, finished: int) -> tuple[Speed, Speed, Speed]:
    """Return how fast a ledger is beside few finished cases, beside so many, and the ratio."""
    with places(kind) as urls, contextlib.ExitStack() as stack:
        ledgers = []
        for number in (finished, FEW):
            url = next(urls)
            ledgers.append(stack.enter_context(contextlib.closing(upgraded(url))))
            fill(url, number, after_days(number, ARCHIVE_DAYS))
        many, few = ledgers
        return measure(few, many)


def upgraded(url: str) -> Ledger:
    """Make the tables of a ledger and return it."""
    ledger = Ledger(url, timing=Timing(error_settle_seconds=0.0))
    ledger.upgrade()
    return ledger


def report(kind: str, few: Speed, many: Speed, ratio: Speed) -> str:
    """Say it in words."""
    return f"{kind:10} " + "  ".join(
        f"{name} {1000 * getattr(few, name):.1f} -> {1000 * getattr(many, name):.1f} ms "
        f"({getattr(ratio, name):.2f}x)"
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
