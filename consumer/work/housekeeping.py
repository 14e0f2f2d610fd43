"""Archives and later deletes finished cases; and writes the heartbeat of this replica.

The heartbeat's loop also ends the leases of replicas that have died on this machine.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from consumer.counting import EventKind, Happened
from consumer.ledger import Archived, Ledger, LedgerUnavailableError, Pruned, Replica
from consumer.work import liveness

LOG = logging.getLogger(__name__)

BATCH = 100
ROUND_SECONDS = 600.0
GRACE_SECONDS = 300.0
"""How long after a start nothing is done: stored messages may still be redelivered."""

PAUSE_FACTOR = 4.0
"""The pause after a batch, as a multiple of the batch's duration."""

SHORTEST_PAUSE_SECONDS = 0.05


class Pruner:
    """Archives and deletes what is old enough: one batch in ``prune_once``, all in ``run``.

    ``archive_seconds`` and ``retention_seconds`` count from the end of a case; None: never.
    ``caught_up`` tells whether the listener has stored all messages of its queue. Until then
    nothing is done, because a message in the queue may repeat one in the ledger.
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
        """Work until ``stop`` is set. Returns at most one batch after that."""
        pause_seconds = self._grace_seconds
        while not stop.wait(pause_seconds):
            pause_seconds = self._round()

    def prune_once(self) -> bool:
        """Archive one batch and delete another; return whether there may be more of either.

        Learned clients of attachments that are gone are forgotten too.

        Does nothing while the listener has not caught up. Blocks for the database, some tens of
        milliseconds. Raises LedgerUnavailableError.
        """
        if not self._caught_up():
            return False
        archived = self._archive()
        forgotten = self._ledger.learned.forget(BATCH) == BATCH
        return self._forget() or archived or forgotten

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
        """Do one batch; return the pause after it in seconds."""
        began = time.monotonic()
        try:
            more = self.prune_once()
        except LedgerUnavailableError as error:  # the worker logs a warning for it
            LOG.debug("pruning is postponed: %s", error)
        except Exception:  # the top of the loop: the next round may do better
            LOG.exception("pruning failed; it will be repeated")
            self._count(Happened(EventKind.INTERNAL_ERROR, "pruner"))
        else:
            if more:
                return max((time.monotonic() - began) * PAUSE_FACTOR, SHORTEST_PAUSE_SECONDS)
        # So that replicas that were started together do not prune together.
        return self._round_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret


BEAT_SECONDS = 10.0


class Heartbeat:
    """Writes the heartbeat of this replica into the ledger at intervals.

    It also looks for replicas that have died on this machine, and ends their leases: another worker
    can continue with their volumes at once.
    """

    def __init__(
        self, ledger: Ledger, replica: Replica, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self._ledger = ledger
        self._replica = replica
        self._beat_seconds = beat_seconds

    def run(self, stop: threading.Event) -> None:
        """Write heartbeats until ``stop`` is set, then remove the row. Errors are retried."""
        while not stop.is_set():
            self._try(lambda: self._ledger.beat(self._replica))
            self._try(self._end_leases_of_the_dead)
            stop.wait(self._beat_seconds)
        self._try(lambda: self._ledger.leave(self._replica.owner))

    def _end_leases_of_the_dead(self) -> None:
        if self._replica.place is None:
            return
        for owner in self._ledger.claiming_at(self._replica.place):
            if owner != self._replica.owner and liveness.is_dead(owner):
                ended = self._ledger.end_leases(owner)
                LOG.warning("%s has died on this machine; %d of its leases end now", owner, ended)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except LedgerUnavailableError as error:  # the worker logs a warning for it
            LOG.debug("the heartbeat was not written: %s", error)
        except Exception:  # the top of the loop: nothing depends on a heartbeat
            LOG.exception("the heartbeat failed; it will be repeated")
