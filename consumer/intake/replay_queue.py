"""The replay queue: its settings, how replays are put on it, and what a replay's body means.

At the end: how a command reads recorded notifications from a file, to replay or inspect them.
"""

from __future__ import annotations

import dataclasses
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, assert_never

import orjson
from amqp.exceptions import MessageNacked
from oslo_config import cfg

from consumer.bus.broker import BrokerSettings
from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Delivery, Pace
from consumer.bus.topology import Binding, QueueSettings
from consumer.errors import BadInputError
from consumer.intake.quarantine import BUS
from consumer.ledger import Replay
from handlers.notification import Ignored, Malformed, Notification, parse
from handlers.notification.redaction import excerpt

GROUP = cfg.OptGroup("replay", title="The queue for replays")
OPTS = [
    cfg.StrOpt(
        "queue",
        default="detachd.replay",
        help="The durable queue for replays. A message is an original notification, or an order: "
        '{"case": ID, "actor": ..., "reason": ...}. Every broker user who may publish to the '
        "default exchange can replay. A replayed case passes the same diagnosis and guards as any "
        "other case.",
    ),
    cfg.IntOpt(
        "queue_max_length",
        default=20_000,
        min=100,
        help="The maximum number of messages in the replay queue, for example while detachd is "
        "down. When it is full, the broker refuses new replays and drops none.",
    ),
]

ACTOR = "x-detachd-replay-actor"
REPLAY_REASON = "x-detachd-replay-reason"


@dataclasses.dataclass(frozen=True, slots=True)
class ReplaySettings:
    """The replay queue, and the quarantine for bodies that cannot be replayed."""

    broker: BrokerSettings
    queue: QueueSettings
    quarantine: QueueSettings
    max_body_bytes: int
    # Each is acked before the next is sent: so only one message can be redelivered because of us.
    prefetch: int = 1
    bindings: tuple[Binding, ...] = ()
    spare: QueueSettings | None = None
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
            queue=dataclasses.replace(
                listener.queue,
                name=replay.queue,
                max_length=replay.queue_max_length,
                # The publisher is a person: a refusal is seen, and a dropped replay would not be.
                overflow="reject-publish",
            ),
            quarantine=listener.quarantine,
            max_body_bytes=listener.max_body_bytes,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Requester:
    """Who requests a replay, and why. The history of the case keeps both."""

    actor: str
    reason: str


class ReplaySender:
    """Puts replays on the queue, each with its own message_id. For one thread."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._queue = settings.queue
        self._sender = ConfirmedSender(
            settings.broker, "detachd replay", prepare=settings.queue.declare
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()

    def send(
        self, body: bytes, requester: Requester, *, headers: dict[str, str] | None = None
    ) -> None:
        """Send one replay; it is confirmed when this returns. Declares the queue if it is missing.

        Blocks for the broker. Raises NotConfirmedError: then it is unknown whether the broker has
        the replay, unless the error says that it was refused.
        """
        parcel = self._parcel(body, requester, headers or {})
        try:
            if self._sender.send(parcel) is Confirmation.RETURNED:
                self._sender.close()  # the queue was just deleted: a new connection declares it
                self._resend(parcel)
        except NotConfirmedError as error:
            # A nack is the answer of a full queue with reject-publish (RabbitMQ, "Queue Length
            # Limit").
            if isinstance(error.__cause__, MessageNacked):
                raise NotConfirmedError(self._full()) from error
            raise

    def _resend(self, parcel: Parcel) -> None:
        if self._sender.send(parcel) is Confirmation.RETURNED:
            raise NotConfirmedError(
                f"queue {self._queue.name!r} was deleted again after detachd declared it"
            )

    def _full(self) -> str:
        return (
            f"queue {self._queue.name!r} is full: it holds {self._queue.max_length} replays that "
            "no detachd consumes; check that detachd is running"
        )

    def _parcel(self, body: bytes, requester: Requester, headers: dict[str, str]) -> Parcel:
        return Parcel(
            exchange="",
            routing_key=self._queue.name,
            body=body,
            headers={**headers, ACTOR: requester.actor, REPLAY_REASON: requester.reason},
            # By it the replayer recognises a redelivery, whatever the connection does.
            message_id=str(uuid.uuid4()),
        )


SOURCE = "replay"
UNKNOWN_ACTOR = "unknown"
NO_REASON = "no reason given"
# The width of the columns for the actor, and some lines for the reason.
ACTOR_LENGTH, REASON_LENGTH = 255, 500
# The length of a case id; anything longer is no beginning of one.
LONGEST_ID = 36


class NotReplayableError(BadInputError):
    """The input cannot be replayed."""


@dataclasses.dataclass(frozen=True, slots=True)
class CaseOrder:
    """An order to replay a case; ``case_id`` may be the beginning of its id."""

    case_id: str
    actor: str | None
    reason: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A body that cannot be replayed. ``irrelevant``: it is valid, but concerns no attachment."""

    reason: str
    irrelevant: bool = False


