"""A person's yes to a plan, on each database: to the plan that was shown, and to no other."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.ledger import (
    DecisionKind,
    HistoryKind,
    Ledger,
    NoSuchCaseError,
    PlanChangedError,
    WrongStateError,
)
from handlers.case import Action, CaseState
from tests.unit.consumer.ledger.making import at_once, claim_one, due_case, make_due, outcome

ONE, TWO = "11111111" * 8, "22222222" * 8
ASKED = CaseState.AWAITING_APPROVAL


def look(status: str, *steps: str, **more: Any) -> dict[str, Any]:
    """Return the evidence of a look, as history keeps it."""
    plan = [{"step": step, "attachment_id": "a"} for step in steps]
    return {"cinder": {"status": status}, "plan": plan, **more}


def left(ledger: Ledger, state: CaseState, **more: object) -> str:
    """Make a case that an attempt left in this state; return its id."""
    case_id = due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(state, **more))
    return case_id


def looked_again(ledger: Ledger, **more: object) -> None:
    """Let a later look come to this."""
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(ASKED, delay_seconds=3600.0, **more))


def test_approve(ledger: Ledger) -> None:
    """The plan that was shown -> due at once, with who said yes to which plan, and why."""
    case_id = left(ledger, ASKED, fingerprint=ONE)
    assert ledger.approve(case_id[:8], "alice", "checked on the array", plan=ONE[:8]) == case_id
    line = ledger.case(case_id).history[-1]
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.APPROVED, "alice", "checked on the array",
    )  # fmt: skip
    case = claim_one(ledger).case
    assert (case.state, case.approved_by, case.approved_fingerprint) == (
        CaseState.DUE, "alice", ONE,
    )  # fmt: skip
    assert case.approved_at is not None
    (decision,) = ledger.take_decisions()
    assert (decision.kind, decision.actor, decision.reason, decision.case_id) == (
        DecisionKind.APPROVED, "alice", "checked on the array", case_id,
    )  # fmt: skip
    assert decision.detail["fingerprint"] == ONE


def test_plan_that_changed_since_it_was_shown(ledger: Ledger) -> None:
    """Shown as UC4, diagnosed anew as UC3 -> refused with what was shown and what it is now."""
    uc4 = look("detaching", "cinder.roll_detaching", "nova.detach", rule="UC4.detach-pending")
    uc3 = look("detaching", "backend.force_detach", "cinder.delete_attachment", rule="UC3.dead")
    case_id = left(ledger, ASKED, fingerprint=ONE, evidence=uc4, delay_seconds=3600.0)
    looked_again(ledger, fingerprint=TWO, evidence=uc3)
    before = ledger.case(case_id)
    with pytest.raises(PlanChangedError) as refused:
        ledger.approve(case_id, "alice", "I read the plan ten minutes ago", plan=ONE[:12])
    words = str(refused.value)
    assert "rule: UC4.detach-pending -> UC3.dead" in words
    assert (
        "plan: cinder.roll_detaching, then nova.detach -> "
        "backend.force_detach, then cinder.delete_attachment"
    ) in words
    assert TWO[:8] in words
    assert ledger.case(case_id) == before
    assert ledger.take_decisions() == ()
    assert ledger.approve(case_id, "alice", "read anew", plan=TWO) == case_id


def test_evidence_that_changed_under_the_same_plan(ledger: Ledger) -> None:
    """The same steps, but a host is let in since -> refused, and the host is named."""
    steps = ("cinder.delete_attachment",)
    free = look("attaching", *steps, backend={"connections": [], "control": "it answered"})
    held = {"connections": [{"name": "iqn.x", "sessions": 1}], "control": "it answered again"}
    case_id = left(ledger, ASKED, fingerprint=ONE, evidence=free, delay_seconds=3600.0)
    looked_again(ledger, fingerprint=TWO, evidence=look("attaching", *steps, backend=held))
    with pytest.raises(PlanChangedError, match=r"backend connections iqn.x: none -> .*sessions"):
        ledger.approve(case_id, "alice", "", plan=ONE)


def test_plan_that_the_case_never_had(ledger: Ledger) -> None:
    """Another case's plan, a beginning that is too short -> refused, and told which is its own."""
    case_id = left(ledger, ASKED, fingerprint=ONE)
    with pytest.raises(PlanChangedError, match=f"never had the plan {TWO[:8]}; its plan is 1111"):
        ledger.approve(case_id, "alice", "", plan=TWO[:8])
    with pytest.raises(PlanChangedError, match="at least 8 characters"):
        ledger.approve(case_id, "alice", "", plan=ONE[:7])
    assert ledger.case(case_id).case.state is ASKED


