"""What an attempt comes to: when a case is closed, when it is looked at again, when a person is."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from handlers.announcement import Event
from handlers.case import (
    CaseState,
    Conclusion,
    Grounds,
    Intent,
    LateCalls,
    Outcome,
    ReasonKind,
    StepKind,
    StepResult,
    Trigger,
    UseCase,
    VerifiedBy,
)
from handlers.judgement.diagnosis import diagnose
from handlers.judgement.evidence import Absent, Evidence, Unknown
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import Verdict
from handlers.notification import Operation
from handlers.recovery import conclusion
from handlers.recovery.conclusion import Attempted
from tests.unit.handlers.judgement.acting_pictures import ATTACHED, UC1, UC2, UC4, UC5
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    NOW,
    OPENED_AT,
    UNSEEN,
    Picture,
    X,
    access,
    intent,
    server,
)

POLICY = BackendPolicy()
HORIZON = timedelta(seconds=POLICY.late_horizon_seconds)
SECOND = timedelta(seconds=1)
FORCE, NOVA_DETACH = StepKind.BACKEND_FORCE_DETACH, StepKind.NOVA_DETACH
LEAKED = Grounds("terminate", "UC5.leaked", UseCase.UC5)
CLEAN, BUSY = Picture(), UC5.but(status="backing-up")


def attempted(picture: Picture, **changes: Any) -> Attempted:
    """Return an attempt that ends with this picture."""
    known: dict[str, Any] = {
        "case": picture.case, "diagnosis": picture.diagnosis, "policy": POLICY, "now": NOW,
        "started": False, "evidence": {"a": "look"},
    }  # fmt: skip
    return Attempted(**(known | changes))


def concluded(picture: Picture, **changes: Any) -> Outcome:
    """Return what such an attempt comes to."""
    return conclusion.conclude(attempted(picture, **changes))


def events(outcome: Outcome) -> list[str]:
    """Return the last words of the announced events."""
    return [a.event_type.rpartition(".")[2] for a in outcome.announcements]


# -- closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [CLEAN, ATTACHED], ids=["clean", "healthy"])
def test_one_clean_look_closes_nothing(picture: Picture) -> None:
    """All is well for the first time -> looked at again after the horizon, nothing announced."""
    outcome = concluded(picture)
    assert outcome.state is CaseState.SETTLING
    assert outcome.delay_seconds == POLICY.late_horizon_seconds
    assert (outcome.clean, outcome.mended, outcome.failed) == (True, False, False)
    assert events(outcome) == []


@pytest.mark.parametrize("picture", [CLEAN, ATTACHED], ids=["clean", "healthy"])
def test_two_clean_looks_a_horizon_apart_close_it(picture: Picture) -> None:
    """Well a horizon ago and well now -> closed as healthy."""
    outcome = concluded(picture.but(first_clean_at=NOW - HORIZON))
    assert (outcome.state, outcome.conclusion) == (CaseState.CLOSED, Conclusion.HEALTHY)
    assert outcome.delay_seconds is None


def test_two_clean_looks_nearer_together_do_not() -> None:
    """Brought forward by a signal -> it goes on settling for what is left of the horizon."""
    outcome = concluded(CLEAN.but(first_clean_at=NOW - HORIZON + 10 * SECOND))
    assert outcome.state is CaseState.SETTLING
    assert outcome.delay_seconds == 10


def test_a_mended_case_is_closed_at_one_clean_look_a_horizon_later() -> None:
    """Mended a horizon ago, well now -> closed as mended."""
    mended = CLEAN.but(mended_at=NOW - HORIZON, first_clean_at=NOW - HORIZON, mended_attempt=1)
    outcome = concluded(mended.but(attempts=2, intents=(intent(FORCE),)))
    assert (outcome.state, outcome.conclusion) == (CaseState.CLOSED, Conclusion.MENDED)


def test_the_horizon_runs_from_the_mending_though_it_had_been_clean_before() -> None:
    """Clean, leaked again, mended just now -> the earlier clean look does not count."""
    mended = CLEAN.but(
        mended_at=NOW - SECOND, first_clean_at=NOW - 5 * HORIZON, mended_attempt=2, attempts=3
    )
    outcome = concluded(mended)
    assert outcome.state is CaseState.SETTLING
    assert outcome.delay_seconds == POLICY.late_horizon_seconds - 1


@pytest.mark.parametrize("picture", [CLEAN, ATTACHED], ids=["clean", "healthy"])
def test_nothing_is_closed_or_told_as_mended_while_a_call_may_act(picture: Picture) -> None:
    """A call without an answer, of whichever case -> neither closed nor announced until it is over.

    Whoever hears of the end uses the volume.
    """
    ago = NOW - 10 * SECOND
    done = (intent(FORCE if picture is CLEAN else StepKind.CINDER_COMPLETE),)
    for late in (LateCalls(asked_at=ago), LateCalls(detach_tried_at=ago)):
        outcome = concluded(picture.but(first_clean_at=NOW - HORIZON, late=late))
        assert (outcome.state, outcome.delay_seconds) == (CaseState.SETTLING, 320)
        outcome = concluded(picture.but(intents=done, late=late))
        assert (outcome.state, outcome.delay_seconds) == (CaseState.DUE, 320)
        assert (outcome.mended, outcome.failed, events(outcome)) == (False, False, [])
        assert "may still act" in outcome.reason
        over = concluded(picture.but(intents=done, late=late), now=NOW + HORIZON)
        assert (over.mended, events(over)) == (True, ["end"])


def test_what_was_not_clean_since_the_mending_settles_anew() -> None:
    """Mended long ago, then something was seen, now clean for the first time -> two looks again."""
    outcome = concluded(
        CLEAN.but(mended_at=NOW - 9 * HORIZON, first_clean_at=None, mended_attempt=1, attempts=5)
    )
    assert outcome.state is CaseState.SETTLING
    assert outcome.delay_seconds == POLICY.late_horizon_seconds


def test_a_frozen_cinder_volume_keeps_the_case_open_but_not_for_ever() -> None:
    """No heartbeat -> looked at a horizon later, again and again; after the patience it ends.

    A person is asked where something was done; what was always clean leaves nothing to decide.
    """
    frozen = CLEAN.but(first_clean_at=NOW - 2 * HORIZON, service_up=False)
    outcome = concluded(frozen)
    assert (outcome.state, outcome.delay_seconds) == (CaseState.SETTLING, 330.0)
    assert outcome.clean
    late = OPENED_AT + timedelta(seconds=POLICY.patience_seconds + 1)
    outcome = concluded(frozen, now=late)
    assert (outcome.state, outcome.conclusion) == (CaseState.CLOSED, Conclusion.HEALTHY)
    assert events(outcome) == []
    touched = frozen.but(intents=(intent(FORCE),), mended_at=NOW - 2 * HORIZON, mended_attempt=1)
    outcome = concluded(touched, now=late)
    assert outcome.state is CaseState.PARKED
    assert "cinder-volume" in outcome.reason


def test_a_detach_that_nova_has_not_ended_keeps_the_case_open_but_not_for_ever() -> None:
    """Nova began the detach and says no more, all is as before -> open, then for a person.

    It is closed where Nova said how the detach ended, or that it failed.
    """
    begun = ATTACHED.but(
        operation=Operation.DETACH, nova_started=True, first_clean_at=NOW - 2 * HORIZON
    )
    outcome = concluded(begun)
    assert (outcome.state, outcome.delay_seconds) == (CaseState.SETTLING, 330.0)
    assert outcome.clean
    late = OPENED_AT + timedelta(seconds=POLICY.patience_seconds + 1)
    outcome = concluded(begun, now=late)
    assert (outcome.state, events(outcome)) == (CaseState.PARKED, ["parked"])
    assert "has not said how that ended" in outcome.reason
    for known in ({"nova_ended": True}, {"trigger": Trigger.ERROR}, {"nova_started": False}):
        assert concluded(begun.but(**known)).conclusion is Conclusion.HEALTHY
    assert concluded(begun.but(operation=Operation.ATTACH)).conclusion is Conclusion.HEALTHY


def test_a_deleted_volume_closes_the_case() -> None:
    """Cinder has no such volume -> closed as gone; a start is not left without its end."""
    gone = diagnose(CLEAN.case, Evidence(Absent("no such volume")))
    outcome = concluded(CLEAN, diagnosis=gone)
    assert (outcome.state, outcome.conclusion) == (CaseState.CLOSED, Conclusion.GONE)
    assert events(outcome) == []
    begun = CLEAN.but(intents=(intent(FORCE, StepResult.INTENDED),)).case
    assert events(concluded(CLEAN, diagnosis=gone, case=begun)) == ["error"]


# -- mended ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [StepResult.DONE, StepResult.INDETERMINATE, StepResult.INTENDED])
def test_clean_after_a_step_that_may_have_acted_is_mended(result: StepResult) -> None:
    """A step was made, or may have been, and all is well -> mended, announced, looked at again."""
    made = intent(FORCE, result, grounds=LEAKED)
    outcome = concluded(CLEAN.but(intents=(made,)))
    assert outcome.state is CaseState.SETTLING
    assert (outcome.mended, outcome.clean, outcome.conclusion) == (True, True, None)
    assert outcome.delay_seconds == POLICY.late_horizon_seconds
    assert outcome.use_case is UseCase.UC5
    assert events(outcome) == ["end"]
    payload = outcome.announcements[0].payload
    assert payload["steps"] == ["backend.force_detach"]
    acted_on = (payload["verdict"], payload["rule"], payload["use_case"])
    assert acted_on == ("terminate", "UC5.leaked", "UC5"), "not what the last look is called"


@pytest.mark.parametrize("result", [StepResult.REFUSED, StepResult.TRANSIENT, StepResult.WITHHELD])
def test_clean_after_steps_that_did_nothing_is_not_our_doing(result: StepResult) -> None:
    """Only refused or withheld steps -> well by itself; the start gets its error, once."""
    picture = CLEAN.but(intents=(intent(FORCE, result),))
    outcome = concluded(picture)
    assert not outcome.mended
    assert events(outcome) == ["error"]
    assert events(concluded(picture.but(first_clean_at=NOW - SECOND))) == []


def test_a_start_that_came_to_nothing_gets_its_error() -> None:
    """Started in this attempt, nothing done, all well -> error, and settling."""
    outcome = concluded(CLEAN.but(first_clean_at=NOW - SECOND), started=True)
    assert outcome.state is CaseState.SETTLING
    assert events(outcome) == ["error"]


def test_steps_of_before_the_mending_are_not_counted_again() -> None:
    """Mended in attempt 2 -> at attempt 3 nothing is announced a second time."""
    before = (intent(FORCE, attempt=1), intent(FORCE, attempt=2))
    picture = CLEAN.but(intents=before, mended_attempt=2, attempts=3, first_clean_at=NOW - SECOND)
    assert events(concluded(picture)) == []
    again = concluded(picture.but(intents=(*before, intent(FORCE, attempt=3))))
    assert again.mended
    assert again.announcements[0].payload["steps"] == ["backend.force_detach"]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (CLEAN, VerifiedBy.PROBE),
        (CLEAN.but(backend=BLIND), VerifiedBy.DRIVER),
        (ATTACHED, VerifiedBy.PROBE),
        (ATTACHED.but(backend=BLIND), None),
        (ATTACHED.but(backend=UNSEEN), None),
    ],
    ids=["clean", "clean, blind", "attached", "attached, blind", "attached, unseen"],
)
def test_verified_is_only_what_was_seen_or_reported(
    picture: Picture, expected: VerifiedBy | None
) -> None:
    """Who said so of the backend -> the probe, the driver, or nobody."""
    complete = intent(StepKind.CINDER_COMPLETE)
    outcome = concluded(picture.but(intents=(intent(NOVA_DETACH), complete)))
    assert outcome.mended
    assert outcome.verified_by is expected
    assert outcome.announcements[0].payload["verified_by"] == (expected and expected.value)


ROLL = StepKind.CINDER_ROLL_DETACHING


@pytest.mark.parametrize(
    "done",
    [
        (intent(ROLL),),
        (intent(ROLL), intent(NOVA_DETACH, StepResult.REFUSED)),
        (intent(ROLL), intent(NOVA_DETACH)),
        (intent(StepKind.CINDER_COMPLETE), intent(NOVA_DETACH, StepResult.REFUSED)),
        (intent(FORCE),),
    ],
    ids=["rolled", "Nova refused", "the guest refused", "completed, Nova refused", "revoked"],
)
def test_what_was_to_be_detached_and_is_attached_is_no_end(done: tuple[Intent, ...]) -> None:
    """Our last write was for a detach, and it is attached -> an error that says so, once."""
    picture = ATTACHED.but(intents=done, attempts=2)
    outcome = concluded(picture, started=True, trouble="Nova: it is suspended")
    assert (outcome.state, outcome.mended, events(outcome)) == (
        CaseState.SETTLING, False, ["error"],
    )  # fmt: skip
    assert "attached, as before" in outcome.announcements[0].payload["reason"]
    assert "Nova: it is suspended" in outcome.reason
    later = concluded(picture.but(first_clean_at=NOW - HORIZON))
    assert (later.state, later.conclusion) == (CaseState.CLOSED, Conclusion.HEALTHY)
    assert events(later) == []


def test_a_look_before_our_own_last_write_closes_nothing() -> None:
    """Well a horizon ago, then we wrote, well again -> it settles for a horizon from that write."""
    rolled = dataclasses.replace(intent(ROLL), intended_at=NOW - 10 * SECOND)
    picture = ATTACHED.but(intents=(rolled,), attempts=2, first_clean_at=NOW - 2 * HORIZON)
    outcome = concluded(picture)
    assert (outcome.state, outcome.delay_seconds) == (CaseState.SETTLING, 320)
    assert concluded(picture, now=NOW + HORIZON).state is CaseState.CLOSED


# -- what every outcome says -----------------------------------------------------------------------


def test_an_outcome_tells_what_the_look_taught() -> None:
    """The row was found -> its attachment, instance and backend are handed to the ledger."""
    outcome = concluded(UC2.but(attachment_id=None, servers=(server(task_state="x"),)))
    assert outcome.attachment_id == "attachment-a"
    assert outcome.instance_id == "instance-x"
    assert outcome.backend == "storage-1@tgt"


def test_the_use_case_acted_on_counts_before_the_last_look_s() -> None:
    """Acted on UC5, the last look is in flight -> UC5; nothing acted on -> the look's own."""
    assert concluded(BUSY.but(intents=(intent(FORCE, grounds=LEAKED),))).use_case is UseCase.UC5
    assert conclusion.park(attempted(UC1), "no", ReasonKind.RULE).use_case is UseCase.UC1


