"""The other cases of a volume, as a claimed case brings them along."""

from __future__ import annotations

from consumer.ledger import Ledger
from handlers.case import Case, CaseState, OtherCase
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.making import (
    accept,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
    told,
)

SECOND = {"attachment_id": "att-2", "request_id": "req-2"}


def claimed(ledger: Ledger) -> dict[str | None, Case]:
    """Claim all that is due; return the cases by their attachment."""
    make_due(ledger)
    held = ledger.claim("w1", limit=10, lease_seconds=60, deadlines=True)
    return {claim.case.attachment_id: claim.case for claim in held}


def test_parked_beside(ledger: Ledger) -> None:
    """Another case of the volume is parked, and none of another volume -> the claim has it."""
    due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED, rule="P6.guest-holds"))
    elsewhere = told(volume_id="vol-2", attachment_id="att-3", request_id="req-3")
    accept(ledger, elsewhere, told(Operation.DETACH, **SECOND))
    held = claimed(ledger)
    (parked,) = (c for c in ledger.cases() if c.state is CaseState.PARKED)
    assert held["att-2"].beside == (
        OtherCase(
            parked.case_id,
            CaseState.PARKED,
            Operation.ATTACH,
            None,
            end_seen=False,
            rule="P6.guest-holds",
            reason="nothing holds it",
        ),
    )
    assert held["att-3"].beside == ()


def test_another_case_at_work(ledger: Ledger) -> None:
    """Another case of the volume waits for the end of a detach -> the claim has it, as it is."""
    accept(ledger, told(Operation.DETACH, instance_id="inst-2", **SECOND))
    accept(ledger, told(Operation.DETACH, attachment_id="att-1", request_id="req-1"))
    (other,) = claimed(ledger)["att-2"].beside
    assert (other.state, other.operation) == (CaseState.WAITING, Operation.DETACH)
    assert (other.attachment_id, other.end_seen, other.rule) == ("att-1", False, None)


def test_a_closed_case_is_not_beside(ledger: Ledger) -> None:
    """The other case was closed -> nothing is beside."""
    due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    accept(ledger, told(Operation.DETACH, **SECOND))
    assert claimed(ledger)["att-2"].beside == ()


def test_the_end_of_the_other_detach_is_known(ledger: Ledger) -> None:
    """The other detach was repeated and ended, and is looked at still -> its end is known."""
    accept(ledger, attach_error(**SECOND))
    of_it = {"attachment_id": "att-1", "request_id": "req-1"}
    accept(ledger, told(Operation.DETACH, **of_it), told(Operation.DETACH, **of_it))
    accept(ledger, told(Operation.DETACH, Phase.END, **of_it))
    (other,) = claimed(ledger)["att-2"].beside
    assert other.end_seen
