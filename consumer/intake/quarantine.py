"""The quarantine queue: bodies that could not be used, raw, until a person decides.

What people look at is in the ledger: RabbitMQ has no browse, and looking at a queue means taking
from it. What was put aside is taken out again one body at a time, and nothing is let go of before
it is safe elsewhere: all that is taken and not acked, the broker puts back where it was, whatever
becomes of us.
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
"""Not kombu's own header, by which whoever looks at the queue with kombu would inflate a bomb."""


class SearchError(Exception):
    """The quarantine queue could not be searched to its end."""


class Quarantine:
    """The way in: puts bodies on the queue, with their origin in the headers. For one thread."""

    def __init__(self, broker: BrokerSettings, queue: QueueSettings, bus: str) -> None:
        self._queue = queue
        self._bus = bus
        self._sender = ConfirmedSender(broker, "detachd quarantine", prepare=queue.declare)

    def put(self, delivery: Delivery, reason: str) -> None:
        """Put a body aside: confirmed when this returns. Raises NotConfirmedError."""
        name = self._queue.name
        if self._sender.send(self._parcel(delivery, reason)) is Confirmation.RETURNED:
            self._sender.close()  # the next connection declares the queue again
            raise NotConfirmedError(f"queue {name!r} has been deleted; it is declared again")
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
"""Tells by a body's hash whether to take it out."""

Settle = Callable[[Delivery], None]
"""Makes a body safe elsewhere, or lets go of it on purpose; called before it leaves the queue."""


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """The way out: takes the bodies that are wanted off a queue.

    ``settle`` is called once for each hash, before its first copy is acked; ``removed`` counts the
    copies of each. One search may run through several queues.
    """

    selects: Selector
    settle: Settle
    removed: Counter[str]

    def run(self, broker: BrokerSettings, queue: QueueSettings) -> None:
        """Look at as many messages as wait at the start.

        What is not wanted goes back to its place, and so does what was not reached when ``settle``
        raised. Blocks for one answer of the broker a message. Raises SearchError, and what
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
        for _ in range(queue.ready(channel)):
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
        if body_sha256 not in self.removed:
            self.settle(delivery)
        self.removed[body_sha256] += 1
        channel.basic_ack(message.delivery_tag)
