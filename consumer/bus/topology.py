"""What detachd declares on the broker: its queues, and the exchanges that they are bound to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import kombu

from consumer.bus.broker import CHANNEL_ERRORS, describe

_ACCESS_REFUSED = 403
_NOT_FOUND = 404
_NOT_EQUIVALENT = 406
_DURABILITY = "[oslo_messaging_rabbit] amqp_durable_queues"


@dataclasses.dataclass(frozen=True, slots=True)
class QueueSettings:
    """A durable queue of detachd, always a classic queue.

    A quorum queue drops a message after a number of deliveries (20 from RabbitMQ 4.0 on), and a
    lost connection counts as one. So a long outage of the ledger would lose messages.

    The queue has a maximum length, because an unlimited queue that no service consumes grows until
    the broker blocks all publishers. When it is full, the broker drops the oldest message
    (``drop-head``). ``reject-publish`` is wrong where Nova and Cinder publish: the broker would
    answer with a nack, and their services would send again and block. The sweep finds the volumes
    of dropped messages. Replays are refused rather than dropped: their sender sees it.
    """

    name: str
    max_length: int
    overflow: str = "drop-head"

    def declare(self, connection: kombu.Connection) -> str | None:
        """Declare the queue; return a problem if it exists with other arguments.

        Such a queue is used unchanged. Blocks for the broker's answer; raises BROKER_ERRORS.
        """
        try:
            with own_channel(connection) as channel:
                self.on(channel).queue_declare()
        except CHANNEL_ERRORS as error:
            if _code(error) != _NOT_EQUIVALENT:
                raise
            return (
                f"queue {self.name!r} exists with other arguments than detachd's settings; "
                f"detachd uses it unchanged. To apply the settings: wait until the queue is empty, "
                f"stop detachd, delete the queue, start detachd ({describe(error)})"
            )
        return None

    def ready(self, channel: Any) -> int:
        """Return how many messages wait for a consumer. Blocks for the broker's answer."""
        return int(self.on(channel).queue_declare(passive=True).message_count)

    @property
    def entity(self) -> Any:
        """Return kombu's queue, without a channel."""
        arguments = {
            "x-queue-type": "classic",
            "x-max-length": self.max_length,
            "x-overflow": self.overflow,
        }
        return kombu.Queue(self.name, durable=True, queue_arguments=arguments)

    def on(self, channel: Any) -> Any:
        """Return kombu's queue on a channel."""
        return self.entity(channel)


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """An exchange, and the routing keys by which our queue is bound to it."""

    exchange: str
    routing_keys: tuple[str, ...]

    def apply(
        self, connection: kombu.Connection, queue: QueueSettings, *, durable: bool
    ) -> str | None:
        """Declare the exchange if it is missing, and bind the queue to it.

        Returns a problem if the broker refuses. Blocks for the broker's answers; raises
        BROKER_ERRORS if the connection is lost.
        """
        try:
            declare_exchange(connection, self.exchange, durable=durable)
            with own_channel(connection) as channel:
                for key in self.routing_keys:
                    queue.on(channel).bind_to(self.exchange, key)
        except CHANNEL_ERRORS as error:
            return exchange_problem(self.exchange, error, durable=durable)
        return None


def declare_exchange(connection: kombu.Connection, name: str, *, durable: bool) -> None:
    """Make sure that a topic exchange exists.

    An existing exchange is used unchanged, with any arguments: a passive declaration checks only
    the name. A missing one is declared as oslo.messaging declares it (topic, not auto-delete), so
    that its publisher can declare it too. Blocks for the broker's answers; raises CHANNEL_ERRORS if
    the broker refuses. 406 is possible if another client declares it between our two requests.
    """
    if not _exists(connection, name):
        with own_channel(connection) as channel:
            kombu.Exchange(name, "topic", channel, durable=durable, auto_delete=False).declare()


def exchange_problem(name: str, error: BaseException, *, durable: bool) -> str:
    """Return why the broker refused an exchange, and what the operator can do."""
    match _code(error):
        case 406:
            what = (
                f"it exists on the broker with other arguments than detachd declares; "
                f"set {_DURABILITY} = {str(not durable).lower()}, as the exchange's publisher does"
            )
        case 403:
            what = (
                f"the broker user in transport_url may not use it; grant configure and read on "
                f"{name!r} (rabbitmqctl set_permissions)"
            )
        case _:
            what = "the broker refused it"
    return f"exchange {name!r}: {what} ({describe(error)})"


@contextlib.contextmanager
def own_channel(connection: kombu.Connection) -> Iterator[Any]:
    """Open a separate channel for requests that may be refused: a refusal closes the channel."""
    channel = connection.channel()
    try:
        yield channel
    finally:
        connection.maybe_close_channel(channel)


def _exists(connection: kombu.Connection, name: str) -> bool:
    try:
        with own_channel(connection) as channel:
            kombu.Exchange(name, "topic", channel).declare(passive=True)
    except CHANNEL_ERRORS as error:
        if _code(error) != _NOT_FOUND:
            raise
        return False
    return True


def _code(error: BaseException) -> int:
    return int(getattr(error, "reply_code", None) or 0)  # kombu's memory transport has it as text
