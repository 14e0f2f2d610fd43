"""A person closes a case, acknowledges it, or writes a note on it, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa

from consumer.ledger import Claim, DecisionKind, HistoryKind, Ledger, WrongStateError
from consumer.ledger.database.tables import cases
from handlers.announcement import schema
from handlers.case import (
    FOR_A_PERSON,
    CaseState,
    ClaimLostError,
    Conclusion,
    ReasonKind,
    StepKind,
    StepResult,
)
from tests.unit.consumer.ledger.making import (
    VOLUME,
    accept,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
    send_round,
)

RULE = "P6.guest-holds"
PARKED = {"rule": RULE, "verdict": "park", "reason": "a guest holds it"}


def left(ledger: Ledger, state: CaseState = CaseState.PARKED, **more: Any) -> str:
    """Make a case that an attempt left in this state; return its id."""
    case_id = due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(state, **PARKED | {"delay_seconds": 3600.0} | more))
    return case_id


def written(
    ledger: Ledger, claim: Claim, kind: StepKind, result: StepResult | None = StepResult.DONE
) -> None:
    """Write a call of the case down, and how it ended unless a crash came between."""
    file, request_id = ledger.casefile(claim), f"req-{kind.value}"
    file.intend(
        kind, request_id=request_id, target={"attachment_id": "a"}, evidence={},
        lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    if result is not None:
        file.result(request_id, result, "")


# -- close -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_closed_by_a_person(ledger: Ledger, state: CaseState) -> None:
    """Parked or asking -> closed as dismissed, in history and announced, with who and why."""
    case_id = left(ledger, state, fingerprint="f" * 64)
    assert ledger.close_case(case_id[:8], "alice", "repaired by hand") == case_id
    record = ledger.case(case_id)
    assert (record.case.state, record.case.conclusion, record.case.next_attempt_at) == (
        CaseState.CLOSED, Conclusion.DISMISSED, None,
    )  # fmt: skip
    assert record.case.closed_at is not None
    line = record.history[-1]
    assert (line.kind, line.actor, line.reason, line.rule) == (
        HistoryKind.DISMISSED, "alice", "repaired by hand", RULE,
    )  # fmt: skip
    (told,) = record.outbox
    assert told.event_type == "volume.force_detach.dismissed"
    jsonschema.validate(told.payload, schema())
    assert {k: told.payload[k] for k in ("decided_by", "reason", "rule", "verdict", "steps")} == {
        "decided_by": "alice", "reason": "repaired by hand", "rule": RULE, "verdict": "park",
        "steps": [],
    }  # fmt: skip
    (decision,) = ledger.take_decisions()
    assert (decision.kind, decision.case_id) == (DecisionKind.CLOSED, case_id)


def test_closed_case_hides_no_later_one(ledger: Ledger) -> None:
    """The same attachment fails again -> a new case, and no parked one stands for it."""
    case_id = left(ledger)
    accept(ledger, attach_error(request_id="req-2"))
    assert [c.case_id for c in ledger.cases(volume_id=VOLUME)] == [case_id], "it hides it"
    ledger.close_case(case_id, "alice", "")
    accept(ledger, attach_error(request_id="req-3"))
    newer, older = ledger.cases(volume_id=VOLUME)
    assert (older.case_id, older.state) == (case_id, CaseState.CLOSED)
    assert newer.state is CaseState.DUE
    make_due(ledger)
    assert claim_one(ledger).case.beside == ()


@pytest.mark.parametrize(
    "state", [CaseState.DUE, CaseState.SETTLING, CaseState.CLOSED], ids=lambda s: s.value
)
def test_case_that_moves_by_itself_is_not_closed(ledger: Ledger, state: CaseState) -> None:
    """No person has it -> refused with its state, nothing changed."""
    case_id = left(ledger, state)
    before = ledger.case(case_id)
    for decide in (
        lambda: ledger.close_case(case_id, "alice", ""),
        lambda: ledger.acknowledge(case_id, 60.0, "alice", ""),
    ):
        with pytest.raises(WrongStateError, match=f"is {state.value}; only a case in state"):
            decide()
    assert ledger.case(case_id) == before


def test_case_that_is_worked_on_is_not_closed(ledger: Ledger) -> None:
    """A worker looks at the parked case -> refused, with whose claim; afterwards closed."""
    case_id = left(ledger)
    make_due(ledger)
    claim = claim_one(ledger, "w7")
    with pytest.raises(WrongStateError, match="being worked on by w7"):
        ledger.close_case(case_id, "alice", "")
    ledger.finish(claim, outcome(CaseState.PARKED, **PARKED, held=True))
    ledger.close_case(case_id, "alice", "")


def test_worker_whose_lease_ended_opens_it_no_more(ledger: Ledger) -> None:
    """The lease of a hung worker ran out, then closed -> the worker's finish is refused."""
    case_id = left(ledger)
    make_due(ledger)
    claim = claim_one(ledger)
    expire_leases(ledger)
    ledger.close_case(case_id, "alice", "")
    with pytest.raises(ClaimLostError):
        ledger.finish(claim, outcome(CaseState.PARKED, **PARKED))
    assert ledger.case(case_id).case.state is CaseState.CLOSED