def test_approval_is_void_once_a_person_is_asked_again(ledger: Ledger) -> None:
    """Another plan after the approval -> asked again; the old plan comes back -> asked again."""
    case_id = left(ledger, ASKED, fingerprint=ONE)
    ledger.approve(case_id, "alice", "", plan=ONE)
    ledger.finish(claim_one(ledger), outcome(ASKED, fingerprint=TWO, delay_seconds=0.0))
    case = ledger.case(case_id).case
    assert (case.fingerprint, case.approved_by, case.approved_fingerprint, case.approved_at) == (
        TWO, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "state", [CaseState.DUE, CaseState.SETTLING, CaseState.PARKED, CaseState.CLOSED]
)
def test_approve_wrong_state(ledger: Ledger, state: CaseState) -> None:
    """A case that does not await approval -> refused, in words."""
    case_id = left(ledger, state, fingerprint=ONE)
    with pytest.raises(WrongStateError, match=f"is {state.value}; only a case in state"):
        ledger.approve(case_id, "alice", "", plan=ONE)
    assert ledger.case(case_id).case.state is state


def test_approve_without_plan(ledger: Ledger) -> None:
    """A case that awaits approval but has no plan -> refused."""
    case_id = left(ledger, ASKED)
    with pytest.raises(WrongStateError, match="no plan"):
        ledger.approve(case_id, "alice", "", plan=ONE)


def test_no_such_case(ledger: Ledger) -> None:
    """An id that is no case's, too short or ambiguous -> told which, and nothing is done."""
    left(ledger, ASKED, fingerprint=ONE)
    for case_id in ("00000000", "abc", "%%%%", "____"):
        with pytest.raises(NoSuchCaseError, match="there is no case"):
            ledger.approve(case_id, "alice", "", plan=ONE)


def test_decision_while_worked(ledger: Ledger) -> None:
    """A plan with a time, in hand, is approved -> what the attempt finds is not final."""
    case_id = left(ledger, ASKED, fingerprint=ONE, delay_seconds=0.0)
    claim = claim_one(ledger)
    ledger.approve(case_id, "alice", "", plan=ONE)
    ledger.finish(claim, outcome(CaseState.PARKED))
    assert ledger.case(case_id).case.state is CaseState.DUE


def test_approval_while_a_look_asks_again_is_kept(ledger: Ledger) -> None:
    """Approved while a look is made that asks for the same -> the approval holds, due at once."""
    case_id = left(ledger, ASKED, fingerprint=ONE, delay_seconds=0.0)
    claim = claim_one(ledger)
    ledger.approve(case_id, "alice", "", plan=ONE)
    ledger.finish(claim, outcome(ASKED, fingerprint=ONE))
    case = ledger.case(case_id).case
    assert (case.state, case.approved_fingerprint) == (CaseState.DUE, ONE)


def test_each_decision_is_logged_by_one_service(ledger: Ledger, second: Ledger) -> None:
    """Two services read at the same time -> each decision is taken once."""
    for n in range(6):
        ledger.pause("alice", f"{n}")
        ledger.resume("alice")
    taken = at_once(ledger.take_decisions, second.take_decisions)
    reasons = [d.reason for found in taken for d in found]  # type: ignore[attr-defined]
    assert len(reasons) == 12


def offering(mark: str, *held: str, action: Action = Action.DETACH) -> dict[str, Any]:
    """Return the evidence of a look beside whose plan a person may order something else."""
    guards = {"fingerprint": mark, "asked": 20, "held": dict.fromkeys(held)}
    told = {action.value: {"plan": [], "guards": guards}}
    return look("attaching", "cinder.complete", instead=told)


def test_order_a_detach_instead(ledger: Ledger) -> None:
    """The plan with the action, as it was shown -> due, and the case has both, and the history."""
    evidence = offering(TWO, "APPROVE")
    case_id = left(ledger, ASKED, fingerprint=ONE, evidence=evidence)
    ledger.approve(case_id, "alice", "nobody wants it", plan=TWO[:12], action=Action.DETACH)
    case = claim_one(ledger).case
    assert (case.approved_fingerprint, case.approved_action) == (TWO, Action.DETACH)
    line = ledger.case(case_id).history[-1]
    assert line.detail == {"fingerprint": TWO, "rule": case.rule, "action": "detach"}
    (decision,) = ledger.take_decisions()
    assert decision.detail["action"] == "detach"


