"""The other cases of a volume, as a claimed case brings them along."""

from __future__ import annotations

import pytest

from consumer.ledger import Ledger
from handlers.case import Case, CaseState, Parked
from handlers.notification import Notification, Operation, Phase
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
        Parked(parked.case_id, Operation.ATTACH, None, "P6.guest-holds", "nothing holds it"),
    )
    assert held["att-3"].beside == ()


@pytest.mark.parametrize(
    ("other", "wished"),
    [
        (told(Operation.DETACH, attachment_id="att-1", request_id="req-1"), ("att-1",)),
        (told(Operation.DETACH, instance_id="inst-1", request_id="req-1"), (None,)),
        (told(Operation.DETACH, volume_id="vol-2", attachment_id="att-1"), ()),
        (told(Operation.ATTACH, attachment_id="att-1", request_id="req-1"), ()),
    ],
    ids=["a detach", "a detach of whichever", "a detach of another volume", "an attach"],
)
def test_another_detach_wanted(
    ledger: Ledger, other: Notification, wished: tuple[str | None, ...]
) -> None:
    """Another case of the volume waits for the end of a detach -> the claim has its attachment."""
    accept(ledger, told(Operation.DETACH, instance_id="inst-2", **SECOND))
    accept(ledger, other)
    assert claimed(ledger)["att-2"].wished_beside == wished


def test_a_detach_that_ended_is_no_wish(ledger: Ledger) -> None:
    """The other detach ended -> nobody waits for it."""
    accept(ledger, attach_error(**SECOND))
    of_it = {"attachment_id": "att-1", "request_id": "req-1"}
    accept(ledger, told(Operation.DETACH, **of_it), told(Operation.DETACH, **of_it))
    accept(ledger, told(Operation.DETACH, Phase.END, **of_it))
    assert claimed(ledger)["att-2"].wished_beside == ()
