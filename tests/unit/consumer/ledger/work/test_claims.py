"""Who works on which volume: claims, leases and fences, on each database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import Claim, Ledger
from consumer.ledger.database.tables import claims
from consumer.ledger.work import claims as claims_of
from handlers.case import CaseState, ClaimLostError, StepKind, StepResult
from handlers.notification import Operation
from tests.unit.consumer.ledger.breaking import slow_down
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    CONNECTOR,
    INSTANCE,
    REQUEST,
    VOLUME,
    accept,
    at_once,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
    renew,
    seen,
    told,
)


def claim(
    ledger: Ledger, owner: str = "w1", limit: int = 10, *, deadlines: bool = True, **more: object
) -> tuple[Claim, ...]:
    """Claim up to ten."""
    return ledger.claim(owner, limit=limit, lease_seconds=60, deadlines=deadlines, **more)


def test_claimed_case(ledger: Ledger) -> None:
    """A due case that messages filled in -> the claim carries all that the ledger holds of it."""
    row = seen("attached", host="compute1", connector=CONNECTOR)
    named = {"attachment_id": ATTACHMENT, "backend": "labhost@lab", "own_request_id": "req-own"}
    accept(ledger, told(request_id=REQUEST, attachments=(row,), **named), attach_error())
    make_due(ledger)
    held = claim_one(ledger)
    case = held.case
    assert (case.volume_id, case.operation) == (VOLUME, Operation.ATTACH)
    assert (case.attachment_id, case.instance_id) == (ATTACHMENT, INSTANCE)
    assert (case.host, case.backend, case.connector) == ("compute1", "labhost@lab", CONNECTOR)
    assert set(case.request_ids) == {REQUEST, "req-own"}
    assert (case.state, case.attempts, case.failures) == (CaseState.DUE, 1, 0)
    assert (case.intents, case.approved_by) == ((), None)
    assert (case.mended_at, case.mended_attempt) == (None, 0)
    assert (held.owner, held.fence) == ("w1", 1)
    assert held.lease_expires_at - held.claimed_at == timedelta(seconds=60)


def test_not_due(ledger: Ledger) -> None:
    """A case whose time has not come -> not claimed."""
    accept(ledger, attach_error())
    assert claim(ledger) == ()


def test_oldest_first(ledger: Ledger) -> None:
    """More due cases than asked for -> the ones that were due first, in that order."""
    for number in range(5):
        accept(ledger, attach_error(volume_id=f"vol-{number}", request_id=f"req-{number}"))
    make_due(ledger)
    assert [c.case.volume_id for c in claim(ledger, limit=3)] == ["vol-0", "vol-1", "vol-2"]
    assert [c.case.volume_id for c in claim(ledger, limit=3)] == ["vol-3", "vol-4"]


def test_held(ledger: Ledger, second: Ledger) -> None:
    """A case in hand -> nobody else gets it, from whichever process."""
    due_case(ledger)
    assert len(claim(ledger)) == 1
    assert claim(ledger) == claim(second, "w2") == ()


def test_one_per_volume(ledger: Ledger) -> None:
    """Two due cases of one volume -> never both at once; the second when the first is done."""
    accept(ledger, attach_error(), told(Operation.DETACH, attachment_id="att-2"))
    make_due(ledger)
    (first,) = claim(ledger)
    assert claim(ledger) == ()
    ledger.finish(first, outcome(CaseState.CLOSED))
    (other,) = claim(ledger)
    assert other.case.case_id != first.case.case_id
    assert other.fence == first.fence + 1


def test_busy_volume_in_front(ledger: Ledger) -> None:
    """Many due cases of a volume in hand come first -> those of other volumes are still found."""
    names = [f"att-{number}" for number in range(30)]
    accept(ledger, *(told(attachment_id=name) for name in names))
    accept(ledger, told(volume_id="vol-2"))
    make_due(ledger)
    assert [c.case.volume_id for c in claim(ledger, limit=1)] == [VOLUME]
    assert [c.case.volume_id for c in claim(ledger, limit=1)] == ["vol-2"]


def test_deadlines_off(ledger: Ledger) -> None:
    """The listener is behind -> cases that wait for their end are left, others are claimed."""
    accept(ledger, told(attachment_id="att-2", volume_id="vol-2"), attach_error())
    make_due(ledger)
    assert [c.case.volume_id for c in claim(ledger, deadlines=False)] == [VOLUME]
    (late,) = claim(ledger, deadlines=True)
    assert (late.case.volume_id, late.case.state) == ("vol-2", CaseState.WAITING)


def test_excluded_backends(ledger: Ledger) -> None:
    """A backend that has no slot free -> its cases wait; those of unknown backends do not."""
    for number, backend in enumerate(["h@full", "h@free", None]):
        accept(ledger, told(volume_id=f"vol-{number}", backend=backend))
    make_due(ledger)
    found = claim(ledger, exclude_backends={"h@full"})
    assert {c.case.backend for c in found} == {"h@free", None}


def test_many_claimers(ledger: Ledger, second: Ledger) -> None:
    """Eight claimers on two engines at once -> each case exactly once, all of them claimed."""
    volumes = [f"vol-{number}" for number in range(60)]
    accept(ledger, *(attach_error(volume_id=v, request_id=f"req-{v}") for v in volumes))
    make_due(ledger)

    def claimer(mine: Ledger, owner: str) -> Callable[[], list[str]]:
        def work() -> list[str]:
            found: list[str] = []
            while got := claim(mine, owner, limit=3):
                found += [c.case.volume_id for c in got]
            return found

        return work

    works = [claimer((ledger, second)[n % 2], f"w{n}") for n in range(8)]
    found = [volume for result in at_once(*works) for volume in result]
    found += [c.case.volume_id for c in claim(ledger, limit=60)]
    assert sorted(found) == sorted(volumes)


def test_lease_ran_out(ledger: Ledger, second: Ledger) -> None:
    """A lease ran out -> another takes over, with a higher fence; all the first does is refused."""
    due_case(ledger)
    first = claim_one(ledger)
    casefile = ledger.casefile(first)
    _intend(ledger, first)
    expire_leases(ledger)
    taken = claim_one(second, "w2")
    assert (taken.fence, taken.case.attempts) == (first.fence + 1, 2)
    assert [i.result for i in taken.case.intents] == [StepResult.INTENDED]
    with pytest.raises(ClaimLostError):
        _intend(ledger, first, "req-late")
    with pytest.raises(ClaimLostError):
        casefile.result("req-ours", StepResult.DONE, "")
    with pytest.raises(ClaimLostError, match="w1"):
        ledger.finish(first, outcome(CaseState.CLOSED))
    with pytest.raises(ClaimLostError):
        ledger.release(first)
    with pytest.raises(ClaimLostError):
        renew(ledger, first, 60)
    record = ledger.case(first.case.case_id)
    assert (record.claimed_by, record.case.state) == ("w2", CaseState.DUE)
    assert [i.result for i in record.intents] == [StepResult.INTENDED]


def test_expired_but_untaken(ledger: Ledger) -> None:
    """A lease ran out, nobody took over -> no new call may be meant, but the end is recorded."""
    due_case(ledger)
    held = claim_one(ledger)
    _intend(ledger, held)
    expire_leases(ledger)
    with pytest.raises(ClaimLostError):
        _intend(ledger, held, "req-late")
    with pytest.raises(ClaimLostError):
        renew(ledger, held, 60)
    ledger.casefile(held).result("req-ours", StepResult.DONE, "")
    ledger.finish(held, outcome(CaseState.CLOSED))
    assert ledger.case(held.case.case_id).case.state is CaseState.CLOSED


def test_renew(ledger: Ledger) -> None:
    """A lease is renewed for longer, then for shorter -> it is extended, never shortened."""
    due_case(ledger)
    held = claim_one(ledger, lease_seconds=60)
    renew(ledger, held, 600)
    longer = ledger.case(held.case.case_id).lease_expires_at
    renew(ledger, held, 1)
    assert longer is not None
    assert longer - held.lease_expires_at >= timedelta(seconds=500)
    assert ledger.case(held.case.case_id).lease_expires_at == longer


def test_hand_back(ledger: Ledger) -> None:
    """A case is handed back -> due at once, the attempt not counted, the fence not reused."""
    due_case(ledger)
    first = claim_one(ledger)
    ledger.release(first)
    again = claim_one(ledger, "w2")
    assert (first.case.attempts, again.case.attempts) == (1, 1)
    assert again.fence == first.fence + 1
    with pytest.raises(ClaimLostError):
        ledger.release(first)


def test_hand_back_after_a_crash(ledger: Ledger) -> None:
    """A worker dies, the next one hands the case back -> the crash counts against it no longer."""
    due_case(ledger)
    claim_one(ledger)
    expire_leases(ledger)
    second = claim_one(ledger, "w2")
    ledger.release(second)
    assert second.case.crashes == 1
    assert claim_one(ledger, "w3").case.crashes == 0


def test_owner_alone_is_not_enough(ledger: Ledger) -> None:
    """The same owner claims the same case again -> its older claim is still refused."""
    due_case(ledger)
    first = claim_one(ledger)
    expire_leases(ledger)
    claim_one(ledger)
    with pytest.raises(ClaimLostError):
        ledger.finish(first, outcome(CaseState.CLOSED))


def test_claim_and_finish_at_once(ledger: Ledger, second: Ledger) -> None:
    """Slow workers claim and finish at once -> each case is attempted once, none after its end."""
    volumes = [f"vol-{number}" for number in range(20)]
    accept(ledger, *(attach_error(volume_id=v, request_id=f"req-{v}") for v in volumes))
    make_due(ledger)
    slow_down(ledger, second)

    def work(mine: Ledger, owner: str) -> None:
        while got := claim(mine, owner, limit=2):
            for one in got:
                mine.finish(one, outcome(CaseState.CLOSED))

    at_once(*(lambda n=n: work((ledger, second)[n % 2], f"w{n}") for n in range(4)))
    found = [ledger.case(case.case_id).case for case in ledger.cases(state=CaseState.CLOSED)]
    assert [case.attempts for case in found] == [1] * 20


def test_finished_between_the_look_and_the_lock(
    ledger: Ledger, second: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker claims and ends the case just before its volume is locked -> left alone."""
    if ledger._database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: nothing comes between")
    due_case(ledger)
    lock = claims_of._lock_free

    def too_late(*given: Any) -> Any:
        monkeypatch.setattr(claims_of, "_lock_free", lock)
        second.finish(claim_one(second, "w2"), outcome(CaseState.CLOSED))
        return lock(*given)

    monkeypatch.setattr(claims_of, "_lock_free", too_late)
    assert claim(ledger, "w1") == ()
    (case,) = ledger.cases()
    assert (case.state, case.attempts) == (CaseState.CLOSED, 1)


