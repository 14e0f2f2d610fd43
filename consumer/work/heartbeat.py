"""Saying again and again that this service lives, so that people see which replicas there are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from consumer.ledger import Ledger, LedgerUnavailableError, Replica

LOG = logging.getLogger(__name__)
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
            LOG.debug("no heartbeat: %s", error)
        except Exception:  # the top of the loop: nothing depends on a heartbeat
            LOG.exception("no heartbeat; trying again")
