"""The settings of every bus that detachd consumes from, and the task of each queue.

A bus is a section ``[bus:NAME]``, or the broker of transport_url. A queue is used by detachd only,
and for one task. If two tasks consumed from one queue, each message would go to one of them by
chance. If one task published to it and another consumed from it, messages would circulate for ever.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import re
from collections.abc import Iterator, Sequence

from oslo_config import cfg

from consumer.bus import broker
from consumer.bus import settings as bus
from consumer.bus.broker import BrokerSettings, options_of_one_broker, unset
from consumer.bus.settings import ListenerSettings
from consumer.errors import ConfigurationError
from consumer.intake.deciding import Place, Quarantines
from consumer.intake.replay_queue import ReplaySettings

PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")
"""oslo.messaging's notification listeners have a queue TOPIC.PRIORITY for each of these."""


class Task(enum.Enum):
    """What a queue is for."""

    NOTIFICATIONS = "notifications"
    QUARANTINE = "quarantine"
    REPLAYS = "replays"


@dataclasses.dataclass(frozen=True, slots=True)
class QueueUse:
    """A queue and its task; ``option`` is where the configuration names it."""

    task: Task
    option: str
    broker: BrokerSettings
    name: str

    def shared(self, other: QueueUse) -> str | None:
        """Return the queue that both share, on a host that both may use; None if there is none."""
        # By host and virtual host: two brokers may have queues of one name.
        both = self._places() & other._places()
        return "{2} of {0}, virtual host {1}".format(*min(both)) if both else None

    def _places(self) -> set[tuple[str, str, str, int]]:
        broker, usual = self.broker, 5672 if self.broker.tls is None else 5671
        return {
            (host.hostname, broker.virtual_host, self.name, host.port or usual)
            for host in broker.hosts
        }


def uses(buses: Sequence[ListenerSettings], replay: ReplaySettings) -> list[QueueUse]:
    """Return every queue that detachd declares, those of replays last."""
    found = []
    for one in buses:
        where, broker = f"bus {one.bus}:", one.broker
        found += [
            QueueUse(Task.NOTIFICATIONS, f"{where} queue", broker, one.queue.name),
            QueueUse(Task.QUARANTINE, f"{where} quarantine_queue", broker, one.quarantine.name),
        ]
        if one.spare is not None:
            spare = QueueUse(Task.NOTIFICATIONS, f"{where} spare_queue", broker, one.spare.name)
            found.append(spare)
    own = QueueUse(
        Task.QUARANTINE, "[listener] quarantine_queue", replay.broker, replay.quarantine.name
    )
    # The quarantine of replays is usually that of a bus, and would clash with itself.
    listed = any((use.broker, use.name) == (own.broker, own.name) for use in found)
    return [
        *found,
        *([] if listed else [own]),
        QueueUse(Task.REPLAYS, "[replay] queue", replay.broker, replay.queue.name),
    ]


def queue_problems(buses: Sequence[ListenerSettings], replay: ReplaySettings) -> Iterator[str]:
    """Yield a sentence for each queue that another client uses, or that has two tasks."""
    found = uses(buses, replay)
    topics = {key.rpartition(".")[0] for b in buses for e in b.bindings for key in e.routing_keys}
    yield from (
        _foreign_queue(use) for use in found if _belongs_to_another_consumer(use.name, topics)
    )
    for one, other in itertools.combinations(found, 2):
        if one.task is other.task is Task.QUARANTINE:
            continue  # several buses may share a quarantine queue
        if where := one.shared(other):
            yield _clash(one, other, where)


def _belongs_to_another_consumer(name: str, topics: set[str]) -> bool:
    topic, _, priority = name.rpartition(".")
    return name in topics or topic in topics or bool(topic and priority in PRIORITIES)


def _foreign_queue(use: QueueUse) -> str:
    return (
        f"{use.option} = {use.name} is the name of another consumer's queue "
        "(TOPIC.PRIORITY, as Ceilometer uses): detachd would take its messages; choose a name that "
        "only detachd uses, such as detachd.notifications"
    )


def _clash(one: QueueUse, other: QueueUse, where: str) -> str:
    if one.task is other.task:
        return (
            f"{one.option} and {other.option} share the queue {where}: give one of them another "
            "queue, or make them one bus with the bindings of both"
        )
    return (
        f"{one.option} and {other.option} are the same queue, {where}: each task would consume "
        "messages of the other; give one of them another queue"
    )