def test_claims_row_outlives_the_claim(ledger: Ledger) -> None:
    """A claim is released -> its row and fence stay, without owner and lease."""
    due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    with ledger._database.engine.begin() as connection:
        rows = connection.execute(sa.select(claims).where(claims.c.volume_id == VOLUME)).all()
    assert [(r.owner, r.case_id, r.lease_expires_at, r.fence) for r in rows] == [
        (None, None, None, 1)
    ]


def _intend(ledger: Ledger, held: Claim, request_id: str = "req-ours") -> None:
    ledger.casefile(held).intend(
        StepKind.CINDER_UNRESERVE,
        request_id=request_id,
        target={},
        evidence={},
        lease_seconds=1,
        announcement=None,
    )


def test_crashes_are_counted_until_an_attempt_finishes(ledger: Ledger) -> None:
    """A case's leases run out again and again -> each counts; a finished attempt clears it."""
    due_case(ledger)
    crashes = []
    for _ in range(3):
        crashes.append(claim_one(ledger).case.crashes)
        expire_leases(ledger)
    last = claim_one(ledger)
    ledger.finish(last, outcome(CaseState.DUE, delay_seconds=0.0))
    assert [*crashes, last.case.crashes, claim_one(ledger).case.crashes] == [0, 1, 2, 3, 0]


def test_room_bounds_the_claims_of_a_backend(ledger: Ledger) -> None:
    """Three due cases of a full backend, two of another -> one of the first, both of the second."""
    for number in range(5):
        backend = "slow@lvm" if number < 3 else "quick@lvm"
        error = attach_error(
            volume_id=f"v{number}", instance_id=f"i{number}", request_id=f"r{number}",
            backend=backend,
        )  # fmt: skip
        accept(ledger, error)
    make_due(ledger)
    room = {"slow@lvm": 1, "quick@lvm": 5}
    claims = ledger.claim("w", limit=5, lease_seconds=60, deadlines=True, room=room.__getitem__)
    assert sorted(c.case.backend or "" for c in claims) == ["quick@lvm", "quick@lvm", "slow@lvm"]
