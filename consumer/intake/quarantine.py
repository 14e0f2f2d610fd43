"""The quarantine queue keeps bodies that could not be used, unchanged, until a person decides.

RabbitMQ cannot show a queue without consuming it, so people look at the records in the ledger.
Bodies are removed from the queue one by one, and each is acked only after it is safe elsewhere. A
body that was not acked returns to its place in the queue, even if the process is killed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from consumer.bus.broker import BROKER_ERRORS, BrokerSettings, connect, describe
from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.bus.subscription import Delivery, as_bytes, delivery_of
from consumer.bus.topology import QueueSettings, own_channel
from handlers.notification.redaction import scrub

LOG = logging.getLogger(__name__)

REASON = "x-detachd-reason"
SHA256 = "x-detachd-sha256"
BUS = "x-detachd-bus"
EXCHANGE = "x-detachd-exchange"
ROUTING_KEY = "x-detachd-routing-key"
COMPRESSION = "x-detachd-compression"
"""Our own header: with kombu's, a client that uses kombu would decompress without a limit."""


class SearchError(Exception):
    """The quarantine queue could not be searched to its end."""


class Quarantine:
    """Puts bodies on the queue, with their origin in the headers. For one thread."""

    def __init__(self, broker: BrokerSettings, queue: QueueSettings, bus: str) -> None:
        self._queue = queue
        self._bus = bus
        self._sender = ConfirmedSender(broker, "detachd quarantine", prepare=queue.declare)

    def put(self, delivery: Delivery, reason: str) -> None:
        """Put a body on the queue; it is confirmed when this returns. Raises NotConfirmedError."""
        name = self._queue.name
        # Returned by the default exchange: there is no queue of that name.
        if self._sender.send(self._parcel(delivery, reason)) is Confirmation.RETURNED:
            self._sender.close()  # the next connection declares the queue again
            raise NotConfirmedError(f"queue {name!r} was deleted; detachd declares it again")
        LOG.warning("quarantined a message of %s: %s", scrub(delivery.routing_key), reason)

    def close(self) -> None:
        """Close the connection; the next body makes a new one."""
        self._sender.close()

    def _parcel(self, delivery: Delivery, reason: str) -> Parcel:
        return Parcel(
            exchange="",
            routing_key=self._queue.name,
            body=delivery.body,
            content_type=delivery.content_type,
            content_encoding=delivery.content_encoding,
            headers={
                REASON: reason,
                SHA256: delivery.body_sha256,
                BUS: self._bus,
                EXCHANGE: delivery.exchange,
                ROUTING_KEY: delivery.routing_key,
                **({} if delivery.compression is None else {COMPRESSION: delivery.compression}),
            },
        )


Selector = Callable[[str], bool]
"""Tells by the hash of a body whether to remove it from the queue."""

Settle = Callable[[Delivery], None]
"""Replays or discards a body durably; it is called before the body leaves the queue."""


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """Removes the selected bodies from a queue.

    ``settle`` is called once for each hash, before its first copy is acked; ``removed`` counts the
    copies of each. One search may run through several queues.
    """

    selects: Selector
    settle: Settle
    removed: Counter[str]

    def run(self, broker: BrokerSettings, queue: QueueSettings) -> None:
        """Search the messages that are in the queue at the start.

        Bodies that are not selected go back to their places, and so do the others if ``settle``
        raises. Blocks for one answer of the broker per message. Raises SearchError, and what
        ``settle`` raises.
        """
        try:
            connection = connect(broker, "detachd quarantine", heartbeats=False)
            try:
                queue.declare(connection)
                with own_channel(connection) as channel:
                    self._walk(channel, queue)
            finally:
                connection.release()
        except BROKER_ERRORS as error:
            raise SearchError(describe(error)) from error

    def _walk(self, channel: Any, queue: QueueSettings) -> None:
        channel.auto_decode = False
        # As many as there are now: unwanted ones come back only when the channel closes, so none is
        # met twice.
        for _ in range(queue.ready(channel)):
            # One by one and not by a consumer, which would take a prefetch of bodies away from
            # their places.
            raw = channel.basic_get(queue.name, no_ack=False)
            if raw is None:
                return
            self._look_at(channel.message_to_python(raw), channel)

    def _look_at(self, message: Any, channel: Any) -> None:
        # What is neither acked nor rejected goes back to its place when the channel is closed.
        delivery = delivery_of(message, as_bytes(message.body))
        body_sha256 = delivery.body_sha256
        if not self.selects(body_sha256):
            return
        # A body of which several copies wait is replayed once.
        if body_sha256 not in self.removed:
            self.settle(delivery)
        self.removed[body_sha256] += 1
        channel.basic_ack(message.delivery_tag)
