"""What a case's own writes so far show, and how long a late call may still act. Pure.

A case's intents stand oldest first.

1. A write that may have acted counts as made: done, without an answer, or left open by a crash.
2. A call may act after its caller has given up, until the late horizon is over. Until then the
   volume is given to no other server: Cinder's terminate_connection revokes the access of a host by
   its name, whichever server uses it by then. To see the backend does not help, as the call acts
   after the look.
"""

from __future__ import annotations

from datetime import datetime

from handlers.case import Action, Case, Grounds, Intent, StepKind, StepResult

MAY_HAVE_ACTED = frozenset({StepResult.DONE, StepResult.INDETERMINATE, StepResult.INTENDED})
UNANSWERED = frozenset({StepResult.INDETERMINATE, StepResult.INTENDED})
TERMINATES = frozenset({StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_FORCE_DETACH})
"""What ends the one connection that its connector names."""
REACHES_BACKEND = frozenset(
    {
        StepKind.BACKEND_FORCE_DETACH,
        StepKind.CINDER_DELETE_ATTACHMENT,
        StepKind.CINDER_FORCE_DETACH,
    }
)
CHECKED_BY_CINDER = frozenset({StepKind.CINDER_DELETE_ATTACHMENT, StepKind.CINDER_FORCE_DETACH})
"""Before these Cinder asks Nova who uses the attachment (``attachment_deletion_allowed``)."""
ACTS_LATE = REACHES_BACKEND | {StepKind.CINDER_UNRESERVE, StepKind.NOVA_DETACH}
"""What does harm where it acts after its caller has given up.

An unreserve gives the volume away that a later attempt has reserved, or is releasing. Nova's API
is told a server and a volume: a detach that arrives late is of what was attached since.
"""


def since_recovered(case: Case) -> tuple[Intent, ...]:
    """Return the intents that are later than the attempt which last recovered the case."""
    return tuple(i for i in case.intents if i.attempt > case.mended_attempt)


def may_have_acted(intents: tuple[Intent, ...]) -> tuple[Intent, ...]:
    """Return those that were carried out, or may have been."""
    return tuple(i for i in intents if i.result in MAY_HAVE_ACTED)


def acted_on(case: Case) -> Grounds | None:
    """Return the grounds of the last write, else intent, since the case was recovered."""
    recent = since_recovered(case)
    # A write that surely did nothing names its grounds only where there is no other.
    last = (may_have_acted(recent) or recent)[-1:]
    return last[0].grounds if last else None


def holds_reserve(case: Case) -> bool:
    """Tell whether a volume that is reserved without a row is reserved by us.

    A reserve without an answer may have acted, and may still act after a later unreserve.
    """
    # Oldest first: an unreserve ends only the reserves before it.
    reserved = in_doubt = False
    for intent in case.intents:
        if intent.kind is StepKind.CINDER_RESERVE:
            reserved = reserved or intent.result is StepResult.DONE
            in_doubt = in_doubt or intent.result in UNANSWERED
        elif intent.kind is StepKind.CINDER_UNRESERVE and intent.result is StepResult.DONE:
            reserved = False
    return reserved or in_doubt


def released_by_driver(case: Case) -> bool:
    """Tell whether the driver, ours or Cinder's, reported that it released the attachment."""
    return any(i.kind in TERMINATES and i.result is StepResult.DONE for i in case.intents)


def asked_driver(case: Case) -> bool:
    """Tell whether the driver was asked to release it, whatever became of that."""
    return any(i.kind in TERMINATES for i in may_have_acted(case.intents))


def detach_ordered(case: Case) -> bool:
    """Tell whether a person ordered that Nova detaches what we completed, and that is still due.

    The attachment was completed on that very approval, and the case was not mended since: an order
    serves once.
    """
    since = case.approved_at
    if case.approved_action is not Action.DETACH or since is None:
        return False
    made = (i for i in may_have_acted(case.intents) if i.kind is StepKind.CINDER_COMPLETE)
    begun = any(i.intended_at is not None and i.intended_at >= since for i in made)
    return begun and (case.mended_at is None or case.mended_at < since)


