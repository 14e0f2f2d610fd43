"""One bus as configured: which exchanges, topics and priorities, and the queues of our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from oslo_config import cfg, types

from consumer.bus.broker import BrokerSettings
from consumer.bus.subscription import Pace
from consumer.bus.topology import Binding, QueueSettings

DEFAULT = "default"
"""The bus of those who have but one: that of transport_url."""

GROUP = cfg.OptGroup(
    "listener",
    title="What is taken from the bus, and where it waits",
    help=(
        "One bus is listened to, that of transport_url, unless there are sections [bus:NAME]: then "
        "those are, each with a broker of its own, as Nova's cells have, and transport_url in "
        "[DEFAULT] says where announcements go and where replays are taken from. Such a section "
        "must have a transport_url. It may have every option of [listener], and of "
        "[oslo_messaging_rabbit] amqp_durable_queues, heartbeat_timeout_threshold, "
        "rabbit_login_method, rabbit_quorum_queue, ssl, ssl_ca_file, ssl_cert_file, "
        "ssl_enforce_hostname_verification and ssl_key_file; what it does not set, it takes from "
        "there. For example:\n\n"
        "[bus:cell1]\n"
        "transport_url = "
        "rabbit://detachd:PASSWORD@cell1-rabbit1:5671,detachd:PASSWORD@cell1-rabbit2:5671/\n"
        "bindings = nova:notifications,nova:versioned_notifications\n"
        "ssl = true\n"
        "ssl_ca_file = /etc/detachd/cell1-ca.pem"
    ),
)
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
        help="Larger messages go to quarantine unread, compressed ones as they came where they "
        "would become larger. Nova's error notifications reach 100 KB.",
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
    bus: str = DEFAULT

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        bus: str = DEFAULT,
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> ListenerSettings:
        """Read ``[listener]`` and the broker's options; ``own``, where not None, goes before them.

        A batch never waits for more messages than the broker may send. Raises what
        BrokerSettings.from_conf does.
        """
        conf.register_opts(OPTS, group=GROUP.name)
        said = {**conf.listener, **{n: v for n, v in own.items() if v is not None}}
        return cls(
            broker=BrokerSettings.from_conf(conf, own.get("transport_url"), own),
            bindings=_bindings(said["bindings"], said["priorities"]),
            queue=QueueSettings(said["queue"], said["queue_max_length"]),
            quarantine=QueueSettings(said["quarantine_queue"], said["quarantine_max_length"]),
            max_body_bytes=said["max_body_bytes"],
            prefetch=said["prefetch"],
            pace=Pace(size=min(said["batch_size"], said["prefetch"])),
            rebind_seconds=said["rebind_seconds"],
            bus=bus,
        )


def _bindings(pairs: list[str], priorities: list[str]) -> tuple[Binding, ...]:
    keys: dict[str, list[str]] = {}
    for exchange, _, topic in (pair.partition(":") for pair in pairs):
        keys.setdefault(exchange, []).extend(f"{topic}.{priority}" for priority in priorities)
    return tuple(Binding(exchange, tuple(names)) for exchange, names in keys.items())
