"""What each queue is for, as configured: never somebody else's, and never for two tasks. Pure.

A queue that is consumed for two tasks gives each message to one of them by chance; where one task
puts messages and the other takes them, they go round for ever.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterator, Sequence

from consumer.bus.broker import BrokerSettings
from consumer.bus.settings import ListenerSettings
from consumer.intake.replay_queue import ReplaySettings

PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")
"""What oslo.messaging's notification listeners call their queues: TOPIC.PRIORITY, one for each."""


class Task(enum.Enum):
    """What a queue is for."""

    NOTIFICATIONS = "notifications"
    QUARANTINE = "quarantine"
    REPLAYS = "replays"


@dataclasses.dataclass(frozen=True, slots=True)
class QueueUse:
    """One queue as one section names it; ``option`` is where the operator finds it."""

    task: Task
    option: str
    broker: BrokerSettings
    name: str

    def shared(self, other: QueueUse) -> str | None:
        """Say where both are the same queue: at any host that both may be at."""
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
    for bus in buses:
        where, broker = f"bus {bus.bus}:", bus.broker
        found += [
            QueueUse(Task.NOTIFICATIONS, f"{where} queue", broker, bus.queue.name),
            QueueUse(Task.QUARANTINE, f"{where} quarantine_queue", broker, bus.quarantine.name),
        ]
    aside = QueueUse(
        Task.QUARANTINE, "[listener] quarantine_queue", replay.broker, replay.quarantine.name
    )
    known = any((use.broker, use.name) == (aside.broker, aside.name) for use in found)
    return [
        *found,
        *([] if known else [aside]),
        QueueUse(Task.REPLAYS, "[replay] queue", replay.broker, replay.queue.name),
    ]


def queue_problems(buses: Sequence[ListenerSettings], replay: ReplaySettings) -> Iterator[str]:
    """Yield a sentence for each queue that is somebody else's, or has two tasks."""
    found = uses(buses, replay)
    topics = {key.rpartition(".")[0] for b in buses for e in b.bindings for key in e.routing_keys}
    yield from (_stolen(use) for use in found if _is_somebody_else_s(use.name, topics))
    for one, other in itertools.combinations(found, 2):
        if one.task is other.task is Task.QUARANTINE:
            continue  # what is put aside may lie together
        if where := one.shared(other):
            yield _clash(one, other, where)


def _is_somebody_else_s(name: str, topics: set[str]) -> bool:
    topic, _, priority = name.rpartition(".")
    return name in topics or topic in topics or bool(topic and priority in PRIORITIES)


def _stolen(use: QueueUse) -> str:
    return (
        f"{use.option} = {use.name} is the name of another consumer's queue "
        "(TOPIC.PRIORITY, as Ceilometer's are): detachd would take messages away from it; choose a "
        "name that only detachd uses, such as detachd.notifications"
    )


def _clash(one: QueueUse, other: QueueUse, where: str) -> str:
    if one.task is other.task:
        return (
            f"{one.option} and {other.option} share the queue {where}: give one of them another "
            "queue, or make them one bus with the bindings of both"
        )
    return (
        f"{one.option} and {other.option} are the same, {where}: what the one task puts there the "
        "other would take; give one of them another queue"
    )
