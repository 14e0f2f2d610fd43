"""One bus as configured: which exchanges, topics and priorities, and the queues of our own."""

from __future__ import annotations

import dataclasses

from oslo_config import cfg, types

from consumer.broker import BrokerSettings
from consumer.subscription import Pace
from consumer.topology import Binding, QueueSettings

GROUP = cfg.OptGroup("listener", title="What is taken from the bus, and where it waits")
OPTS = [
    cfg.ListOpt(
        "bindings",
        default=[
            "nova:notifications",
            "nova:versioned_notifications",
            "cinder:notifications",
            "openstack:notifications",
        ],
        item_type=types.String(regex=r"^[^\s:]+:[^\s:]+$"),
        help="What to listen to, as exchange:topic. The exchange is the publisher's "
        "control_exchange: nova sets its own; Cinder uses oslo.messaging's default, openstack, "
        "unless told otherwise. An exchange that does not exist yet is declared as oslo.messaging "
        "declares it; whether durable, [oslo_messaging_rabbit] amqp_durable_queues says.",
    ),
    cfg.ListOpt(
        "priorities",
        default=["info", "error"],
        item_type=types.String(regex=r"^[a-z]+$"),
        help="The priorities of each topic to listen to.",
    ),
    cfg.StrOpt(
        "queue",
        default="detachd.notifications",
        help="The durable queue that detachd makes for itself. Never the name of a queue that "
        "somebody else consumes: each message goes to one consumer of a queue only.",
    ),
    cfg.IntOpt(
        "queue_max_length",
        default=200_000,
        min=1000,
        help="How many messages the queue holds while detachd is down. Beyond that the oldest are "
        "dropped (and publishers are never blocked); the sweep finds what was missed.",
    ),
    cfg.StrOpt(
        "quarantine_queue",
        default="detachd.quarantine",
        help="The durable queue for messages that should parse and do not, as they came.",
    ),
    cfg.IntOpt(
        "quarantine_max_length",
        default=20_000,
        min=100,
        help="How many messages the quarantine queue holds; beyond that the oldest are dropped.",
    ),
    cfg.IntOpt(
        "max_body_bytes",
        default=1024 * 1024,
        min=64 * 1024,
        help="Larger messages go to quarantine unread. Nova's error notifications reach 100 KB.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=1000,
        min=1,
        max=65535,
        help="How many messages the broker may send before the first of them is acked.",
    ),
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        help="How many messages to store and ack together, at most. Half of prefetch keeps the "
        "broker sending while a batch is stored.",
    ),
    cfg.FloatOpt(
        "rebind_seconds",
        default=60.0,
        min=1.0,
        help="How often queues, exchanges and bindings are declared again; also after each "
        "reconnection.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One bus: its name, its broker, and what to take from it."""

    broker: BrokerSettings
    bindings: tuple[Binding, ...]
    queue: QueueSettings
    quarantine: QueueSettings
    max_body_bytes: int = 1024 * 1024
    prefetch: int = 1000
    pace: Pace = dataclasses.field(default_factory=Pace)
    rebind_seconds: float = 60.0
    bus: str = "default"

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> ListenerSettings:
        """Read ``[listener]`` and the broker's options. Raises what BrokerSettings.from_conf does.

        A batch never waits for more messages than the broker may send.
        """
        conf.register_opts(OPTS, group=GROUP.name)
        listener = conf.listener
        return cls(
            broker=BrokerSettings.from_conf(conf),
            bindings=_bindings(listener.bindings, listener.priorities),
            queue=QueueSettings(listener.queue, listener.queue_max_length),
            quarantine=QueueSettings(listener.quarantine_queue, listener.quarantine_max_length),
            max_body_bytes=listener.max_body_bytes,
            prefetch=listener.prefetch,
            pace=Pace(size=min(listener.batch_size, listener.prefetch)),
            rebind_seconds=listener.rebind_seconds,
        )


def _bindings(pairs: list[str], priorities: list[str]) -> tuple[Binding, ...]:
    keys: dict[str, list[str]] = {}
    for exchange, _, topic in (pair.partition(":") for pair in pairs):
        keys.setdefault(exchange, []).extend(f"{topic}.{priority}" for priority in priorities)
    return tuple(Binding(exchange, tuple(names)) for exchange, names in keys.items())
