"""What is on the broker: detachd's queues, the exchanges that they are bound to, others' queues."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import kombu

from consumer.bus.broker import CHANNEL_ERRORS, describe
from consumer.bus.queue_type import (
    FOUND,
    LIMIT,
    NO_TYPE,
    Form,
    QueueType,
    TypeChoice,
    default_choice,
    exists,
    forms,
    type_in,
    untyped,
    version_of,
)

_NOT_FOUND = 404
_NOT_EQUIVALENT = 406
_HOME_DOWN = "is down or inaccessible"
# RabbitMQ changes neither type nor arguments of a queue that exists, and detachd deletes none: it
# may hold messages.
_MOVE = (
    "To apply the settings: wait until the queue is empty, stop detachd, delete the queue, start "
    "detachd; docs/messaging.md has the steps that lose nothing."
)
_LIMITED = (
    " It counts deliveries, lost connections among them, and drops a message at its limit (20 from "
    "RabbitMQ 4.0 on if the queue names none): the sweep must find the volumes of such messages."
)
_DURABILITY = "[oslo_messaging_rabbit] amqp_durable_queues"


class HomeNodeDownError(ConnectionError):
    """The one node that has a classic queue is down: the queue cannot be used until it is back."""


class HomeNodeBackError(ConnectionError):
    """The node of the queue is back: a new connection can consume the queue again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A queue as it is on the broker: its type (None if not known), and why it has this type.

    ``note`` and ``problem`` say how it differs from the settings. A problem makes the bus not
    ready; a note is only logged.
    """

    name: str
    type: QueueType | None
    why: str
    note: str | None = None
    problem: str | None = None

    def __str__(self) -> str:
        if self.type is None:
            return f"queue {self.name}"
        return f"queue {self.name}, a {self.type.value} queue ({self.why})"


@dataclasses.dataclass(frozen=True, slots=True)
class QueueSettings:
    """A durable queue of detachd.

    ``choice`` says which type it has, ``group_size`` on how many nodes a new quorum queue is. A
    quorum queue is declared so that it drops no message for its number of deliveries: a lost
    connection counts as one, so a long outage of the ledger would lose messages.

    The queue has a maximum length, because an unlimited queue that no service consumes grows until
    the broker blocks all publishers. When it is full, the broker drops the oldest message
    (``drop-head``). ``reject-publish`` is wrong where Nova and Cinder publish: the broker would
    answer with a nack, and their services would send again and block. The sweep finds the volumes
    of dropped messages. ``max_bytes`` limits the bodies in the same way. Replays are refused rather
    than dropped: their sender sees it.
    """

    name: str
    max_length: int
    # The publishers are Nova and Cinder: a monitoring service must never push back on them.
    overflow: str = "drop-head"
    max_bytes: int | None = None
    choice: TypeChoice = dataclasses.field(default_factory=TypeChoice)
    group_size: int | None = None

    def declare(self, connection: kombu.Connection) -> str | None:
        """Declare the queue; return a problem if it exists otherwise. See ``settle``."""
        return self.settle(connection).problem

    def settle(self, connection: kombu.Connection) -> Declared:
        """Declare the queue, and say which type it has.

        A queue that exists with another type or other arguments is used unchanged. Blocks for the
        broker's answers; raises BROKER_ERRORS, HomeNodeDownError among them.
        """
        # Tried one after the other, because the refusal of one form is all that AMQP tells of a
        # queue that exists.
        version, refusals = version_of(connection), list[str]()
        choice = self._choice(connection, version)
        for form in forms(choice, version, self.group_size):
            error = self._refusal(connection, form)
            if error is None:
                return self._declared(choice, form.type, FOUND if refusals else form.why)
            # Not about an existing queue: for example an argument that this broker does not know.
            # No other form helps.
            if not exists(describe(error)):
                raise error
            refusals.append(describe(error))
        return self._unlike(refusals)

    def recognised(self, connection: kombu.Connection) -> Declared | None:
        """Return what the queue is by how the broker refuses ``NO_TYPE``; None if there is none.

        Changes nothing, and asks for the right to declare the queue. Only for a broker of which
        ``refuses_no_type`` holds. Blocks for the answers; raises BROKER_ERRORS, for a missing right
        too.
        """
        # RabbitMQ names one difference only: with our arguments perhaps another one than the type.
        asked = {"x-queue-type": NO_TYPE}
        refusals = [self._refused(connection, own | asked) for own in (self._own, {})]
        if not any(map(exists, refusals)):
            return None
        if (kind := type_in(refusals[0])) is None:
            return self._unlike(refusals)
        return self._declared(self.choice, kind, FOUND)

    def ready(self, channel: Any) -> int:
        """Return how many messages wait for a consumer. Blocks for the broker's answer."""
        return int(self.on(channel).queue_declare(passive=True).message_count)

    def exists(self, connection: kombu.Connection) -> bool:
        """Tell whether the queue can be used now. Blocks for the answer; raises BROKER_ERRORS."""
        try:
            with own_channel(connection) as channel:
                self.ready(channel)
        except CHANNEL_ERRORS as error:
            if _code(error) != _NOT_FOUND:
                raise
            return False
        return True

    def on(self, channel: Any) -> Any:
        """Return kombu's queue on a channel, without the arguments to declare it."""
        return kombu.Queue(self.name, channel=channel, durable=True)

    def _choice(self, connection: kombu.Connection, version: tuple[int, ...] | None) -> TypeChoice:
        """Return the type that the settings ask for; if they do not say, ask the broker."""
        if self.choice.wanted is not None:
            return self.choice
        if version is None:
            return TypeChoice(QueueType.CLASSIC, "the broker is not RabbitMQ")
        # Creates the queue if the default is quorum: then it is the one that is wanted.
        error = self._refusal(connection, untyped(version, self.group_size))
        return default_choice(None if error is None else describe(error))

    @property
    def _own(self) -> dict[str, Any]:
        """Return the arguments that do not depend on the type."""
        own = {"x-max-length": self.max_length, "x-overflow": self.overflow}
        bytes_too = {} if self.max_bytes is None else {"x-max-length-bytes": self.max_bytes}
        return {**own, **bytes_too}

    def _refused(self, connection: kombu.Connection, arguments: Mapping[str, Any]) -> str:
        error = self._declaring(connection, arguments)
        return "" if error is None else describe(error)

    def _refusal(self, connection: kombu.Connection, form: Form) -> Exception | None:
        return self._declaring(connection, {**form.arguments, **self._own})

    def _declaring(
        self, connection: kombu.Connection, arguments: Mapping[str, Any]
    ) -> Exception | None:
        """Declare the queue with these arguments; return how the broker refuses them."""
        queue = kombu.Queue(self.name, durable=True, queue_arguments=arguments)
        try:
            with own_channel(connection) as channel:
                queue(channel).queue_declare()
        except CHANNEL_ERRORS as error:
            # A 404, as for a queue that is missing. Only the text tells them apart.
            if _HOME_DOWN in str(error):
                raise HomeNodeDownError(_home_node_down(self.name, error)) from error
            if _code(error) != _NOT_EQUIVALENT:
                raise
            return error
        return None

    def _declared(self, choice: TypeChoice, kind: QueueType, why: str) -> Declared:
        """Return the answer for a queue that differs by its type at most."""
        answer = Declared(self.name, kind, why)
        if choice.wanted in (None, kind):
            return answer
        said = (
            f"queue {self.name!r} exists as a {kind.value} queue, but {choice.why}; "
            f"detachd uses it unchanged. {_MOVE}"
        )
        # An option names the type: then a queue of the other one makes the bus unready, because
        # somebody decided it.
        if choice.insisted:
            return dataclasses.replace(answer, problem=said)
        return dataclasses.replace(answer, note=said)

    def _unlike(self, refusals: list[str]) -> Declared:
        """Return the answer for a queue that exists with other arguments, whatever its type."""
        kind = next(filter(None, map(type_in, refusals)), None)
        # A refusal for the type alone is expected of the forms of the other type. The one that
        # names another argument says more.
        told = [text for text in refusals if exists(text) and type_in(text) is None]
        refusal = (told or refusals)[0]
        limited = _LIMITED if LIMIT in refusal else ""
        problem = (
            f"queue {self.name!r} exists with other arguments than detachd's settings; "
            f"detachd uses it unchanged.{limited} {_MOVE} ({refusal})"
        )
        return Declared(self.name, kind, FOUND, problem=problem)


