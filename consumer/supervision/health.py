"""The health of the service: the answer of ``/readyz``, and the values of the ledger's gauges."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from consumer.bus.settings import DEFAULT
from consumer.intake.listener import Listener, ListenerStatus
from consumer.intake.replayer import Replayer, ReplayStatus
from consumer.ledger import Ledger, LedgerError
from consumer.publish.publisher import Publisher
from consumer.supervision.outside import Outside
from handlers.counting import VolumeSought
from metrics.collectors import LedgerState
from metrics.exporter import Check

LOG = logging.getLogger(__name__)


MOST_STRANGERS = 3
"""One volume, deleted unheard of, is no reason to doubt the endpoint; several in a row are."""


class Strangers:
    """The volumes that Cinder denies ever having had, since it last knew one.

    A notification names volumes that exist. A Cinder that knows none of several is not the one that
    the bus is about. Thread-safe; blocks on nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._denied: set[str] = set()

    def note(self, sought: VolumeSought) -> None:
        """Take in what Cinder said of one volume."""
        with self._lock:
            # One that it knows is proof that it is the right Cinder; what it denied before was
            # deleted.
            if sought.known:
                self._denied.clear()
            else:
                self._denied.add(sought.volume_id)

    def check(self) -> Check:
        """Return the check of the component ``cinder``."""
        with self._lock:
            denied = len(self._denied)
        if denied < MOST_STRANGERS:
            return Check("cinder", ok=True, reason="no reason to doubt that it is the right Cinder")
        reason = (
            f"Cinder does not know the last {denied} volumes that the notifications were about, "
            "and never had them: check region_name and endpoint_override of [cinder], and "
            "whether the bus is another cloud's"
        )
        return Check("cinder", ok=False, reason=reason)


class Health:
    """Asks each part for its status. Thread-safe; blocks only for the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        listeners: Sequence[Listener],
        replayer: Replayer,
        publisher: Publisher,
        *,
        strangers: Strangers,
        stopping: threading.Event,
        outside: Outside | None = None,
    ) -> None:
        self._ledger = ledger
        self._listeners = listeners
        self._replayer = replayer
        self._publisher = publisher
        self._strangers = strangers
        self._stopping = stopping
        self._outside = outside or Outside()

    def checks(self) -> Sequence[Check]:
        """Return the check of each component. A paused service is ready; a reason says so.

        Cinder, Nova and the backends only degrade it: it stores what it hears, and works on what
        needs none of those that are away. Of the wrong Cinder nothing is true.
        """
        statuses = [listener.status() for listener in self._listeners]
        return (
            self._service(),
            *(_link(_of_bus("broker", one), one, "all exchanges are bound") for one in statuses),
            *map(_caught_up, statuses),
            _link("replay", self._replayer.status(), "consumes replays"),
            self._announcing(),
            *self._cloud(),
            self._db(),
        )

    def ready(self) -> Mapping[str, tuple[bool, bool]]:
        """Return for each component whether it is ready, and whether degraded, for the metrics."""
        return {check.component: (check.ok, check.degraded) for check in self.checks()}

    def ledger_state(self) -> LedgerState | None:
        """Read the numbers that the metrics show; None if the ledger cannot be read."""
        try:
            pending, oldest_age_seconds = self._ledger.outbox_pending()
            counts = self._ledger.counts()
            paused = [pause.backend for pause in self._ledger.pauses()]
            return LedgerState(
                cases={
                    state.value: (number.count, number.oldest_age_seconds)
                    for state, number in counts.items()
                },
                acknowledged={state.value: number.acknowledged for state, number in counts.items()},
                outbox_pending=pending,
                outbox_oldest_age_seconds=oldest_age_seconds,
                paused=None in paused,
                paused_backends=tuple(backend for backend in paused if backend),
                open_breakers=tuple(self._ledger.open_breakers()),
                fences=self._ledger.fences.ages(),
            )
        except LedgerError as error:
            # No error for the scrape: the other metrics are needed most while the ledger is away.
            LOG.warning("the metrics of the ledger are not available: %s", error)
            return None

    def _cloud(self) -> Sequence[Check]:
        right, outside = self._strangers.check(), self._outside.checks()
        # Both are the component "cinder": a page has one line for it, and the worse one counts.
        if not right.ok:
            return (right, *(check for check in outside if check.component != right.component))
        return outside

    def _service(self) -> Check:
        if self._stopping.is_set():
            return Check("service", ok=False, reason="stopping")
        return Check("service", ok=True, reason="running")

    def _announcing(self) -> Check:
        problems = self._publisher.status().problems
        return Check(
            "publisher", ok=not problems, reason="; ".join(problems) or "publishes announcements"
        )

    def _db(self) -> Check:
        try:
            # Any query would do as a probe; this one is needed for the reasons anyway.
            pauses = self._ledger.pauses()
        except LedgerError as error:
            return Check("ledger", ok=False, reason=str(error))
        reasons = ("available", *(pause.words for pause in pauses))
        return Check("ledger", ok=True, reason="; ".join(reasons))


def _link(component: str, status: ListenerStatus | ReplayStatus, well: str) -> Check:
    if status.problems:
        return Check(component, ok=False, reason="; ".join(status.problems))
    reason = f"connected, {well}" if status.connected else "not connected yet"
    return Check(component, ok=status.connected, reason=reason)


def _caught_up(status: ListenerStatus) -> Check:
    if status.caught_up:
        return Check(_of_bus("listener", status), ok=True, reason="caught up with the queue")
    return Check(
        _of_bus("listener", status),
        ok=False,
        reason="the queue may still have messages; deadlines wait until they are stored",
    )


def _of_bus(component: str, status: ListenerStatus) -> str:
    return component if status.bus == DEFAULT else f"{component}:{status.bus}"
