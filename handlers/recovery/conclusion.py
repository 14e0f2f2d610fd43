"""The outcome of one attempt: the next state of the case, when it is due, what is announced. Pure.

1. A case is closed only after two looks, a late horizon apart, at which all is well.
2. While a call may still act on the volume, no end is announced and the case is not closed.
3. A start that was announced gets an end or an error.
4. An end is announced only where the volume is as the plan wanted it. What is still attached
   although it was to be detached gets an error, which says so.
5. An outage of an API parks no case before its patience ends, and a parked case is looked at again.
   A person is told once of one reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

from handlers import intents
from handlers.announcement import Details, Event, announce
from handlers.case import (
    FOR_A_PERSON,
    Announcement,
    Case,
    CaseState,
    Conclusion,
    OtherCase,
    Outcome,
    ReasonKind,
    StepKind,
    StepResult,
    Trigger,
    UseCase,
    VerifiedBy,
)
from handlers.judgement import facts
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import ACTING, Diagnosis, Verdict
from handlers.judgement.rules import AMBIGUOUS, CRASHES, LEFT_OVER, OF_THE_VOLUME
from handlers.notification import Operation
from handlers.recovery import retry

PARKED_LOOKS_PER_AGE = 8
LONGEST_PARKED_SECONDS = 86400.0
DANGER = "danger: meanwhile another server may get the volume, and "
LET_IN = "the backend still lets a host in"
ON_RECORD = "a record is left of one that may be using it; the backend was not seen"


@dataclasses.dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt as it stood when it came to its end, at ``now``.

    ``case`` includes the intents of this attempt. ``started``: this attempt announced its start; a
    parked case whose failures were told announces it with its end.
    ``evidence`` is the last look as history keeps it, ``trouble`` what last went wrong with a call.
    """

    case: Case
    diagnosis: Diagnosis
    policy: BackendPolicy
    now: datetime
    started: bool
    evidence: dict[str, Any]
    trouble: str | None = None

    @property
    def unsettled_steps(self) -> tuple[str, ...]:
        """The writes since the case was last recovered that were made, or may have been."""
        made = intents.may_have_acted(intents.since_recovered(self.case))
        return tuple(intent.kind.value for intent in made)

    @property
    def use_case(self) -> UseCase | None:
        """The use case that was acted on, also before a crash; else that of the last look."""
        acted_on = intents.acted_on(self.case)
        return (acted_on and acted_on.use_case) or self.diagnosis.use_case

    @property
    def age_seconds(self) -> float:
        """How long the case has been open."""
        return (self.now - self.case.round_began_at).total_seconds()

    def announcement(
        self, event: Event, reason: str, verified_by: VerifiedBy | None = None
    ) -> Announcement:
        """Build one announcement of this attempt.

        A start and a parking name the rule of this look, an end the rule that was acted on, and so
        does the start that is told with it.
        """
        details = Details(event, self.now, self.unsettled_steps, reason, verified_by)
        return announce(self.case, self._diagnosis_to_announce(event), details)

    def _diagnosis_to_announce(self, event: Event) -> Diagnosis:
        look, acted_on = self.diagnosis, intents.acted_on(self.case)
        if event is Event.START and not self.case.failures_were_told:
            return look
        if event not in (Event.START, Event.END) or acted_on is None:
            return dataclasses.replace(look, use_case=self.use_case)
        verdict = Verdict(acted_on.verdict)
        return dataclasses.replace(
            look, verdict=verdict, rule=acted_on.rule, use_case=self.use_case
        )

    def outcome(self, state: CaseState, reason: str, **more: Any) -> Outcome:
        """Fill in what every outcome says. What a person has stays there until there is news."""
        s = self.diagnosis.situation
        stays = state is CaseState.DUE and self.case.state in FOR_A_PERSON
        filled: dict[str, Any] = {
            "delay_seconds": None, "conclusion": None, "verified_by": None, "failed": False,
            "mended": False, "clean": False, "fingerprint": None, "announcements": (),
            "held": stays, "reason_kind": None,
        }  # fmt: skip
        return Outcome(
            state=self.case.state if stays else state,
            rule=self.diagnosis.rule,
            verdict=self.diagnosis.verdict.value,
            reason=reason,
            use_case=self.use_case,
            evidence=self.evidence,
            attachment_id=s.attachment.attachment_id if s and s.attachment else None,
            instance_id=s.instance_id if s else None,
            backend=s.volume.ref.backend if s else None,
            volume_seen=self.case.volume_seen,
            **filled | more,
        )


