"""What may be archived, and in time forgotten: both by the same conditions, on each database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consumer.ledger import Archived, Ledger, Pruned
from handlers.case import CaseState
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.ageing import DAY, age, send_all, worked
from tests.unit.consumer.ledger.making import accept, arrival, claim_one, outcome, send_round, told

NOTHING = (Archived(), Pruned())
DAYS = 90

Removal = Callable[[Ledger, float], Archived | Pruned]


def archive(ledger: Ledger, days: float) -> Archived:
    """Archive what is over for so many days."""
    return ledger.archive(days * DAY, limit=100)


def prune(ledger: Ledger, days: float) -> Pruned:
    """Forget what is over for so many days."""
    return ledger.prune(days * DAY, limit=100)


@pytest.fixture(params=[archive, prune])
def remove(request: pytest.FixtureRequest) -> Removal:
    """Give each of the two."""
    way: Removal = request.param
    return way


def test_nothing_younger_is_taken(ledger: Ledger, remove: Removal) -> None:
    """A case closed 89 days ago, 90 are wanted -> it stays; a day later it goes."""
    worked(ledger)
    send_all(ledger)
    age(ledger, DAYS - 1)
    assert remove(ledger, DAYS) in NOTHING
    age(ledger, 1)
    assert remove(ledger, DAYS).cases == 1


def test_open_long_and_closed_lately_stays(ledger: Ledger, remove: Removal) -> None:
    """A case that was parked for a year and closed yesterday -> it stays as long as any other."""
    claim = worked(ledger, CaseState.PARKED)
    send_all(ledger)
    age(ledger, 365)
    send_round(ledger, claim.case.case_id)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 1)
    assert remove(ledger, DAYS) in NOTHING


@pytest.mark.parametrize("state", [s for s in CaseState if s is not CaseState.CLOSED])
def test_only_closed_cases_are_taken(ledger: Ledger, remove: Removal, state: CaseState) -> None:
    """A case in any other state, however old -> it stays."""
    if state is CaseState.WAITING:
        accept(ledger, told())
    else:
        worked(ledger, state, request_id=f"req-{state.value}")
    send_all(ledger)
    age(ledger, 10_000)
    assert remove(ledger, 1) in NOTHING


def test_unsent_announcement_keeps_its_case(ledger: Ledger, remove: Removal) -> None:
    """An announcement that is not sent, or taken to be sent -> its case stays; unrouted is over."""
    worked(ledger)
    age(ledger, DAYS + 1)
    assert remove(ledger, DAYS) in NOTHING
    (out,) = ledger.outbox_lease("p", limit=9, lease_seconds=60)
    assert remove(ledger, DAYS) in NOTHING
    ledger.outbox_unrouted([out.outbox_id])
    assert remove(ledger, DAYS).cases == 1


def test_late_message_keeps_its_case(ledger: Ledger, remove: Removal) -> None:
    """A message that came to a closed case yesterday -> it stays, its repetition is known."""
    claim = worked(ledger)
    send_all(ledger)
    age(ledger, DAYS + 1)
    own = f"req-own-{claim.case.case_id}"
    late = told(Operation.DETACH, Phase.END, request_id=own)  # caused by our own call
    accept(ledger, late)
    assert remove(ledger, DAYS) in NOTHING
    assert ledger.accept([arrival(late)]).duplicates == 1
