"""What shows that this Cinder had a volume, as a claimed case brings it along."""

from __future__ import annotations

import dataclasses

import pytest

from consumer.ledger import Ledger
from drivers.control_plane import ListedAttachment
from handlers.case import Case, CaseState
from handlers.correlation.sweep import FIRST_PUBLISHER, PUBLISHER, left_by_server
from handlers.notification import (
    VOLUME_DELETED,
    VOLUME_GONE,
    Notification,
    Operation,
    Phase,
    Source,
)
from tests.unit.consumer.ledger.making import (
    VOLUME,
    accept,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
    send_round,
    told,
)

OTHER = {"attachment_id": "att-2", "instance_id": "inst-2", "request_id": "req-2"}


def deletion(**fields: object) -> Notification:
    """Return Cinder's word that the volume is deleted."""
    return told(None, Phase.SIGNAL, **({"event_type": VOLUME_DELETED} | fields))


def found_by_sweep() -> Notification:
    """Return what a sweep found of the volume."""
    known = {"source": Source.SWEEP, "event_type": "sweep.attaching"}
    return told(Operation.ATTACH, Phase.ERROR, publisher_id=FIRST_PUBLISHER, **known)


def knows(case: Case) -> tuple[bool, bool]:
    """Return whether the volume was seen, and whether its deletion was told of."""
    return case.volume_seen, case.deletion_told


def test_nothing(ledger: Ledger) -> None:
    """Errors on the bus alone -> nothing shows that this Cinder had the volume."""
    due_case(ledger)
    assert knows(claim_one(ledger).case) == (False, False)


def test_an_earlier_look_of_the_case(ledger: Ledger) -> None:
    """A look saw the volume -> known at the next attempt, and kept."""
    due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.DUE, delay_seconds=0.0, volume_seen=True))
    make_due(ledger)
    claim = claim_one(ledger)
    assert knows(claim.case) == (True, False)
    ledger.finish(claim, outcome(CaseState.DUE, delay_seconds=0.0))
    make_due(ledger)
    assert claim_one(ledger).case.volume_seen


def test_a_look_for_another_case(ledger: Ledger) -> None:
    """A look for another attachment of the volume saw it -> known; of another volume -> not."""
    due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED, volume_seen=True))
    accept(ledger, attach_error(**OTHER))
    make_due(ledger)
    assert claim_one(ledger).case.volume_seen
    due_case(ledger, volume_id="vol-2")
    assert not claim_one(ledger).case.volume_seen


def test_a_sweep_saw_it(ledger: Ledger) -> None:
    """A sweep reported the volume, which it reads from Cinder -> seen."""
    accept(ledger, found_by_sweep())
    make_due(ledger)
    assert knows(claim_one(ledger).case) == (True, False)


@pytest.mark.parametrize("event_type", VOLUME_GONE)
@pytest.mark.parametrize("first", [True, False], ids=["before the case", "with the case"])
def test_cinder_told_that_it_has_it_no_more(ledger: Ledger, first: bool, event_type: str) -> None:
    """It was deleted or unmanaged, before there is a case or later -> told, and kept."""
    messages = [deletion(event_type=event_type), attach_error()]
    accept(ledger, messages[not first])
    accept(ledger, messages[first])
    make_due(ledger)
    assert knows(claim_one(ledger).case) == (False, True)


def test_the_deletion_of_another_volume(ledger: Ledger) -> None:
    """Another volume is deleted -> it says nothing of this one."""
    accept(ledger, deletion(volume_id="vol-2"), attach_error())
    make_due(ledger)
    assert knows(claim_one(ledger).case) == (False, False)


def test_a_deletion_moves_the_cases_of_the_volume(ledger: Ledger) -> None:
    """The volume of a parked case is deleted -> due again, the message is its; no other is."""
    case_id = due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED))
    due_case(ledger, volume_id="vol-2")
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED))
    accept(ledger, deletion())
    states = {case.volume_id: case.state for case in ledger.cases()}
    assert states == {VOLUME: CaseState.DUE, "vol-2": CaseState.PARKED}
    assert [n.notification.event_type for n in ledger.case(case_id).notifications][-1:] == [
        VOLUME_DELETED
    ]


def test_a_deletion_without_a_case(ledger: Ledger) -> None:
    """A volume without a case is deleted -> no case."""
    accept(ledger, deletion())
    assert ledger.cases() == ()


# -- what nobody has seen yet ----------------------------------------------------------------------


def unseen(ledger: Ledger) -> bool:
    """Claim the case that is due; return whether only a sweep told of it, unacknowledged."""
    make_due(ledger)
    return claim_one(ledger).case.unseen_finding


def test_only_a_sweep_told_of_it(ledger: Ledger) -> None:
    """Found by the first sweep, no acknowledgement -> unseen; after it -> not."""
    ledger.sweeps.begin("me", 0.0)
    accept(ledger, found_by_sweep())
    assert unseen(ledger)
    ledger.sweeps.acknowledge("alice", "seen")
    accept(ledger, dataclasses.replace(found_by_sweep(), volume_id="vol-2"))
    assert not unseen(ledger)


def test_a_later_sweep_found_it(ledger: Ledger) -> None:
    """It came about after the first sweep -> no old finding, acknowledged or not."""
    ledger.sweeps.begin("me", 0.0)
    accept(ledger, dataclasses.replace(found_by_sweep(), publisher_id=PUBLISHER))
    assert not unseen(ledger)


def test_the_bus_told_of_it_too(ledger: Ledger) -> None:
    """A message of Cinder or Nova, or a server that was looked at for one -> no old finding."""
    ledger.sweeps.begin("me", 0.0)
    accept(ledger, attach_error(), found_by_sweep())
    assert not unseen(ledger)
    left = ListedAttachment("att-2", "vol-2", "attached", "inst-2")
    accept(ledger, left_by_server(left, "instance.delete.end"))
    assert not unseen(ledger)


def test_a_person_replayed_it(ledger: Ledger) -> None:
    """A person sends the case round again -> it was seen."""
    ledger.sweeps.begin("me", 0.0)
    accept(ledger, found_by_sweep())
    make_due(ledger)
    claim = claim_one(ledger)
    ledger.finish(claim, outcome(CaseState.PARKED))
    send_round(ledger, claim.case.case_id)
    assert not claim_one(ledger).case.unseen_finding


def test_acknowledged_once(ledger: Ledger) -> None:
    """What waits for it is due, and said so in its history; a second word changes nothing."""
    ledger.sweeps.begin("me", 0.0)
    accept(ledger, found_by_sweep())
    make_due(ledger)
    claim = claim_one(ledger)
    ledger.finish(claim, outcome(CaseState.AWAITING_APPROVAL))
    assert ledger.sweeps.acknowledge("alice", "all of them are ours") == 1
    assert ledger.case(claim.case.case_id).case.state is CaseState.DUE
    assert ledger.case(claim.case.case_id).history[-1].actor == "alice"
    assert ledger.sweeps.acknowledge("bob", "again") == 0
    seen = ledger.sweeps.acknowledged()
    assert seen is not None
    assert seen.by == "alice"
