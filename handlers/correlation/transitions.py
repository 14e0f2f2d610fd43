"""What a message changes in a case: its state, and what the case learns. Pure, but for new ids.

1. A case that waits for a person (``FOR_A_PERSON``) is never made due by a start or an error.
2. An end closes only a case that waits and that no worker has claimed.
3. A case learns what it does not know yet; only its connector is replaced by a newer one.

The id of a new case begins with the time. Random ids would spread over the whole index, and each
new case would write another page of each index that begins with its id, which is slow once an
index is larger than the database's memory. The id counts on from the last one. So its first eight
digits, by which people name a case, belong to one case only (of one process; two processes may
give the same within 16 ms).
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from drivers.base import Connector
from handlers.case import FOR_A_PERSON, Case, CaseState, Conclusion, Shown, Trigger
from handlers.correlation.matching import Signal
from handlers.notification import Notification, NotifiedAttachment, Operation, Phase, Source

MOST_REQUEST_IDS = 50
MOST_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Learned:
    """The last connector of a compute host, and the attachment whose row showed it."""

    host: str
    connector: Connector
    attachment_id: str


def absorb(case: Case, notification: Notification) -> Case:
    """Fill in what the case does not know yet, and take the newest connector."""
    attachment_id = case.attachment_id or notification.attachment_id
    attachment = _attachment(notification.attachments, attachment_id)
    cinder, starts = notification.source is Source.CINDER, _starts(case, notification)
    return dataclasses.replace(
        case,
        attachment_id=attachment_id,
        instance_id=case.instance_id
        or notification.instance_id
        or (attachment.instance_id if attachment else None),
        host=case.host or notification.host or (attachment.host if attachment else None),
        backend=case.backend or notification.backend,
        connector=(attachment.connector if attachment else None) or case.connector,
        request_ids=_joined(case, Signal.of(notification)),
        starts=case.starts + (cinder and starts),
        nova_started=case.nova_started or (not cinder and starts),
        shown=case.shown or _shown(case, notification, attachment_id),
    )


def tell_apart(case: Case, end: Signal) -> Case:
    """Return the case with the row that went, where the proven end of its detach shows the others.

    Cinder reads the rows when it notifies: what its start showed and its end does not is what was
    detached. Where more than one went meanwhile, it is not known which.
    """
    cinder = end.source is Source.CINDER and case.operation is Operation.DETACH
    went = [row for row in case.shown if row.attachment_id not in end.shown]
    # More than one went meanwhile: the end does not say which of them it is about.
    if not cinder or case.attachment_id is not None or len(went) != 1:
        return case
    (row,) = went
    if case.instance_id not in (None, row.instance_id):
        return case
    return dataclasses.replace(
        case,
        attachment_id=row.attachment_id,
        instance_id=case.instance_id or row.instance_id,
        host=row.host or case.host,
    )


def told_apart(before: Case, after: Case) -> Shown | None:
    """Return the row that a case was found to be about by what its end does not show any more."""
    if before.attachment_id is not None:
        return None
    shown = (row for row in before.shown if row.attachment_id == after.attachment_id)
    return next(shown, None)


def absorb_signal(case: Case, signal: Signal) -> Case:
    """Do the same with what is left of a message that was kept for its case."""
    return dataclasses.replace(
        case,
        attachment_id=case.attachment_id or signal.attachment_id,
        instance_id=case.instance_id or signal.instance_id,
        request_ids=_joined(case, signal),
    )


def note_end(case: Case, signal: Signal) -> Case:
    """Note that Nova said that this very operation ended, where it was Nova that said so."""
    if case.nova_ended or signal.source is Source.CINDER:
        return case
    return dataclasses.replace(case, nova_ended=True)


def count_signal(case: Case, *, claimed: bool) -> Case:
    """Count a message of the case, where a diagnosis may be under way that does not know of it."""
    # A case that waits and that no worker has is judged from scratch when its time comes.
    counts = claimed or case.state is not CaseState.WAITING
    return dataclasses.replace(case, signal_seq=case.signal_seq + 1) if counts else case


def learned(notifications: Iterable[Notification]) -> Mapping[str, Learned]:
    """Return the last connector that the messages' rows show for each compute host."""
    return {
        host: Learned(host, attachment.connector, attachment.attachment_id)
        for notification in notifications
        for attachment in notification.attachments
        if attachment.connector is not None
        and (host := attachment.host or attachment.connector.host)
    }


