"""What a person decides, on each database."""

from __future__ import annotations

import pytest

from consumer.ledger import HistoryKind, Ledger, NoSuchCaseError, WrongStateError
from handlers.case import CaseState
from tests.unit.consumer.ledger.making import claim_one, due_case, outcome


def left(ledger: Ledger, state: CaseState, **more: object) -> str:
    """Make a case that an attempt left in this state; return its id."""
    case_id = due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(state, **more))
    return case_id


def test_pause_and_resume(ledger: Ledger, second: Ledger) -> None:
    """Paused in one process -> every process knows by whom and why, until it is resumed."""
    assert second.paused() is None
    ledger.pause("alice", "maintenance")
    pause = second.paused()
    assert pause is not None
    assert (pause.actor, pause.reason) == ("alice", "maintenance")
    second.resume("bob")
    assert ledger.paused() is None


def test_pause_twice(ledger: Ledger) -> None:
    """A second pause -> the first one's reason stays; one resume ends it."""
    ledger.pause("alice", "maintenance")
    ledger.pause("bob", "lunch")
    pause = ledger.paused()
    assert pause is not None
    assert pause.actor == "alice"
    ledger.resume("bob")
    ledger.resume("bob")
    assert ledger.paused() is None


def test_approve(ledger: Ledger) -> None:
    """A plan is approved -> due at once, with who said yes to which plan, and why."""
    case_id = left(ledger, CaseState.AWAITING_APPROVAL, fingerprint="plan-1")
    assert ledger.approve(case_id[:8], "alice", "checked on the array") == case_id
    line = ledger.case(case_id).history[-1]
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.APPROVED, "alice", "checked on the array",
    )  # fmt: skip
    case = claim_one(ledger).case
    assert (case.state, case.approved_by, case.approved_fingerprint) == (
        CaseState.DUE, "alice", "plan-1",
    )  # fmt: skip


def test_approval_outlives_another_plan(ledger: Ledger) -> None:
    """Another plan after the approval -> the approval still names the plan that it was for."""
    case_id = left(ledger, CaseState.AWAITING_APPROVAL, fingerprint="plan-1")
    ledger.approve(case_id, "alice", "")
    ledger.finish(claim_one(ledger), outcome(CaseState.AWAITING_APPROVAL, fingerprint="plan-2"))
    case = ledger.case(case_id).case
    assert (case.fingerprint, case.approved_by, case.approved_fingerprint) == (
        "plan-2", "alice", "plan-1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "state", [CaseState.DUE, CaseState.SETTLING, CaseState.PARKED, CaseState.CLOSED]
)
def test_approve_wrong_state(ledger: Ledger, state: CaseState) -> None:
    """A case that does not await approval -> refused, in words."""
    case_id = left(ledger, state)
    with pytest.raises(WrongStateError, match=f"is {state.value}; only a case in state"):
        ledger.approve(case_id, "alice", "")
    assert ledger.case(case_id).case.state is state


def test_approve_without_plan(ledger: Ledger) -> None:
    """A case that awaits approval but has no plan -> refused."""
    case_id = left(ledger, CaseState.AWAITING_APPROVAL)
    with pytest.raises(WrongStateError, match="no plan"):
        ledger.approve(case_id, "alice", "")


def test_no_such_case(ledger: Ledger) -> None:
    """An id that is no case's, too short or ambiguous -> told which, and nothing is done."""
    left(ledger, CaseState.AWAITING_APPROVAL, fingerprint="plan-1")
    for case_id in ("00000000", "abc", "%%%%", "____"):
        with pytest.raises(NoSuchCaseError, match="there is no case"):
            ledger.approve(case_id, "alice", "")


def test_decision_while_worked(ledger: Ledger) -> None:
    """A plan with a time, in hand, is approved -> what the attempt finds is not final."""
    case_id = left(
        ledger, CaseState.AWAITING_APPROVAL, fingerprint="plan-1", delay_seconds=0.0
    )  # fmt: skip
    claim = claim_one(ledger)
    ledger.approve(case_id, "alice", "")
    ledger.finish(claim, outcome(CaseState.PARKED))
    assert ledger.case(case_id).case.state is CaseState.DUE