def test_a_start_names_what_is_about_to_be_done() -> None:
    """UC5 was acted on before, UC1 is about to be -> the start says UC1; a parking its own rule."""
    before = (intent(FORCE, StepResult.TRANSIENT, grounds=LEAKED),)
    start = attempted(UC1.but(intents=before)).announcement(Event.START, "why").payload
    assert (start["rule"], start["use_case"]) == (UC1.diagnosis.rule, "UC1")
    outcome = conclusion.park(attempted(BUSY.but(intents=before)), "no", ReasonKind.WAITED)
    parked = outcome.announcements[-1].payload
    assert (parked["rule"], parked["use_case"]) == (BUSY.diagnosis.rule, "UC5")


def test_without_a_volume_it_tells_nothing() -> None:
    """Cinder did not answer -> nothing was learned."""
    unknown = diagnose(UC1.case, Evidence(Unknown("Cinder: no answer")))
    outcome = concluded(UC1, diagnosis=unknown)
    assert (outcome.attachment_id, outcome.instance_id, outcome.backend) == (None, None, None)
    assert (outcome.rule, outcome.verdict) == ("X1.cinder-unknown", "unknown")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_comes_to_an_outcome(verdict: Verdict) -> None:
    """Any verdict, even one that acts -> a delay, a person or the end."""
    diagnosis = dataclasses.replace(UC4.diagnosis, verdict=verdict)
    outcome = concluded(UC4, diagnosis=diagnosis)
    assert (outcome.delay_seconds is None) is (outcome.state is CaseState.CLOSED)
    assert all(a.event_type in {e.value for e in Event} for a in outcome.announcements)


def test_nothing_but_a_clean_look_keeps_it_clean() -> None:
    """In flight, unknown or parked in between -> the clean look before does not count any more."""
    since = {"first_clean_at": NOW - SECOND}
    for picture in (BUSY, UC1.but(backend=UNSEEN), UC5.but(backend=(access(H1), access("x")))):
        assert not concluded(picture.but(**since)).clean


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"stranger": (X,)}, CaseState.CLOSED),
        ({"unseen": (X,)}, CaseState.DUE),
        ({"stranger": (X,), "attempts": 2}, CaseState.DUE),
    ],
    ids=["Nova never had its server", "Nova does not answer", "not at the second look"],
)
def test_an_end_of_a_client_that_is_not_nova_is_left_at_that(
    changes: dict[str, Any], state: CaseState
) -> None:
    """The look after an end finds a server that Nova never had -> over, and no person is asked."""
    picture = ATTACHED.but(servers=(), end_seen=True, first_clean_at=OPENED_AT, **changes)
    outcome = concluded(picture)
    assert outcome.rule == "X2.nova-unknown"
    assert outcome.state is state
    assert outcome.announcements == ()
