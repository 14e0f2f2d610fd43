"""One connection's life on the bus: the queue declared and bound, its messages taken in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import kombu

from consumer.bus.broker import BROKER_ERRORS, BrokerSettings, connect, describe
from consumer.bus.incoming import Incoming
from consumer.bus.inflating import NotInflatedError, inflate
from consumer.bus.properties import Properties, parse_properties
from consumer.bus.topology import Binding, QueueSettings

COMPRESSED = "compression"
"""The header by which kombu's publishers say how a body is compressed."""

MOST_BYTES = 64 * 1024 * 1024
"""How much of bodies is kept before it is stored; one more may come, as large as the broker has."""

_HEARTBEAT_SECONDS = 1.0
_COMPRESSION_KEY = COMPRESSED.encode()
_LONGEST_METHOD = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the broker delivered it. ``problem``: why its body could not be read.

    ``message_id``, ``user_id`` and ``headers`` are the sender's, where it set any (the broker
    checks a user_id); ``redelivered`` is False where the broker is sure that nobody had it before.
    ``compression`` is the method that the body is still compressed by. ``properties_problem`` says
    what of the sender's words could not be read: by itself no reason to put the body aside.
    """

    body: bytes
    exchange: str
    routing_key: str
    content_type: str
    content_encoding: str
    problem: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    redelivered: bool = False
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compression: str | None = None
    properties_problem: str | None = None

    @property
    def body_sha256(self) -> str:
        """Return the body's hash, by which the quarantine knows it."""
        return hashlib.sha256(self.body).hexdigest()

    def why(self, reason: str) -> str:
        """Return why it is put aside, and what else could not be read of it."""
        more = self.properties_problem
        return reason if more is None else f"{reason}; {more}"


@dataclasses.dataclass(slots=True)
class Batch:
    """The messages that are acked together: a tag of each, and those that may concern us.

    ``quarantined`` are the places in ``deliveries`` of those that are on the quarantine queue
    already, should the batch be tried again.
    """

    tags: list[int | str] = dataclasses.field(default_factory=list)
    deliveries: list[Delivery] = dataclasses.field(default_factory=list)
    quarantined: set[int] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """When a batch is closed.

    At ``size`` messages, when the bodies that it keeps have ``most_bytes``, after ``idle_seconds``
    without a message, or when it is ``seconds`` old. ``poll_seconds`` is how long to wait for its
    first message.
    """

    size: int = 500
    most_bytes: int = MOST_BYTES
    idle_seconds: float = 0.05
    seconds: float = 0.25
    poll_seconds: float = 0.5


