"""Publishing with confirms: a message is on a durable queue, was returned, or failed."""

from __future__ import annotations

import dataclasses
import enum
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import kombu

from consumer.bus.broker import BROKER_ERRORS, BrokerSettings, connect, describe

_PERSISTENT = 2


class Confirmation(enum.Enum):
    """The broker's answer to a publication that it accepted."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"


class NotConfirmedError(Exception):
    """The broker did not confirm a message. It may or may not have received it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parcel:
    """One message to publish. ``exchange`` "" is the default exchange: ``routing_key`` is a queue.

    It keeps its ``message_id`` when it is sent again, so that a receiver can recognise it.
    """

    exchange: str
    routing_key: str
    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    message_id: str | None = None


class ConfirmedSender:
    """Publishes with confirms and ``mandatory``, on its own connection, made when needed.

    It has its own connection because a broker that is short of memory or disk stops reading from
    connections that publish: acks on the same connection would be blocked. ``prepare`` declares the
    queue or exchange on each new connection; it may raise NotConfirmedError with a better text than
    the broker's. For one thread at a time.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        name: str,
        *,
        prepare: Callable[[kombu.Connection], object],
        timeout_seconds: float = 10.0,
    ) -> None:
        self._broker = broker
        self._name = name
        self._prepare = prepare
        self._timeout_seconds = timeout_seconds
        self._connection: kombu.Connection | None = None
        self._producer: kombu.Producer | None = None
        self._connected_at = math.inf
        self._returned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected_seconds(self) -> float:
        """How long the connection has existed, in seconds; 0.0 without one."""
        return max(0.0, time.monotonic() - self._connected_at)

    def connect(self) -> None:
        """Connect if not connected. Blocks while it tries the hosts; raises NotConfirmedError."""
        if self._connection is not None:
            return
        try:
            self._connection = connect(self._broker, self._name, heartbeats=False)
            self._prepare(self._connection)
            channel = self._connection.channel()
            self._producer = kombu.Producer(channel, on_return=self._on_return)
            self._connected_at = time.monotonic()
        # From prepare: half a connection must not be taken for one that is ready.
        except NotConfirmedError:
            self._abandon()
            raise
        except BROKER_ERRORS as error:
            self._abandon()
            raise NotConfirmedError(describe(error)) from error

    def send(self, parcel: Parcel) -> Confirmation:
        """Publish, and wait for the broker's confirm. Blocks for at most about three timeouts.

        Raises NotConfirmedError. The connection is then dropped, because py-amqp would take a late
        confirm for that of the next publication.
        """
        # Only on a connection that was made for an earlier message: one that fails at once when new
        # is a broker that is down.
        reused = self._connection is not None
        self.connect()
        try:
            return self._publish(parcel)
        except BROKER_ERRORS as error:
            self._abandon()
            # After a timeout the broker may have the message. Sending it again is for the caller,
            # who knows whether that does harm.
            if not reused or isinstance(error, TimeoutError):
                raise NotConfirmedError(describe(error)) from error
        return self.send(parcel)  # the connection was lost while idle: try once more

    def close(self) -> None:
        """Close the connection; the next publication makes a new one."""
        if self._connection is not None:
            self._connection.release()
        self._abandon()

    def _abandon(self) -> None:
        """Drop the connection without closing it at the broker, which may not answer."""
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._producer = None
        self._connected_at = math.inf

    def _publish(self, parcel: Parcel) -> Confirmation:
        assert self._producer is not None  # noqa: S101 - connect() made it, or raised
        self._returned = False
        self._producer.publish(
            parcel.body,
            exchange=parcel.exchange,
            routing_key=parcel.routing_key,
            headers=dict(parcel.headers),
            content_type=parcel.content_type,
            content_encoding=parcel.content_encoding,
            # A durable queue keeps only persistent messages over a restart of the broker.
            delivery_mode=_PERSISTENT,
            # Without it a message that no queue is bound for is confirmed all the same, and lost.
            mandatory=True,
            timeout=self._timeout_seconds,
            confirm_timeout=self._timeout_seconds,
            message_id=parcel.message_id,
        )
        return Confirmation.RETURNED if self._returned else Confirmation.CONFIRMED

    def _on_return(self, *_: object) -> None:
        # The broker sends the return before the confirm, on the same channel. So both have
        # arrived when publish() returns (RabbitMQ, "Publisher Confirms").
        self._returned = True
