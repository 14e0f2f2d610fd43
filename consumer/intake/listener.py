"""Bus to ledger, then ack: hops 1 and 2.

Notifications are at-most-once on their way to our queue. From there on none is lost: a message is
acked when the ledger, or the quarantine queue, has it on disk. What happens twice (a redelivery, a
publisher's repetition) the ledger recognises by its message_id.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from consumer.bus.broker import BROKER_ERRORS, backoff_seconds, describe
from consumer.bus.delivery import Batch
from consumer.bus.sender import NotConfirmedError
from consumer.bus.settings import GROUP, OPTS, ListenerSettings
from consumer.bus.subscription import Subscription
from consumer.intake.batch import STRUCK_OUT, BatchReport, Intake, Strikes
from consumer.intake.quarantine import Quarantine
from consumer.ledger import Ledger, LedgerUnavailableError
from handlers.notification import may_concern

__all__ = [
    "GROUP",
    "OPTS",
    "BatchReport",
    "Listener",
    "ListenerObserver",
    "ListenerSettings",
    "ListenerStatus",
]

LOG = logging.getLogger(__name__)

_PROBE_SECONDS = 1.0
_CAUGHT_UP_SECONDS = 10.0
_SLICE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerStatus:
    """How the listener is now; ``problems`` are sentences for the operator.

    ``caught_up``: of what the queue held at some moment of the last ten seconds, all is in the
    ledger. Until then a missing end may be an end that waits in the queue, or on its way to us.
    """

    bus: str
    connected: bool
    caught_up: bool
    last_message_at: datetime | None
    problems: tuple[str, ...]


class ListenerObserver(Protocol):
    """What wants to know of the listener's work, metrics for one. Called in its thread."""

    def batch_done(self, report: BatchReport) -> None:
        """Take note of a batch that was stored and acked."""

    def disconnected(self, bus: str) -> None:
        """Take note of a connection that was lost."""


class Unobserved:
    """Takes no note."""

    def batch_done(self, report: BatchReport) -> None:
        """Take no note."""

    def disconnected(self, bus: str) -> None:
        """Take no note."""


