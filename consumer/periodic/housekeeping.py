"""Archives and later deletes finished cases."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from consumer.counting import Happened
from consumer.ledger import Archived, Ledger, Pruned
from consumer.periodic.loop import one_turn

LOG = logging.getLogger(__name__)

# Short transactions. The limits for Galera count on this number (galera.FEWEST_ROWS).
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
        # All three are called, whatever the first returns: "or" would leave the others out while
        # one has more.
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
        more = False
        with one_turn(LOG, "pruning", self._count, "pruner"):
            more = self.prune_once()
        if more:
            # In proportion, so that a slow database is left alone for longer: a fifth of its time
            # at most.
            return max((time.monotonic() - began) * PAUSE_FACTOR, SHORTEST_PAUSE_SECONDS)
        # So that replicas that were started together do not prune together.
        return self._round_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
