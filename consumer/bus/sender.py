"""Sending that is confirmed: it is on a durable queue, or it came back, or it failed."""

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
    """What the broker said of a publication that it took."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"


class NotConfirmedError(Exception):
    """The broker did not confirm a message. It may or may not have received it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parcel:
    """One publication: the bytes, and where they go. ``exchange`` "" means straight to a queue.

    It keeps its ``message_id`` when it is sent again, so that a receiver can tell.
    """

    exchange: str
    routing_key: str
    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    message_id: str | None = None


class ConfirmedSender:
    """Publishes with confirms and ``mandatory``, on a connection of its own, made when needed.

    Of its own, because a broker that runs out of memory or disk stops reading from connections that
    publish: acks on the same connection would wait with the publications. ``prepare`` declares what
    is published to, on each new connection, and may raise NotConfirmedError with a better word than
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
        """How long the present connection has been up, 0.0 without one."""
        return max(0.0, time.monotonic() - self._connected_at)

    def connect(self) -> None:
        """Connect unless connected. Blocks while hosts are tried; raises NotConfirmedError."""
        if self._connection is not None:
            return
        try:
            self._connection = connect(self._broker, self._name, heartbeats=False)
            self._prepare(self._connection)
            channel = self._connection.channel()
            self._producer = kombu.Producer(channel, on_return=self._on_return)
            self._connected_at = time.monotonic()
        except NotConfirmedError:
            self._abandon()
            raise
        except BROKER_ERRORS as error:
            self._abandon()
            raise NotConfirmedError(describe(error)) from error

    def send(self, parcel: Parcel) -> Confirmation:
        """Publish, and wait for the broker's word. Blocks for at most about three timeouts.

        Raises NotConfirmedError: then the connection is dropped, since py-amqp would take a late
        confirm for that of the next publication.
        """
        reused = self._connection is not None
        self.connect()
        try:
            return self._publish(parcel)
        except BROKER_ERRORS as error:
            self._abandon()
            if not reused or isinstance(error, TimeoutError):
                raise NotConfirmedError(describe(error)) from error
        return self.send(parcel)  # the connection had died while idle: that is nobody's failure

    def close(self) -> None:
        """Close the connection; the next sending makes a new one."""
        if self._connection is not None:
            self._connection.release()
        self._abandon()

    def _abandon(self) -> None:
        """Drop the connection without a word: the broker may not be listening."""
        if self._connection is not None:
            self._connection.collect()
        self._connection = self._producer = None
        self._connected_at = math.inf

    def _publish(self, parcel: Parcel) -> Confirmation:
        assert self._producer is not None  # noqa: S101 - connect() made it, or raised
        self._returned = False
        properties = {} if parcel.message_id is None else {"message_id": parcel.message_id}
        self._producer.publish(
            parcel.body,
            exchange=parcel.exchange,
            routing_key=parcel.routing_key,
            headers=dict(parcel.headers),
            content_type=parcel.content_type,
            content_encoding=parcel.content_encoding,
            delivery_mode=_PERSISTENT,
            mandatory=True,
            timeout=self._timeout_seconds,
            confirm_timeout=self._timeout_seconds,
            **properties,
        )
        return Confirmation.RETURNED if self._returned else Confirmation.CONFIRMED

    def _on_return(self, *_: object) -> None:
        # The broker returns first and confirms then, on the same channel: the answer is complete
        # when publish() comes back (RabbitMQ, "Publisher Confirms").
        self._returned = True
