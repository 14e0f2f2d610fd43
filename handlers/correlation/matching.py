"""Which case is a message about: pure, and the only place that decides it.

A message can only be about a case of the same volume. A case that names another attachment than
the message, or another instance where the attachment does not decide, is never meant. Of the rest:

1. both name the attachment: equal ids decide alone;
2. else the same request id (one shared by Nova and Cinder, or the publisher's own);
3. else the same instance, named by both, in the same operation;
4. else, where the message names neither attachment nor instance, the only open case of that
   operation on the volume. This says the least: two operations may be in flight of which we know
   one. So it never gives a start to another case, and a case learns nothing from it.

The first of these that finds a case wins; of several cases the newest. 1 *proves* that the message
is about that very attachment, and so does 2 where it found no second case. Request ids of an
operation's start and end may differ (an attach's ``os-complete`` is a request of its own), and an
orchestrator may share one request id among many operations: that is why neither 3 nor an ambiguous
2 proves anything, and why instances that differ are never the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Self

from handlers.case import FOR_A_PERSON, Case, CaseState, Conclusion, Trigger
from handlers.notification import Notification, Operation, Phase, Source


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """How long a start waits for its end, and how long errors settle before they are looked at.

    ``second_look_seconds``: how long after its end a case is looked at once more.
    """

    attach_deadline_seconds: float = 900.0
    detach_deadline_seconds: float = 900.0
    error_settle_seconds: float = 15.0
    second_look_seconds: float = 600.0

    def deadline_seconds(self, operation: Operation) -> float:
        """Return how long a start of this operation waits for its end, counted from receipt."""
        if operation is Operation.ATTACH:
            return self.attach_deadline_seconds
        return self.detach_deadline_seconds

    @property
    def memory_seconds(self) -> float:
        """Return how far back an end may lie that came before its start, or after its close."""
        return max(self.attach_deadline_seconds, self.detach_deadline_seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class Signal:
    """The parts of a notification that decide which case it is about.

    ``shows_others``: it is an end, and shows an attachment besides that of its operation. ``shown``
    are the rows that it shows; ``by_api``: Cinder's API host sent it, not a backend's.
    """

    message_id: str
    source: Source
    operation: Operation | None
    phase: Phase
    volume_id: str | None
    attachment_id: str | None
    instance_id: str | None
    request_ids: tuple[str, ...]
    shows_others: bool = False
    shown: frozenset[str] = frozenset()
    by_api: bool = False

    @classmethod
    def of(cls, notification: Notification) -> Self:
        """Return the signal of a notification."""
        request_ids = (notification.request_id, notification.own_request_id)
        return cls(
            message_id=notification.message_id,
            source=notification.source,
            operation=notification.operation,
            phase=notification.phase,
            volume_id=notification.volume_id,
            attachment_id=notification.attachment_id,
            instance_id=notification.instance_id,
            request_ids=tuple(dict.fromkeys(r for r in request_ids if r)),
            shows_others=_shows_others(notification),
            shown=frozenset(row.attachment_id for row in notification.attachments),
            by_api=notification.by_api,
        )


def _shows_others(notification: Notification) -> bool:
    # A detach that ended is no longer shown (Cinder reads the rows when it notifies).
    own = 0 if notification.operation is Operation.DETACH else 1
    return notification.phase is Phase.END and len(notification.attachments) > own


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """The case that a message is about; ``proven``: about its very attachment."""

    case: Case
    proven: bool


def find(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Match | None:
    """Return the case of this operation that the signal is about, by the first three rules."""
    own = _possible(signal, operation, cases)
    return _proven(signal, own) or _likely(signal, own)


def find_proven(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Match | None:
    """Return the same, but only where attachment or request id say so (ambiguously or not)."""
    return _proven(signal, _possible(signal, operation, cases))


def find_likely(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Match | None:
    """Return the same, but only by instance."""
    return _likely(signal, _possible(signal, operation, cases))


def find_only(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Case | None:
    """Return the only case of this operation, for a signal without attachment and instance."""
    own = _possible(signal, operation, cases)
    nameless = signal.attachment_id is None and signal.instance_id is None
    return own[0] if nameless and len(own) == 1 else None


def find_reset(notification: Notification, cases: Iterable[Case]) -> Case | None:
    """Return the open case of the volume whose status was written by hand, of any operation.

    Not one of another attachment, where both are named.
    """
    if not notification.reset:
        return None
    signal = Signal.of(notification)
    of_volume = [
        case
        for case in cases
        if case.volume_id == signal.volume_id and not _contradicts(signal, case)
    ]
    return of_volume[-1] if of_volume else None


def concerned_by(signal: Signal, cases: Iterable[Case]) -> Sequence[Case]:
    """Return the cases whose look answers a signal about the volume, oldest first.

    Every look accounts for the whole volume, so any case will do that time moves. One that waits
    for a person may be about something else, and must be about the same attachment.
    """
    return [
        case
        for case in cases
        if case.volume_id == signal.volume_id
        and (case.state not in FOR_A_PERSON or not _contradicts(signal, case))
    ]


def find_bare(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Case | None:
    """Return the case that was opened for a look at the volume, and knows of no attachment yet.

    What begins next on the volume is what it becomes about, so that one cause becomes one case.
    """
    bare = [
        case
        for case in _possible(signal, operation, cases)
        if case.trigger in (Trigger.SIGNAL, Trigger.RESET)
        and case.state not in FOR_A_PERSON
        and case.attachment_id is None
        and case.instance_id is None
    ]
    return bare[-1] if bare else None


def find_swept(notification: Notification, cases: Iterable[Case]) -> Case | None:
    """Return the open case that what a sweep found is about, whatever the case was opened for.

    A sweep tells the operation by a status, or not at all, and sees again what messages told of: it
    is one cause. Every look accounts for the whole volume, so where the finding names no
    attachment, any case of the volume will do that it does not contradict. Else it is the case of
    that attachment; but a case of an attach does not know that a detach is wanted. Where the status
    was written by hand, nor does the sweep.
    """
    if notification.source is not Source.SWEEP:
        return None
    signal = Signal.of(notification)
    of_volume = (case for case in cases if case.volume_id == signal.volume_id)
    alike = [case for case in of_volume if _finds_again(signal, case)]
    return alike[-1] if alike else None


def _finds_again(signal: Signal, case: Case) -> bool:
    if signal.attachment_id is None:
        return not _contradicts(signal, case)
    by_hand = case.trigger is Trigger.RESET
    knows_the_wish = by_hand or case.operation in (signal.operation, Operation.DETACH)
    return knows_the_wish and case.attachment_id == signal.attachment_id


def companion(signal: Signal, cases: Iterable[Case]) -> Case | None:
    """Return the attach case whose row this detach, in the same request, released unasked."""
    if signal.operation is not Operation.DETACH:
        return None
    released = (c for c in cases if c.released_unasked)
    found = find_proven(signal, Operation.ATTACH, released)
    return found.case if found else None


def find_given_up(signal: Signal, cases: Iterable[Case]) -> Case | None:
    """Return the attach whose row the end of a detach shows to be gone, and no start told of that.

    An older Cinder (Ussuri and before) tells no start where its API deletes a row that is still
    reserved, so that UC5's signature never comes: the backend had been asked to let the host in,
    and was not asked to let it go. A start that was lost or is late looks the same.
    """
    if not signal.by_api or (signal.operation, signal.phase) != (Operation.DETACH, Phase.END):
        return None
    match = find_proven(signal, Operation.ATTACH, cases)
    case = match.case if match is not None and match.proven else None
    if case is None or case.attachment_id is None or case.end_seen or not case.starts:
        return None
    return case if case.attachment_id not in signal.shown else None


def begins_anew(signal: Signal, ended: Case) -> bool:
    """Tell whether this start is of another operation than the one that has ended.

    Nova begins an operation once, and says so once. A request id alone, which an orchestrator may
    share among many, does not make the next one the same.
    """
    begins = signal.phase is Phase.START and signal.source is not Source.CINDER
    return begins and ended.nova_started


def asked_the_backend(notification: Notification, case: Case) -> bool:
    """Tell whether the backend itself began to detach the row of this attach.

    It is asked for a row that is more than reserved, and then tells of it before it begins (Cinder,
    cinder/volume/manager.py ``attachment_delete``).
    """
    row = notification.attachment
    begins = (notification.operation, notification.phase) == (Operation.DETACH, Phase.START)
    by_backend = notification.source is Source.CINDER and not notification.by_api
    return (
        begins
        and by_backend
        and row is not None
        and (case.volume_id, case.attachment_id) == (notification.volume_id, row.attachment_id)
        and row.status != "reserved"
    )


def shares_request(signal: Signal, case: Case) -> bool:
    """Tell whether both name one request."""
    return not set(signal.request_ids).isdisjoint(case.request_ids)


def unusual_company(case: Case, cases: Iterable[Case]) -> bool:
    """Tell whether the volume has a case that does not go with an operation that just ends well.

    An attach and then a detach of one attachment are usual, and no word on it. A case of another
    attachment is not (a live migration, a row that was lost or given up, a server deleted by the
    API alone), nor is one that something had to be done about.
    """
    return any(
        _is_unusual(other, case)
        for other in cases
        if other.volume_id == case.volume_id and other.case_id != case.case_id
    )


def _is_unusual(other: Case, case: Case) -> bool:
    known = other.attachment_id is not None and case.attachment_id is not None
    if known and other.attachment_id != case.attachment_id:
        return True
    usual = other.state is CaseState.WAITING or other.only_ended
    return not (usual or other.conclusion is Conclusion.HEALTHY)


def _possible(signal: Signal, operation: Operation, cases: Iterable[Case]) -> Sequence[Case]:
    return [
        case
        for case in cases
        if case.volume_id == signal.volume_id
        and case.operation is operation
        and not _contradicts(signal, case)
    ]


def _contradicts(signal: Signal, case: Case) -> bool:
    if signal.attachment_id and case.attachment_id:
        return signal.attachment_id != case.attachment_id
    return bool(signal.instance_id and case.instance_id and signal.instance_id != case.instance_id)


def _proven(signal: Signal, own: Sequence[Case]) -> Match | None:
    if signal.attachment_id:
        equal = [c for c in own if c.attachment_id == signal.attachment_id]
        if equal:
            return Match(equal[-1], proven=True)
    shared = [c for c in own if shares_request(signal, c)]
    # One request may be of several cases: Nova attaches all volumes of a new server in one.
    return Match(shared[-1], proven=len(shared) == 1) if shared else None


def _likely(signal: Signal, own: Sequence[Case]) -> Match | None:
    same = [c for c in own if signal.instance_id and c.instance_id == signal.instance_id]
    return Match(same[-1], proven=False) if same else None