class Listener:
    """Keeps one bus's notifications going into the ledger, whatever broker and ledger do.

    For one thread; ``caught_up`` and ``status`` may be asked from any.
    """

    def __init__(
        self, settings: ListenerSettings, ledger: Ledger, observer: ListenerObserver | None = None
    ) -> None:
        self._settings = settings
        self._observer = observer or Unobserved()
        self._quarantine = Quarantine(settings.broker, settings.quarantine, settings.bus)
        self._intake = Intake(
            settings.bus, ledger, self._quarantine.put, max_body_bytes=settings.max_body_bytes
        )
        self._subscription: Subscription | None = None
        self._held: Batch | None = None
        self._trouble: str | None = None
        self._failures = 0
        self._hold_until = self._probe_at = self._refresh_at = -math.inf
        self._all_sent_at: float | None = None
        self._caught_up_at = -math.inf
        self._strikes = Strikes()
        self._one_by_one = 0
        self._last_message_at: datetime | None = None
        self._told: tuple[str, ...] = ()

    @property
    def caught_up(self) -> bool:
        """Tell whether deadlines may fire; see ``ListenerStatus``."""
        return time.monotonic() - self._caught_up_at < _CAUGHT_UP_SECONDS

    def status(self) -> ListenerStatus:
        """Return how the listener is now. Blocks on nothing."""
        return ListenerStatus(
            bus=self._settings.bus,
            connected=self._subscription is not None,
            caught_up=self.caught_up,
            last_message_at=self._last_message_at,
            problems=self._problems(),
        )

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set, reconnecting for ever; return within about a second of it.

        What was taken and not acked then goes back to the queue.
        """
        while not stop.is_set():
            try:
                self.run_once()
            except BROKER_ERRORS as error:
                self._strike_in_hand()
                stop.wait(self._lost(f"the broker cannot be used: {describe(error)}"))
            except Exception as error:
                LOG.exception("bus %s: unexpected error; nothing was acked", self._settings.bus)
                self._strike()
                stop.wait(self._lost(f"unexpected error: {describe(error)}"))
        self.close()

    def run_once(self) -> int:
        """Connect if need be and take one batch; return how many messages were acked.

        Where the ledger (or the quarantine queue) cannot be had, the batch is kept and nothing is
        acked; later calls try it again, and until then wait with heartbeats. Blocks for
        about half a second when there is nothing to do. Raises BROKER_ERRORS;
        then ``close`` must follow, and what was not acked is delivered again.
        """
        subscription = self._subscribed()
        if self._held is None:
            self._held = self._collect(subscription)
        elif time.monotonic() < self._hold_until:
            subscription.keep_alive(_SLICE_SECONDS)
            return 0
        if not self._make_durable(self._held):
            return 0
        acked, self._held = self._held, None
        if acked.tags:
            subscription.ack(acked)
            self._last_message_at = datetime.now(UTC)
        self._note_durable(acked)
        self._look_around(subscription)
        if self._one_by_one:
            self._one_less(acked, subscription)
        return len(acked.tags)

    def close(self) -> None:
        """Close the connections; what was not acked goes back to the queue."""
        if self._subscription is not None:
            self._subscription.close()
        self._forget()
        self._quarantine.close()

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            settings = self._settings
            self._subscription = Subscription(
                settings.broker,
                (settings.queue, settings.quarantine),
                settings.bindings,
                prefetch=1 if self._one_by_one else settings.prefetch,
                max_body_bytes=settings.max_body_bytes,
                relevant=may_concern,
                refused=self._strikes.refused,
            )
            self._refresh_at = time.monotonic() + settings.rebind_seconds
            self._probe_at = -math.inf
            LOG.info("bus %s: listening on queue %s", settings.bus, settings.queue.name)
            self._tell()
        return self._subscription

    def _collect(self, subscription: Subscription) -> Batch:
        if not self._one_by_one:
            return subscription.collect(self._settings.pace)
        batch = subscription.collect(dataclasses.replace(self._settings.pace, size=1))
        batch.deliveries = [
            dataclasses.replace(one, trouble=STRUCK_OUT)
            if self._strikes.out(one.body_sha256)
            else one
            for one in batch.deliveries
        ]
        return batch

    def _strike(self) -> None:
        """After an unexpected error take what was in hand one by one, to find what it comes of.

        Else one message that wakes a bug of ours would stop its bus for good, and be redelivered
        with all those around it for ever.
        """
        if self._strike_in_hand() or self._held is None or not self._held.tags:
            return
        self._one_by_one = max(self._one_by_one, len(self._held.tags))
        if len(self._held.tags) == 1 and self._held.deliveries:
            self._strikes.strike(self._held.deliveries[0].body_sha256)

    def _strike_in_hand(self) -> bool:
        """Count an error that came while a body was read off the connection: it is known by that.

        Whatever the error is: those of the broker are raised between bodies.
        """
        body = None if self._subscription is None else self._subscription.in_hand
        if body is not None:
            self._strikes.strike(sha256(body).hexdigest())
        return body is not None

    def _one_less(self, batch: Batch, subscription: Subscription) -> None:
        """Count those that were in hand with the error; after them go back to whole batches."""
        left = self._one_by_one - len(batch.tags) if batch.tags else 0
        self._one_by_one = max(left, 0)
        if not self._one_by_one:
            subscription.close()  # the next is one that many messages are sent to
            self._subscription = self._all_sent_at = None

    def _note_durable(self, batch: Batch) -> None:
        """Take note that this batch, and what came before it, needs the broker no more."""
        if self._all_sent_at is not None:
            self._caught_up_at, self._all_sent_at = self._all_sent_at, None
        self._trouble = None
        # What had to be put aside is no sign that all is well: if we fail on everything, the pauses
        # grow, and it is not all in quarantine within the hour.
        if not any(delivery.trouble == STRUCK_OUT for delivery in batch.deliveries):
            self._failures = 0

    def _make_durable(self, batch: Batch) -> bool:
        if not batch.tags:
            return True
        try:
            report = self._intake.take(batch)
        except (LedgerUnavailableError, NotConfirmedError) as error:
            self._failures += 1
            delay = backoff_seconds(self._failures)
            self._hold_until = time.monotonic() + delay
            self._caught_up_at = -math.inf
            self._trouble = f"{len(batch.tags)} messages wait unacked: {describe(error)}"
            self._tell()
            return False
        self._observer.batch_done(report)
        return True

    def _look_around(self, subscription: Subscription) -> None:
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + self._settings.rebind_seconds
            subscription.refresh()
        if now >= self._probe_at:
            self._probe_at = now + _PROBE_SECONDS
            self._all_sent_at = now if subscription.all_sent() else None
        self._tell()

    def _lost(self, trouble: str) -> float:
        if self._subscription is not None:
            self._observer.disconnected(self._settings.bus)
            self._subscription.abandon()
        self._forget()
        self._failures += 1
        self._trouble = trouble
        self._tell()
        return backoff_seconds(self._failures)

    def _forget(self) -> None:
        self._subscription = self._held = None
        self._hold_until = self._caught_up_at = -math.inf
        self._all_sent_at = None

    def _problems(self) -> tuple[str, ...]:
        subscription, trouble = self._subscription, self._trouble
        found = () if subscription is None else subscription.problems
        return found if trouble is None else (trouble, *found)

    def _tell(self) -> None:
        """Log each problem once, and when all are gone."""
        problems = self._problems()
        for problem in problems:
            if problem not in self._told:
                LOG.warning("bus %s: %s", self._settings.bus, problem)
        if self._told and not problems:
            LOG.info("bus %s: all is well again", self._settings.bus)
        self._told = problems