@pytest.mark.parametrize(
    ("evidence", "plan", "error", "says"),
    [
        (look("attaching", "cinder.complete"), TWO, WrongStateError, "only be approved as it is"),
        (offering(TWO, "APPROVE"), ONE, PlanChangedError, "is 22222222 now"),
        (offering(TWO, "APPROVE"), "2222", PlanChangedError, "at least 8 characters"),
        (offering(TWO, "ORDERED_DETACH", "APPROVE"), TWO, WrongStateError, "as ordered"),
        (offering(TWO, "LATE_DETACH", "APPROVE"), TWO, WrongStateError, "a try to detach"),
    ],
    ids=["not offered", "the plan without it", "too short", "not possible", "not now"],
)
def test_an_order_that_is_refused(
    ledger: Ledger, evidence: dict[str, Any], plan: str, error: type[Exception], says: str
) -> None:
    """No such action, another plan, a guard against it -> refused in words, and nothing is due."""
    case_id = left(ledger, ASKED, fingerprint=ONE, evidence=evidence)
    with pytest.raises(error, match=says):
        ledger.approve(case_id, "alice", "why", plan=plan, action=Action.DETACH)
    case = ledger.case(case_id).case
    assert (case.state, case.approved_by, case.approved_action) == (ASKED, None, None)


def test_a_later_yes_without_the_order_is_a_yes_to_the_plan(ledger: Ledger) -> None:
    """Ordered, asked anew, then approved as it is -> the order is gone."""
    evidence = offering(TWO, "APPROVE")
    case_id = left(ledger, ASKED, fingerprint=ONE, evidence=evidence)
    ledger.approve(case_id, "alice", "why", plan=TWO, action=Action.DETACH)
    looked_again(ledger, fingerprint=ONE, evidence=evidence)
    assert ledger.case(case_id).case.approved_action is None
    ledger.approve(case_id, "bob", "why", plan=ONE)
    assert claim_one(ledger).case.approved_action is None


TOKEN = Action.SERVICE_TOKEN


@pytest.mark.parametrize("state", [ASKED, CaseState.PARKED])
@pytest.mark.parametrize("held", [(), ("OWN_CALL_UNANSWERED",)])
def test_order_a_service_token(ledger: Ledger, state: CaseState, held: tuple[str, ...]) -> None:
    """Offered by the last look of a case that a person has -> due, with the order on record.

    So it is where that look's own call gave no answer: the order waits until it cannot act.
    """
    evidence = offering(TWO, *held, action=TOKEN)
    case_id = left(ledger, state, evidence=evidence, failed=True)
    ledger.approve(case_id, "alice", "Cinder asks another Nova", plan=TWO[:12], action=TOKEN)
    case = claim_one(ledger).case
    assert (case.approved_fingerprint, case.approved_action) == (TWO, TOKEN)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("NO_SERVICE_TOKEN", r"set auth_type and its options in \[service_user\]"),
        ("ORDERED_TOKEN", "Nova's side is not proven gone"),
        ("OBSERVE", "the mode is observe"),
    ],
)
def test_a_service_token_that_cannot_be_ordered(ledger: Ledger, held: str, says: str) -> None:
    """None is configured, a guest may hold the disk, mode observe -> refused in words."""
    evidence = offering(TWO, held, action=TOKEN)
    case_id = left(ledger, CaseState.PARKED, evidence=evidence)
    with pytest.raises(WrongStateError, match=says):
        ledger.approve(case_id, "alice", "why", plan=TWO, action=TOKEN)
    assert ledger.case(case_id).case.state is CaseState.PARKED


@pytest.mark.parametrize("action", [None, Action.DETACH])
def test_a_parked_case_takes_no_other_yes(ledger: Ledger, action: Action | None) -> None:
    """Parked, and a plain yes or another order -> refused: it is replayed instead."""
    case_id = left(ledger, CaseState.PARKED, fingerprint=TWO, evidence=offering(TWO))
    with pytest.raises(WrongStateError, match="is parked; only a case in state"):
        ledger.approve(case_id, "alice", "why", plan=TWO, action=action)
