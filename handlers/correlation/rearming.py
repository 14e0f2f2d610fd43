"""Which case a replayed notification is about, and what a replay makes of a case: pure.

1. An open case: the one that the notification was filed under when it came first, else the one
   that ``matching`` says.
2. The finished one that it was filed under.
3. A finished one that is proven to be of the same attachment, or of the same request.
4. None of these: a new one is opened, whatever the notification reports, an end included.

A replayed notification is no news: it fills in what the case does not know, replaces nothing, and
does not count as a repeated start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from handlers.case import Case, CaseState, Trigger
from handlers.correlation.matching import (
    Signal,
    companion,
    find_likely,
    find_only,
    find_proven,
    shares_request,
)
from handlers.correlation.transitions import absorb, earlier, new_case_id, opened
from handlers.notification import Notification, Operation

AT_REST = (CaseState.CLOSED, CaseState.PARKED, CaseState.AWAITING_APPROVAL)


class ReplayRefusedError(Exception):
    """The replay names no case that could be diagnosed again."""


def chosen(
    cases: Sequence[Case], notification: Notification, filed: Collection[str]
) -> Case | None:
    """Return the case that a replayed notification sends to a new diagnosis; None: open a new one.

    ``cases`` are those of its volume, oldest first; ``filed`` the ids of those that it was filed
    under, or whose own calls caused it.
    """
    own = [case for case in cases if case.case_id in filed]
    live = [case for case in cases if case.open]
    closed = [case for case in cases if not case.open]
    return (
        _newest(case for case in own if case.open)
        or _match(live, notification, proven=False)
        or _newest(own)
        or _match(closed, notification, proven=True)
    )


def opened_by_replay(notification: Notification, cloud: str, now: datetime) -> Case:
    """Open a case that is due now. Raises ReplayRefusedError where no volume is named."""
    operation = _operation(notification)
    if operation is None or notification.volume_id is None:
        raise ReplayRefusedError(
            f"{notification.event_type} names no volume, and no case of its request is known"
        )
    case = opened(
        notification, operation, Trigger.REPLAY,
        cloud=cloud, case_id=new_case_id(), now=now, due_at=now,
    )  # fmt: skip
    return dataclasses.replace(case, released_unasked=notification.released_unasked)


def rearmed(case: Case, now: datetime) -> Case:
    """Make a case due now, its budget fresh; an attempt that runs has not judged this.

    One at rest begins a new round: nothing that the round before had seen clean or got approved
    holds any more.
    """
    due = dataclasses.replace(
        case,
        state=CaseState.DUE,
        trigger=Trigger.REPLAY,
        next_attempt_at=earlier(case.next_attempt_at, now),
        signal_seq=case.signal_seq + 1,
        conclusion=None,
        failures=0,
        crashes=0,
    )
    if case.state not in AT_REST:
        return due
    return dataclasses.replace(
        due,
        rearmed_at=now,
        first_clean_at=None,
        told=(),
        approved_by=None,
        approved_fingerprint=None,
        approved_at=None,
        approved_action=None,
        acknowledged_until=None,
        acknowledged_by=None,
        acknowledged_rule=None,
    )


def reminded(case: Case, notification: Notification) -> Case:
    """Fill in from a replayed notification what the case does not know."""
    updated = absorb(case, notification)
    return dataclasses.replace(
        updated,
        connector=case.connector or updated.connector,
        starts=max(case.starts, min(updated.starts, 1)),
        released_unasked=case.released_unasked or notification.released_unasked,
    )


def _newest(found: Iterable[Case]) -> Case | None:
    return next(reversed(list(found)), None)


def _match(among: Sequence[Case], notification: Notification, *, proven: bool) -> Case | None:
    signal, operation = Signal.of(notification), _operation(notification)
    if operation is None or signal.volume_id is None:
        return _newest(case for case in among if shares_request(signal, case))
    if match := find_proven(signal, operation, among):
        return match.case
    if released := companion(signal, among):
        return released
    if proven:
        return None
    likely = find_likely(signal, operation, among)
    return likely.case if likely else find_only(signal, operation, among)


def _operation(notification: Notification) -> Operation | None:
    return Operation.ATTACH if notification.released_unasked else notification.operation
