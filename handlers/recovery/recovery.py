"""One attempt at one case: look, decide, act, look again. Its result is an outcome.

An attempt has a few rounds. Each round looks at all three sides and asks the decision table. Where
a rule asks for steps and no guard objects, the round makes the steps; the next round looks at the
result.

1. Every write is recorded before it is made, with a lease that outlasts it.
2. Between the record and the call, the three sides are read and the table is asked once more.
3. Nothing is parked, and no danger told, on one look: a second look must give the same reason.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from drivers.base import StorageDriver
from drivers.control_plane import Cinder, Nova
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    PermanentError,
    TransientError,
)
from handlers import intents
from handlers.brakes import BrakedError, Spending
from handlers.case import Case, CaseFile, CaseState, Outcome, ReasonKind
from handlers.counting import Braked, Counted, Guarded, uncounted
from handlers.judgement.diagnosis import condemn
from handlers.judgement.evidence import Evidence, Unknown
from handlers.judgement.guards import PARKS, Becomes, Objection
from handlers.judgement.plan import of_one_round
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import ACTING, Diagnosis, Verdict
from handlers.judgement.situation import Situation
from handlers.recovery import conclusion
from handlers.recovery.attempt import Attempt, Plan
from handlers.recovery.conclusion import Attempted
from handlers.recovery.looking import Viewer
from handlers.recovery.steps import Calls, EvidenceChangedError, Stepper

ROUNDS = 6
SETBACKS = 2
SECOND_LOOK_SECONDS = 1.0
SHORTEST_BRAKE_SECONDS = 30.0
"""How long a plan waits at least that a brake holds back: each wait costs a look."""
NOT_LOOKED = Evidence(Unknown("not looked at"))


class Recovery:
    """Works cases, one attempt at a time. Thread-safe: it keeps nothing between attempts."""

    def __init__(
        self,
        cinder: Cinder,
        nova: Nova,
        driver_of: Callable[[str], StorageDriver],
        policy_of: Callable[[str], BackendPolicy],
        *,
        stop: threading.Event | None = None,
        paused: Callable[[str], bool] = lambda _: False,
        count: Callable[[Counted], None] = uncounted,
    ) -> None:
        self._viewer = Viewer(cinder, nova, driver_of, policy_of, stop or threading.Event(), count)
        self._stepper = Stepper(self._viewer, Calls(cinder, nova, driver_of), paused)

    def attempt(self, file: CaseFile) -> Outcome:
        """Make one attempt at the case and return its outcome.

        Blocks for all looks, calls and pauses of the attempt; the stop event ends it before its
        next write. Raises ClaimLostError, PausedError and CrowdedError from the case file; nothing
        for an outside failure: that is an outcome.
        """
        case = file.case
        policy = self._viewer.policy_of(case.backend or "")
        attempt = Attempt(file, case, policy, time.monotonic())
        # Before any look: it may be the look itself that kills the process each time.
        if (condemned := condemn(case)) is not None:
            return conclusion.conclude(attempt.came_to(NOT_LOOKED, condemned))
        for _ in range(ROUNDS):
            outcome = self._round(attempt)
            if outcome is not None:
                return outcome
        return self._out_of_rounds(attempt)

    def _round(self, attempt: Attempt) -> Outcome | None:
        """Look, decide and act once. None: look again."""
        evidence, diagnosis = self._viewer.look(attempt)
        # A single look may have caught Cinder and Nova between two writes of one healthy operation.
        told = diagnosis.verdict is Verdict.PARK or conclusion.endangers(diagnosis)
        if told and not self._confirmed(attempt, diagnosis.rule):
            return None
        if diagnosis.verdict not in ACTING or diagnosis.situation is None:
            return self._conclude(attempt, evidence, diagnosis)
        return self._carry_out(attempt, evidence, diagnosis, diagnosis.situation)

    def _out_of_rounds(self, attempt: Attempt) -> Outcome:
        evidence, diagnosis = self._viewer.look(attempt)
        if diagnosis.verdict in ACTING or diagnosis.verdict is Verdict.PARK:
            return conclusion.later(
                attempt.came_to(evidence, diagnosis),
                attempt.trouble or "the situation did not settle within one attempt",
            )
        return self._conclude(attempt, evidence, diagnosis)

    def _conclude(self, attempt: Attempt, evidence: Evidence, diagnosis: Diagnosis) -> Outcome:
        """Come to the outcome of a look that asks for no step.

        An end may be announced with it, and none is while a detach may act that began since.
        """
        if attempt.case.intents:
            attempt.hear_of_late_calls()
        return conclusion.conclude(attempt.came_to(evidence, diagnosis))

    def _confirmed(self, attempt: Attempt, reason: str) -> bool:
        """Tell whether two looks in a row gave this reason to park; after the first, pause."""
        confirmed, attempt.parked_by = attempt.parked_by == reason, reason
        if not confirmed:
            self._viewer.stop.wait(min(SECOND_LOOK_SECONDS, attempt.policy.try_backoff_seconds))
        return confirmed

    def _carry_out(
        self, attempt: Attempt, evidence: Evidence, diagnosis: Diagnosis, s: Situation
    ) -> Outcome | None:
        capabilities = self._viewer.driver_of(s.volume.ref.backend).capabilities
        # One more query of the ledger, so only where something may be under way. A step that must
        # wait for it reads it once more before its call (``Stepper``).
        if attempt.case.late.asked_at is not None or attempt.case.intents:
            attempt.hear_of_late_calls()
        steps, judged = attempt.judge(
            diagnosis, s, capabilities, self._viewer.cinder.has_service_token
        )
        attempted, mark = attempt.came_to(evidence, diagnosis, steps, judged), judged.fingerprint
        if judged.objections:
            return self._object(attempt, attempted, judged.objections[0], mark)
        refused = [attempt.refused[step.kind] for step in steps if step.kind in attempt.refused]
        if refused:
            return conclusion.park(attempted, refused[0], ReasonKind.REFUSED, mark)
        if _was_refused(attempt.case, mark):
            again = f"{diagnosis.reason}; a call of this plan was refused for good"
            return conclusion.park(attempted, again, ReasonKind.REFUSED, mark)
        attempt.parked_by = None
        plan = Plan(diagnosis, s, of_one_round(steps), attempted)
        return self._braked(attempt, plan, mark) or self._try_steps(attempt, plan)

    def _object(
        self, attempt: Attempt, attempted: Attempted, objection: Objection, mark: str
    ) -> Outcome | None:
        blocking = objection.guard
        # Under the guard's name, not the rule's: two looks must find the same obstacle.
        if blocking in PARKS and not self._confirmed(attempt, blocking.name):
            return None
        self._viewer.count(Guarded(blocking.name.lower()))
        reason = f"{attempted.diagnosis.reason}; {blocking.sentence}"
        if blocking.becomes is Becomes.ASKED:
            return conclusion.ask(attempted, reason, mark)
        if blocking in PARKS:
            return conclusion.park(attempted, reason, ReasonKind.GUARD, mark)
        if attempt.trouble is not None:
            return conclusion.later(attempted, attempt.trouble, at_least=objection.wait_seconds)
        return conclusion.wait(attempted, reason, objection.wait_seconds)

    def _braked(self, attempt: Attempt, plan: Plan, mark: str) -> Outcome | None:
        """Count a plan before its first write; return the outcome if a brake holds it back.

        One that was begun is held by the breaker alone, and one that a person has approved by
        none: a person is a brake too.
        """
        if attempt.case.approved_fingerprint == mark:
            return None
        volume, target = plan.situation.volume, plan.steps[0].target()
        try:
            attempt.file.spend(
                Spending(
                    volume.ref.backend,
                    target.get("host"),
                    volume.project_id,
                    begun=_begun(attempt.case),
                )
            )
        except BrakedError as braked:
            held = braked.held
            self._viewer.count(Braked(held.scope.value, held.words))
            seconds = max(held.wait_seconds, SHORTEST_BRAKE_SECONDS)
            # So that what one brake holds back does not come back together.
            seconds *= random.uniform(1.0, 1.5)  # noqa: S311 - jitter is no secret
            return conclusion.wait(
                plan.attempted, f"{plan.diagnosis.reason}; {held.words}", seconds
            )
        return None

    def _try_steps(self, attempt: Attempt, plan: Plan) -> Outcome | None:
        """Make the steps in order. None: look at what came of them."""
        try:
            for step in plan.steps:
                if self._viewer.stop.is_set():
                    return conclusion.stopping(attempt.updated(plan.attempted))
                self._stepper.make(attempt, plan, step)
        except (EvidenceChangedError, ConflictError, IndeterminateError, NotFoundError) as error:
            attempt.trouble = str(error)
            # What was seen has changed, or the call may have acted. Both ask for another look, not
            # for the same call again.
            attempt.setbacks += 1
            if attempt.setbacks >= SETBACKS:
                return conclusion.later(attempt.updated(plan.attempted), attempt.trouble)
        except TransientError as error:
            asked = min(error.retry_after_seconds, attempt.policy.retry_backoff_max_seconds)
            return conclusion.later(attempt.updated(plan.attempted), str(error), at_least=asked)
        except PermanentError as error:
            # What the call asked for may be true all the same: look before a person is asked.
            attempt.refused[attempt.case.intents[-1].kind] = str(error)
        return None


def _begun(case: Case) -> bool:
    """Tell whether a write of this round was made, or may have been: it is carried on."""
    return bool(intents.may_have_acted(intents.since_recovered(case)))


def _was_refused(case: Case, mark: str) -> bool:
    """Tell whether the case is parked because a call of this very plan was refused for good.

    It is not made again at each look: a person's replay makes it.
    """
    parked = case.state is CaseState.PARKED and case.fingerprint == mark
    return parked and ReasonKind.REFUSED in case.told


__all__ = ["EvidenceChangedError", "Recovery"]