def _home_node_down(name: str, error: BaseException) -> str:
    return (
        f"queue {name!r} is a classic queue, and the one node that has it is down. Until that node "
        "is back, nobody can read it, and RabbitMQ drops what is published to it; detachd tries "
        "again by itself. Messages in the queue are kept on that node; the sweep "
        f"finds the volumes of dropped ones. A quorum queue would go on. {_MOVE} "
        f"({describe(error)})"
    )


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

    def remove(self, connection: kombu.Connection, queue: QueueSettings) -> str | None:
        """Unbind the queue from the exchange; return a problem if the broker refuses.

        Blocks for the broker's answers; raises BROKER_ERRORS if the connection is lost.
        """
        try:
            with own_channel(connection) as channel:
                for key in self.routing_keys:
                    channel.queue_unbind(queue.name, self.exchange, key)
        except CHANNEL_ERRORS as error:
            return (
                f"queue {queue.name!r} stays bound to exchange {self.exchange!r}: the broker "
                f"refused to unbind it ({describe(error)})"
            )
        return None


def declare_exchange(connection: kombu.Connection, name: str, *, durable: bool) -> None:
    """Make sure that a topic exchange exists.

    An existing exchange is used unchanged, with any arguments: a passive declaration checks only
    the name. A missing one is declared as oslo.messaging declares it (topic, not auto-delete), so
    that its publisher can declare it too. Blocks for the broker's answers; raises CHANNEL_ERRORS if
    the broker refuses. 406 is possible if another client declares it between our two requests.
    """
    # Asked for by name first: a declaration with other arguments than the publisher's is a 406, and
    # Cinder or Nova owns it.
    if not _exists(connection, name):
        with own_channel(connection) as channel:
            kombu.Exchange(name, "topic", channel, durable=durable, auto_delete=False).declare()