def _shown(case: Case, notification: Notification, attachment_id: str | None) -> tuple[Shown, ...]:
    begins = _starts(case, notification) and case.operation is Operation.DETACH
    unasked = notification.by_api
    # Cinder's API begins only what is reserved (cinder/volume/api.py attachment_delete).
    rows = [r for r in notification.attachments if not unasked or r.status == "reserved"]
    if not begins or not 1 < len(rows) <= MOST_SHOWN or attachment_id is not None:
        return ()
    return tuple(Shown(r.attachment_id, r.instance_id, r.host, unasked) for r in rows)


def _attachment(
    attachments: Iterable[NotifiedAttachment], attachment_id: str | None
) -> NotifiedAttachment | None:
    return next(
        (attachment for attachment in attachments if attachment.attachment_id == attachment_id),
        None,
    )


def _joined(case: Case, signal: Signal) -> tuple[str, ...]:
    # Retries without end must not grow the row without end: the ids last seen are the useful ones.
    others = (r for r in case.request_ids if r not in signal.request_ids)
    return (*others, *signal.request_ids)[-MOST_REQUEST_IDS:]


def _starts(case: Case, notification: Notification) -> bool:
    reported = notification.operation, notification.phase
    return reported == (case.operation, Phase.START)


def opened(
    notification: Notification,
    operation: Operation,
    trigger: Trigger,
    *,
    cloud: str,
    case_id: str,
    now: datetime,
    due_at: datetime,
) -> Case:
    """Open a case: one that waits for its end where the deadline is what will make us look."""
    if notification.volume_id is None:
        raise ValueError(f"notification {notification.message_id} names no volume")
    blank = Case(
        case_id=case_id,
        cloud=cloud,
        volume_id=notification.volume_id,
        operation=operation,
        trigger=trigger,
        signal_seq=1,
        released_unasked=trigger is Trigger.RELEASED_UNASKED,
        state=CaseState.WAITING if trigger is Trigger.DEADLINE else CaseState.DUE,
        opened_at=now,
        updated_at=now,
        next_attempt_at=due_at,
    )
    return absorb(blank, notification)


def settling(case: Case, trigger: Trigger, at: datetime) -> Case:
    """Make a case due at ``at``. One that a person has stays with the person, and is looked at.

    What a sweep sees is no news of such a case: it sees the same each time.
    """
    if case.state not in FOR_A_PERSON:
        return due(case, trigger, at)
    return case if trigger is Trigger.SWEEP else looked_at_by(case, at)


def looked_at_by(case: Case, at: datetime) -> Case:
    """Bring the next look forward, where it is later."""
    return dataclasses.replace(case, next_attempt_at=earlier(case.next_attempt_at, at))


def forward(case: Case, at: datetime) -> Case:
    """Bring the diagnosis forward for an end that may be another attachment's."""
    if case.state is not CaseState.WAITING:
        return due(case, Trigger.END, at)
    # It goes on waiting, so that an end that is proven can still close it.
    sooner = earlier(case.next_attempt_at, at)
    return dataclasses.replace(case, trigger=Trigger.END, next_attempt_at=sooner)


@dataclasses.dataclass(frozen=True, slots=True)
class AfterEnd:
    """When a case that has seen its end is moved, and whether it is looked at once more.

    ``unusual``: something about the volume gives reason to. ``spare``: the budget allows it.
    """

    now: datetime
    settled_at: datetime
    deadline_at: datetime | None
    look_at: datetime
    unusual: bool = False
    spare: bool = False


def ended(case: Case, after: AfterEnd, *, claimed: bool) -> Case:
    """Note the end of this very attachment's operation; move the case on if no worker has it."""
    noted = dataclasses.replace(case, end_seen=True)
    if case.only_ended or (case.state is CaseState.SETTLING and case.end_seen):
        return _moved_on(noted, after) if case.only_ended else case  # Nova's own end is no news
    if case.state is not CaseState.WAITING or claimed:
        return due(noted, Trigger.END, after.now)
    return _moved_on(noted, dataclasses.replace(after, deadline_at=case.next_attempt_at))


def overtaken(case: Case, after: AfterEnd, *, claimed: bool) -> Case:
    """Take in a start that the end of its operation had overtaken."""
    if case.only_ended:
        return _moved_on(case, after)
    if case.state is CaseState.WAITING and case.end_seen and not claimed:
        return _moved_on(case, dataclasses.replace(after, deadline_at=case.next_attempt_at))
    return case