def conclude(attempted: Attempted) -> Outcome:
    """Return the outcome of a diagnosis that asks for no step."""
    match attempted.diagnosis.verdict:
        case Verdict.GONE:
            return _gone(attempted)
        case Verdict.HEALTHY | Verdict.CLEAN:
            return _well(attempted)
        case Verdict.IN_FLIGHT:
            return _in_flight(attempted)
        case Verdict.UNKNOWN:
            return _unseen(attempted)
        case _ if _others_come_first(attempted):
            reason = f"{attempted.diagnosis.reason}; other cases work on attachments of the volume"
            return wait(attempted, reason)
        case _:
            return park(attempted, attempted.diagnosis.reason, ReasonKind.RULE)


def _others_come_first(attempted: Attempted) -> bool:
    """Tell whether what is not clear now may become so by other cases of the volume.

    Each of them knows its attachment and is at work. A person would be asked about what they are
    about to settle; one whose end is only waited for settles nothing yet. What this attempt has
    begun is told at once.
    """
    if attempted.started or attempted.diagnosis.rule != AMBIGUOUS:
        return False
    at_work = (CaseState.DUE, CaseState.SETTLING)
    others = (o for o in attempted.case.beside if o.state in at_work)
    a_person_s = attempted.case.state in FOR_A_PERSON
    return not a_person_s and any(other.attachment_id is not None for other in others)


def _gone(attempted: Attempted) -> Outcome:
    return attempted.outcome(
        CaseState.CLOSED,
        attempted.diagnosis.reason,
        conclusion=Conclusion.GONE,
        announcements=_unused(attempted, "the volume was deleted meanwhile"),
    )


def _unseen(attempted: Attempted) -> Outcome:
    """Look again, or leave it at the end that the bus told of, where Nova has nothing to say.

    A server that this Nova was never known to have (bare metal, another region) stays unknown
    however often it is asked. Danger comes before: two writers, a session on a free volume.
    """
    case, s = attempted.case, attempted.diagnosis.situation
    # Only the one look after an end of the bus: a later one was asked for by something else.
    after_its_end = case.end_seen and case.first_clean_at is not None and case.attempts <= 1
    if after_its_end and not case.intents and s is not None and facts.never_in_nova(s):
        reason = f"it ended well by the bus; {attempted.diagnosis.reason}"
        return attempted.outcome(CaseState.CLOSED, reason, conclusion=Conclusion.ENDED)
    put_off = _outlast if attempted.diagnosis.outage else later
    if endangers(attempted.diagnosis):
        return _warn(attempted, put_off)
    return put_off(attempted, attempted.diagnosis.reason)


def _outlast(attempted: Attempted, reason: str) -> Outcome:
    """Look again while the outage lasts, and when it has ended: it is no failure of this case."""
    waiting = wait(attempted, reason)
    if waiting.state is CaseState.PARKED or not attempted.started:
        return waiting
    error = attempted.announcement(Event.ERROR, waiting.reason)
    return dataclasses.replace(waiting, announcements=(error,))


def _well(attempted: Attempted) -> Outcome:
    """Tell our own doing from what came about by itself, or in spite of us."""
    if not attempted.unsettled_steps:
        nothing_done = "nothing was done: the trouble had ended by itself"
        return _right(attempted, attempted.diagnosis.reason, nothing_done)
    if _stays_attached(attempted):
        reason = _as_before(attempted)
        return _right(attempted, reason, reason)
    return _recovered(attempted)


def _stays_attached(attempted: Attempted) -> bool:
    """Tell whether it is attached although our last write was to have it detached.

    Of our writes a complete alone wants it attached: after any other, attached is where we began.
    """
    last = attempted.unsettled_steps[-1]
    completed = last == StepKind.CINDER_COMPLETE.value and not _nova_refused(attempted)
    return attempted.diagnosis.verdict is Verdict.HEALTHY and not completed


def _nova_refused(attempted: Attempted) -> bool:
    """Tell whether the last thing that we wanted was Nova's detach, and Nova refused it."""
    last = intents.since_recovered(attempted.case)[-1]
    return last.kind is StepKind.NOVA_DETACH and last.result is StepResult.REFUSED


def _as_before(attempted: Attempted) -> str:
    why = f" ({attempted.trouble})" if attempted.trouble else ""
    return f"attached, as before: the detach was not carried out{why}; {attempted.diagnosis.reason}"


