"""A person's yes to a plan.

1. It is a yes to the plan that was shown, on the evidence that was shown: the fingerprint has both.
2. An action that is ordered instead is one that the last look offers, with no guard against it.
3. The case is due at once. Its next look judges anew whether the approval still fits the plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, of_case, one_case, rewrite
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.locks import lock_volumes
from consumer.ledger.database.tables import history
from consumer.ledger.decisions.decisions import DecisionKind, Word, record
from consumer.ledger.errors import PlanChangedError, WrongStateError
from handlers.case import ORDERED_OF_PARKED, Action, Case, CaseState
from handlers.judgement.guards import Guard, bars
from handlers.recovery.changes import changes

# As much as is printed of a fingerprint: with less, a slip could name another plan.
SHORTEST_FINGERPRINT = 8
_SENTENCES = {guard.name: guard.sentence for guard in Guard}


def approve(
    connection: sa.Connection,
    cloud: str,
    case_id: str,
    plan: str,
    word: Word,
    *,
    action: Action | None = None,
) -> str:
    """Approve the plan with this fingerprint, or that with ``action``; see ``Ledger.approve``."""
    case = locked_case(connection, cloud, case_id)
    if case.state not in _approvable(action):
        raise WrongStateError(
            f"case {case.case_id} is {case.state.value}; only a case in state "
            f"{' or '.join(state.value for state in _approvable(action))} can be approved"
        )
    if case.fingerprint is None and action is None:
        raise WrongStateError(f"case {case.case_id} has no plan that could be approved")
    looks = [row for row in of_case(connection, case.case_id, history, "history_id") if row.detail]
    if action is None:
        _check_shown(case, looks, plan.lower())
        _approved(connection, case, word, case.fingerprint or "")
    else:
        mark = _ordered(case, looks, plan.lower(), action)
        _approved(connection, case, word, mark, action)
    return case.case_id


def _approvable(action: Action | None) -> tuple[CaseState, ...]:
    """Return the states in which a case can be approved: parked too, after a refusal of Cinder."""
    asks = (CaseState.AWAITING_APPROVAL,)
    return (*asks, CaseState.PARKED) if action in ORDERED_OF_PARKED else asks


def locked_case(connection: sa.Connection, cloud: str, case_id: str) -> Case:
    """Return the case with its volume locked. Raises NoSuchCaseError."""
    found = one_case(connection, cloud, case_id).case
    lock_volumes(connection, cloud, [found.volume_id])
    # Read again under the lock: a worker may have finished it meanwhile.
    return one_case(connection, cloud, found.case_id).case


def _approved(
    connection: sa.Connection, case: Case, word: Word, mark: str, action: Action | None = None
) -> None:
    now = database_now(connection)
    approved = dataclasses.replace(
        case,
        state=CaseState.DUE,
        next_attempt_at=now,
        signal_seq=case.signal_seq + 1,  # so that a running attempt leaves the case due
        # A person has looked at it: earlier crashes are no reason to park it again.
        crashes=0,
        approved_by=word.actor,
        approved_fingerprint=mark,
        approved_at=now,
        approved_action=action,
    )
    rewrite(connection, [(case, approved)], now)
    detail = {"fingerprint": mark, "rule": case.rule}
    detail |= {"action": action.value} if action else {}
    record(
        connection, approved, HistoryKind.APPROVED, DecisionKind.APPROVED, word, now, detail
    )  # fmt: skip


def _ordered(case: Case, looks: list[Any], plan: str, action: Action) -> str:
    """Return the fingerprint of the present plan with this action.

    Raises WrongStateError where the last look offers no such, or a guard stands against it, and
    PlanChangedError where it is another plan than the one that the person was shown.
    """
    _check_length(case, plan)
    look = _evidence_of(looks, case.fingerprint or "") or {}
    told = (look.get("instead") or {}).get(action.value)
    if told is None:
        raise WrongStateError(
            f"case {case.case_id}: its plan can only be approved as it is, without --action "
            f"{action.value}; `detachd case show {case.case_id}` shows it"
        )
    # Guards that stood at the last look. The next look asks all of them again before anything is
    # written.
    held = [name for name in told["guards"]["held"] if bars(action.value, name)]
    if held:
        raise WrongStateError(
            f"case {case.case_id}: {action.value} cannot be ordered now: "
            + "; ".join(_SENTENCES.get(name, name) for name in held)
        )
    mark: str = told["guards"]["fingerprint"]
    if not mark.startswith(plan):
        raise PlanChangedError(
            f"case {case.case_id}: the plan with --action {action.value} is "
            f"{mark[:SHORTEST_FINGERPRINT]} now, and not {plan}. Nothing was approved; "
            f"`detachd case show {case.case_id}` shows it"
        )
    return mark


def _check_length(case: Case, plan: str) -> None:
    if len(plan) < SHORTEST_FINGERPRINT:
        raise PlanChangedError(
            f"case {case.case_id}: give at least {SHORTEST_FINGERPRINT} characters of the "
            "fingerprint of the plan"
        )


def _check_shown(case: Case, looks: list[Any], plan: str) -> None:
    """Raise PlanChangedError unless the case still has the plan that the person was shown."""
    _check_length(case, plan)
    present = case.fingerprint or ""
    if present.startswith(plan):
        return
    shown = _evidence_of(looks, plan)
    now = _evidence_of(looks, present)
    raise PlanChangedError(_refusal(case, plan, shown, now))


def _evidence_of(looks: list[Any], plan: str) -> Mapping[str, Any] | None:
    """Return the evidence of the last look that came to this plan."""
    found = (
        row.detail["evidence"]
        for row in reversed(looks)
        # By the beginning, because a person types the beginning.
        if (row.detail.get("fingerprint") or "").startswith(plan) and "evidence" in row.detail
    )
    return next(found, None)


def _refusal(
    case: Case, plan: str, shown: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> str:
    """Return why the approval is refused: what was shown, what it is now."""
    present = (case.fingerprint or "")[:SHORTEST_FINGERPRINT]
    if shown is None:
        return (
            f"case {case.case_id} never had the plan {plan}; its plan is {present}. Nothing was "
            f"approved; `detachd case show {case.case_id}` shows the plan"
        )
    changed = changes(shown, now or {}) or ("the evidence",)
    return (
        f"case {case.case_id}: the plan {plan} that was shown is not its plan any more, which is "
        f"{present} now. Nothing was approved. What changed since:\n  " + "\n  ".join(changed)
    )