class Subscription:
    """Consumes our own queue, never somebody else's: that would steal their messages.

    Bodies are kept as they came, but for what a publisher's kombu had compressed, which may become
    ``max_body_bytes`` at most. Kombu's ``ConsumerMixin``, and a kombu ``Consumer`` that decodes,
    ack a body that they cannot decode before anybody sees it; py-amqp turns a body into text by
    the message's own ``content_encoding``. Both are switched off. ``relevant`` says which bodies
    to keep; the others are counted and acked with their batch. ``refused`` returns the reason
    why a body must not be read at all, or None. ``current_body`` is the body that is being read, so
    that an error can be traced to it. ``refreshed_at`` is when ``refresh`` was last
    done, by the monotonic clock.

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
        max_body_bytes: int,
        relevant: Callable[[bytes], bool],
        refused: Callable[[bytes], str | None] = lambda _: None,
        name: str = "detachd listener",
    ) -> None:
        self._broker = broker
        self._queues = queues
        self._bindings = bindings
        self._max_body_bytes = max_body_bytes
        self._relevant = relevant
        self._refused = refused
        self._open_batch = Batch()
        self._open_bytes = 0
        self.current_body: bytes | None = None
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
        self.problems = tuple(problem for problem in found if problem is not None)
        self.refreshed_at = time.monotonic()

    def collect(self, pace: Pace) -> Batch:
        """Return the next batch, which may be empty. Blocks as ``pace`` says."""
        self._beat()
        if self._open_batch.tags or self._drain(pace.poll_seconds):
            closes_at = time.monotonic() + pace.seconds
            tags, drain = self._open_batch.tags, self._connection.drain_events
            with self._patience(pace.idle_seconds) as patience, contextlib.suppress(TimeoutError):
                while (
                    len(tags) < pace.size
                    and self._open_bytes < pace.most_bytes
                    and time.monotonic() < closes_at
                ):
                    drain(timeout=patience)
        batch, self._open_batch, self._open_bytes = self._open_batch, Batch(), 0
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
            wait = min(left, _HEARTBEAT_SECONDS)
            if self._open_bytes < MOST_BYTES:
                self._drain(wait)
            else:  # the broker keeps the rest; should it miss our answers, it has all of it again
                time.sleep(wait)

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
        body = self.current_body = as_bytes(message.body)
        self._open_batch.tags.append(message.delivery_tag)
        problem = self._refused(body)
        if problem is not None:
            self._add(delivery_of(message, body, problem))
        elif isinstance(message, Incoming) and _COMPRESSION_KEY in message.raw_properties:
            self._inflate(delivery_of(message, body))
        elif self._relevant(body):
            self._add(delivery_of(message, body))
        self.current_body = None

    def _inflate(self, delivery: Delivery) -> None:
        """Take a message that may be compressed: only now its properties had to be read."""
        if delivery.headers.get(COMPRESSED, "") != "":
            delivery = _inflated(delivery, self._max_body_bytes)
        if delivery.problem is not None or self._relevant(delivery.body):
            self._add(delivery)

    def _add(self, delivery: Delivery) -> None:
        self._open_batch.deliveries.append(delivery)
        self._open_bytes += len(delivery.body)

    def _on_undecodable(self, message: Any, error: Exception) -> None:
        # Kombu's memory transport inflates by itself; only this process can publish to that.
        self._open_batch.tags.append(message.delivery_tag)
        problem = f"the body cannot be decompressed: {describe(error)}"
        self._add(delivery_of(message, as_bytes(message.body), problem))


def delivery_of(message: Any, body: bytes, problem: str | None = None) -> Delivery:
    """Return what the broker delivered, out of a message of ours or of kombu's. Never raises."""
    where = message.delivery_info or {}
    properties = _properties_of(message)
    method = properties.headers.get(COMPRESSED) if isinstance(message, Incoming) else None
    return Delivery(
        body=body,
        exchange=where.get("exchange") or "",
        routing_key=where.get("routing_key") or "",
        content_type=properties.content_type or "application/octet-stream",
        content_encoding=properties.content_encoding or "binary",
        problem=problem,
        message_id=properties.message_id,
        user_id=properties.user_id,
        redelivered=bool(where.get("redelivered")),
        headers=properties.headers,
        compression=method and method[:_LONGEST_METHOD],
        properties_problem=properties.problem,
    )


def _properties_of(message: Any) -> Properties:
    if isinstance(message, Incoming):
        return parse_properties(message.raw_properties)
    return Properties(
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        message_id=message.properties.get("message_id"),
        user_id=message.properties.get("user_id"),
        headers=message.headers or {},
    )


def _inflated(delivery: Delivery, most: int) -> Delivery:
    """Return it with its body as it was before kombu compressed it, or with what is wrong."""
    if len(delivery.body) > most:
        size = len(delivery.body)
        too_large = f"the compressed body has {size} bytes, more than max_body_bytes = {most}"
        return dataclasses.replace(delivery, problem=too_large)
    try:
        body = inflate(delivery.body, delivery.compression, most)
    except NotInflatedError as error:
        return dataclasses.replace(delivery, problem=str(error))
    return dataclasses.replace(delivery, body=body, compression=None)


def as_bytes(body: Any) -> bytes:
    """Return a body as bytes, whatever kombu's transport has made of it."""
    return body.encode() if isinstance(body, str) else bytes(body or b"")
