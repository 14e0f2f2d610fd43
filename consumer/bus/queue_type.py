"""Quorum or classic: which type a queue of detachd has, why, and by which arguments it is declared.

A plain AMQP client is told neither the virtual host's default nor whether the broker is a cluster.
But it can declare a queue without a type and with an argument that only quorum queues have. The
broker accepts it if its default is quorum; otherwise it refuses it, and creates nothing
(docs/decisions/0016). So no queue is made only to find out.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any

import kombu

HIGH_LIMIT = 2**31 - 1
"""A delivery limit that is never reached, for RabbitMQ 3.x."""

NO_LIMIT = -1
"""No delivery limit, from RabbitMQ 4.0 on.

3.x accepts the argument and takes it for 0: it drops a message at its first redelivery (measured on
3.10.8).
"""

LIMIT = "x-delivery-limit"

FOUND = "it exists with this type"

NO_TYPE = "a-type-that-no-broker-has"
"""RabbitMQ refuses it, and creates nothing. It first compares it with the type of a queue that
exists, and names that (measured on 3.10.8 and 4.0.5)."""

_FIRST_WITH_NO_LIMIT = 4
_FIRST_MEASURED = (3, 10)


class QueueType(enum.Enum):
    """A type of queue, as ``x-queue-type`` names it."""

    QUORUM = "quorum"
    CLASSIC = "classic"


@dataclasses.dataclass(frozen=True, slots=True)
class TypeChoice:
    """The type that the configuration asks for, and why. ``wanted``: None if the broker decides.

    ``insisted``: an option names the type, so that a queue of the other type is a problem.
    """

    wanted: QueueType | None = None
    why: str = "the default of the virtual host"
    insisted: bool = False


def choose(option: str | None, *, quorum_queues: bool, hosts: int) -> TypeChoice:
    """Return the type that the configuration asks for.

    ``option`` is ``queue_type``, ``quorum_queues`` is ``rabbit_quorum_queue``. ``hosts`` is how
    many hosts transport_url names: several are taken for a cluster.
    """
    if option is not None:
        return TypeChoice(QueueType(option), f"queue_type = {option}", insisted=True)
    if quorum_queues:
        why = "[oslo_messaging_rabbit] rabbit_quorum_queue = true"
        return TypeChoice(QueueType.QUORUM, why, insisted=True)
    # The only evidence of a cluster that AMQP has: server_properties name a cluster even on a
    # single node (docs/decisions/0016).
    if hosts > 1:
        why = f"transport_url names {hosts} hosts, which are taken for a cluster"
        # Not insisted: it is our guess. So a classic queue that is there stays, and no update of
        # detachd makes a bus unready.
        return TypeChoice(QueueType.QUORUM, why)
    return TypeChoice()


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """One way to declare a queue: its type, why it should have this type, and the arguments."""

    type: QueueType
    why: str
    arguments: Mapping[str, Any]


def forms(
    choice: TypeChoice, version: tuple[int, ...] | None, group_size: int | None
) -> Iterator[Form]:
    """Yield the ways to declare a queue, the wanted one first.

    The later ones find out what an existing queue is. ``group_size`` is on how many nodes a new
    quorum queue is; None leaves that to the broker.
    """
    # Another broker than RabbitMQ may refuse arguments of quorum queues, or take them and mean
    # something else.
    quorum = () if version is None else tuple(_quorum(choice.why, version, group_size))
    if choice.wanted is QueueType.CLASSIC:
        yield from (_classic(choice.why), *quorum)
    else:
        yield from (*quorum, _classic(choice.why))


def untyped(version: tuple[int, ...], group_size: int | None) -> Form:
    """Return the form that the broker accepts for a new queue only if its default is quorum."""
    form = next(_quorum("", version, group_size))
    arguments = {name: value for name, value in form.arguments.items() if name != "x-queue-type"}
    return dataclasses.replace(form, arguments=arguments)


def default_choice(refusal: str | None) -> TypeChoice:
    """Return the type that the broker's answer to the untyped form asks for.

    ``wanted`` is None if the queue exists and the answer does not tell the default. RabbitMQ
    accepts the form also for an existing classic queue.
    """
    default = "the default of the virtual host"
    if refusal is None:
        return TypeChoice(None, default)
    # The queue exists as a classic one and the broker refuses ours, so its default is quorum.
    if type_in(refusal) is QueueType.CLASSIC:
        return TypeChoice(QueueType.QUORUM, f"{default} is quorum")
    if exists(refusal):
        return TypeChoice(None, FOUND)
    why = f"transport_url names one host, and {default} is not quorum"
    return TypeChoice(QueueType.CLASSIC, why)


def _classic(why: str) -> Form:
    return Form(QueueType.CLASSIC, why, {"x-queue-type": "classic"})


def _quorum(why: str, version: tuple[int, ...], group_size: int | None) -> Iterator[Form]:
    """Yield the forms that let no message be dropped for its number of deliveries.

    RabbitMQ 4 may have a queue that 3.x made with the high limit, which is as good.
    """
    size = {} if group_size is None else {"x-quorum-initial-group-size": group_size}
    # Without any limit a queue on RabbitMQ 4 drops a message at its twentieth delivery, and a lost
    # connection is one.
    limits = (HIGH_LIMIT,) if version[0] < _FIRST_WITH_NO_LIMIT else (NO_LIMIT, HIGH_LIMIT)
    for limit in limits:
        yield Form(QueueType.QUORUM, why, {"x-queue-type": "quorum", LIMIT: limit, **size})


def refuses_no_type(version: tuple[int, ...] | None) -> bool:
    """Tell whether the broker is known to refuse ``NO_TYPE``; another one might take it."""
    return version is not None and version >= _FIRST_MEASURED


def version_of(connection: kombu.Connection) -> tuple[int, ...] | None:
    """Return the version of RabbitMQ, as (3, 10, 8); None if the broker is another one."""
    properties = getattr(connection.connection, "server_properties", None) or {}
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(properties.get("version", "")))
    # LavinMQ and others speak the protocol, and their versions say nothing of these features.
    if properties.get("product") != "RabbitMQ" or numbers is None:
        return None
    return tuple(int(number) for number in numbers.groups(default="0"))


# RabbitMQ 3.10 writes "current is 'quorum'", 4.x "current is the value 'quorum' of type 'longstr'".
_CURRENT_TYPE = re.compile(r"inequivalent arg 'x-queue-type'.*current is (?:the value )?'?(\w+)")


def type_in(refusal: str) -> QueueType | None:
    """Return the type of the existing queue, if the broker names it as why it refused another."""
    found = _CURRENT_TYPE.search(refusal)
    if found is None:
        return None
    return QueueType.QUORUM if found[1] == "quorum" else QueueType.CLASSIC


def exists(refusal: str) -> bool:
    """Tell whether the broker refused because a queue of the name exists with other arguments."""
    return "inequivalent arg" in refusal