def test_case_with_a_write_that_nobody_saw_the_end_of_is_not_closed(ledger: Ledger) -> None:
    """A crash left a call open -> refused with the call; after a look at it -> closed."""
    case_id = left(ledger)
    make_due(ledger)
    written(ledger, claim_one(ledger), StepKind.BACKEND_FORCE_DETACH, None)
    expire_leases(ledger)
    with pytest.raises(WrongStateError, match=r"without a result, backend.force_detach \(req-"):
        ledger.close_case(case_id, "alice", "")
    make_due(ledger)
    ledger.finish(claim_one(ledger, "w2"), outcome(CaseState.PARKED, **PARKED))
    ledger.close_case(case_id, "alice", "")


def test_case_that_keeps_the_volume_reserved_is_not_closed(ledger: Ledger) -> None:
    """Our own reserve is held -> refused, as nobody would give it back; given back -> closed."""
    case_id = due_case(ledger)
    claim = claim_one(ledger)
    written(ledger, claim, StepKind.CINDER_RESERVE)
    ledger.finish(claim, outcome(CaseState.PARKED, **PARKED, delay_seconds=0.0))
    with pytest.raises(WrongStateError, match="keeps the volume reserved"):
        ledger.close_case(case_id, "alice", "")
    claim = claim_one(ledger)
    written(ledger, claim, StepKind.CINDER_UNRESERVE)
    ledger.finish(claim, outcome(CaseState.PARKED, **PARKED))
    ledger.close_case(case_id, "alice", "")


def test_closed_case_is_replayed(ledger: Ledger) -> None:
    """Closed by mistake -> a replay sends it round again."""
    case_id = left(ledger)
    ledger.close_case(case_id, "alice", "")
    send_round(ledger, case_id)
    case = claim_one(ledger).case
    assert (case.case_id, case.conclusion) == (case_id, None)


# -- acknowledge -----------------------------------------------------------------------------------


def counted(ledger: Ledger) -> tuple[int, int, bool]:
    """Return how many parked cases count, how many are acknowledged, and whether one has an age."""
    count = ledger.counts()[CaseState.PARKED]
    return count.count, count.acknowledged, count.oldest_age_seconds > 0


