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
import threading
import uuid
from collections.abc import Callable
from typing import assert_never

from consumer.bus.subscription import Batch, Delivery, Subscription
from consumer.counting import Happened, What
from consumer.intake.batch import record_quarantined
from consumer.intake.loop import QueueLoop
from consumer.intake.quarantine import Quarantine
from consumer.intake.replay_queue import (
    SOURCE,
    CaseOrder,
    Order,
    Refused,
    ReplaySettings,
    order_of,
    replay_of,
)
from consumer.ledger import Ledger, NoSuchCaseError, Replay, Replayed, ReplayRefusedError
from handlers.counting import uncounted
from handlers.notification import Notification

LOG = logging.getLogger(__name__)

Count = Callable[[Happened], None]


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayStatus:
    """How it stands with the replay queue; ``problems`` are sentences for the operator."""

    connected: bool
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """One message that is not acked: what it asks for, under the id that it keeps until it is."""

    batch: Batch
    delivery: Delivery
    order: Order
    replay: Replay


class Replayer:
    """Keeps what people send round again going into the ledger. For one thread.

    ``status`` may be called from any thread. The methods from ``parse`` on are those of ``Intake``:
    only the loop calls them.
    """

    def __init__(self, settings: ReplaySettings, ledger: Ledger, count: Count = uncounted) -> None:
        self._settings = settings
        self._ledger = ledger
        self._count = count
        self._quarantine = Quarantine(settings.broker, settings.quarantine, SOURCE)
        self._loop = QueueLoop(
            settings, self, self._quarantine, relevant=lambda _: True,
            name="replay", connection="detachd replay", waiting="a replay waits unacked",
        )  # fmt: skip
        self._in_doubt: Replay | None = None

    def status(self) -> ReplayStatus:
        """Return how it stands. Blocks on nothing."""
        return ReplayStatus(self._loop.connected, self._loop.problems)

    def run(self, stop: threading.Event) -> None:
        """Take replays in until ``stop`` is set; see ``QueueLoop.run``."""
        self._loop.run(stop)

    def run_once(self) -> int:
        """Take one replay in; return how many were acked. See ``QueueLoop.run_once``."""
        return self._loop.run_once()

    def close(self) -> None:
        """Close the connections; what was not acked goes back to the queue."""
        self._loop.close()

    def parse(self, batch: Batch) -> _Request:
        """Say what the one message asks for, and by which id the ledger is to know it."""
        (delivery,) = batch.deliveries
        order = self._order(delivery)
        return _Request(batch, delivery, order, self._identified(delivery, order))

    def store(self, request: _Request) -> None:
        """Take the replay in, or put it aside.

        Blocks on the ledger and, for what is put aside, on the broker's confirm. Raises
        LedgerUnavailableError and NotConfirmedError.
        """
        self._in_doubt = None if request.delivery.message_id else request.replay
        match request.order:
            case Refused(reason):
                self._put_aside(request, reason)
            case CaseOrder(case_id):
                self._replay(request, case_id)
            case Notification() as notification:
                self._replay(request, notification)
            case other:
                assert_never(other)

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Wait until the ack of a message without an id is through: then it is in doubt no more."""
        if batch.tags and self._in_doubt is not None:
            subscription.ready()  # an answer: the ack, sent before the question, is through
            self._in_doubt = None

    def interrupted(self, *, disconnected: bool) -> None:
        """Do nothing: what is in doubt is so until it comes again."""

    def _order(self, delivery: Delivery) -> Order:
        if delivery.problem is not None:
            return Refused(delivery.problem)
        size, most = len(delivery.body), self._settings.max_body_bytes
        if size > most:
            return Refused(f"the body has {size} bytes, more than max_body_bytes = {most}")
        return order_of(delivery.body)

    def _identified(self, delivery: Delivery, order: Order) -> Replay:
        body_sha256, doubt = delivery.body_sha256, self._in_doubt
        if delivery.message_id:
            # Some senders give every message the same id: the body makes it their own.
            own = uuid.uuid5(uuid.NAMESPACE_OID, f"{delivery.message_id} {body_sha256}")
            return replay_of(delivery, order, f"{SOURCE}:{own}", maybe_repeated=False)
        if delivery.redelivered and doubt is not None and doubt.body_sha256 == body_sha256:
            return doubt
        own = uuid.uuid4()
        return replay_of(delivery, order, f"{SOURCE}:{own}", maybe_repeated=delivery.redelivered)

    def _replay(self, request: _Request, what: str | Notification) -> None:
        try:
            replayed = self._ledger.replay(request.replay, what)
        except (NoSuchCaseError, ReplayRefusedError) as error:
            self._put_aside(request, str(error))
            return
        result = _result(replayed)
        LOG.info("case %s: %s by %s", replayed.case_id, result, request.replay.actor)
        self._count(Happened(What.REPLAYED, result))

    def _put_aside(self, request: _Request, reason: str) -> None:
        why = request.delivery.why(reason)
        if not request.batch.quarantined:
            self._quarantine.put(request.delivery, why)
            request.batch.quarantined.add(0)
        record_quarantined(self._ledger, SOURCE, request.delivery, why)
        self._count(Happened(What.REPLAYED, "refused"))


def _result(replayed: Replayed) -> str:
    if replayed.repeated:
        return "repeated"
    return "rearmed" if replayed.before else "opened"
