"""The fences on record, on each database: made with their intent, and how each comes to its end."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.ledger import Claim, DecisionKind, Ledger, NoSuchFenceError, WrongStateError
from consumer.ledger.periodic.fences import FenceState
from handlers.case import CaseFile, PausedError, StepKind, StepResult
from tests.unit.consumer.ledger.making import ATTACHMENT, VOLUME, claim_one, due_case

ADDRESS, BACKEND = "192.0.2.1:0/1001", "storage-1@rbd"
UNTIL = datetime(2029, 11, 28, 12, 0, tzinfo=UTC)
TARGET: dict[str, Any] = {
    "attachment_id": ATTACHMENT, "instance_id": "inst-1", "host": "compute1", "initiator": None,
    "client": ADDRESS, "client_number": "client.1", "also_loses": [],
}  # fmt: skip


def working(ledger: Ledger) -> tuple[Claim, CaseFile]:
    """Return the case file of a case that is worked on, its backend known."""
    due_case(ledger)
    claim = claim_one(ledger)
    file = ledger.casefile(claim)
    file.locate(BACKEND)
    return claim, file


def intend(file: CaseFile, request_id: str = "req-1", **changes: Any) -> None:
    """Write down that a client is about to be ended."""
    file.intend(
        StepKind.BACKEND_FORCE_DETACH, request_id=request_id, target=TARGET | changes,
        evidence={"reason": "its server is deleted"}, lease_seconds=60.0, announcement=None,
    )  # fmt: skip


def made(ledger: Ledger) -> int:
    """Make a fence; return its number."""
    _, file = working(ledger)
    intend(file)
    file.result("req-1", StepResult.DONE, "")
    return ledger.fences.standing()[0].fence_id


def test_it_is_on_record_before_it_is_made(ledger: Ledger) -> None:
    """A client is about to be ended -> its fence is on record, with all that it is about."""
    claim, file = working(ledger)
    intend(file)
    (fence,) = ledger.fences.standing()
    assert (fence.state, fence.address, fence.client, fence.backend, fence.host) == (
        FenceState.INTENDED, ADDRESS, "client.1", BACKEND, "compute1",
    )  # fmt: skip
    assert (fence.volume_id, fence.attachment_id, fence.case_id, fence.reason) == (
        VOLUME, ATTACHMENT, claim.case.case_id, "its server is deleted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "states"),
    [
        (StepResult.DONE, [FenceState.STANDING]),
        (StepResult.INDETERMINATE, [FenceState.INTENDED]),
        (StepResult.TRANSIENT, []),
        (StepResult.REFUSED, []),
        (StepResult.WITHHELD, []),
    ],
)
def test_what_the_call_came_to(
    ledger: Ledger, result: StepResult, states: list[FenceState]
) -> None:
    """Made -> it stands; no answer -> it may; nothing done for sure -> there is none."""
    _, file = working(ledger)
    intend(file)
    file.result("req-1", result, "so it was")
    assert [fence.state for fence in ledger.fences.standing()] == states


def test_a_call_that_ends_no_client_makes_none(ledger: Ledger) -> None:
    """A release by host, and one of Cinder's -> no fence is on record."""
    _, file = working(ledger)
    plain = {name: TARGET[name] for name in ("attachment_id", "instance_id", "host", "initiator")}
    file.intend(
        StepKind.BACKEND_FORCE_DETACH, request_id="req-1", target=plain, evidence={"reason": "r"},
        lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    file.result("req-1", StepResult.DONE, "")
    assert ledger.fences.every(10) == ()


def test_one_client_has_one_fence(ledger: Ledger) -> None:
    """The call gave no answer and is made again -> the same fence, and it stands."""
    _, file = working(ledger)
    intend(file)
    file.result("req-1", StepResult.INDETERMINATE, "")
    intend(file, "req-2")
    file.result("req-2", StepResult.REFUSED, "another client")
    (fence,) = ledger.fences.standing()
    assert fence.state is FenceState.INTENDED, "the first call may have made it"
    intend(file, "req-3", client="192.0.2.1:0/2002")
    assert len(ledger.fences.standing()) == 2


def test_the_second_call_that_was_answered_makes_it_stand(ledger: Ledger) -> None:
    """The first call gave no answer, the second did -> it stands."""
    _, file = working(ledger)
    intend(file)
    file.result("req-1", StepResult.INDETERMINATE, "")
    intend(file, "req-2")
    file.result("req-2", StepResult.DONE, "")
    assert [fence.state for fence in ledger.fences.standing()] == [FenceState.STANDING]


def test_it_is_seen_and_made_again(ledger: Ledger) -> None:
    """The cluster tells until when, and later it is made again -> both are on record."""
    number = made(ledger)
    ledger.fences.seen(number, "fsid-1", UNTIL)
    fence = ledger.fences.one(number)
    assert (fence.cluster, fence.until, fence.renewed_at) == ("fsid-1", UNTIL, None)
    ledger.fences.renewed(number, "fsid-1", UNTIL + timedelta(days=1))
    fence = ledger.fences.one(number)
    assert fence.until == UNTIL + timedelta(days=1)
    assert fence.renewed_at is not None


def test_a_person_lifts_it(ledger: Ledger) -> None:
    """Lifting begins, twice, and ends -> a decision for the log; it is over and on record."""
    number = made(ledger)
    lifting = ledger.fences.begin_lift(number, "anna", "compute1 was started anew")
    assert (lifting.state, lifting.address) == (FenceState.LIFTING, ADDRESS)
    ledger.fences.begin_lift(number, "anna", "again, it gave no answer")
    ledger.fences.over(number, "anna", "compute1 was started anew")
    assert ledger.fences.standing() == ()
    (fence,) = ledger.fences.every(10)
    assert (fence.state, fence.ended_by, fence.ended_why) == (
        FenceState.OVER, "anna", "compute1 was started anew",
    )  # fmt: skip
    first, _ = ledger.take_decisions()
    assert (first.kind, first.case_id, first.detail["address"]) == (
        DecisionKind.LIFTED, fence.case_id, ADDRESS,
    )  # fmt: skip
    with pytest.raises(WrongStateError, match="is over"):
        ledger.fences.begin_lift(number, "anna", "again")


def test_none_is_made_while_a_person_lifts_it(ledger: Ledger) -> None:
    """A case wants to fence a client that a person lets in just now -> it waits; then it is made.

    The cluster might carry out the lift last, and the case would rely on a fence that is gone.
    """
    _, file = working(ledger)
    intend(file)
    file.result("req-1", StepResult.DONE, "")
    (fence,) = ledger.fences.standing()
    ledger.fences.begin_lift(fence.fence_id, "anna", "compute1 was started anew")
    with pytest.raises(PausedError, match=f"a person lifts fence {fence.fence_id} "):
        intend(file, "req-2")
    ledger.fences.over(fence.fence_id, "anna", "compute1 was started anew")
    intend(file, "req-2")
    file.result("req-2", StepResult.DONE, "")
    assert [one.state for one in ledger.fences.standing()] == [FenceState.STANDING]


def test_what_may_still_be_made_is_not_lifted(ledger: Ledger) -> None:
    """The call gave no answer yet, and a person lifts the fence -> refused, and it stays on record.

    The cluster might carry out the call last: a client would be refused for years, on no record.
    """
    _, file = working(ledger)
    intend(file)
    (fence,) = ledger.fences.standing()
    with pytest.raises(WrongStateError, match="may still act"):
        ledger.fences.begin_lift(fence.fence_id, "anna", "compute1 was started anew")
    file.result("req-1", StepResult.DONE, "")
    assert [one.state for one in ledger.fences.standing()] == [FenceState.STANDING]


@pytest.mark.parametrize("result", [StepResult.DONE, StepResult.REFUSED])
def test_one_that_the_watch_ended_in_the_midst_of_a_call_stands(
    ledger: Ledger, result: StepResult
) -> None:
    """The list was read before the call acted, and written down after -> the fence stands.

    Else a client would be refused for years, on no record. A call that did nothing makes none.
    """
    _, file = working(ledger)
    intend(file)
    file.result("req-1", StepResult.INDETERMINATE, "")
    (fence,) = ledger.fences.standing()
    intend(file, "req-2")
    ledger.fences.over(fence.fence_id, "detachd", "it was never made")
    file.result("req-2", result, "")
    standing = ledger.fences.standing()
    assert [one.fence_id for one in standing] == [fence.fence_id] * (result is StepResult.DONE)
    assert all((one.ended_at, one.until) == (None, None) for one in standing)


def test_what_is_over_stays_over(ledger: Ledger) -> None:
    """A watch that saw it before it ended writes late -> nothing of it changes."""
    number = made(ledger)
    ledger.fences.over(number, "detachd", "somebody removed it")
    before = ledger.fences.one(number)
    ledger.fences.seen(number, "fsid-1", UNTIL)
    ledger.fences.over(number, "bob", "again")
    assert dataclasses.asdict(ledger.fences.one(number)) == dataclasses.asdict(before)


def test_a_number_that_no_fence_has(ledger: Ledger) -> None:
    """No fence has this number -> it is said, with where to look."""
    with pytest.raises(NoSuchFenceError, match="fence list"):
        ledger.fences.begin_lift(7, "anna", "it is gone")


def test_what_was_over_for_long_is_deleted(ledger: Ledger) -> None:
    """Over before the retention -> gone; one that stands stays, however old."""
    number = made(ledger)
    ledger.prune(0.0, limit=100)
    assert [fence.fence_id for fence in ledger.fences.every(10)] == [number]
    ledger.fences.over(number, "anna", "started anew")
    ledger.prune(3600.0, limit=100)
    assert len(ledger.fences.every(10)) == 1
    ledger.prune(0.0, limit=100)
    assert ledger.fences.every(10) == ()


def test_how_many_and_how_old_by_backend(ledger: Ledger) -> None:
    """Two stand on one backend, one is over -> two, and the age of the older one."""
    _, file = working(ledger)
    for number in range(3):
        intend(file, f"req-{number}", client=f"192.0.2.1:0/{number + 1}")
        file.result(f"req-{number}", StepResult.DONE, "")
    last = ledger.fences.standing()[-1]
    ledger.fences.over(last.fence_id, "anna", "gone")
    ((backend, (count, age)),) = ledger.fences.ages().items()
    assert (backend, count) == (BACKEND, 2)
    assert 0 <= age < 60


def second(ledger: Ledger, *, cluster: str = "fsid-1") -> tuple[int, int]:
    """Have a client that two backends have fenced, the first in fsid-1; return both numbers."""
    first = made(ledger)
    ledger.fences.seen(first, "fsid-1", UNTIL)
    due_case(ledger, volume_id="volume-2", request_id="req-b", attachment_id="att-b")
    file = ledger.casefile(claim_one(ledger))
    file.locate("storage-2@rbd")
    intend(file, "req-2")
    file.result("req-2", StepResult.DONE, "")
    (other,) = (f.fence_id for f in ledger.fences.standing() if f.fence_id != first)
    ledger.fences.seen(other, cluster, UNTIL)
    return first, other


@pytest.mark.parametrize(
    ("cluster", "state"),
    [("fsid-1", FenceState.LIFTING), ("fsid-2", FenceState.STANDING)],
)
def test_a_lift_is_of_all_backends_of_that_cluster(
    ledger: Ledger, cluster: str, state: FenceState
) -> None:
    """Two backends have fenced one client -> lifted for both if it is one entry of one cluster."""
    first, other = second(ledger, cluster=cluster)
    ledger.fences.begin_lift(first, "anna", "compute1 was started anew")
    assert ledger.fences.one(other).state is state


def test_no_backend_fences_a_client_while_it_is_lifted_by_another(ledger: Ledger) -> None:
    """A person lifts it for one backend -> the case of another one waits."""
    number = made(ledger)
    ledger.fences.begin_lift(number, "anna", "compute1 was started anew")
    due_case(ledger, volume_id="volume-2", request_id="req-b", attachment_id="att-b")
    file = ledger.casefile(claim_one(ledger))
    file.locate("storage-2@rbd")
    with pytest.raises(PausedError, match=f"lifts fence {number}"):
        intend(file, "req-2")
