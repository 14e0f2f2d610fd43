"""Looks at a bus for ``detachd doctor``: asks the broker by name, and makes nothing.

A passive declaration tells whether an exchange is there. RabbitMQ asks for no permission for it. A
queue is asked for with a type that does not exist (``queue_type.NO_TYPE``): RabbitMQ refuses that,
and so tells whether the user may declare the queue, and the type of one that is there. Another
broker is only asked whether it is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import kombu

from consumer.bus.broker import BROKER_ERRORS, CHANNEL_ERRORS, connect, describe
from consumer.bus.queue_type import refuses_no_type, version_of
from consumer.bus.settings import ListenerSettings
from consumer.bus.topology import (
    Binding,
    Declared,
    HomeNodeDownError,
    QueueSettings,
    own_channel,
    unconsumed,
)
from consumer.findings import Finding, error, good, note, warning

NAME = "detachd doctor"


def examine(bus: ListenerSettings) -> Iterator[Finding]:
    """Yield what is found on one bus. Blocks for the broker's answers; raises nothing for it."""
    area = f"bus {bus.bus}"
    try:
        # No heartbeats: the examination is over before the broker expects one.
        with connect(bus.broker, NAME, heartbeats=False) as connection:
            yield from _on(connection, bus, area)
    except BROKER_ERRORS as away:
        said = describe(away)
        yield error(area, f"the broker cannot be used: {said}", _todo(bus, said))


def _on(connection: kombu.Connection, bus: ListenerSettings, area: str) -> Iterator[Finding]:
    version = version_of(connection)
    named = ".".join(map(str, version)) if version else "of an unknown version"
    yield good(area, f"RabbitMQ {named} answers on virtual host {bus.broker.virtual_host}")
    for queue in (bus.queue, bus.quarantine):
        yield _queue(connection, queue, bus, area)
    for binding in bus.bindings:
        yield _exchange(connection, binding, area)
    for name, waiting in unconsumed(connection, bus.bindings).items():
        if waiting:
            yield warning(
                area,
                f"{waiting} messages wait in queue {name}, which a publisher made and nobody "
                "consumes",
                "docs/notifications.md: publish to a topic of detachd's own, or limit the queue "
                "by a policy",
            )


def _queue(
    connection: kombu.Connection, queue: QueueSettings, bus: ListenerSettings, area: str
) -> Finding:
    try:
        there = _there(connection, queue)
    except HomeNodeDownError as down:
        return error(area, str(down))
    except CHANNEL_ERRORS as refused:
        return error(area, f"queue {queue.name}: {describe(refused)}", _rights(bus))
    if there is not None:
        return _unlike(there, area) or good(area, f"{there} is there")
    said = f"queue {queue.name} is not there yet; the service declares it; {_type(queue)}"
    return note(area, said, _rights(bus))


def _there(connection: kombu.Connection, queue: QueueSettings) -> Declared | None:
    """Return what is known of a queue that is there, or None."""
    # Any other broker might take the unknown type and make a queue, and the doctor makes nothing.
    if refuses_no_type(version_of(connection)):
        return queue.recognised(connection)
    return Declared(queue.name, None, "") if queue.exists(connection) else None


def _unlike(there: Declared, area: str) -> Finding | None:
    """Return how a queue differs from the settings, as the service would say it."""
    if there.problem is not None:
        return error(area, there.problem)
    return note(area, there.note) if there.note is not None else None


def _type(queue: QueueSettings) -> str:
    """Return which type is asked for, and why."""
    wanted, why = queue.choice.wanted, queue.choice.why
    if wanted is None:
        return f"its type is {why}"
    return f"its type is to be {wanted.value}: {why}; the log of the service says which it is"


def _exchange(connection: kombu.Connection, binding: Binding, area: str) -> Finding:
    try:
        with own_channel(connection) as channel:
            kombu.Exchange(binding.exchange, channel=channel).declare(passive=True)
    except CHANNEL_ERRORS as refused:
        return warning(
            area,
            f"exchange {binding.exchange}: {describe(refused)}",
            "Its service makes it when it first publishes: set driver = messagingv2 in "
            "[oslo_messaging_notifications] of Nova and Cinder (docs/notifications.md)",
        )
    return good(area, f"exchange {binding.exchange} is there")


def _todo(bus: ListenerSettings, said: str) -> str:
    if "ACCESS_REFUSED" in said or "403" in said:
        return f"check user and password in transport_url, and its rights: {_rights(bus)}"
    return "check transport_url, the virtual host, and that the broker runs"


def _rights(bus: ListenerSettings) -> str:
    """Return the command that gives the user what it needs on the virtual host.

    ``amq.default`` is RabbitMQ's name for the default exchange, where it checks rights: what goes
    to the quarantine and the replay queue is published there.
    """
    own = [q.name for q in (bus.queue, bus.quarantine) if not q.name.startswith("detachd")]
    names = "|".join(
        dict.fromkeys(["detachd.*", *own, *(b.exchange for b in bus.bindings), "amq[.]default"])
    )
    host = bus.broker.virtual_host
    return f'R=\'^({names})$\'; rabbitmqctl set_permissions -p {host} USER "$R" "$R" "$R"'