Order = CaseOrder | Notification | Refused


def order_of(body: bytes) -> Order:
    """Parse a body from the replay queue. Never raises, for any bytes.

    An object with a ``case`` is an order for that case. Everything else must be a notification that
    concerns an attachment, in either envelope or as a record of its delivery.
    """
    document = unwrap(body)
    if (order := _order(document)) is not None:
        return order
    match parse(document):
        case Notification() as notification:
            return notification
        case Ignored(event_type, reason):
            return Refused(f"{event_type} cannot be replayed: {reason}", irrelevant=True)
        case Malformed(reason):
            return Refused(reason)
        case other:
            assert_never(other)


def body_of(order: CaseOrder) -> bytes:
    """Return the body of an order."""
    return orjson.dumps({"case": order.case_id, "actor": order.actor, "reason": order.reason})


def _order(document: bytes) -> CaseOrder | Refused | None:
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    # A notification may have a field "case" of its own.
    if not isinstance(fields, dict) or "case" not in fields or _is_notification(fields):
        return None
    case_id, actor, reason = (fields.get(name) for name in ("case", "actor", "reason"))
    if not (isinstance(case_id, str) and 0 < len(case_id) <= LONGEST_ID and case_id.isprintable()):
        return Refused(
            f'"case" is not the id of a case: a string of at most {LONGEST_ID} characters'
        )
    if not all(value is None or isinstance(value, str) for value in (actor, reason)):
        return Refused('"actor" and "reason" must be strings')
    return CaseOrder(case_id, actor, reason)


def _is_notification(fields: dict[str, Any]) -> bool:
    return "event_type" in fields or "oslo.message" in fields


def replay_of(
    delivery: Delivery, order: Order, delivery_id: str, *, maybe_repeated: bool
) -> Replay:
    """Return the replay for the ledger, with actor and reason, without secrets.

    An order contains actor and reason itself; for a notification they are in the headers.
    """
    case_order = order if isinstance(order, CaseOrder) else None
    headers = delivery.headers
    # The user of the broker comes last: it is that of detachd for all replays by its command.
    actor = (case_order and case_order.actor) or _text(headers.get(ACTOR)) or delivery.user_id
    reason = (case_order and case_order.reason) or _text(headers.get(REPLAY_REASON))
    return Replay(
        delivery_id=delivery_id,
        body_sha256=delivery.body_sha256,
        bus=excerpt(_text(headers.get(BUS)) or SOURCE, ACTOR_LENGTH),
        actor=excerpt(actor or "", ACTOR_LENGTH) or UNKNOWN_ACTOR,
        reason=excerpt(reason or "", REASON_LENGTH) or NO_REASON,
        maybe_repeated=maybe_repeated,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class UnreadableInputError(BadInputError):
    """The input file cannot be read."""


def read_input(file: str) -> bytes:
    """Return the content of the file; "-" is standard input. Raises UnreadableInputError."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fix = "name a file that can be read, or - for standard input"
        raise UnreadableInputError(f"cannot read {file}: {error.strerror}; {fix}") from error


def split_documents(text: bytes) -> bytes | Sequence[bytes]:
    """Return the text itself if it is one document, else its lines without blank ones."""
    lines = [line for line in text.splitlines() if line.strip()]
    return text if lines and _is_one_document(text, lines) else lines


def _is_one_document(text: bytes, lines: Sequence[bytes]) -> bool:
    # A single brace begins a document over several lines, even if it is not valid JSON.
    if len(lines) == 1 or lines[0].strip() == b"{":
        return True
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def unwrap(document: bytes) -> bytes:
    """Return the body in a record of a delivery, or the document itself.

    A record is an object with a ``body``; it may have other fields.
    """
    try:
        record = orjson.loads(document)
        if not isinstance(record, dict) or "body" not in record or "event_type" in record:
            return document
        body = record["body"]
        return body.encode() if isinstance(body, str) else orjson.dumps(body)
    # Whatever cannot be unwrapped is judged as it is, and says then what is wrong with it.
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, UnicodeEncodeError):
        return document