def test_acknowledged_case_counts_no_more(ledger: Ledger) -> None:
    """Acknowledged for an hour -> apart, without an age; over -> counted again; who and why."""
    case_id = left(ledger)
    assert counted(ledger) == (1, 0, True)
    known, until = ledger.acknowledge(case_id[:8], 3600.0, "alice", "a vendor's ticket is open")
    assert known == case_id
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(hours=1, seconds=5)
    assert counted(ledger) == (0, 1, False)
    record = ledger.case(case_id)
    assert record.case.state is CaseState.PARKED
    assert (record.case.acknowledged_by, record.case.acknowledged_rule) == ("alice", RULE)
    assert (record.history[-1].kind, record.history[-1].reason) == (
        HistoryKind.ACKNOWLEDGED, "a vendor's ticket is open",
    )  # fmt: skip
    assert ledger.end_acknowledgement(case_id, "bob", "") == case_id
    assert counted(ledger) == (1, 0, True)
    with pytest.raises(WrongStateError, match="is not acknowledged"):
        ledger.end_acknowledgement(case_id, "bob", "")
    kinds = [decision.kind for decision in ledger.take_decisions()]
    assert kinds == [DecisionKind.ACKNOWLEDGED, DecisionKind.ACKNOWLEDGEMENT_ENDED]


def test_acknowledgement_ends_by_itself(ledger: Ledger) -> None:
    """Its time is over -> the case counts again; a time that is past is refused."""
    case_id = left(ledger)
    soon = datetime.now(UTC) + timedelta(hours=1)
    ledger.acknowledge(case_id, soon, "alice", "")
    past = datetime.now(UTC) - timedelta(seconds=1)
    with ledger._database.engine.begin() as connection:
        connection.execute(sa.update(cases).values(acknowledged_until=past))
    assert counted(ledger) == (1, 0, True)
    with pytest.raises(WrongStateError, match="is not in the future"):
        ledger.acknowledge(case_id, past, "alice", "")


GUARDED = {"rule": "UC1.never-attached", "verdict": "release", "reason_kind": ReasonKind.GUARD}


@pytest.mark.parametrize(
    ("look", "ends"),
    [
        ({**PARKED, "held": True}, False),
        ({**PARKED, "rule": "X1.unknown", "verdict": "unknown", "held": True}, False),
        ({**PARKED, "reason": "two guests hold it"}, False),
        ({**PARKED, "rule": "P15.two-writers"}, True),
        (GUARDED, True),
        ({**PARKED, "held": True, "reason_kind": ReasonKind.DANGER}, True),
    ],
    ids=["the same", "an outage", "the same rule", "two writers", "a guard", "danger"],
)
def test_acknowledgement_ends_with_what_was_not_known(
    ledger: Ledger, look: dict[str, Any], *, ends: bool
) -> None:
    """A look shows the same -> it stays; another rule, danger -> it ends at once, in history."""
    case_id = left(ledger)
    ledger.acknowledge(case_id, 3600.0, "alice", "")
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED, **look))
    assert counted(ledger) == ((1, 0, True) if ends else (0, 1, False))
    kinds = [line.kind for line in ledger.case(case_id).history]
    assert (HistoryKind.ACKNOWLEDGEMENT_ENDED in kinds) is ends


def test_acknowledgement_outlives_no_close_and_no_new_round(ledger: Ledger) -> None:
    """Closed, or sent round again -> nothing of it is left."""
    case_id = left(ledger)
    ledger.acknowledge(case_id, 3600.0, "alice", "")
    send_round(ledger, case_id)
    assert ledger.case(case_id).case.acknowledged_until is None


# -- note ------------------------------------------------------------------------------------------


def test_note_is_history_and_changes_nothing(ledger: Ledger) -> None:
    """A note on any case -> a line with who and what; the case is as it was."""
    case_id = left(ledger, CaseState.CLOSED)
    before = ledger.case(case_id)
    assert ledger.write_note(case_id[:8], "alice", "seen by the vendor") == case_id
    after = ledger.case(case_id)
    assert (after.case, after.history[:-1]) == (before.case, before.history)
    line = after.history[-1]
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.NOTED, "alice", "seen by the vendor",
    )  # fmt: skip
