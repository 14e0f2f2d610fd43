"""The leases of an owner that is proven dead, on each database."""

from __future__ import annotations

import pytest

from consumer.ledger import Ledger, Replica
from handlers.case import CaseState, ClaimLostError, StepKind, StepResult
from tests.unit.consumer.ledger.making import claim_one, due_case, outcome, renew

HOUR = 3600.0


def beat(ledger: Ledger, owner: str, place: str | None = "here") -> None:
    """Let a replica say where it is."""
    ledger.beat(Replica(owner, "host", 1, "0", place))


def test_its_volume_is_free_and_the_fence_grows(ledger: Ledger) -> None:
    """The owner is dead -> another claims at once, as after a crash; the dead one's are refused."""
    case_id = due_case(ledger)
    beat(ledger, "dead")
    lost = claim_one(ledger, "dead", lease_seconds=HOUR)
    ledger.casefile(lost).intend(
        StepKind.NOVA_DETACH, request_id="req-1", target={}, evidence={}, lease_seconds=HOUR,
        announcement=None,
    )  # fmt: skip
    assert ledger.claiming_at("here") == ("dead",)
    assert ledger.end_leases("dead") == 1
    proven_at = ledger.case(case_id).lease_expires_at
    assert ledger.claiming_at("here") == ()
    claim = claim_one(ledger, "lives")
    assert (claim.fence, claim.case.crashes) == (lost.fence + 1, 1)
    for write in (
        lambda: renew(ledger, lost, HOUR),
        lambda: ledger.casefile(lost).result("req-1", StepResult.DONE, ""),
        lambda: ledger.finish(lost, outcome(CaseState.CLOSED)),
    ):
        with pytest.raises(ClaimLostError):
            write()
    (intent,) = ledger.case(case_id).intents
    assert intent.result is StepResult.INTENDED
    # Its call may have begun until the moment of the proof: the late horizon counts from there.
    assert intent.result_at == proven_at


def test_others_keep_theirs(ledger: Ledger) -> None:
    """Two owners at one place, one at another, one without a place -> only the dead one's ends."""
    for number, (owner, place) in enumerate(
        (("dead", "here"), ("near", "here"), ("far", "there"), ("unknown", None))
    ):
        due_case(ledger, volume_id=f"vol-{number}", message_id=f"m-{number}")
        beat(ledger, owner, place)
        claim_one(ledger, owner, lease_seconds=HOUR)
    assert sorted(ledger.claiming_at("here")) == ["dead", "near"]
    assert ledger.end_leases("dead") == 1
    assert ledger.claiming_at("here") == ("near",)
    (claim,) = ledger.claim("lives", limit=9, lease_seconds=60.0, deadlines=True)
    assert claim.case.volume_id == "vol-0"


def test_nothing_is_free_twice(ledger: Ledger) -> None:
    """Two replicas find the proof at the same time -> the second ends nothing of the new claim."""
    due_case(ledger)
    beat(ledger, "dead")
    claim_one(ledger, "dead", lease_seconds=HOUR)
    assert ledger.end_leases("dead") == 1
    new = claim_one(ledger, "lives", lease_seconds=HOUR)
    assert ledger.end_leases("dead") == 0
    renew(ledger, new, HOUR)


def test_abandoned_claims_keep_the_row_of_their_owner(ledger: Ledger) -> None:
    """A service stops while one of its calls hangs -> it stays on record until that ends."""
    due_case(ledger)
    beat(ledger, "slow")
    claim = claim_one(ledger, "slow", lease_seconds=HOUR)
    ledger.leave("slow")
    assert ledger.claiming_at("here") == ("slow",)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    ledger.leave("slow")
    assert ledger.replicas() == ()
