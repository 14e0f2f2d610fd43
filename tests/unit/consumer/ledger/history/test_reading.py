"""What people look at, on each database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from consumer.ledger import Filter, HistoryKind, Ledger, NoSuchCaseError, StateCount
from consumer.ledger.database.tables import cases
from handlers.case import CaseState, StepKind, Trigger
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.making import (
    REQUEST,
    accept,
    announcement,
    attach_error,
    claim_one,
    due_case,
    outcome,
    told,
)


def test_list(ledger: Ledger) -> None:
    """Several cases -> the newest first, narrowed by state, backend and volume, within limits."""
    for number, backend in enumerate(["h@a", "h@a", "h@b"]):
        accept(ledger, told(volume_id=f"vol-{number}", backend=backend))
    accept(ledger, told(Operation.ATTACH, Phase.ERROR, volume_id="vol-2", backend="h@b"))

    def volumes(**narrowed: object) -> list[str]:
        return [case.volume_id for case in ledger.cases(**narrowed)]

    assert volumes() == ["vol-2", "vol-1", "vol-0"]
    assert volumes(limit=1) == ["vol-2"]
    of_backend = ledger.list_cases(Filter(backend="h@a")).cases
    assert [case.volume_id for case in of_backend] == ["vol-1", "vol-0"]
    assert volumes(volume_id="vol-1") == ["vol-1"]
    assert volumes(state=CaseState.DUE) == ["vol-2"]
    assert volumes(state=CaseState.CLOSED) == []


def test_show(ledger: Ledger) -> None:
    """A case with a life -> all of it, each part oldest first."""
    start = told(attachment_id="att-1", request_id=REQUEST)
    error = attach_error()
    accept(ledger, start)
    due_case(ledger)
    claim = claim_one(ledger)
    ledger.casefile(claim).intend(
        StepKind.NOVA_DETACH, request_id="req-ours", target={}, evidence={}, lease_seconds=1,
        announcement=announcement("start"),
    )  # fmt: skip
    accept(ledger, error)
    record = ledger.case(claim.case.case_id)
    assert [n.notification.message_id for n in record.notifications][0::2] == [
        start.message_id, error.message_id,
    ]  # fmt: skip
    assert [h.kind for h in record.history] == [
        HistoryKind.OPENED, HistoryKind.MOVED, HistoryKind.INTENDED,
    ]  # fmt: skip
    assert (record.claimed_by, record.lease_expires_at is not None) == ("w1", True)
    assert [i.request_id for i in record.case.intents] == ["req-ours"]
    assert [o.event_type for o in record.outbox] == ["volume.force_detach.start"]
    assert record.case.trigger is Trigger.ERROR
    ledger.release(claim)
    assert ledger.case(claim.case.case_id).claimed_by is None


def test_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    """The beginning of an id -> that case; of two ids, or of none -> an error that says so."""
    first, second = due_case(ledger), due_case(ledger, volume_id="vol-2")
    with ledger._database.engine.begin() as connection:
        for old, new in ((first, "aaaa-1"), (second, "aaaa-2")):
            connection.execute(sa.text("UPDATE notifications SET case_id = NULL"))
            connection.execute(sa.text("DELETE FROM history"))
            connection.execute(cases.update().where(cases.c.case_id == old).values(case_id=new))
    assert ledger.case("aaaa-1").case.case_id == "aaaa-1"
    assert ledger.case("AAAA-2").case.case_id == "aaaa-2"
    with pytest.raises(NoSuchCaseError, match="several cases begin with aaaa"):
        ledger.case("aaaa")
    with pytest.raises(NoSuchCaseError, match="give at least 4 characters"):
        ledger.case("aaa")


def test_counts(ledger: Ledger) -> None:
    """Cases in several states -> counted with the oldest's age; closed ones are left out."""
    nothing = dict.fromkeys((s for s in CaseState if s is not CaseState.CLOSED), StateCount(0, 0.0))
    assert ledger.counts() == nothing
    accept(ledger, told(request_id=REQUEST), told(volume_id="vol-2"), attach_error())
    accept(ledger, attach_error(volume_id="vol-3"))
    due_case(ledger, volume_id="vol-4")
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    counts = ledger.counts()
    assert {state: c.count for state, c in counts.items() if c.count} == {
        CaseState.WAITING: 1, CaseState.DUE: 2,
    }  # fmt: skip
    assert 0.0 <= counts[CaseState.DUE].oldest_age_seconds < 60.0
