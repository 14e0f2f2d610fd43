"""What is finished is archived, and forgotten in the end; and this replica says that it lives."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from consumer.counting import Happened, What
from consumer.ledger import Archived, Ledger, LedgerUnavailableError, Pruned, Replica

LOG = logging.getLogger(__name__)

BATCH = 100
ROUND_SECONDS = 600.0
GRACE_SECONDS = 300.0
"""How long after a start nothing is done: what was stored before may be delivered again."""

PAUSE_FACTOR = 4.0
"""How many times longer than a batch took the database is left alone after it."""

SHORTEST_PAUSE_SECONDS = 0.05


class Pruner:
    """Archives and forgets what is old enough. ``prune_once`` is the unit, ``run`` the loop.

    ``archive_seconds`` and ``retention_seconds`` count from the end of a case; None: never.
    ``caught_up`` says that the listener has read everything that the broker had. Until then nothing
    is done: what waits there may be the repetition of a message that is in the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        archive_seconds: float | None,
        retention_seconds: float | None,
        count: Callable[[Archived | Pruned | Happened], None],
        caught_up: Callable[[], bool],
        grace_seconds: float = GRACE_SECONDS,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._archive_seconds = archive_seconds
        self._retention_seconds = retention_seconds
        self._count = count
        self._caught_up = caught_up
        self._grace_seconds = grace_seconds
        self._round_seconds = round_seconds

    def run(self, stop: threading.Event) -> None:
        """Do so again and again until ``stop`` is set. Ends within one batch of that."""
        pause_seconds = self._grace_seconds
        while not stop.wait(pause_seconds):
            pause_seconds = self._round()

    def prune_once(self) -> bool:
        """Archive one batch and forget another; return whether there may be more of either.

        Nothing is done where it is not the time for it. Blocks for the database: some tens of
        milliseconds. Raises LedgerUnavailableError.
        """
        if not self._caught_up():
            return False
        archived = self._archive()
        return self._forget() or archived

    def _archive(self) -> bool:
        if self._archive_seconds is None:
            return False
        archived = self._ledger.archive(self._archive_seconds, limit=BATCH)
        self._count(archived)
        return archived.full

    def _forget(self) -> bool:
        if self._retention_seconds is None:
            return False
        pruned = self._ledger.prune(self._retention_seconds, limit=BATCH)
        self._count(pruned)
        return pruned.full

    def _round(self) -> float:
        """Do one batch; return for how long to rest after it."""
        began = time.monotonic()
        try:
            more = self.prune_once()
        except LedgerUnavailableError as error:  # the worker says it aloud
            LOG.debug("pruning is postponed: %s", error)
        except Exception:  # the top of the loop: the next round may do better
            LOG.exception("pruning failed; it will be repeated")
            self._count(Happened(What.INTERNAL_ERROR, "pruner"))
        else:
            if more:
                return max((time.monotonic() - began) * PAUSE_FACTOR, SHORTEST_PAUSE_SECONDS)
        # Replicas that were started together need not prune together.
        return self._round_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret


BEAT_SECONDS = 10.0


class Heartbeat:
    """Writes one row of the ledger, over and over."""

    def __init__(
        self, ledger: Ledger, replica: Replica, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self._ledger = ledger
        self._replica = replica
        self._beat_seconds = beat_seconds

    def run(self, stop: threading.Event) -> None:
        """Beat until ``stop`` is set, then leave. A ledger that is away is waited for."""
        while not stop.is_set():
            self._try(lambda: self._ledger.beat(self._replica))
            stop.wait(self._beat_seconds)
        self._try(lambda: self._ledger.leave(self._replica.owner))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except LedgerUnavailableError as error:  # the worker says it aloud
            LOG.debug("the heartbeat was not written: %s", error)
        except Exception:  # the top of the loop: nothing depends on a heartbeat
            LOG.exception("the heartbeat failed; it will be repeated")