def cinder_refused(case: Case, attachment_id: str | None) -> bool:
    """Tell whether the last call for this attachment that Cinder checks with Nova led to nothing.

    It was refused, as Cinder's check does (409), or had no answer, as where Cinder cannot ask Nova
    (500). Which of both it was, and why, is in the history of the case.
    """
    asked = (i for i in reversed(since_recovered(case)) if i.kind in CHECKED_BY_CINDER)
    last = next((i for i in asked if i.attachment_id == attachment_id), None)
    return last is not None and last.result in (StepResult.REFUSED, StepResult.INDETERMINATE)


def wish_pending(case: Case, attachment_id: str) -> StepKind | None:
    """Return which step of ours, for this attachment, may still wait for its Nova detach.

    A roll_detaching always does; a complete where the operator wants that. A Nova detach that was
    not made, or may not have been, leaves it waiting; an answer, whichever, ends it. Only what was
    done for this very attachment counts: the volume may have been attached anew.
    """
    wishes = [i for i in case.intents if i.attachment_id == attachment_id and _counts(i)]
    return wishes[-1].kind if wishes and wishes[-1].kind is not StepKind.NOVA_DETACH else None


def completed(case: Case, attachment_id: str) -> bool:
    """Tell whether we told Cinder, or may have told it, that this attachment is complete."""
    complete = StepKind.CINDER_COMPLETE
    ours = (i for i in may_have_acted(case.intents) if i.kind is complete)
    return any(i.attachment_id == attachment_id for i in ours)


def _counts(intent: Intent) -> bool:
    if intent.kind in (StepKind.CINDER_ROLL_DETACHING, StepKind.CINDER_COMPLETE):
        return intent.result in MAY_HAVE_ACTED
    answered = intent.result in (StepResult.DONE, StepResult.REFUSED)
    return intent.kind is StepKind.NOVA_DETACH and answered


def last_nova_detach(case: Case, attachment_id: str) -> Intent | None:
    """Return our last Nova detach of this attachment that Nova may have accepted."""
    ours = (
        i
        for i in reversed(may_have_acted(case.intents))
        if i.kind is StepKind.NOVA_DETACH and i.attachment_id == attachment_id
    )
    return next(ours, None)


def last_unanswered_at(case: Case) -> datetime | None:
    """Return when our last call went out that does harm when it acts late, and never answered.

    Such a call may still act: on a daemon that was frozen it does so on the thaw. It may have been
    made for another case of the volume: the server that has the disk by then loses it all the same.
    """
    own = [
        i.intended_at
        for i in case.intents
        if i.kind in ACTS_LATE and i.result in UNANSWERED and i.intended_at
    ]
    of_any_case = [case.late.asked_at] if case.late.asked_at else []
    return max(own + of_any_case, default=None)


def own_call_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a call of ours that gave no answer may still act; 0 for not at all."""
    return _left(last_unanswered_at(case), horizon_seconds, now)


def nova_detach_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long Nova may still be at a detach that we asked it for, and that it took."""
    ours = [
        i.intended_at
        for i in may_have_acted(case.intents)
        if i.kind is StepKind.NOVA_DETACH and i.intended_at
    ]
    return _left(max(ours, default=None), horizon_seconds, now)


def detach_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a try to detach the volume may still act that Cinder has not ended."""
    return _left(case.late.detach_tried_at, horizon_seconds, now)


def attach_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a try of the attach may still act: the last one heard, or that of opening."""
    # Without a start on the bus the attach began before its case did, at the latest.
    tried_at = case.late.attach_tried_at or case.round_began_at
    return _left(max(tried_at, case.round_began_at), horizon_seconds, now)


def terminating_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long any call that takes the volume from a host may still act."""
    return max(
        own_call_seconds(case, horizon_seconds, now), detach_seconds(case, horizon_seconds, now)
    )


def _left(since: datetime | None, horizon_seconds: float, now: datetime) -> float:
    if since is None:
        return 0.0
    return max(horizon_seconds - (now - since).total_seconds(), 0.0)