def _right(attempted: Attempted, reason: str, unused: str) -> Outcome:
    """Close the case, or look once more later; ``unused`` is said of a start without a result."""
    left = _settling_seconds(attempted)
    if left > 0:
        return attempted.outcome(
            CaseState.SETTLING,
            f"{reason}; a call that timed out may still finish, so detachd looks at it again",
            delay_seconds=left,
            clean=True,
            announcements=_unused(attempted, unused),
        )
    if not _heart_beats(attempted):
        return _frozen(attempted, reason)
    if _nova_may_go_on(attempted):
        unheard = f"{reason}; but Nova began to detach it, and has not said how that ended"
        return _in_suspense(attempted, unheard)
    done = Conclusion.MENDED if attempted.case.mended_at else Conclusion.HEALTHY
    return attempted.outcome(CaseState.CLOSED, reason, conclusion=done, clean=True)


def _settling_seconds(attempted: Attempted) -> float:
    """Return how much longer all must be well before the case is closed."""
    case, horizon = attempted.case, attempted.policy.late_horizon_seconds
    if case.first_clean_at is None:
        return horizon
    # A look before our own last write shows nothing of what came after it.
    acted = intents.may_have_acted(intents.since_recovered(case))
    times = [case.first_clean_at, case.mended_at, *(intent.intended_at for intent in acted)]
    since = max(at for at in times if at is not None)
    left = horizon - (attempted.now - since).total_seconds()
    return max(left, intents.terminating_seconds(case, horizon, attempted.now))


def _frozen(attempted: Attempted, well: str) -> Outcome:
    """Wait for cinder-volume: a frozen one may still carry out earlier requests.

    When the patience is over a person is asked about what we have touched. Where all is clean by
    itself there is nothing to decide: the backend may have been removed, and what comes of a late
    request is for the sweep to find.
    """
    reason = f"{well}; but cinder-volume of its backend is not up"
    untouched = attempted.diagnosis.verdict is Verdict.CLEAN and not attempted.case.intents
    if untouched and attempted.age_seconds > attempted.policy.patience_seconds:
        return attempted.outcome(
            CaseState.CLOSED, reason, conclusion=Conclusion.HEALTHY, clean=True
        )
    return _in_suspense(attempted, reason)


def _in_suspense(attempted: Attempted, reason: str) -> Outcome:
    """Look again a late horizon later, though all is well, and ask a person after the patience."""
    if attempted.age_seconds > attempted.policy.patience_seconds:
        reason = f"{reason}, for longer than patience_seconds"
        return park(attempted, reason, ReasonKind.WAITED)
    horizon = attempted.policy.late_horizon_seconds
    return attempted.outcome(CaseState.SETTLING, reason, delay_seconds=horizon, clean=True)


def _nova_may_go_on(attempted: Attempted) -> bool:
    """Tell whether Nova began the detach that the case is about, and has not said how it ended.

    A detach that is slow can outlast two looks at which all is as it was before.
    """
    case = attempted.case
    attached = attempted.diagnosis.verdict is Verdict.HEALTHY
    detach = case.operation is Operation.DETACH and case.trigger is not Trigger.ERROR
    return attached and detach and case.nova_is_at_it


def _heart_beats(attempted: Attempted) -> bool:
    s = attempted.diagnosis.situation
    return s is not None and s.volume.service_up


def _unused(attempted: Attempted, reason: str) -> tuple[Announcement, ...]:
    """Announce an error for a start that led to nothing, also for one before a crash."""
    case = attempted.case
    announced_before = case.first_clean_at is not None and not attempted.started
    if announced_before or not (attempted.started or intents.since_recovered(case)):
        return ()
    return (attempted.announcement(Event.ERROR, reason),)


def _recovered(attempted: Attempted) -> Outcome:
    """Announce the end, unless a call may still take the disk from the next server."""
    reason, verified_by = attempted.diagnosis.reason, _verified_by(attempted.diagnosis)
    horizon = attempted.policy.late_horizon_seconds
    # Due, not settling: the end is yet to be announced, and settling says that it was.
    if left := intents.terminating_seconds(attempted.case, horizon, attempted.now):
        not_yet = f"{reason}; but a call that gave no answer may still act"
        return attempted.outcome(CaseState.DUE, not_yet, delay_seconds=left)
    return attempted.outcome(
        CaseState.SETTLING,
        reason,
        delay_seconds=attempted.policy.late_horizon_seconds,
        mended=True,
        clean=True,
        verified_by=verified_by,
        announcements=(
            *_start_not_told(attempted),
            attempted.announcement(Event.END, reason, verified_by),
        ),
    )


def _start_not_told(attempted: Attempted) -> tuple[Announcement, ...]:
    """Announce the start with the end, where the attempt did not."""
    if not attempted.case.failures_were_told:
        return ()
    return (attempted.announcement(Event.START, "what had failed was tried again"),)