PREFIX = "bus:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_BROKER = "rabbit://"
"""The default of transport_url (oslo.messaging, transport.py)."""


def is_own(section: str) -> bool:
    """Tell whether a section of the configuration files is a bus."""
    return section.lower().startswith(PREFIX)


def options() -> list[cfg.Opt]:
    """Return the options of such a section, with the default None."""
    where = cfg.StrOpt(
        "transport_url",
        secret=True,
        help="The URL of the broker of this bus, in the form of transport_url in [DEFAULT].",
    )
    return [where, *map(unset, bus.OPTS), *options_of_one_broker()]


def read(conf: cfg.ConfigOpts) -> tuple[ListenerSettings, ...]:
    """Return the settings of every bus. Raises ConfigurationError with every problem."""
    sections = [section for section in conf.list_all_sections() if is_own(section)]
    found = tuple(_read_one(conf, section) for section in sections) or (_the_only_one(conf),)
    with broker.url_explained():
        replay = ReplaySettings.from_conf(conf)
    own, queues = _own_broker_problems(conf, sections), queue_problems(found, replay)
    # Buses whose names differ by case alone have the same queues too: one sentence is enough.
    problems = [*own, *(list(_case_problems(found)) or queues)]
    if problems:
        raise ConfigurationError(problems)
    return found


def check_files(buses: Sequence[ListenerSettings]) -> None:
    """Read the files for TLS of every bus, so that a wrong one is found at the start.

    Blocks for the file system. Raises ConfigurationError.
    """
    problems = []
    for one in buses:
        try:
            broker.check_tls_files(one.broker)
        except broker.TlsFileError as error:
            problems.append(f"bus {one.bus}: {error}")
    if problems:
        raise ConfigurationError(problems)


def quarantines(conf: cfg.ConfigOpts) -> Quarantines:
    """Return all quarantine queues, with their brokers. Raises ConfigurationError."""
    with broker.url_explained():
        replay = ReplaySettings.from_conf(conf)
    found = [Place(one.bus, one.broker, one.quarantine) for one in read(conf)]
    own = Place("replay", replay.broker, replay.quarantine)
    listed = any((own.broker, own.queue) == (other.broker, other.queue) for other in found)
    return Quarantines(tuple(found if listed else [*found, own]), replay)


def _the_only_one(conf: cfg.ConfigOpts) -> ListenerSettings:
    with broker.url_explained():
        return ListenerSettings.from_conf(conf)


def _read_one(conf: cfg.ConfigOpts, section: str) -> ListenerSettings:
    # Only now: which sections there are is known from the files.
    conf.register_opts(options(), group=section)
    own, name = conf[section], section[len(PREFIX) :]
    if not _NAME.fullmatch(name):
        problem = f"[{section}]: the name may have letters, digits and . _ - (at most 64)"
        raise ConfigurationError([problem])
    if not own.transport_url:
        raise ConfigurationError([f"[{section}] has no transport_url: set the URL of its broker"])
    try:
        with broker.url_explained():
            return ListenerSettings.from_conf(conf, name, dict(own))
    except ConfigurationError as error:
        raise ConfigurationError([f"[{section}] {p}" for p in error.problems]) from error


def _own_broker_problems(conf: cfg.ConfigOpts, sections: Sequence[str]) -> Iterator[str]:
    announcing = conf.oslo_messaging_notifications.transport_url or conf.transport_url
    if announcing.partition("://")[0] == "amqp":
        yield (
            "transport_url begins with amqp://, which kombu takes and oslo.messaging, which sends "
            "the announcements, does not: write rabbit://"
        )
    if sections and announcing == _NO_BROKER:
        yield (
            f"[{sections[0]}] is set, but [DEFAULT] has no transport_url: announcements and "
            "replays need one; it may be that of a bus"
        )


def _case_problems(settings: Sequence[ListenerSettings]) -> Iterator[str]:
    for one, other in itertools.combinations(settings, 2):
        if one.bus.lower() == other.bus.lower():
            yield f"the buses {one.bus} and {other.bus} differ by case only; rename one of them"
