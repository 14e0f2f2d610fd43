"""The queues that publishers make, and which nobody may consume.

oslo.messaging's notifier declares a queue TOPIC.PRIORITY for what it publishes
(oslo_messaging/_drivers/impl_rabbit.py, _publish_and_creates_default_queue). detachd has a queue of
its own on the same exchange, so it neither consumes nor deletes these: they may be another
service's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import kombu

from consumer.bus.broker import CHANNEL_ERRORS
from consumer.bus.topology import Binding, own_channel


def unconsumed(connection: kombu.Connection, bindings: Iterable[Binding]) -> Mapping[str, int]:
    """Return for each such queue of these bindings how many messages wait that nobody consumes.

    0: there is no such queue, the broker does not let us look at it, or it has a consumer. Asks for
    each by its name, which changes nothing. Blocks for the broker's answers; raises BROKER_ERRORS
    if the connection is lost.
    """
    names = dict.fromkeys(key for binding in bindings for key in binding.routing_keys)
    return {name: _waiting(connection, name) for name in names}


def _waiting(connection: kombu.Connection, name: str) -> int:
    try:
        with own_channel(connection) as channel:
            asked = kombu.Queue(name, channel=channel).queue_declare(passive=True)
    except CHANNEL_ERRORS:
        return 0
    return 0 if asked.consumer_count else int(asked.message_count)
