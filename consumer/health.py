"""How the service is: what ``/readyz`` answers, and what the ledger's gauges show."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from consumer.ledger import Ledger, LedgerError
from consumer.listener import Listener
from consumer.publisher import Publisher
from metrics.exporter import Check
from metrics.instruments import LedgerState

LOG = logging.getLogger(__name__)


class Health:
    """Asks the parts how they are. Thread-safe; blocks for the ledger's answer only."""

    def __init__(
        self,
        ledger: Ledger,
        listener: Listener,
        publisher: Publisher,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._listener = listener
        self._publisher = publisher
        self._stopping = stopping

    def checks(self) -> Sequence[Check]:
        """Return what each component says of itself. A pause is told, and is not unready."""
        return (self._service(), self._broker(), self._caught_up(), self._announcing(), self._db())

    def ready(self) -> Mapping[str, bool]:
        """Return the same for the metrics: component to ready or not."""
        return {check.component: check.ok for check in self.checks()}

    def ledger_state(self) -> LedgerState | None:
        """Read the numbers that the metrics show; None where the ledger cannot be read."""
        try:
            pending, oldest_age_seconds = self._ledger.outbox_pending()
            return LedgerState(
                cases={
                    state.value: (number.count, number.oldest_age_seconds)
                    for state, number in self._ledger.counts().items()
                },
                outbox_pending=pending,
                outbox_oldest_age_seconds=oldest_age_seconds,
                paused=self._ledger.paused() is not None,
            )
        except LedgerError as error:
            LOG.warning("the metrics of the ledger are left out: %s", error)
            return None

    def _service(self) -> Check:
        if self._stopping.is_set():
            return Check("service", ok=False, reason="stopping")
        return Check("service", ok=True, reason="running")

    def _broker(self) -> Check:
        status = self._listener.status()
        if status.problems:
            return Check("broker", ok=False, reason="; ".join(status.problems))
        if not status.connected:
            return Check("broker", ok=False, reason="not connected yet")
        return Check("broker", ok=True, reason="connected, every exchange bound")

    def _caught_up(self) -> Check:
        if self._listener.caught_up:
            return Check("listener", ok=True, reason="caught up with the queue")
        return Check(
            "listener",
            ok=False,
            reason="messages may still wait in the queue, so no deadline is acted on",
        )

    def _announcing(self) -> Check:
        problems = self._publisher.status().problems
        return Check("publisher", ok=not problems, reason="; ".join(problems) or "sending")

    def _db(self) -> Check:
        try:
            pause = self._ledger.paused()
        except LedgerError as error:
            return Check("ledger", ok=False, reason=str(error))
        if pause is not None:
            reason = f"answers; paused by {pause.actor}: {pause.reason}"
            return Check("ledger", ok=True, reason=reason)
        return Check("ledger", ok=True, reason="answers")
