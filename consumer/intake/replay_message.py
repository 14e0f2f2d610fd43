"""What a body on the replay queue asks for: a case, or a notification, to go round again. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any, assert_never

import orjson

from consumer.intake.batch import Delivery
from consumer.intake.bodies import unwrap
from consumer.intake.quarantine import BUS
from consumer.intake.replay_queue import ACTOR, REPLAY_REASON
from consumer.ledger import Replay
from handlers.notification import Ignored, Malformed, Notification, parse
from handlers.notification.redaction import excerpt

SOURCE = "replay"
UNKNOWN_ACTOR = "unknown"
NO_REASON = "no reason given"
ACTOR_LENGTH, REASON_LENGTH = 255, 500
LONGEST_ID = 36


class NotReplayableError(Exception):
    """What was given cannot be sent round again."""


@dataclasses.dataclass(frozen=True, slots=True)
class CaseOrder:
    """A case is to go round again; ``case_id`` may be the beginning of its id."""

    case_id: str
    actor: str | None
    reason: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The body asks for nothing that can be done; ``irrelevant`` where it is sound all the same."""

    reason: str
    irrelevant: bool = False


Order = CaseOrder | Notification | Refused


def read(body: bytes) -> Order:
    """Say what a body asks for. Never raises, whatever the bytes.

    An object with a ``case`` is an order for that case; everything else has to be a notification
    that concerns an attachment, in either envelope or as a record of its delivery.
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


def write(order: CaseOrder) -> bytes:
    """Return the body that asks for it."""
    return orjson.dumps({"case": order.case_id, "actor": order.actor, "reason": order.reason})


def _order(document: bytes) -> CaseOrder | Refused | None:
    try:
        fields = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or "case" not in fields or _is_notification(fields):
        return None
    case_id, actor, reason = (fields.get(name) for name in ("case", "actor", "reason"))
    if not (isinstance(case_id, str) and 0 < len(case_id) <= LONGEST_ID and case_id.isprintable()):
        return Refused(f'"case" is not the id of a case, a text of at most {LONGEST_ID} characters')
    if not all(value is None or isinstance(value, str) for value in (actor, reason)):
        return Refused('"actor" and "reason" have to be texts')
    return CaseOrder(case_id, actor, reason)


def _is_notification(fields: dict[str, Any]) -> bool:
    return "event_type" in fields or "oslo.message" in fields


def asked(delivery: Delivery, order: Order, delivery_id: str, *, perhaps_seen: bool) -> Replay:
    """Return the replay as the ledger keeps it: who asks, and why, scrubbed of secrets.

    An order says so itself; a notification is not its sender's, so that its headers do.
    """
    said = order if isinstance(order, CaseOrder) else None
    headers = delivery.headers
    actor = (said and said.actor) or _text(headers.get(ACTOR)) or delivery.user_id
    reason = (said and said.reason) or _text(headers.get(REPLAY_REASON))
    return Replay(
        delivery_id=delivery_id,
        body_sha256=delivery.body_sha256,
        bus=excerpt(_text(headers.get(BUS)) or SOURCE, ACTOR_LENGTH),
        actor=excerpt(actor or "", ACTOR_LENGTH) or UNKNOWN_ACTOR,
        reason=excerpt(reason or "", REASON_LENGTH) or NO_REASON,
        perhaps_seen=perhaps_seen,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
