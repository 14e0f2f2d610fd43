"""What becomes of a case when something is said of it: pure functions from case to case."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from handlers.case import CaseState, Conclusion, Trigger
from handlers.correlation.filling import absorb
from handlers.correlation.matching import KnownCase
from handlers.notification import Notification, Operation

FOR_A_PERSON = (CaseState.PARKED, CaseState.AWAITING_APPROVAL)


def opened(
    notification: Notification,
    operation: Operation,
    trigger: Trigger,
    *,
    case_id: str,
    now: datetime,
    due_at: datetime,
) -> KnownCase:
    """Open a case: one that waits for its end where the deadline is what will make us look."""
    if notification.volume_id is None:
        raise ValueError(f"notification {notification.message_id} names no volume")
    blank = KnownCase(
        case_id=case_id,
        volume_id=notification.volume_id,
        operation=operation,
        attachment_id=None,
        instance_id=None,
        host=None,
        backend=None,
        connector=None,
        request_ids=(),
        trigger=trigger,
        state=CaseState.WAITING if trigger is Trigger.DEADLINE else CaseState.DUE,
        opened_at=now,
        next_attempt_at=due_at,
        signal_seq=0,
        starts=0,
        nova_started=False,
        nova_ended=False,
        end_seen=False,
        released_unasked=trigger is Trigger.RELEASED_UNASKED,
        claimed=False,
        conclusion=None,
    )
    return dataclasses.replace(absorb(blank, notification), signal_seq=1)


def settling(case: KnownCase, trigger: Trigger, at: datetime) -> KnownCase:
    """Make a case due at ``at``, unless a person has to move it."""
    return case if case.state in FOR_A_PERSON else due(case, trigger, at)


def forward(case: KnownCase, at: datetime) -> KnownCase:
    """Bring the diagnosis forward for an end that may be another attachment's."""
    if case.state is not CaseState.WAITING:
        return due(case, Trigger.END, at)
    # It goes on waiting, so that an end that is proven can still close it.
    sooner = earlier(case.next_attempt_at, at)
    return dataclasses.replace(case, trigger=Trigger.END, next_attempt_at=sooner)


def ended(case: KnownCase, now: datetime, settled_at: datetime) -> KnownCase:
    """Note the end of this very attachment's operation; close the case if nobody looks into it.

    After a repeated start it settles instead: the try that had timed out may still finish late.
    Where Nova is at it, Cinder's word is not the end: a nova-compute that dies meanwhile leaves a
    record of the volume that is wrong, and says no more.
    """
    if case.state is CaseState.SETTLING and case.end_seen:
        return case  # Nova's own ends follow Cinder's: nothing new
    noted = dataclasses.replace(case, end_seen=True)
    if case.state is not CaseState.WAITING or case.claimed:
        return due(noted, Trigger.END, now)
    if case.starts > 1:
        settle = due(noted, Trigger.END, settled_at)
        return dataclasses.replace(settle, state=CaseState.SETTLING)
    if case.nova_is_at_it:
        return noted
    return dataclasses.replace(
        noted, state=CaseState.CLOSED, conclusion=Conclusion.ENDED, next_attempt_at=None
    )


def overtaken(case: KnownCase, settled_at: datetime, deadline_at: datetime) -> KnownCase:
    """Take in a start that the end which closed its case had overtaken.

    A repeated one lets the case settle. One of Nova's, which has not said that it ended, has it
    wait for that.
    """
    if case.starts > 1:
        settle = due(case, Trigger.END, settled_at)
        return dataclasses.replace(settle, state=CaseState.SETTLING, conclusion=None)
    if case.nova_is_at_it:
        return dataclasses.replace(
            case, state=CaseState.WAITING, conclusion=None, next_attempt_at=deadline_at
        )
    return case


def due(case: KnownCase, trigger: Trigger, at: datetime) -> KnownCase:
    """Make a case due at ``at``, or when it was due already if that is sooner."""
    sooner = earlier(case.next_attempt_at, at)
    return dataclasses.replace(case, state=CaseState.DUE, trigger=trigger, next_attempt_at=sooner)


def earlier(at: datetime | None, other: datetime) -> datetime:
    """Return the earlier of two times, the first of which may never come."""
    return other if at is None else min(at, other)
