"""Consuming a queue in batches: one connection, from declaring the queue to acking batches."""

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
from consumer.bus.topology import (
    Binding,
    Declared,
    HomeNodeBackError,
    HomeNodeDownError,
    QueueSettings,
    unconsumed,
)

COMPRESSED = "compression"
"""The header by which kombu's publishers say how a body is compressed."""

MOST_BYTES = 64 * 1024 * 1024
"""How many bytes of bodies an open batch may have. The last body may exceed it."""

# kombu compares what came and went between two checks, and wants one about every second.
_HEARTBEAT_SECONDS = 1.0
_COMPRESSION_KEY = COMPRESSED.encode()
# Any sender writes this header, and it goes into a header of the quarantine queue.
_LONGEST_METHOD = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the broker delivered it. ``problem``: why its body could not be read.

    The sender may have set ``message_id``, ``user_id`` (the broker checks it) and ``headers``.
    ``redelivered`` is False if the broker is sure that no client has received the message before.
    ``compression``: the method by which the body is still compressed. ``properties_problem``: what
    could not be read in the properties; this alone is no reason for quarantine.
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
        """Return the hash of the body, which identifies it in the quarantine."""
        return hashlib.sha256(self.body).hexdigest()

    def why(self, reason: str) -> str:
        """Return why it goes to quarantine, with the problem of its properties if there is one."""
        more = self.properties_problem
        return reason if more is None else f"{reason}; {more}"


@dataclasses.dataclass(slots=True)
class Batch:
    """Messages that are acked together: the tags of all, and those that may concern us.

    ``quarantined``: the indices in ``deliveries`` of messages that are already on the quarantine
    queue, in case the batch is stored again.
    """

    tags: list[int | str] = dataclasses.field(default_factory=list)
    deliveries: list[Delivery] = dataclasses.field(default_factory=list)
    quarantined: set[int] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """When a batch is closed.

    It is closed when it has ``size`` messages or ``most_bytes`` of bodies, after ``idle_seconds``
    without a message, or when it is ``seconds`` old. ``poll_seconds``: how long to wait for the
    first message.
    """

    size: int
    most_bytes: int = MOST_BYTES
    idle_seconds: float = 0.05
    seconds: float = 0.25
    poll_seconds: float = 0.5


