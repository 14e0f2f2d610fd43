"""The settings of one bus: exchanges, topics and priorities, and the queues of detachd."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from oslo_config import cfg, types

from consumer.bus.broker import BrokerSettings
from consumer.bus.queue_type import choose
from consumer.bus.subscription import Pace
from consumer.bus.topology import Binding, QueueSettings

DEFAULT = "default"
"""The name of the bus without a section [bus:NAME]: that of transport_url."""

GROUP = cfg.OptGroup(
    "listener",
    title="The notifications that detachd consumes, and its queues",
    help=(
        "Without sections [bus:NAME], detachd consumes notifications from one broker: that of "
        "transport_url in [DEFAULT]. With such sections, for example one for each cell of Nova, it "
        "consumes from the broker of each section instead. Announcements and replays then still "
        "use the broker of transport_url in [DEFAULT].\n\n"
        "A section [bus:NAME] must set transport_url. It may set every option of [listener] and "
        "these options of [oslo_messaging_rabbit]: amqp_durable_queues, "
        "heartbeat_timeout_threshold, rabbit_login_method, rabbit_quorum_queue, ssl, ssl_ca_file, "
        "ssl_cert_file, ssl_enforce_hostname_verification and ssl_key_file. An option that it "
        "does not set has the value from [listener] or [oslo_messaging_rabbit]. For example:\n\n"
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
        help="The exchanges and topics to consume, each as EXCHANGE:TOPIC. The exchange is the "
        "control_exchange of the publishing service: Nova sets nova; Cinder uses oslo.messaging's "
        "default, openstack, unless its configuration sets another one. If an exchange does not "
        "exist, detachd declares it as oslo.messaging does. It is durable if amqp_durable_queues "
        "in [oslo_messaging_rabbit] is true.",
    ),
    cfg.ListOpt(
        "priorities",
        default=["info", "error"],
        item_type=types.String(regex=r"^[a-z]+$"),
        help="The notification priorities to consume from each topic of bindings.",
    ),
    cfg.StrOpt(
        "queue",
        default="detachd.notifications",
        help="The durable queue that detachd declares and consumes. Use a name that no other "
        "service consumes: RabbitMQ delivers each message to one consumer of a queue only, so two "
        "services that share a queue lose messages to each other.",
    ),
    cfg.StrOpt(
        "queue_type",
        choices=[
            ("quorum", "the queue is on several nodes of the cluster"),
            ("classic", "the queue is on one node; while that is down, detachd receives nothing"),
        ],
        help="The type of the queues that detachd declares: those of this section, and the replay "
        "queue. If it is not set, they are quorum queues if rabbit_quorum_queue in "
        "[oslo_messaging_rabbit] is true, or if transport_url names several hosts, or if the "
        "default of the virtual host is quorum; otherwise classic queues. Behind a virtual IP "
        "address, transport_url names one host: set this option for a cluster. An existing queue "
        "of the other type is used unchanged; docs/messaging.md says how to move it.",
    ),
    cfg.IntOpt(
        "quorum_group_size",
        min=1,
        help="The number of nodes that a new quorum queue of detachd is on. If it is not set, "
        "RabbitMQ decides: three.",
    ),
    cfg.StrOpt(
        "spare_queue",
        help="The name of a queue that detachd declares, binds and consumes while the node that "
        "has its classic queue is down. Without it, detachd receives nothing until that node is "
        "back. Messages that are published before detachd has bound the spare queue are lost for "
        "detachd; the sweep finds their volumes. While queue itself can be used, detachd unbinds a "
        "spare queue that exists and consumes what is left in it: so its name may be that of an "
        "old queue whose messages are to be moved (docs/messaging.md).",
    ),
    cfg.IntOpt(
        "queue_max_length",
        default=200_000,
        min=1000,
        help="The maximum number of messages in the queue, for example while detachd is down. "
        "When the queue is full, the broker drops the oldest messages and does not block the "
        "publishers. The sweep later finds the volumes of dropped messages; see [sweep].",
    ),
    cfg.StrOpt(
        "quarantine_queue",
        default="detachd.quarantine",
        help="The durable queue for messages that concern attachments but cannot be parsed. They "
        "are stored unchanged. See `detachd quarantine list`.",
    ),
    cfg.IntOpt(
        "quarantine_max_length",
        default=20_000,
        min=100,
        help="The maximum number of messages in the quarantine queue. When it is full, the broker "
        "drops the oldest messages.",
    ),
    cfg.IntOpt(
        "quarantine_max_bytes",
        default=1024**3,
        min=16 * 1024 * 1024,
        help="The maximum size of all messages in the quarantine queue, in bytes. One message may "
        "be as large as the broker takes (16 MiB by default in RabbitMQ 4, 128 MiB before). When "
        "it is full, the broker drops the oldest messages.",
    ),
    cfg.IntOpt(
        "max_body_bytes",
        default=1024 * 1024,
        min=64 * 1024,
        help="The largest message that detachd parses, in bytes, after decompression. A larger "
        "message goes to the quarantine queue unchanged and unparsed. Nova's error notifications "
        "reach 100 KB.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=1000,
        min=1,
        max=65535,
        help="The maximum number of unacknowledged messages that the broker sends to detachd.",
    ),
    cfg.IntOpt(
        "batch_size",
        default=500,
        min=1,
        help="The maximum number of messages that detachd stores in one transaction and "
        "acknowledges together. At most prefetch. With half of prefetch, the broker sends the next "
        "batch while detachd stores the current one.",
    ),
    cfg.FloatOpt(
        "rebind_seconds",
        default=60.0,
        min=1.0,
        help="The interval, in seconds, at which detachd declares its queues, exchanges and "
        "bindings again. It also declares them after each reconnection.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One bus: its name, its broker, and what to consume there."""

    broker: BrokerSettings
    bindings: tuple[Binding, ...]
    queue: QueueSettings
    quarantine: QueueSettings
    max_body_bytes: int
    prefetch: int
    pace: Pace
    rebind_seconds: float
    bus: str
    spare: QueueSettings | None

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        bus: str = DEFAULT,
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> ListenerSettings:
        """Read ``[listener]`` and the broker's options. A value in ``own`` that is not None wins.

        A batch is at most as large as prefetch. Raises what BrokerSettings.from_conf raises.
        """
        conf.register_opts(OPTS, group=GROUP.name)
        # Options of a section [bus:NAME] are None where it does not set them.
        options = {**conf.listener, **{n: v for n, v in own.items() if v is not None}}
        broker = BrokerSettings.from_conf(conf, own.get("transport_url"), own)
        choice = choose(
            options["queue_type"], quorum_queues=broker.quorum_queues, hosts=len(broker.hosts)
        )
        queue = functools.partial(
            QueueSettings, choice=choice, group_size=options["quorum_group_size"]
        )
        return cls(
            broker=broker,
            bindings=_bindings(options["bindings"], options["priorities"]),
            queue=queue(options["queue"], options["queue_max_length"]),
            quarantine=queue(
                options["quarantine_queue"],
                options["quarantine_max_length"],
                max_bytes=options["quarantine_max_bytes"],
            ),
            max_body_bytes=options["max_body_bytes"],
            prefetch=options["prefetch"],
            # A batch larger than prefetch would never fill, and each would wait for its time.
            pace=Pace(size=min(options["batch_size"], options["prefetch"])),
            rebind_seconds=options["rebind_seconds"],
            bus=bus,
            spare=options["spare_queue"]
            and queue(options["spare_queue"], options["queue_max_length"]),
        )


def _bindings(pairs: list[str], priorities: list[str]) -> tuple[Binding, ...]:
    keys: dict[str, list[str]] = {}
    for exchange, _, topic in (pair.partition(":") for pair in pairs):
        keys.setdefault(exchange, []).extend(f"{topic}.{priority}" for priority in priorities)
    return tuple(Binding(exchange, tuple(names)) for exchange, names in keys.items())
