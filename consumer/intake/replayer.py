"""Replay queue to ledger, then ack: a person sends something round again.

A replay is taken in once:

- One with an AMQP message_id, as all that detachd itself sends: exactly once, however often it is
  sent or delivered, for as long as the ledger keeps the case. The same id with another body is
  another replay.
- One without: the broker says of a message that nobody had it before, and then it is new. Where
  the broker is not sure, it counts as seen if this process took it in and lost the connection
  before its ack was through, or if the same body's replay still waits for its look. Otherwise it
  is new: rather one look more, which harms nothing, than a person's word lost.

What asks for nothing that can be done goes to the quarantine, and is never tried again by itself.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
import uuid
from hashlib import sha256
from typing import Protocol, assert_never

from consumer.bus.broker import BROKER_ERRORS, backoff_seconds, describe
from consumer.bus.delivery import Batch, Delivery
from consumer.bus.sender import NotConfirmedError
from consumer.bus.subscription import Subscription
from consumer.intake.batch import STRUCK_OUT, Strikes, record_quarantined
from consumer.intake.quarantine import Quarantine
from consumer.intake.replay_queue import (
    SOURCE,
    CaseOrder,
    Order,
    Refused,
    ReplaySettings,
    asked,
    read,
)
from consumer.ledger import (
    Ledger,
    LedgerUnavailableError,
    NoSuchCaseError,
    Replay,
    Replayed,
    ReplayRefusedError,
)
from handlers.notification import Notification

LOG = logging.getLogger(__name__)

# Each is acked before the next is sent to us: only the one in hand can come again because of us.
_PREFETCH = 1
_SLICE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayStatus:
    """How it stands with the replay queue; ``problems`` are sentences for the operator."""

    connected: bool
    problems: tuple[str, ...]


class ReplayObserver(Protocol):
    """What wants to know what becomes of replays, metrics for one. Called in their thread."""

    def replayed(self, result: str) -> None:
        """Take note of one: ``rearmed``, ``opened``, ``repeated`` or ``refused``."""


class Unobserved:
    """Takes no note."""

    def replayed(self, result: str) -> None:
        """Take no note."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    """One message that is not acked: what it asks for, under the id that it keeps until it is."""

    batch: Batch
    delivery: Delivery
    order: Order
    replay: Replay


class Replayer:
    """Keeps what people send round again going into the ledger. For one thread.

    ``status`` may be asked from any.
    """

    def __init__(
        self, settings: ReplaySettings, ledger: Ledger, observer: ReplayObserver | None = None
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._observer = Unobserved() if observer is None else observer
        self._quarantine = Quarantine(settings.broker, settings.quarantine, SOURCE)
        self._subscription: Subscription | None = None
        self._held: _Held | None = None
        self._in_doubt: Replay | None = None
        self._trouble: str | None = None
        self._failures = 0
        self._hold_until = -math.inf
        self._reading: Delivery | None = None
        self._strikes = Strikes()

    def status(self) -> ReplayStatus:
        """Return how it stands. Blocks on nothing."""
        subscription, trouble = self._subscription, self._trouble
        found = () if subscription is None else subscription.problems
        problems = found if trouble is None else (trouble, *found)
        return ReplayStatus(subscription is not None, problems)

    def run(self, stop: threading.Event) -> None:
        """Take replays in until ``stop`` is set, reconnecting for ever.

        Returns within about a second of it; what was not acked goes back to the queue.
        """
        while not stop.is_set():
            try:
                self.run_once()
            except BROKER_ERRORS as error:
                self._strike_what_is_read()
                stop.wait(self._lost(f"the broker cannot be used: {describe(error)}"))
            except Exception as error:
                LOG.exception("replay: unexpected error; nothing was acked")
                self._strike()
                stop.wait(self._lost(f"unexpected error: {describe(error)}"))
        self.close()

    def run_once(self) -> int:
        """Connect if need be and take in one replay; return how many were acked, none or one.

        Where the ledger, or the quarantine queue for what is no replay, cannot be had, it is kept
        and tried again by later calls. Blocks for about half a second when there is nothing to do.
        Raises BROKER_ERRORS; then ``close`` must follow, and what was not acked is delivered again.
        """
        subscription = self._subscribed()
        if self._held is None:
            self._held = self._next(subscription)
        elif time.monotonic() < self._hold_until:
            subscription.keep_alive(_SLICE_SECONDS)
            return 0
        if self._held is None or not self._made_durable(self._held):
            return 0
        self._ack(subscription, self._held)
        return 1

    def close(self) -> None:
        """Close the connections; what was not acked goes back to the queue."""
        if self._subscription is not None:
            self._subscription.close()
        self._subscription = self._held = None
        self._quarantine.close()

    # --- one message ----------------------------------------------------------------------------

    def _next(self, subscription: Subscription) -> _Held | None:
        batch = subscription.collect(self._settings.pace)
        if not batch.tags:
            self._failures, self._trouble = 0, None
            return None
        (delivery,) = batch.deliveries
        self._reading = delivery
        order = self._read(delivery)
        held = _Held(batch, delivery, order, self._identified(delivery, order))
        self._reading = None
        return held

    def _read(self, delivery: Delivery) -> Order:
        if delivery.trouble is not None:
            return Refused(delivery.trouble)
        size, most = len(delivery.body), self._settings.max_body_bytes
        if size > most:
            return Refused(f"the body has {size} bytes, more than max_body_bytes = {most}")
        if self._strikes.out(delivery.body_sha256):
            return Refused(STRUCK_OUT)
        return read(delivery.body)

    def _identified(self, delivery: Delivery, order: Order) -> Replay:
        body_sha256, doubt = delivery.body_sha256, self._in_doubt
        if delivery.message_id:
            # Some senders give every message the same id: the body makes it their own.
            own = uuid.uuid5(uuid.NAMESPACE_OID, f"{delivery.message_id} {body_sha256}")
            return asked(delivery, order, f"{SOURCE}:{own}", perhaps_seen=False)
        if delivery.redelivered and doubt is not None and doubt.body_sha256 == body_sha256:
            return doubt
        own = uuid.uuid4()
        return asked(delivery, order, f"{SOURCE}:{own}", perhaps_seen=delivery.redelivered)

    def _made_durable(self, held: _Held) -> bool:
        self._in_doubt = None if held.delivery.message_id else held.replay
        try:
            self._take_in(held)
        except (LedgerUnavailableError, NotConfirmedError) as error:
            self._failures += 1
            self._hold_until = time.monotonic() + backoff_seconds(self._failures)
            self._tell(f"a replay waits unacked: {describe(error)}")
            return False
        return True

    def _take_in(self, held: _Held) -> None:
        match held.order:
            case Refused(reason):
                self._put_aside(held, reason)
            case CaseOrder(case_id):
                self._replay(held, case_id)
            case Notification() as notification:
                self._replay(held, notification)
            case other:
                assert_never(other)

    def _replay(self, held: _Held, what: str | Notification) -> None:
        try:
            replayed = self._ledger.replay(held.replay, what)
        except (NoSuchCaseError, ReplayRefusedError) as error:
            self._put_aside(held, str(error))
            return
        result = _result(replayed)
        LOG.info("case %s: %s by %s", replayed.case_id, result, held.replay.actor)
        self._observer.replayed(result)

    def _put_aside(self, held: _Held, reason: str) -> None:
        why = held.delivery.why(reason)
        if not held.batch.quarantined:
            self._quarantine.put(held.delivery, why)
            held.batch.quarantined.add(0)
        record_quarantined(self._ledger, SOURCE, held.delivery, why)
        self._observer.replayed("refused")

    def _ack(self, subscription: Subscription, held: _Held) -> None:
        self._held = None
        subscription.ack(held.batch)
        if not held.delivery.message_id:
            subscription.ready()  # an answer: the ack, sent before the question, is through
        self._in_doubt = None
        self._failures, self._trouble = 0, None

    def _strike(self) -> None:
        """Count an unexpected error on a body: one that always ends so must not stop the others."""
        if self._held is None:
            self._strike_what_is_read()
        else:
            self._strikes.strike(self._held.delivery.body_sha256)

    def _strike_what_is_read(self) -> None:
        """Count any error that came while a body was read: the broker's come between bodies."""
        if self._reading is not None:
            self._strikes.strike(self._reading.body_sha256)
        elif self._subscription is not None and (body := self._subscription.in_hand) is not None:
            self._strikes.strike(sha256(body).hexdigest())

    # --- the connection -------------------------------------------------------------------------

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            settings = self._settings
            self._subscription = Subscription(
                settings.broker,
                (settings.queue, settings.quarantine),
                (),
                prefetch=_PREFETCH,
                max_body_bytes=settings.max_body_bytes,
                relevant=lambda _: True,
                refused=self._strikes.refused,
                name="detachd replay",
            )
            for problem in self._subscription.problems:
                LOG.warning("replay: %s", problem)
        return self._subscription

    def _lost(self, trouble: str) -> float:
        if self._subscription is not None:
            self._subscription.abandon()
        self._subscription = self._held = self._reading = None
        self._hold_until = -math.inf
        self._failures += 1
        self._tell(trouble)
        return backoff_seconds(self._failures)

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            LOG.warning("replay: %s", trouble)
        self._trouble = trouble


def _result(replayed: Replayed) -> str:
    if replayed.repeated:
        return "repeated"
    return "rearmed" if replayed.before else "opened"
