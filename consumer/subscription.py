"""One connection's life on the bus: the queue declared and bound, its messages taken in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import kombu

from consumer.broker import BROKER_ERRORS, BrokerSettings, connect, describe
from consumer.intake import Batch, Delivery
from consumer.topology import Binding, QueueSettings

_HEARTBEAT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """When a batch is closed.

    At ``size`` messages, after ``idle_seconds`` without one, or when it is ``seconds`` old.
    ``poll_seconds`` is how long to wait for its first message.
    """

    size: int = 500
    idle_seconds: float = 0.05
    seconds: float = 0.25
    poll_seconds: float = 0.5


class Subscription:
    """Consumes our own queue, never somebody else's: that would steal their messages.

    Bodies are kept as they came. Kombu's ``ConsumerMixin``, and a kombu ``Consumer`` that decodes,
    ack a body that they cannot decode before anybody sees it; py-amqp turns a body into text by
    the message's own ``content_encoding``. Both are switched off. ``relevant`` says which bodies
    to keep; the others are counted and acked with their batch.

    Every method blocks for the broker's answers and raises BROKER_ERRORS when it is gone: then the
    subscription is of no use any more, and what was not acked is delivered again.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        queues: tuple[QueueSettings, ...],
        bindings: tuple[Binding, ...],
        *,
        prefetch: int,
        relevant: Callable[[bytes], bool],
        name: str = "detachd listener",
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._bindings = bindings
        self._relevant = relevant
        self._filling = Batch()
        self._beaten_at = time.monotonic()
        self._connection = connect(broker, name, heartbeats=True)
        self.problems: tuple[str, ...] = ()
        try:
            self.refresh()
            self._channel = self._consume(prefetch)
        except BROKER_ERRORS:
            self.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Declare and bind everything again, and keep in ``problems`` what the broker refuses.

        An exchange that is not durable is gone with the broker, and with it our binding; so it is
        with one that somebody deletes, and RabbitMQ drops such bindings when the node of a durable
        queue leaves the cluster. The publishers declare their exchange again, nobody but us binds.
        """
        found = [queue.declare(self._connection) for queue in self._queues]
        durable = self._broker.durable_exchanges
        own = self._queues[0]
        found += [b.apply(self._connection, own, durable=durable) for b in self._bindings]
        self.problems = tuple(trouble for trouble in found if trouble is not None)

    def collect(self, pace: Pace) -> Batch:
        """Return the next batch, which may be empty. Blocks as ``pace`` says."""
        self._beat()
        if self._filling.tags or self._drain(pace.poll_seconds):
            closes_at = time.monotonic() + pace.seconds
            tags, drain = self._filling.tags, self._connection.drain_events
            with self._patience(pace.idle_seconds) as patience, contextlib.suppress(TimeoutError):
                while len(tags) < pace.size and time.monotonic() < closes_at:
                    drain(timeout=patience)
        batch, self._filling = self._filling, Batch()
        return batch

    @contextlib.contextmanager
    def _patience(self, seconds: float) -> Iterator[float | None]:
        """Set the socket's timeout once for many messages; py-amqp sets it six times for each."""
        if not self._broker.confirms:
            yield seconds
            return
        with self._connection.connection.transport.having_timeout(seconds):
            yield None

    def ack(self, batch: Batch) -> None:
        """Ack a batch as a whole. It must be the oldest one not acked yet."""
        if self._broker.confirms:
            self._channel.basic_ack(batch.tags[-1], multiple=True)
            return
        for tag in batch.tags:  # kombu's memory transport takes no notice of multiple
            self._channel.basic_ack(tag)

    def keep_alive(self, seconds: float) -> None:
        """Wait, but with heartbeats, while a batch cannot be acked; prefetch bounds what comes."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self._beat()
            self._drain(min(left, _HEARTBEAT_SECONDS))

    def ready(self) -> int:
        """Return how many messages the broker has not even sent us yet."""
        return self._queues[0].ready(self._channel)

    def all_sent(self) -> bool:
        """Tell whether the broker has sent us all that there was: it is in this batch or the next.

        The count leaves out what is on its way to us, and may overtake it. What is on its way comes
        before the answer to a second question on the same channel.
        """
        if self.ready():
            return False
        self.ready()
        return True

    def close(self) -> None:
        """Close the connection; what was not acked goes back to the queue. Raises nothing."""
        self._connection.release()

    def abandon(self) -> None:
        """Drop a connection that failed, without a word to the broker."""
        self._connection.collect()

    def _consume(self, prefetch: int) -> Any:
        channel = self._connection.channel()
        channel.auto_decode = False
        consumer = kombu.Consumer(
            channel,
            [self._queues[0].on(channel)],
            on_message=self._on_message,
            on_decode_error=self._on_undecodable,
            auto_declare=False,
            prefetch_count=prefetch,
        )
        consumer.consume()
        return channel

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten_at >= _HEARTBEAT_SECONDS:
            self._beaten_at = now
            self._connection.heartbeat_check()

    def _drain(self, seconds: float) -> bool:
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _on_message(self, message: Any) -> None:
        batch, body = self._filling, as_bytes(message.body)
        batch.tags.append(message.delivery_tag)
        if self._relevant(body):
            batch.deliveries.append(delivery_of(message, body))

    def _on_undecodable(self, message: Any, error: Exception) -> None:
        # Kombu undoes compression ([oslo_messaging_rabbit] kombu_compression) before we see it.
        self._filling.tags.append(message.delivery_tag)
        trouble = f"the body cannot be decompressed: {describe(error)}"
        self._filling.deliveries.append(delivery_of(message, as_bytes(message.body), trouble))


def delivery_of(message: Any, body: bytes, trouble: str | None = None) -> Delivery:
    """Return what the broker delivered, out of kombu's message."""
    where = message.delivery_info or {}
    return Delivery(
        body=body,
        exchange=where.get("exchange") or "",
        routing_key=where.get("routing_key") or "",
        content_type=message.content_type or "application/octet-stream",
        content_encoding=message.content_encoding or "binary",
        trouble=trouble,
        message_id=message.properties.get("message_id"),
        user_id=message.properties.get("user_id"),
        redelivered=bool(where.get("redelivered")),
        headers=message.headers or {},
    )


def as_bytes(body: Any) -> bytes:
    """Return a body as bytes, whatever kombu's transport has made of it."""
    return body.encode() if isinstance(body, str) else bytes(body or b"")