def declaring(names: Iterable[str], *, durable: bool) -> Callable[[kombu.Connection], None]:
    """Return what makes sure of these exchanges on a connection, as ``declare_exchange`` does."""

    def declare(connection: kombu.Connection) -> None:
        for name in names:
            declare_exchange(connection, name, durable=durable)

    return declare


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


def unconsumed(connection: kombu.Connection, bindings: Iterable[Binding]) -> Mapping[str, int]:
    """Return for each queue that a publisher makes how many messages wait that nobody consumes.

    0: there is no such queue, the broker does not let us look at it, or it has a consumer. Asks for
    each by its name, which changes nothing. Blocks for the broker's answers; raises BROKER_ERRORS
    if the connection is lost.
    """
    # oslo.messaging's notifier declares a queue TOPIC.PRIORITY for what it publishes
    # (oslo_messaging/_drivers/impl_rabbit.py, _publish_and_creates_default_queue). detachd has a
    # queue of its own on the same exchange, so it neither consumes nor deletes these: they may be
    # another service's.
    names = dict.fromkeys(key for binding in bindings for key in binding.routing_keys)
    return {name: _waiting(connection, name) for name in names}


def _waiting(connection: kombu.Connection, name: str) -> int:
    try:
        with own_channel(connection) as channel:
            # Passive: an active declaration would make the queue, which then grows for ever.
            asked = kombu.Queue(name, channel=channel).queue_declare(passive=True)
    except CHANNEL_ERRORS:
        return 0
    return 0 if asked.consumer_count else int(asked.message_count)


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
