"""Looks at a bus for ``detachd doctor``: asks the broker by name, and declares nothing.

A passive declaration tells whether a queue or an exchange is there. RabbitMQ asks for no permission
for it, so the rights of the user show only when the service declares its own queues.
"""

from __future__ import annotations

from collections.abc import Iterator

import kombu

from consumer.bus.broker import BROKER_ERRORS, CHANNEL_ERRORS, connect, describe
from consumer.bus.queue_type import version_of
from consumer.bus.settings import ListenerSettings
from consumer.bus.topology import Binding, QueueSettings, own_channel
from consumer.bus.unconsumed import unconsumed
from consumer.findings import Finding, error, good, note, warning

NAME = "detachd doctor"


def examine(bus: ListenerSettings) -> Iterator[Finding]:
    """Yield what is found on one bus. Blocks for the broker's answers; raises nothing for it."""
    area = f"bus {bus.bus}"
    try:
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
        there = queue.exists(connection)
    except CHANNEL_ERRORS as refused:
        return error(area, f"queue {queue.name}: {describe(refused)}", _rights(bus))
    if there:
        return good(area, f"queue {queue.name} is there; {_type(queue)}")
    said = f"queue {queue.name} is not there yet; the service declares it; {_type(queue)}"
    return note(area, said, _rights(bus))


def _type(queue: QueueSettings) -> str:
    """Return which type is asked for, and why. Which one it has, only a declaration would tell."""
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
