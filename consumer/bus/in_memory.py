"""kombu's in-memory broker, within this process, for the demo and tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Protocol, Self

import kombu

ANNOUNCEMENTS = "detachd_notifications.#"


class Published(Protocol):
    """A message to publish: a raw body, its exchange and its routing key."""

    @property
    def exchange(self) -> str:
        """The publisher's control exchange."""

    @property
    def routing_key(self) -> str:
        """Topic and priority."""

    @property
    def body(self) -> bytes:
        """The body as it goes on the wire."""


class InMemoryBus:
    """Publishes as Nova and Cinder do, and receives detachd's announcements. For one thread."""

    def __init__(self) -> None:
        self._connection = kombu.Connection("memory://")
        exchange = kombu.Exchange("detachd", "topic", durable=False)
        # kombu's memory transport is one broker for the whole process: tests that run in one share
        # its queues.
        name = f"demo.{uuid.uuid4().hex}"
        queue = kombu.Queue(name, exchange, ANNOUNCEMENTS, durable=False)
        self._queue = queue(self._connection.default_channel)
        self._queue.declare()
        self._announced: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def publish(self, messages: Iterable[Published]) -> None:
        """Publish messages as Nova and Cinder do."""
        producer = kombu.Producer(self._connection.default_channel)
        for message in messages:
            producer.publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                content_type="application/json",
                content_encoding="utf-8",
            )

    def announced(self, volume_id: str) -> tuple[str, ...]:
        """Return the event types announced so far for a volume, in the order of their arrival."""
        while (message := self._queue.get(no_ack=True)) is not None:
            inner = json.loads(json.loads(message.body)["oslo.message"])
            so_far = self._announced.setdefault(inner["payload"]["volume_id"], [])
            so_far.append(inner["event_type"])
        return tuple(self._announced.get(volume_id, ()))
