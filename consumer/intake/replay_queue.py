"""The replay queue: what people put on it goes round again. Its settings, and the way in."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Self

from amqp.exceptions import MessageNacked
from oslo_config import cfg

from consumer.bus.broker import BrokerSettings
from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Pace
from consumer.bus.topology import QueueSettings

GROUP = cfg.OptGroup("replay", title="What people send round again")
OPTS = [
    cfg.StrOpt(
        "queue",
        default="detachd.replay",
        help="The durable queue that replays are taken from: original notifications, or "
        '{"case": ID, "actor": ..., "reason": ...}. Whoever may publish to the default exchange '
        "may send something round again; it is diagnosed and guarded as everything else.",
    ),
    cfg.IntOpt(
        "queue_max_length",
        default=20_000,
        min=100,
        help="How many replays wait while detachd is down. Beyond that the broker refuses more.",
    ),
]

ACTOR = "x-detachd-replay-actor"
REPLAY_REASON = "x-detachd-replay-reason"


@dataclasses.dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Where replays wait, and where goes what is none."""

    broker: BrokerSettings
    queue: QueueSettings
    quarantine: QueueSettings
    max_body_bytes: int
    pace: Pace = dataclasses.field(default_factory=lambda: Pace(size=1))

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read ``[replay]`` and what it has in common with the listener.

        Raises what ListenerSettings.from_conf raises.
        """
        conf.register_opts(OPTS, group=GROUP.name)
        listener = ListenerSettings.from_conf(conf)
        replay = conf.replay
        return cls(
            broker=listener.broker,
            queue=QueueSettings(replay.queue, replay.queue_max_length, overflow="reject-publish"),
            quarantine=listener.quarantine,
            max_body_bytes=listener.max_body_bytes,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Asker:
    """Who wants something sent round again, and why: both are kept in the case's history."""

    actor: str
    reason: str


class ReplaySender:
    """Puts replays on the queue, each under a message_id of its own. For one thread."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._queue = settings.queue
        self._sender = ConfirmedSender(
            settings.broker, "detachd replay", prepare=settings.queue.declare
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()

    def send(self, body: bytes, asker: Asker, *, headers: dict[str, str] | None = None) -> None:
        """Send one: confirmed when this returns, on a queue that is declared where it is missing.

        Blocks for the broker. Raises NotConfirmedError: whether the broker has it, is not known
        then, unless the error says that it was refused.
        """
        parcel = self._parcel(body, asker, headers or {})
        try:
            if self._sender.send(parcel) is Confirmation.RETURNED:
                self._sender.close()  # the queue has just been deleted: a new connection makes it
                self._again(parcel)
        except NotConfirmedError as error:
            if isinstance(error.__cause__, MessageNacked):
                raise NotConfirmedError(self._full()) from error
            raise

    def _again(self, parcel: Parcel) -> None:
        if self._sender.send(parcel) is Confirmation.RETURNED:
            raise NotConfirmedError(f"queue {self._queue.name!r} is deleted again and again")

    def _full(self) -> str:
        return (
            f"queue {self._queue.name!r} is full: it holds {self._queue.max_length} replays that "
            "nobody takes in; is detachd running?"
        )

    def _parcel(self, body: bytes, asker: Asker, headers: dict[str, str]) -> Parcel:
        return Parcel(
            exchange="",
            routing_key=self._queue.name,
            body=body,
            headers={**headers, ACTOR: asker.actor, REPLAY_REASON: asker.reason},
            message_id=str(uuid.uuid4()),
        )
