"""What happened to a case, in time: messages, looks, writes, announcements, states. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime

from consumer.ledger import CaseRecord, HistoryKind, HistoryRecord
from consumer.status.words import age

LANES = {"message": "m", "look": "o", "write": "#", "said": ">", "person": "@", "state": "*"}
QUIET_SECONDS = 60.0
"""A gap as long as this is shown."""
WRITES = (HistoryKind.INTENDED, HistoryKind.RESULT)
BY_PERSON = (HistoryKind.APPROVED, HistoryKind.REARMED)


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to the case."""

    at: datetime
    lane: str
    text: str


def with_gaps(found: Sequence[Moment], began: datetime) -> Iterator[tuple[Moment, str, str | None]]:
    """Yield each moment with the time since the beginning, and how long it was quiet before it."""
    before = found[0].at if found else began
    for moment in found:
        gap = (moment.at - before).total_seconds()
        before = moment.at
        since = age((moment.at - began).total_seconds())
        yield moment, since, age(gap) if gap >= QUIET_SECONDS else None


def moments(record: CaseRecord) -> tuple[Moment, ...]:
    """Return everything that is on record of the case, oldest first."""
    every = (*_messages(record), *_writes(record), *_said(record), *_history(record))
    return tuple(sorted(every, key=lambda moment: moment.at))


def _messages(record: CaseRecord) -> Iterator[Moment]:
    for kept in record.notifications:
        n = kept.notification
        fault = f", fault {n.fault}" if n.fault else ""
        yield Moment(kept.received_at, "message", f"{n.event_type} from {n.publisher_id}{fault}")


def _writes(record: CaseRecord) -> Iterator[Moment]:
    for intent in record.intents:
        target = intent.target.get("attachment_id") or intent.target.get("volume_id")
        yield Moment(intent.intended_at, "write", f"{intent.kind.value} of {target} is meant")
        if intent.result_at is not None:
            detail = f": {intent.detail}" if intent.detail else ""
            ended = f"{intent.kind.value} ended {intent.result.value}{detail}"
            yield Moment(intent.result_at, "write", ended)


def _said(record: CaseRecord) -> Iterator[Moment]:
    for sent in record.outbox:
        name = sent.event_type
        if sent.sent_at is not None:
            yield Moment(sent.sent_at, "said", name)
        elif sent.unrouted_at is not None:
            yield Moment(sent.unrouted_at, "said", f"{name}: nobody was bound to hear it")
        else:
            error = f", last error {sent.last_error}" if sent.last_error else ""
            yield Moment(sent.created_at, "said", f"{name}: not sent yet{error}")


def _history(record: CaseRecord) -> Iterator[Moment]:
    for line in record.history:
        # ``_writes`` tells them better, with target and result.
        if line.kind in WRITES:
            continue
        lane = "look" if line.kind is HistoryKind.CONCLUDED else "state"
        lane = "person" if line.kind in BY_PERSON else lane
        yield Moment(line.recorded_at, lane, _line(line))


def _line(line: HistoryRecord) -> str:
    by = f" by {line.actor}" if line.kind in BY_PERSON else ""
    judged = f"{line.verdict} ({line.rule})" if line.rule else f"{line.kind.value}{by}"
    state = f" -> {line.state.value}" if line.state else ""
    reason = f": {line.reason}" if line.reason else ""
    return f"{judged}{state}{reason}"