def _moved_on(case: Case, after: AfterEnd) -> Case:
    """Return what a case comes to that has seen its end, whatever came before or after that end.

    After a repeated start it is looked at when it has settled: the try that had timed out may still
    finish late. Where Nova has begun and not ended, Cinder's end is not the last word: a
    nova-compute that dies meanwhile leaves a wrong record of the volume, and sends no more. Else
    the case is closed, or looked at once more.
    """
    if case.starts > 1:
        settle = due(case, Trigger.END, after.settled_at)
        return dataclasses.replace(settle, state=CaseState.SETTLING)
    # Until Nova's end, or what overtakes it, the trigger remembers that a look is wanted.
    unusual = after.unusual or case.trigger is Trigger.END
    trigger = Trigger.END if unusual else case.trigger
    if case.nova_is_at_it:
        waiting = dataclasses.replace(_unseen(case), state=CaseState.WAITING, trigger=trigger)
        return dataclasses.replace(waiting, next_attempt_at=after.deadline_at)
    if case.state is CaseState.SETTLING:
        return case
    return _looked_at_later(case, after) if unusual or after.spare else _closed(case)


def _looked_at_later(case: Case, after: AfterEnd) -> Case:
    # The end counts as the first clean look, so that one more is enough.
    return dataclasses.replace(
        case,
        state=CaseState.SETTLING,
        trigger=Trigger.END,
        conclusion=None,
        first_clean_at=after.now,
        next_attempt_at=after.look_at,
    )


def _closed(case: Case) -> Case:
    return dataclasses.replace(
        case, state=CaseState.CLOSED, conclusion=Conclusion.ENDED, next_attempt_at=None
    )


def superfluous(cases: Sequence[Case]) -> Sequence[tuple[Case, Case]]:
    """Return the ended cases of one volume that need no look of their own, and what they become.

    Every look accounts for the whole volume, so one is enough, and one finding becomes one case.
    A case that is looked at anyway stands for all; one that waits for a person, for those of its
    attachment, since it may be about something else. Of ended cases alone, the detach of an
    attachment stands for its attach, and else the attach for the others. What is kept is looked at
    when the last of them would have been.
    """
    # After a repeated start the look is for the late first try, which no other look waits for.
    planned = [c for c in cases if c.only_ended and c.open and c.starts <= 1]
    looked_at = [c for c in cases if c.open and c.state is not CaseState.WAITING]
    others = [c for c in looked_at if c not in planned]
    left = [c for c in planned if not any(_stands_for(other, c) for other in others)]
    changed = [(c, _closed(c)) for c in planned if c not in left]
    if len(left) <= 1:
        return changed
    kept = max(left, key=lambda c: _weight(c, cases))
    at = max(case.next_attempt_at for case in left if case.next_attempt_at is not None)
    changed += [(c, _closed(c)) for c in left if c is not kept]
    if kept.next_attempt_at != at:
        changed.append((kept, dataclasses.replace(kept, next_attempt_at=at)))
    return changed


def _stands_for(other: Case, case: Case) -> bool:
    if other.state not in FOR_A_PERSON:
        return True
    return other.attachment_id is not None and other.attachment_id == case.attachment_id


def _weight(case: Case, cases: Iterable[Case]) -> tuple[bool, bool, str]:
    detached = case.operation is Operation.ATTACH and any(
        c.operation is Operation.DETACH and c.attachment_id == case.attachment_id for c in cases
    )
    return not detached, case.operation is Operation.ATTACH, case.attachment_id or ""


def _unseen(case: Case) -> Case:
    """Return a case that only the bus said had ended as one of which that is not believed."""
    if not case.only_ended:
        return case
    return dataclasses.replace(case, conclusion=None, first_clean_at=None)


def due(case: Case, trigger: Trigger, at: datetime) -> Case:
    """Make a case due at ``at``, or when it was due already if that is sooner.

    That a status was written by hand is remembered whatever comes after it.
    """
    sooner = earlier(case.next_attempt_at, at)
    # A reset by hand leaves the backend as it was, which the rules must know whatever came later.
    kept = case.trigger if case.trigger is Trigger.RESET else trigger
    return dataclasses.replace(
        _unseen(case), state=CaseState.DUE, trigger=kept, next_attempt_at=sooner
    )


def earlier(at: datetime | None, other: datetime) -> datetime:
    """Return the earlier of two times, the first of which may never come."""
    return other if at is None else min(at, other)


UNITS_A_SECOND = 62.5
PREFIX_BITS = 32  # begin anew after two years, which harms nothing: the rest is random
RANDOM_BITS = 96
VERSION_8 = (8 << 76, 0xF << 76)  # RFC 9562, section 5.8: a layout of one's own
VARIANT = (2 << 62, 3 << 62)


class _Counter:
    """Counts on from its last number, or from the time, whichever is more. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, int(time.time() * UNITS_A_SECOND))
            return self._last


_COUNTER = _Counter()


def new_case_id() -> str:
    """Return an id that no other case has. Thread-safe; blocks on nothing."""
    value = (_COUNTER.next() % (1 << PREFIX_BITS)) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    for bits, mask in (VERSION_8, VARIANT):
        value = value & ~mask | bits
    return str(uuid.UUID(int=value))