def _verified_by(diagnosis: Diagnosis) -> VerifiedBy | None:
    """Return who showed that the backend is as the verdict says: clean, or connected."""
    s = diagnosis.situation
    if s is None:
        return None
    if diagnosis.verdict is Verdict.CLEAN:
        return VerifiedBy.DRIVER if s.blind else VerifiedBy.PROBE
    # For what is attached the backend vouches only where it shows a connection that may be of this
    # host.
    return VerifiedBy.PROBE if s.own or s.nameless else None


def endangers(diagnosis: Diagnosis) -> bool:
    """Tell whether others may get the volume, with a host let in, while the case only waits.

    It waits for an operation to end, or for a source that gives no answer. Where nobody can see who
    is let in, a record that is left says that somebody may be.
    """
    waits = diagnosis.verdict in (Verdict.IN_FLIGHT, Verdict.UNKNOWN)
    return waits and _danger(diagnosis) is not None


def _danger(diagnosis: Diagnosis) -> str | None:
    """Return in words why nobody else should get the volume that Cinder lets others have."""
    s = diagnosis.situation
    if s is None or not facts.open_to_others(s):
        return None
    if facts.somebody_let_in(s):
        return f"{DANGER}{LET_IN}"
    return f"{DANGER}{ON_RECORD}" if facts.on_record_unseen(s) else None


def _in_flight(attempted: Attempted) -> Outcome:
    if endangers(attempted.diagnosis):
        return _warn(attempted, wait)
    if _was_only_a_look(attempted):
        return _looked(attempted)
    return wait(attempted, attempted.diagnosis.reason)


def _was_only_a_look(attempted: Attempted) -> bool:
    """Tell whether a signal alone asked for this look, and no attachment is concerned.

    What Cinder does with a volume that has no attachment, as a transfer that may take days, is not
    waited for. Where the backend should be seen and cannot be, it is.
    """
    case, s = attempted.case, attempted.diagnosis.situation
    asked = case.trigger is Trigger.SIGNAL and case.first_clean_at is not None
    free = s is not None and not s.volume.attachments and (s.clean or s.blind)
    return asked and free and case.attachment_id is None and not case.intents


def _looked(attempted: Attempted) -> Outcome:
    reason = f"no attachment is concerned, and no access is known; {attempted.diagnosis.reason}"
    return attempted.outcome(CaseState.CLOSED, reason, conclusion=Conclusion.HEALTHY)


def _warn(attempted: Attempted, put_off: Callable[[Attempted, str], Outcome]) -> Outcome:
    """Wait on, and tell of the danger once."""
    reason = f"{attempted.diagnosis.reason}; {_danger(attempted.diagnosis)}"
    waiting = put_off(attempted, reason)
    waiting = dataclasses.replace(waiting, reason_kind=ReasonKind.DANGER)
    parked_now = waiting.state is CaseState.PARKED and not waiting.held
    if parked_now or ReasonKind.DANGER in attempted.case.told:
        return waiting
    told = waiting.announcements or (attempted.announcement(Event.ERROR, waiting.reason),)
    return dataclasses.replace(waiting, announcements=told)


def wait(attempted: Attempted, reason: str, delay_seconds: float | None = None) -> Outcome:
    """Return the outcome of an attempt that may not act yet and did not fail."""
    policy, case = attempted.policy, attempted.case
    asked = case.state is CaseState.AWAITING_APPROVAL  # for as long as its person takes
    if attempted.age_seconds > policy.patience_seconds and not asked:
        reason = f"{reason}, for longer than patience_seconds"
        return park(attempted, reason, ReasonKind.WAITED)
    # Linear, without jitter: nothing failed, and what is waited for ends at its own time.
    growing = min(policy.retry_backoff_seconds * case.attempts, policy.retry_backoff_max_seconds)
    delay = growing if delay_seconds is None else delay_seconds
    return attempted.outcome(CaseState.DUE, reason, delay_seconds=delay)


def stopping(attempted: Attempted) -> Outcome:
    """Return the outcome of an attempt that the stop of the service cut short."""
    return attempted.outcome(CaseState.DUE, "the service is stopping", delay_seconds=0.0)


