"""Keeps the ledger informed of the writes that hang in this process.

1. As long as the thread of a write runs that was given up, the ledger says so every few seconds: no
   late horizon ends while it may still act.
2. A write that has returned is logged, and the cases of its volume are looked at.
3. Where the ledger could not be told for half a late horizon, this loop raises, and the service
   ends with its hanging threads. Otherwise another replica could take such a write for over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from consumer.ledger import Ledger, LedgerUnavailableError
from consumer.work.backends import Backends
from consumer.work.driver_calls import BoundedDrivers, HangingCall, Returned

LOG = logging.getLogger(__name__)

# Many times within half a late horizon: one failure does not end the service.
INTERVAL_SECONDS = 5.0


class UntoldError(Exception):
    """The ledger could not be told in time that a write is still under way."""


class HangingWrites:
    """Tells the ledger which writes of this process are still under way."""

    def __init__(
        self,
        ledger: Ledger,
        drivers: BoundedDrivers,
        backends: Backends,
        *,
        owner: str,
        interval_seconds: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._drivers = drivers
        self._backends = backends
        self._owner = owner
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._told_at = clock()
        self._returned: list[Returned] = []

    def run(self, stop: threading.Event) -> None:
        """Tell the ledger until ``stop`` is set. Raises UntoldError, see above."""
        while not stop.wait(self._interval_seconds):
            self.tell_once()

    def tell_once(self) -> None:
        """Tell the ledger what hangs and what has returned. Blocks for the database.

        Raises UntoldError where that has failed for half a late horizon.
        """
        # Kept here until the ledger has them: the drivers give each only once.
        self._returned += self._drivers.take_returned()
        writes = [call for call in self._drivers.hanging() if call.request_id is not None]
        # Before the write: the ledger knows of this moment, not of that at which it answered.
        asked_at = self._clock()
        try:
            if writes:
                self._ledger.keep_under_way([call.request_id or "" for call in writes])
            self._tell_returned()
        except LedgerUnavailableError as error:  # the worker logs a warning for it
            LOG.debug("the ledger was not told of hanging calls: %s", error)
            self._check_told(writes)
        else:
            self._told_at = asked_at

    def _tell_returned(self) -> None:
        while self._returned:
            back = self._returned[0]
            case_id = self._ledger.came_back(self._owner, back.request_id, back.how)
            LOG.info("case %s is looked at: %s", case_id or "(archived)", back.how)
            self._returned.pop(0)

    def _check_told(self, writes: list[HangingCall]) -> None:
        """Raise UntoldError if the ledger has heard of a write for the last time too long ago.

        When a write is given up, its attempt says so too.
        """
        for call in writes:
            horizon_seconds = self._backends.of(call.backend).policy.late_horizon_seconds
            silent_seconds = self._clock() - max(self._told_at, call.given_up_at)
            # Half, so that this process has ended before the horizon has, with the time that
            # stopping takes.
            if silent_seconds > horizon_seconds / 2:
                raise UntoldError(
                    f"{call.method} of backend {call.backend} hangs, and the ledger could not be "
                    f"told for {silent_seconds:.0f} s that it is still under way"
                )
