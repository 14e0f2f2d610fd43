"""From the replay queue into the ledger, then ack: a person replays a case or a notification.

Each replay is accepted once:

1. A replay with an AMQP message_id, as all that detachd sends, is accepted exactly once, however
   often it is sent or delivered, as long as the ledger keeps the case. The same id with another
   body is another replay.
2. A replay without one is new if the broker says that no client has received it before.
3. A redelivered one without an id is a repetition in two cases: this process accepted it and lost
   the connection before the broker had the ack; or a replay with the same body still waits for its
   first look. Otherwise it is new: one look more does no harm, but a lost replay would.
4. A body that cannot be replayed goes to quarantine. It is not tried again without a person.
"""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Callable
from typing import assert_never

from consumer.bus.subscription import Batch, Delivery, Subscription
from consumer.counting import EventKind, Happened
from consumer.intake.batch import record_quarantined
from consumer.intake.loop import Looped, QueueLoop
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

LOOK_AGAIN_SECONDS = 5.0
"""How long a problem of a queue is believed, one that passes by itself for instance."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayStatus:
    """The status of the replay queue; ``problems`` are sentences for the operator."""

    connected: bool
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """One message that is not acked yet: its order, and the replay for the ledger with its id."""

    batch: Batch
    delivery: Delivery
    order: Order
    replay: Replay


class Replayer(Looped):
    """Stores replays in the ledger. For one thread.

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
        # The replay without an id whose ack the broker may not have. Only one: prefetch is one.
        self._in_doubt: Replay | None = None

    def status(self) -> ReplayStatus:
        """Return the status. Does not block."""
        return ReplayStatus(self._loop.connected, self._loop.problems)

    def parse(self, batch: Batch) -> _Request:
        """Parse the single message, and give its replay an id for the ledger."""
        # One at a time, because only then can a redelivery be told from a second replay.
        (delivery,) = batch.deliveries
        order = self._order(delivery)
        return _Request(batch, delivery, order, self._identified(delivery, order))

    def store(self, request: _Request) -> None:
        """Store the replay, or quarantine it.

        Blocks for the ledger and, for a quarantined message, for the broker's confirm. Raises
        LedgerUnavailableError and NotConfirmedError.
        """
        # Before it is stored: the connection may be lost at any moment from here on.
        self._in_doubt = None if request.delivery.message_id else request.replay
        match request.order:
            case Refused(reason):
                self._quarantine_message(request, reason)
            case CaseOrder(case_id):
                self._replay(request, case_id)
            case Notification() as notification:
                self._replay(request, notification)
            case other:
                assert_never(other)

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Wait until the broker has the ack of a message without an id: it is not in doubt then.

        Where a queue has a problem, the queues are looked at again now and then.
        """
        if batch.tags and self._in_doubt is not None:
            subscription.ready()  # when it has answered, the broker has the ack
            self._in_doubt = None
        look_at = subscription.refreshed_at + LOOK_AGAIN_SECONDS
        if subscription.problems and time.monotonic() >= look_at:
            subscription.refresh()

    def interrupted(self, *, disconnected: bool) -> None:
        """Do nothing: the message stays in doubt until it is redelivered."""

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
            # Some senders give every message the same id: with the hash of the body it is unique.
            # uuid5: the same delivery gets the same id, in any process.
            own = uuid.uuid5(uuid.NAMESPACE_OID, f"{delivery.message_id} {body_sha256}")
            return replay_of(delivery, order, f"{SOURCE}:{own}", maybe_repeated=False)
        if delivery.redelivered and doubt is not None and doubt.body_sha256 == body_sha256:
            return doubt
        own = uuid.uuid4()
        return replay_of(delivery, order, f"{SOURCE}:{own}", maybe_repeated=delivery.redelivered)

    def _replay(self, request: _Request, what: str | Notification) -> None:
        try:
            replayed = self._ledger.replay(request.replay, what)
        # A person has to look at it. Without an ack it would come again for ever.
        except (NoSuchCaseError, ReplayRefusedError) as error:
            self._quarantine_message(request, str(error))
            return
        result = _result(replayed)
        LOG.info("replay of case %s by %s: %s", replayed.case_id, request.replay.actor, result)
        self._count(Happened(EventKind.REPLAYED, result))

    def _quarantine_message(self, request: _Request, reason: str) -> None:
        why = request.delivery.why(reason)
        # After an outage of the ledger the request is stored again, and the body is on the queue
        # already.
        if not request.batch.quarantined:
            self._quarantine.put(request.delivery, why)
            request.batch.quarantined.add(0)
        record_quarantined(self._ledger, SOURCE, request.delivery, why)
        self._count(Happened(EventKind.REPLAYED, "refused"))


def _result(replayed: Replayed) -> str:
    if replayed.repeated:
        return "repeated"
    return "rearmed" if replayed.before else "opened"