def later(attempted: Attempted, reason: str, *, at_least: float | None = None) -> Outcome:
    """Return the outcome of a failed attempt: due after a backoff, or parked after the last one."""
    failures = attempted.case.failures + 1
    if failures >= attempted.policy.max_failures:
        reason = f"{reason} (after {attempted.policy.max_failures} attempts)"
        return park(attempted, reason, ReasonKind.FAILED)
    error = (attempted.announcement(Event.ERROR, reason),) if attempted.started else ()
    parked = attempted.case.state is CaseState.PARKED
    return attempted.outcome(
        CaseState.DUE,
        reason,
        reason_kind=ReasonKind.FAILED if parked and error else None,
        delay_seconds=max(retry.delay_seconds(failures, attempted.policy), at_least or 0.0),
        failed=True,
        announcements=error,
    )


def park(
    attempted: Attempted, reason: str, kind: ReasonKind, fingerprint: str | None = None
) -> Outcome:
    """Return the outcome that hands the case to a person, or leaves it where a person has it.

    One cause is one parked case: a case that has done nothing and would be parked for the same as
    another one of its attachment or volume ends as joined to it.
    """
    if (other := _stands_for_it(attempted)) is not None:
        told_by = f"{reason}; case {other} is parked for the same"
        return attempted.outcome(CaseState.CLOSED, told_by, conclusion=Conclusion.JOINED)
    error = (attempted.announcement(Event.ERROR, reason),) if attempted.started else ()
    parked = (attempted.announcement(Event.PARKED, reason),)
    told = _was_told(attempted, reason, kind)
    return attempted.outcome(
        CaseState.PARKED,
        reason,
        delay_seconds=_seconds_to_next_look(attempted),
        failed=True,
        fingerprint=fingerprint,
        held=told,
        reason_kind=None if told and not error else kind,
        announcements=error if told else error + parked,
    )


def _stands_for_it(attempted: Attempted) -> str | None:
    """Return the id of the parked case that tells the same of the same attachment or volume.

    A case of a detach is joined to none of an attach, which does not know of the wish.
    """
    case = attempted.case
    if case.state is CaseState.PARKED or case.intents:
        return None
    wish = case.operation is Operation.DETACH and not case.end_seen
    parked = (other for other in case.beside if other.state is CaseState.PARKED)
    stand = (p for p in parked if p.operation is Operation.DETACH or not wish)
    return next((p.case_id for p in stand if _tells_the_same(attempted, p)), None)


def _tells_the_same(attempted: Attempted, parked: OtherCase) -> bool:
    """Tell whether a person was told of it: of this row, of the volume, or of the one left over."""
    case, diagnosis = attempted.case, attempted.diagnosis
    s = diagnosis.situation
    if diagnosis.rule == LEFT_OVER and s is not None:
        return parked.attachment_id in facts.left_over(s) or parked.reason == diagnosis.reason
    if parked.rule != diagnosis.rule:
        return False
    if diagnosis.rule in OF_THE_VOLUME:
        return parked.reason == diagnosis.reason
    return case.attachment_id is not None and parked.attachment_id == case.attachment_id


def _was_told(attempted: Attempted, reason: str, kind: ReasonKind) -> bool:
    """Tell whether the case is parked already, and this look shows nothing else to decide.

    Another guard is something else, and so is a refusal. The text of a failure differs each time,
    as it has the request's id.
    """
    case, diagnosis = attempted.case, attempted.diagnosis
    if case.state is not CaseState.PARKED:
        return False
    if diagnosis.verdict not in ACTING and diagnosis.verdict is not Verdict.PARK:
        return True
    told = kind in (ReasonKind.FAILED, ReasonKind.WAITED) or kind in case.told
    other_guard = kind is ReasonKind.GUARD and reason != case.reason
    return diagnosis.rule == case.rule and told and not other_guard


def _seconds_to_next_look(attempted: Attempted) -> float | None:
    """Return when a case that a person has is looked at again: the older it is, the later.

    One that may have killed the process is not: it would do so again.
    """
    shortest = attempted.policy.parked_look_seconds
    if shortest <= 0 or attempted.diagnosis.rule == CRASHES:
        return None
    return max(shortest, min(attempted.age_seconds / PARKED_LOOKS_PER_AGE, LONGEST_PARKED_SECONDS))


def ask(attempted: Attempted, reason: str, fingerprint: str) -> Outcome:
    """Return the outcome that waits for a person's approval of the plan with this fingerprint.

    A recovery that was begun, and now needs another plan's approval, is announced as an error: who
    heard of its start would wait for its end.
    """
    asked_before = attempted.case.state is CaseState.AWAITING_APPROVAL and not attempted.started
    return attempted.outcome(
        CaseState.AWAITING_APPROVAL,
        reason,
        delay_seconds=_seconds_to_next_look(attempted),
        fingerprint=fingerprint,
        reason_kind=ReasonKind.GUARD,
        announcements=() if asked_before else _unused(attempted, reason),
    )
