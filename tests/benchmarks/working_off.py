"""How long the archive takes to work off a million finished cases, and whom it keeps waiting.

    python -m tests.benchmarks.working_off [--finished 1000000] [--databases sqlite,postgresql]

They lie where they were worked on, as an installation has them that archives for the first time.
Accept and claim are measured while the service's own pruner is at it and while it is not, in turn
on the same ledger: on SQLite, which has one writer, they may have to wait for a batch. Then as much
is worked off as ``--seconds`` allow, without the rests that the pruner takes, which make it five
times as long.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import threading
import time
from collections.abc import Iterator

from consumer.counting import Happened
from consumer.ledger import Archived, Ledger, Pruned
from consumer.periodic.housekeeping import BATCH, PAUSE_FACTOR, Pruner
from tests.benchmarks.filling import fill
from tests.benchmarks.ledger_scale import ARCHIVE_DAYS, Times, once, places, upgraded

ROUNDS = 25
TURNS_EACH = 3
WARM_UP = 10


class Counting:
    """Counts what a pruner moved."""

    def __init__(self) -> None:
        self.cases = 0

    def __call__(self, event: Archived | Pruned | Happened) -> None:
        """Count them; fail on all else: nothing is to be forgotten, and nothing to go wrong."""
        if not isinstance(event, Archived):
            raise TypeError(event)
        self.cases += event.cases


@dataclasses.dataclass(frozen=True, slots=True)
class Worked:
    """What was seen: median seconds without and with the pruner, and the rounds' own ratios.

    ``moved`` cases were put into the archive in ``seconds`` of work, rests not counted.
    """

    alone: tuple[float, float]
    beside: tuple[float, float]
    accept_ratio: float
    claim_ratio: float
    moved: int
    seconds: float
    done: bool

    @property
    def batch_seconds(self) -> float:
        """How long the pruner is at work before it rests: nobody should wait for it longer."""
        return self.seconds / self.moved * BATCH

    @property
    def hours_a_million(self) -> float:
        """How long the pruner takes for a million, its rests included."""
        return (1 + PAUSE_FACTOR) * self.seconds / self.moved * 1_000_000 / 3600


def work_off(kind: str, finished: int, seconds: float) -> Worked:
    """Fill a ledger and work it off. Blocks for minutes, filling included."""
    with places(kind) as urls:
        url = next(urls)
        with contextlib.closing(upgraded(url)) as ledger:
            fill(url, finished)
            _begin(ledger)
            alone, beside = _in_turn(ledger)
            moved, took, done = _without_rest(ledger, seconds)
    ratios = [(b[0] / a[0], b[1] / a[1]) for a, b in zip(alone, beside, strict=True)]
    return Worked(
        alone=_medians(alone),
        beside=_medians(beside),
        accept_ratio=statistics.median(r[0] for r in ratios),
        claim_ratio=statistics.median(r[1] for r in ratios),
        moved=moved,
        seconds=took,
        done=done,
    )


def _begin(ledger: Ledger) -> None:
    """Do some of it, then tell PostgreSQL how large its tables are by now.

    Its autovacuum does so within the first minute; until then it plans for an archive that is
    empty, and a batch takes the longer the more is in it (400 cases a second at first, then 70).
    """
    pruner = _pruner(ledger, Counting())
    for _ in range(WARM_UP):
        once(ledger)
        pruner.prune_once()
    engine = ledger._database.engine
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
            connection.commit()


def _in_turn(ledger: Ledger) -> tuple[list[Times], list[Times]]:
    """Measure a round without the pruner and one beside it, again and again."""
    alone: list[Times] = []
    beside: list[Times] = []
    for _ in range(ROUNDS):
        alone.append(_round(ledger))
        with _pruning(ledger):
            beside.append(_round(ledger))
    return alone, beside


def _round(ledger: Ledger) -> Times:
    accept, claim, count = zip(*(once(ledger) for _ in range(TURNS_EACH)), strict=True)
    return statistics.mean(accept), statistics.mean(claim), statistics.mean(count)


@contextlib.contextmanager
def _pruning(ledger: Ledger) -> Iterator[None]:
    """Have the service's own pruner at work, with its rests."""
    counting, stop = Counting(), threading.Event()
    thread = threading.Thread(target=_pruner(ledger, counting).run, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join()
    assert counting.cases, "the pruner was to be at work"


def _pruner(ledger: Ledger, count: Counting) -> Pruner:
    return Pruner(
        ledger,
        archive_seconds=ARCHIVE_DAYS * 86_400.0,
        retention_seconds=None,
        count=count,
        caught_up=lambda: True,
        grace_seconds=0.0,
    )


def _without_rest(ledger: Ledger, seconds: float) -> tuple[int, float, bool]:
    """Work off what is left, for so long; return how many, how long, and whether that was all."""
    counting = Counting()
    pruner, began, more = _pruner(ledger, counting), time.monotonic(), True
    while more and time.monotonic() - began < seconds:
        more = pruner.prune_once()
    return counting.cases, time.monotonic() - began, not more


def _medians(times: list[Times]) -> tuple[float, float]:
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def report(kind: str, worked: Worked) -> str:
    """Say it in words."""
    return (
        f"{kind:10} accept {1000 * worked.alone[0]:.1f} -> {1000 * worked.beside[0]:.1f} ms "
        f"({worked.accept_ratio:.2f}x)  claim {1000 * worked.alone[1]:.1f} -> "
        f"{1000 * worked.beside[1]:.1f} ms ({worked.claim_ratio:.2f}x)  "
        f"{worked.moved} cases{' (all)' if worked.done else ''} in {worked.seconds:.0f} s: "
        f"a million in {worked.hours_a_million:.1f} h"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the archive at work.")
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--databases", default="sqlite,postgresql,mariadb")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    for kind in given.databases.split(","):
        sys.stdout.write(f"{report(kind, work_off(kind, given.finished, given.seconds))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
