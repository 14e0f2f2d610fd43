"""What an attempt comes to that could not settle it: later, later still, or a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from handlers.case import CaseState, Conclusion, OtherCase, ReasonKind
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Operation
from handlers.recovery import conclusion
from tests.unit.handlers.judgement.acting_pictures import ATTACHED, ROW_LEFT, UC1, UC5
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    OPENED_AT,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    attachment,
    beside,
    server,
)
from tests.unit.handlers.judgement.writer_pictures import TWO
from tests.unit.handlers.recovery.test_conclusion import BUSY, attempted, concluded, events

# -- waiting ---------------------------------------------------------------------------------------

UNCLEAR = ATTACHED.but(
    attachment_id=None,
    instance_id=None,
    operation=Operation.DETACH,
    attachments=(attachment(A), attachment(B, "attached", Y)),
)
"""A detach of one of two servers, and no message said of which."""


@pytest.mark.parametrize(
    ("other", "waits"),
    [
        (beside(A), True),
        (beside(A, state=CaseState.SETTLING), True),
        (beside(A, state=CaseState.WAITING), False),
        (beside(A, state=CaseState.PARKED), False),
        (beside(None), False),
        (None, False),
    ],
    ids=["at work", "settles", "waits for its end", "parked", "knows none either", "no other"],
)
def test_what_is_not_clear_waits_for_the_cases_that_are(
    other: OtherCase | None, waits: bool
) -> None:
    """Several rows may be meant, and another case works on one of them -> no person yet."""
    outcome = concluded(UNCLEAR.but(beside=(other,) if other else ()))
    assert outcome.rule == "P3.ambiguous"
    assert (outcome.state, events(outcome)) == (
        (CaseState.DUE, []) if waits else (CaseState.PARKED, ["parked"])
    )


def test_what_was_begun_and_is_not_clear_any_more_is_told_at_once() -> None:
    """The same after the attempt announced its start -> its error, and a person."""
    begun = concluded(UNCLEAR.but(beside=(beside(A),)), started=True)
    assert (begun.state, events(begun)) == (CaseState.PARKED, ["error", "parked"])


def test_what_is_not_clear_waits_no_longer_than_the_patience() -> None:
    """A day later the other case still works on it -> a person."""
    late = concluded(UNCLEAR.but(beside=(beside(A),)), now=OPENED_AT + timedelta(days=2))
    assert (late.state, events(late)) == (CaseState.PARKED, ["parked"])


def test_what_is_in_flight_is_looked_at_later_and_is_no_failure() -> None:
    """Somebody else is at work -> due again, later and later, not counted as failed."""
    delays = [concluded(BUSY.but(attempts=n)).delay_seconds for n in (1, 2, 10, 1000)]
    assert delays == [30, 60, 300, 1800]
    outcome = concluded(BUSY)
    assert (outcome.state, outcome.failed, outcome.clean) == (CaseState.DUE, False, False)
    assert events(outcome) == []


def test_what_is_in_flight_for_longer_than_the_patience_is_parked() -> None:
    """A day later it still is -> a person."""
    outcome = concluded(BUSY, now=OPENED_AT + timedelta(days=1, seconds=1))
    assert outcome.state is CaseState.PARKED
    assert "longer than patience" in outcome.reason
    assert events(outcome) == ["parked"]


def test_danger_is_told_once_while_the_case_waits() -> None:
    """A leak on a free volume, its compute down -> it waits, and an error tells so, once."""
    leak = UC5.but(servers=(server(X, compute_up=False),))
    outcome = concluded(leak)
    assert (outcome.state, outcome.failed, events(outcome)) == (CaseState.DUE, False, ["error"])
    assert "danger" in outcome.announcements[0].payload["reason"]
    again = concluded(leak.but(told=(outcome.reason_kind,)))
    assert (again.state, events(again)) == (CaseState.DUE, [])
    later = OPENED_AT + timedelta(days=1, seconds=1)
    assert events(concluded(leak.but(told=(outcome.reason_kind,)), now=later)) == ["parked"]


def test_danger_is_told_while_nova_does_not_answer() -> None:
    """The same while Nova is down -> the tries go on, and the danger does not wait for the last."""
    leak = UC5.but(servers=(), unseen=(X,))
    outcome = concluded(leak)
    assert (outcome.rule, outcome.state) == ("X2.nova-unknown", CaseState.DUE)
    assert (outcome.failed, events(outcome)) == (True, ["error"])
    assert "danger" in outcome.announcements[0].payload["reason"]
    assert events(concluded(leak.but(told=(outcome.reason_kind,)))) == []
    assert events(concluded(leak.but(status="in-use"))) == []
    last = leak.but(failures=BackendPolicy().max_failures - 1)
    assert events(concluded(last)) == ["parked"]


RESET = ATTACHED.but(status="available", attachments=())
"""A person reset the volume of a server, which still names it."""
DOWN = {"servers": (server(X, A, compute_up=False),)}


@pytest.mark.parametrize(
    "picture",
    [
        RESET.but(backend=BLIND, **DOWN),
        RESET.but(backend=BLIND, servers=(server(X, A, task_state="rebuilding"),)),
        RESET.but(backend=UNSEEN),
        ATTACHED.but(status="available", backend=BLIND, servers=(), unseen=(X,)),
        ATTACHED.but(status="available", backend=BLIND, servers=(server(X, compute_up=False),)),
        ATTACHED.but(status="awaiting-transfer", backend=BLIND, **DOWN),
    ],
    ids=["down", "evacuated", "array down", "Nova down, a row left", "a row left", "transfer"],
)
def test_danger_that_nobody_can_see_is_told_while_the_case_waits(picture: Picture) -> None:
    """A free volume that a record of Nova's or Cinder's still names -> it waits, and is told."""
    outcome = concluded(picture)
    assert (outcome.state, events(outcome)) == (CaseState.DUE, ["error"])
    assert "a record is left" in outcome.announcements[0].payload["reason"]
    assert "lets a host in" not in outcome.reason
    assert events(concluded(picture.but(told=(outcome.reason_kind,)))) == []


@pytest.mark.parametrize(
    "picture",
    [
        RESET.but(backend=(), **DOWN),
        RESET.but(status="in-use", backend=BLIND, **DOWN),
        RESET.but(backend=BLIND, migration="migrating"),
        Picture(backend=BLIND, servers=(), unseen=(X,)),
        ROW_LEFT.but(
            backend=BLIND, attachments=(attachment(A, "error_attaching"),), servers=(), unseen=(X,)
        ),
    ],
    ids=["nobody is let in", "kept", "Cinder is at it", "no record", "an attach in error"],
)
def test_no_danger_is_told_of_what_nothing_shows(picture: Picture) -> None:
    """Seen to be free, kept, or of no record -> it waits, and nobody is told."""
    outcome = concluded(picture)
    assert (outcome.state, events(outcome)) == (CaseState.DUE, [])


def test_what_nobody_is_let_in_to_or_nobody_can_get_is_no_danger() -> None:
    """The compute is down, and the volume is kept, or nobody is let in -> nothing is told."""
    down = (server(X, compute_up=False),)
    for picture in (UC1.but(servers=down), BUSY, UC5.but(status="in-use", servers=down)):
        assert events(concluded(picture)) == []


def test_a_wait_of_known_length_is_waited_for() -> None:
    """A guard knows how long it holds -> due then."""
    assert conclusion.wait(attempted(UC1), "a reason", 77.0).delay_seconds == 77.0


def test_the_stopping_service_leaves_the_case_due_at_once() -> None:
    """Stopped in the middle -> due now, not failed."""
    outcome = conclusion.stopping(attempted(UC1))
    assert (outcome.state, outcome.delay_seconds, outcome.failed) == (CaseState.DUE, 0.0, False)


# -- failing ---------------------------------------------------------------------------------------


def test_what_is_unknown_is_tried_again_after_a_backoff() -> None:
    """The backend was not seen -> due again, counted as failed, no announcement without a start."""
    outcome = concluded(UC1.but(backend=UNSEEN))
    assert (outcome.state, outcome.failed) == (CaseState.DUE, True)
    assert outcome.delay_seconds is not None
    assert 3 <= outcome.delay_seconds <= 30
    assert events(outcome) == []


def test_a_failed_attempt_that_had_started_says_so() -> None:
    """Started, then failed -> error."""
    outcome = conclusion.later(attempted(UC1, started=True), "no answer")
    assert events(outcome) == ["error"]
    assert outcome.reason == "no answer"


def test_the_budget_of_failures_is_bounded() -> None:
    """The eighth failure -> parked, looked at again in an hour; the seventh -> once more."""
    assert conclusion.later(attempted(UC1.but(failures=6)), "no").state is CaseState.DUE
    outcome = conclusion.later(attempted(UC1.but(failures=7)), "no answer")
    assert outcome.state is CaseState.PARKED
    assert "after 8 attempts" in outcome.reason
    assert outcome.delay_seconds == 3600.0


def test_another_text_of_the_same_failure_is_no_news() -> None:
    """A parked case fails on, with another request id in the error -> not parked anew."""
    told = {"rule": UC1.diagnosis.rule, "reason": "500 (req-1) (after 8 attempts)"}
    parked = UC1.but(state=CaseState.PARKED, failures=8, told=(ReasonKind.FAILED,), **told)
    outcome = conclusion.later(attempted(parked), "500 (req-2)")
    assert (outcome.state, outcome.held, events(outcome)) == (CaseState.PARKED, True, [])


def test_a_failure_waits_at_least_as_long_as_its_guard() -> None:
    """A call of ours may still act for 300 s -> not before."""
    delay = conclusion.later(attempted(UC1), "no answer", at_least=300.0).delay_seconds
    assert delay == 300.0


# -- a person --------------------------------------------------------------------------------------


def test_a_verdict_for_a_person_parks() -> None:
    """A rule that parks -> parked, announced, with the evidence, and looked at again."""
    outcome = concluded(ATTACHED.but(status="available"))
    assert (outcome.state, outcome.delay_seconds) == (CaseState.PARKED, 3600.0)
    assert outcome.rule == "P6.guest-holds"
    assert outcome.evidence == {"a": "look"}
    assert events(outcome) == ["parked"]


def test_parking_what_had_started_ends_the_start_too() -> None:
    """Started, then parked -> error, then parked."""
    outcome = conclusion.park(attempted(UC1, started=True), "refused", ReasonKind.REFUSED, "mark")
    assert events(outcome) == ["error", "parked"]
    assert outcome.fingerprint == "mark"


def test_asking_for_approval_keeps_the_plan_s_fingerprint() -> None:
    """Mode approve -> awaiting approval of that plan, no announcement."""
    outcome = conclusion.ask(attempted(UC1), "please", "mark")
    assert outcome.state is CaseState.AWAITING_APPROVAL
    assert (outcome.fingerprint, outcome.delay_seconds) == ("mark", 3600.0)
    assert events(outcome) == []


DUE = CaseState.DUE


@pytest.mark.parametrize(
    ("told", "joined"),
    [
        ({"rule": "P15.two-writers", "reason": TWO.diagnosis.reason}, True),
        ({"rule": "P15.two-writers", "reason": "critical: (compute-1 and compute-9)"}, False),
        ({"rule": "P18.open-to-others", "reason": TWO.diagnosis.reason}, False),
        ({"rule": "P15.two-writers", "reason": TWO.diagnosis.reason, "state": DUE}, False),
    ],
    ids=["the same hosts", "other hosts", "another rule", "not parked yet"],
)
def test_danger_of_the_volume_is_told_by_one_case(told: dict[str, Any], joined: bool) -> None:
    """A case of another attachment is parked for the same danger of the volume -> joined to it."""
    other = beside("another", **{"state": CaseState.PARKED} | told)
    outcome = concluded(TWO.but(beside=(other,)))
    assert (outcome.conclusion is Conclusion.JOINED) is joined


def test_a_wish_to_detach_is_joined_to_no_attach() -> None:
    """The other parked case is of an attach, and the end of this detach was not heard -> both."""
    told = {"rule": "P15.two-writers", "reason": TWO.diagnosis.reason, "state": CaseState.PARKED}
    attach = beside("another", Operation.ATTACH, **told)
    detach = TWO.but(operation=Operation.DETACH, beside=(attach,))
    assert concluded(detach).state is CaseState.PARKED
    assert concluded(detach.but(end_seen=True)).conclusion is Conclusion.JOINED
