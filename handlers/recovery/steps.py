"""One step of a plan: record the intent, look once more, make the call, record its result.

1. No call is made without a recorded intent and a lease that outlasts it.
2. No call is made, and none is repeated, on evidence older than one look.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import assert_never

from drivers.base import Connector, StorageDriver, VolumeRef
from drivers.control_plane import Cinder, Nova
from drivers.errors import IndeterminateError, OutsideError, PermanentError, TransientError
from handlers import intents
from handlers.announcement import Event
from handlers.case import Intent, StepKind, StepResult
from handlers.counting import Stepped
from handlers.judgement.evidence import MOST_HOSTS, Fact
from handlers.judgement.guards import LETS_OTHERS_ATTACH, WAITS_FOR_DETACHES, Guard
from handlers.judgement.plan import Step, unmet
from handlers.judgement.policy import Mode
from handlers.recovery.attempt import Attempt, Plan
from handlers.recovery.looking import Viewer
from handlers.recovery.retry import repeat
from handlers.recovery.summary import grounds


@dataclasses.dataclass(frozen=True, slots=True)
class Calls:
    """The systems on which a step can act."""

    cinder: Cinder
    nova: Nova
    driver_of: Callable[[str], StorageDriver]

    def make(self, step: Step, ref: VolumeRef, *, request_id: str, timeout_seconds: float) -> None:
        """Make the call of ``step``. Blocks for at most ``timeout_seconds``.

        Raises the kinds of ``drivers.errors``. Repeating it does no harm: that is each call's own
        contract.
        """
        if step.kind is StepKind.BACKEND_FORCE_DETACH:
            self.driver_of(ref.backend).force_detach(
                ref, step.attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )
        elif step.kind is StepKind.NOVA_DETACH:
            self.nova.detach(
                _required(step.attachment.instance_id, "instance"),
                ref.volume_id,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
        else:
            self._ask_cinder(step, request_id, timeout_seconds)

    def _ask_cinder(self, step: Step, request_id: str, timeout_seconds: float) -> None:
        cinder, on, limit = self.cinder, step.attachment, timeout_seconds
        match step.kind:
            case StepKind.CINDER_RESERVE:
                cinder.reserve(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_UNRESERVE:
                cinder.unreserve(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_ROLL_DETACHING:
                cinder.roll_detaching(on.volume_id, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_COMPLETE:
                attachment = _required(on.attachment_id, "attachment")
                cinder.complete(attachment, request_id=request_id, timeout_seconds=limit)
            case StepKind.CINDER_DELETE_ATTACHMENT:
                attachment = _required(on.attachment_id, "attachment")
                cinder.delete_attachment(
                    attachment,
                    request_id=request_id,
                    timeout_seconds=limit,
                    service_token=step.service_token,
                )
            case StepKind.CINDER_FORCE_DETACH:
                cinder.force_detach(
                    on.volume_id,
                    on.attachment_id,
                    _connector(on.connector),
                    request_id=request_id,
                    timeout_seconds=limit,
                    service_token=step.service_token,
                )
            case StepKind.BACKEND_FORCE_DETACH | StepKind.NOVA_DETACH:
                raise AssertionError(f"{step.kind} is not Cinder's")
            case _:
                assert_never(step.kind)


def _required(value: str | None, what: str) -> str:
    if value is None:
        raise PermanentError(f"no {what} is known for this step")
    return value


def _connector(connector: Connector | None) -> Connector:
    if connector is None:
        raise PermanentError("no connector is known for this step")
    return connector


POLL_SECONDS = 1.0


class EvidenceChangedError(Exception):
    """The call of a step was not made.

    The evidence changed between the plan and the call, or the service stops or is paused.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class Stepper:
    """Makes single steps, with a look before each.

    ``paused`` is asked after that look, which may take so long that a person pauses detachd
    meanwhile.
    """

    viewer: Viewer
    calls: Calls
    paused: Callable[[str], bool]

    def make(self, attempt: Attempt, plan: Plan, step: Step) -> None:
        """Write the intent, look once more before each try of the call, write down how it ended.

        Blocks for all of that, and for Nova's own detach. Raises EvidenceChangedError where the
        call was not made, else what the call raised; ClaimLostError and PausedError from the
        ledger.
        """
        policy, began = attempt.policy, time.monotonic()
        s = plan.situation
        # Two questions of each server, two of each host; one of the swaps, and one of the protocol
        # or of what else the client has.
        # The lease must outlast the look before the call too, so it is as long as the longest look
        # can be.
        lease_seconds = policy.step_seconds(len(s.servers) + MOST_HOSTS + 1)
        intent = self._intend(attempt, plan, step, lease_seconds)
        # By our own clock, from before the lease was written: the lease cannot end before this time
        # comes.
        call_by = began + lease_seconds - policy.longest_call_seconds
        # What stands here also when the thread is ended by an error that nobody foresaw: it may
        # have acted.
        result, detail = StepResult.INDETERMINATE, "interrupted"
        try:
            self._look_and_call(attempt, plan, step, intent.request_id, call_by)
            result, detail = StepResult.DONE, ""
        except EvidenceChangedError as error:
            result, detail = StepResult.WITHHELD, str(error)
            raise
        except OutsideError as error:
            result, detail = _result_of(error), str(error)
            raise
        finally:
            seconds = time.monotonic() - began
            self.viewer.count(Stepped(step.kind.value, result.value, seconds))
            attempt.note(intent, result)
            attempt.file.result(intent.request_id, result, detail)
        if step.kind is StepKind.NOVA_DETACH:
            self._await_nova(attempt)

    def _intend(self, attempt: Attempt, plan: Plan, step: Step, lease_seconds: float) -> Intent:
        intent = Intent(
            kind=step.kind,
            result=StepResult.INTENDED,
            request_id=f"req-{uuid.uuid4()}",
            attempt=attempt.case.attempts,
            attachment_id=step.attachment.attachment_id,
            intended_at=attempt.now,
            grounds=grounds(plan.attempted.evidence),
        )
        start = (
            None
            if attempt.started or attempt.case.failures_were_told
            else plan.attempted.announcement(Event.START, plan.diagnosis.reason)
        )
        attempt.file.intend(
            intent.kind,
            request_id=intent.request_id,
            target=step.target(),
            evidence=plan.attempted.evidence,
            lease_seconds=lease_seconds,
            announcement=start,
        )
        # Only once the intent is committed, as the announcement went with it.
        attempt.started = not attempt.case.failures_were_told
        attempt.case = attempt.case.about(step.target())
        return intent

    def _look_before_call(self, attempt: Attempt, plan: Plan, step: Step, call_by: float) -> None:
        _, now = self.viewer.look(attempt)
        # A person may have protected the volume since the plan was made.
        if now.situation is not None and attempt.policy.protects(now.situation.volume):
            raise EvidenceChangedError(Guard.PROTECTED.sentence)
        if _only_observes(attempt):
            raise EvidenceChangedError(Guard.OBSERVE.sentence)
        reason = unmet(step, plan.diagnosis, now) or _under_way(attempt, step)
        backend = plan.situation.volume.ref.backend
        if reason := reason or self._stopped_or_late(backend, call_by):
            raise EvidenceChangedError(reason)

    def _stopped_or_late(self, backend: str, call_by: float) -> str | None:
        if self.viewer.stop.is_set():
            return "the service is stopping"
        if self.paused(backend):
            return "detachd, or this backend, is paused"
        too_late = time.monotonic() > call_by
        return (
            "so much time went by that the claim might run out during the call"
            if too_late
            else None
        )

    def _look_and_call(
        self, attempt: Attempt, plan: Plan, step: Step, request_id: str, call_by: float
    ) -> None:
        """Look and call; where the call surely did nothing, look and call again.

        Tries may lie a minute and more apart, in which the volume may have been attached anew. None
        is made after ``call_by`` (monotonic): a process that was stopped meanwhile, or a look that
        took longer than it may, leaves too little of the claim.
        """
        limit = attempt.policy.call_timeout_seconds
        ref = plan.situation.volume.ref
        # "cinder.reserve": the labels of the metric are the two parts of the step's name.
        system, _, method = step.kind.value.partition(".")

        def make() -> None:
            self.calls.make(step, ref, request_id=request_id, timeout_seconds=limit)

        def look_and_make() -> None:
            self._look_before_call(attempt, plan, step, call_by)
            self.viewer.timed(system, method, make)

        repeat(look_and_make, attempt.policy, self.viewer.stop, limit_seconds=limit)

    def _await_nova(self, attempt: Attempt) -> None:
        """Wait until Nova's own detach has left Cinder's ``detaching``, or the time is up."""
        patience = attempt.policy.nova_detach_wait_seconds
        until = time.monotonic() + patience
        while time.monotonic() < until and not self.viewer.stop.is_set():
            seen = self.viewer.look_at_volume(attempt)
            if not isinstance(seen, Fact) or seen.value.status != "detaching":
                return
            self.viewer.stop.wait(min(POLL_SECONDS, patience / 10))


def _only_observes(attempt: Attempt) -> bool:
    """Tell whether the mode is observe now: it may have been set since the plan was made."""
    return attempt.policy.mode is Mode.OBSERVE


def _under_way(attempt: Attempt, step: Step) -> str | None:
    """Return why the step must wait for a call that began, or still hangs, since the claim.

    No look shows it: such a call acts after the look. The guards of the next round see what was
    read here.
    """
    if step.kind not in WAITS_FOR_DETACHES:
        return None
    attempt.hear_of_late_calls()
    horizon_seconds = attempt.policy.late_horizon_seconds
    if intents.detach_seconds(attempt.case, horizon_seconds, attempt.now) > 0:
        return Guard.LATE_DETACH.sentence
    own_seconds = intents.own_call_seconds(attempt.case, horizon_seconds, attempt.now)
    waits = step.kind in LETS_OTHERS_ATTACH and own_seconds > 0
    return Guard.OWN_CALL_UNANSWERED.sentence if waits else None


def _result_of(error: OutsideError) -> StepResult:
    if isinstance(error, IndeterminateError):
        return StepResult.INDETERMINATE
    return StepResult.TRANSIENT if isinstance(error, TransientError) else StepResult.REFUSED