class Subscription:
    """Consumes a queue that only detachd uses: other consumers would lose messages to it.

    A body stays unchanged, except that a body which kombu compressed is decompressed, to at most
    ``max_body_bytes``. Two habits of the libraries are switched off: kombu acks a body that it
    cannot decode, before detachd sees it; py-amqp converts a body to text by ``content_encoding``.
    ``relevant`` says which bodies to keep; the others are only counted and acked with their batch.
    ``refused`` returns the reason why a body must not be read at all, or None. ``declared`` are the
    queues as they are on the broker. ``current_body`` is the body that is being read, so that an
    error can be traced to it. ``spare`` is consumed while the node that has the first queue is
    down, and until it is empty. ``refreshed_at`` is when ``refresh`` was last done, by the
    monotonic clock.

    Every method blocks for the broker's answers and raises BROKER_ERRORS if the connection is lost.
    Then the subscription cannot be used again, and the broker redelivers what was not acked.
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
        spare: QueueSettings | None = None,
    ) -> None:
        self._broker = broker
        self._own, *self._others = queues
        self._spare = spare
        self._consumed: tuple[QueueSettings, ...] = ()
        self._bindings = bindings
        self._max_body_bytes = max_body_bytes
        self._relevant = relevant
        self._refused = refused
        self._open_batch = Batch()
        self._open_bytes = 0
        self.current_body: bytes | None = None
        self._beaten_at = time.monotonic()
        # Heartbeats: a broker that hangs keeps its connections open, and a consumer would wait for
        # ever.
        self._connection = connect(broker, name, heartbeats=True)
        self.problems: tuple[str, ...] = ()
        self.declared: tuple[Declared, ...] = ()
        try:
            self.refresh()
            # Last: messages arrive from here on, and everything that reads them has to be there.
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

        A binding can get lost: with an exchange that is not durable, when the broker restarts; with
        an exchange that is deleted; and when the node of a durable queue leaves the cluster. The
        publishers declare their exchange again, but only detachd can bind its queue again.
        """
        own = self._declare_own()
        self.declared = (own, *(self._declare_other(queue) for queue in self._others))
        problems = [queue.problem for queue in self.declared]
        durable = self._broker.durable_exchanges
        problems += [self._bind(binding, durable=durable) for binding in self._bindings]
        self.problems = tuple(problem for problem in problems if problem is not None)
        self.refreshed_at = time.monotonic()

    def unconsumed(self) -> Mapping[str, int]:
        """Return how many messages wait in each queue of the publishers that nobody consumes."""
        return unconsumed(self._connection, self._bindings)

    def _declare_own(self) -> Declared:
        """Declare the queue to consume; return it, with the problem if it is the spare queue.

        Raises HomeNodeDownError without a spare queue, HomeNodeBackError while one is consumed.
        """
        try:
            declared = self._own.settle(self._connection)
        except HomeNodeDownError as error:
            if self._spare is None:
                raise
            self._consumed = (self._spare,)
            spare = self._spare.settle(self._connection)
            instead = f"Meanwhile detachd receives from the spare queue {spare.name!r}."
            told = [instead, describe(error), spare.problem]
            return dataclasses.replace(spare, problem=" ".join(filter(None, told)))
        if self._consumed[:1] == (self._spare,):
            # As an error, because the loop answers one with a new connection, and that one consumes
            # both queues.
            raise HomeNodeBackError(f"the node of queue {self._own.name!r} is back")
        if not self._consumed:
            # Asked for passively: a spare queue that was never needed is not made.
            spares = [s for s in (self._spare,) if s is not None and s.exists(self._connection)]
            self._consumed = (self._own, *spares)
        return declared

    def _bind(self, binding: Binding, *, durable: bool) -> str | None:
        """Bind the queue to consume; then unbind a spare queue that is consumed beside it."""
        # In this order each message comes to one of them, or to both; the ledger recognises the
        # second. Unbound, the spare queue runs empty.
        own, *spares = self._consumed
        problem = binding.apply(self._connection, own, durable=durable)
        for spare in spares:
            # Only if the own queue is bound: without either binding, messages would be lost in
            # between.
            problem = problem or binding.remove(self._connection, spare)
        return problem

    def _declare_other(self, queue: QueueSettings) -> Declared:
        """Declare a queue that is not consumed; listening goes on while its node is down."""
        try:
            return queue.settle(self._connection)
        except HomeNodeDownError as error:
            return Declared(queue.name, None, "its node is down", problem=describe(error))

    def collect(self, pace: Pace) -> Batch:
        """Return the next batch, which may be empty. Blocks as ``pace`` says."""
        self._beat()
        # Messages that keep_alive has received while the last batch waited are in the open batch
        # already.
        if self._open_batch.tags or self._drain(pace.poll_seconds):
            # From the first message on, so that a slow trickle is stored every quarter of a second.
            closes_at = time.monotonic() + pace.seconds
            tags, drain = self._open_batch.tags, self._connection.drain_events
            with self._patience(pace.idle_seconds) as patience, contextlib.suppress(TimeoutError):
                while (
                    len(tags) < pace.size
                    and self._open_bytes < pace.most_bytes
                    and time.monotonic() < closes_at
                ):
                    drain(timeout=patience)
        # The loop keeps the old batch until it is durable; what arrives meanwhile goes into the new
        # one.
        batch, self._open_batch, self._open_bytes = self._open_batch, Batch(), 0
        return batch

    @contextlib.contextmanager
    def _patience(self, seconds: float) -> Iterator[float | None]:
        """Set the timeout of the socket once for a batch; py-amqp sets it six times per message."""
        if not self._broker.confirms:
            yield seconds
            return
        with self._connection.connection.transport.having_timeout(seconds):
            yield None

    def ack(self, batch: Batch) -> None:
        """Ack a whole batch. It must be the oldest one that is not acked."""
        if self._broker.confirms:
            # One frame for up to 500 messages; "multiple" covers all older tags, so batches are
            # acked in their order.
            self._channel.basic_ack(batch.tags[-1], multiple=True)
            return
        for tag in batch.tags:  # kombu's memory transport ignores multiple
            self._channel.basic_ack(tag)

    def keep_alive(self, seconds: float) -> None:
        """Wait while a batch cannot be acked, and send heartbeats. Prefetch limits new messages."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self._beat()
            wait = min(left, _HEARTBEAT_SECONDS)
            if self._open_bytes < MOST_BYTES:
                self._drain(wait)
            else:  # without reading: the broker keeps the other messages
                time.sleep(wait)

    def ready(self) -> int:
        """Return how many messages the broker has not sent to this consumer yet."""
        return sum(queue.ready(self._channel) for queue in self._consumed)

    def all_sent(self) -> bool:
        """Tell whether the broker has sent every message of the queue; then this batch has them.

        The count does not include messages that are on their way to us. Those arrive before the
        answer to a second request on the same channel.
        """
        if self.ready():
            return False
        self.ready()
        return True

    def close(self) -> None:
        """Close the connection. What was not acked goes back to the queue. Raises nothing."""
        self._connection.release()

    def abandon(self) -> None:
        """Drop a connection that failed, without closing it at the broker."""
        self._connection.collect()

    def _consume(self, prefetch: int) -> Any:
        channel = self._connection.channel()
        # py-amqp would convert the body to text by content_encoding, which any sender can set.
        channel.auto_decode = False
        consumer = kombu.Consumer(
            channel,
            [queue.on(channel) for queue in self._consumed],
            on_message=self._on_message,
            # Without it the error would end each read, again and again for the same message.
            on_decode_error=self._on_undecodable,
            # refresh() has declared the queues, with arguments that this entity does not have: it
            # would get a 406.
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
        # Before the filter, so that a body on which the filter itself fails is put aside too.
        problem = self._refused(body)
        if problem is not None:
            self._add(delivery_of(message, body, problem))
        # A search in the bytes: parsing the properties of each message of a cloud would cost more
        # than the filter.
        elif isinstance(message, Incoming) and _COMPRESSION_KEY in message.raw_properties:
            self._inflate(delivery_of(message, body))
        elif self._relevant(body):
            self._add(delivery_of(message, body))
        # Not in a finally: after an error it names the body that caused it.
        self.current_body = None

    def _inflate(self, delivery: Delivery) -> None:
        """Keep a message that may be compressed; only for those the properties are read here."""
        # The bytes may be in another header or value. kombu takes an empty one for "not
        # compressed".
        if delivery.headers.get(COMPRESSED, "") != "":
            delivery = _inflated(delivery, self._max_body_bytes)
        if delivery.problem is not None or self._relevant(delivery.body):
            self._add(delivery)

    def _add(self, delivery: Delivery) -> None:
        self._open_batch.deliveries.append(delivery)
        self._open_bytes += len(delivery.body)

    def _on_undecodable(self, message: Any, error: Exception) -> None:
        # Kombu's memory transport decompresses bodies itself; only this process publishes there.
        self._open_batch.tags.append(message.delivery_tag)
        problem = f"the body cannot be decompressed: {describe(error)}"
        self._add(delivery_of(message, as_bytes(message.body), problem))


def delivery_of(message: Any, body: bytes, problem: str | None = None) -> Delivery:
    """Return the delivery for a message of ours or of kombu's. Never raises."""
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
    """Return it with its body decompressed, or with the problem."""
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
