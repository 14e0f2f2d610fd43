"""What may still act on a volume, as a claimed case gets to know it, on each database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.ledger import Claim, Ledger, Replay
from consumer.ledger.database.tables import claims, intents
from consumer.ledger.work.late import NOVA_TRIES
from handlers.case import CaseState, LateCalls, StepKind, StepResult
from handlers.notification import Notification, Operation, Phase, Source
from tests.unit.consumer.ledger.making import (
    INSTANCE,
    REQUEST,
    VOLUME,
    accept,
    age_notifications,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
    told,
)

DETACH, START, END, ERROR = Operation.DETACH, Phase.START, Phase.END, Phase.ERROR
DELETE = StepKind.CINDER_DELETE_ATTACHMENT
BEGAN_AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOBODY = LateCalls()
HOST = "compute1"
OTHER = "another-volume"


def nova(phase: Phase, seconds: float = 0.0, **fields: Any) -> Notification:
    """Return what Nova says of the detach, so long after it began by its own clock."""
    known: dict[str, Any] = {
        "source": Source.NOVA_VERSIONED, "publisher_id": f"nova-compute:{HOST}",
        "instance_id": INSTANCE, "request_id": REQUEST, "own_request_id": REQUEST,
        "published_at": BEGAN_AT + timedelta(seconds=seconds),
    }  # fmt: skip
    return told(DETACH, phase, **known | fields)


def error(seconds: float, **fields: Any) -> Notification:
    """Return Nova's legacy error, whose publisher is named in another way."""
    legacy = {"source": Source.NOVA_LEGACY, "publisher_id": f"compute.{HOST}"}
    return nova(ERROR, seconds, **legacy | fields)


def tries(number: int = NOVA_TRIES, **fields: Any) -> list[Notification]:
    """Return Cinder's starts, one for each try of Nova's."""
    known = {"request_id": REQUEST} | fields
    return [told(DETACH, START, own_request_id=f"try-{n}", **known) for n in range(number)]


def late_of(ledger: Ledger) -> LateCalls:
    """Return what a case of the volume is told; there is exactly one that is due."""
    make_due(ledger)
    return claim_one(ledger).case.late


def asked(
    ledger: Ledger,
    claim: Claim,
    kind: StepKind = DELETE,
    result: StepResult | None = StepResult.INDETERMINATE,
    request_id: str = "req-ours",
) -> datetime:
    """Write down one call of ours for a claimed case, and its end; return when at the latest."""
    casefile = ledger.casefile(claim)
    casefile.intend(
        kind, request_id=request_id, target={"attachment_id": "att-1"}, evidence={"a": "look"},
        lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    if result is not None:
        casefile.result(request_id, result, "")
    made = ledger.case(claim.case.case_id).intents[-1]
    return made.result_at or made.intended_at


def detach_case(ledger: Ledger, volume_id: str = VOLUME) -> Claim:
    """Open the detach's case, which is due, and claim it."""
    accept(ledger, error(0.0, volume_id=volume_id, attachment_id="att-1"))
    make_due(ledger)
    return claim_one(ledger, "w2")


# -- our own calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [CaseState.PARKED, CaseState.CLOSED])
def test_a_call_of_another_case_is_known(ledger: Ledger, state: CaseState) -> None:
    """The attach case's delete gave no answer -> the detach case knows, open or closed as it is."""
    due_case(ledger)
    claim = claim_one(ledger)
    at = asked(ledger, claim)
    ledger.finish(claim, outcome(state))
    other = detach_case(ledger)
    assert (other.case.operation, other.case.intents) == (DETACH, ())
    assert other.case.late == LateCalls(asked_at=at)


def test_a_call_that_a_crash_left_open_is_known(ledger: Ledger) -> None:
    """A worker ended in the midst of its call -> the volume's next case knows of it."""
    case_id = due_case(ledger)
    claim = claim_one(ledger)
    at = asked(ledger, claim, result=None)
    expire_leases(ledger)
    accept(ledger, error(0.0, attachment_id="att-1"))
    make_due(ledger)
    first = claim_one(ledger, "w2")
    ledger.finish(first, outcome(CaseState.PARKED))
    second = claim_one(ledger, "w2")
    assert case_id in {first.case.case_id, second.case.case_id}
    assert first.case.late == second.case.late == LateCalls(asked_at=at)


def test_a_call_that_a_crash_left_open_is_as_young_as_its_lease_was(ledger: Ledger) -> None:
    """The look before a call was slow, then the worker ended -> as of the end of the lease."""
    due_case(ledger)
    claim = claim_one(ledger)
    asked(ledger, claim, result=None)
    with ledger._database.engine.begin() as connection:
        long_ago = claim.claimed_at - timedelta(seconds=700)
        connection.execute(intents.update().values(intended_at=long_ago))
        ran_out_at = claim.claimed_at - timedelta(seconds=10)
        connection.execute(claims.update().values(lease_expires_at=ran_out_at))
    accept(ledger, error(0.0, attachment_id="att-1"))
    make_due(ledger)
    first = claim_one(ledger, "w2")
    ledger.finish(first, outcome(CaseState.PARKED))
    second = claim_one(ledger, "w2")
    assert first.case.late == second.case.late == LateCalls(asked_at=ran_out_at)


def test_a_replayed_case_knows_of_its_own_and_of_others_calls(ledger: Ledger) -> None:
    """Parked with a call that gave no answer and sent round again -> nothing is forgotten."""
    case_id = due_case(ledger)
    claim = claim_one(ledger)
    at = asked(ledger, claim)
    ledger.finish(claim, outcome(CaseState.PARKED))
    ledger.replay(Replay("delivery-1", "0" * 64, "cinder", "alice", "again"), case_id)
    assert claim_one(ledger).case.late == LateCalls(asked_at=at)


@pytest.mark.parametrize("result", [StepResult.DONE, StepResult.REFUSED, StepResult.WITHHELD])
def test_a_call_that_was_answered_or_not_made_is_over(ledger: Ledger, result: StepResult) -> None:
    """Nothing of ours is under way -> nothing is told."""
    due_case(ledger)
    claim = claim_one(ledger)
    asked(ledger, claim, result=result)
    asked(ledger, claim, StepKind.CINDER_RESERVE, request_id="req-2")
    ledger.finish(claim, outcome(CaseState.PARKED))
    assert detach_case(ledger).case.late == NOBODY


def test_the_last_call_counts_and_another_volume_s_does_not(ledger: Ledger, second: Ledger) -> None:
    """Two calls without an answer, and one on another volume -> each volume's own, the latest."""
    due_case(ledger)
    claim = claim_one(ledger)
    asked(ledger, claim)
    at = asked(ledger, claim, StepKind.BACKEND_FORCE_DETACH, request_id="req-2")
    ledger.finish(claim, outcome(CaseState.PARKED))
    accept(ledger, error(0.0, volume_id=OTHER), error(0.0, attachment_id="att-1"))
    make_due(ledger)
    taken = second.claim("w2", limit=2, lease_seconds=60.0, deadlines=True)
    late = {claim.case.volume_id: claim.case.late for claim in taken}
    assert late == {VOLUME: LateCalls(asked_at=at), OTHER: NOBODY}


# -- tries of Nova's and Cinder's ------------------------------------------------------------------


def test_the_last_try_without_an_end_is_known(ledger: Ledger) -> None:
    """Nova's tries were heard, and no end of any -> the time of the last one, to both cases."""
    accept(ledger, nova(START), *tries())
    age_notifications(ledger, 100)
    last = told(DETACH, START, request_id=REQUEST, own_request_id="the-last")
    accept(ledger, last, error(300.0))
    make_due(ledger)
    claim = claim_one(ledger)
    heard_at = claim.case.late.detach_tried_at
    assert heard_at is not None
    assert claim.claimed_at - heard_at < timedelta(seconds=50)
    ledger.finish(claim, outcome(CaseState.PARKED))
    due_case(ledger)
    assert late_of(ledger).detach_tried_at == heard_at


def test_a_try_that_cinder_ended_is_over(ledger: Ledger) -> None:
    """Each start has the end of its own request, whichever came first -> nothing may act."""
    ends = [told(DETACH, END, request_id=REQUEST, own_request_id=f"try-{n}") for n in range(2)]
    accept(ledger, ends[0], *tries(2), ends[1], error(300.0))
    assert late_of(ledger).detach_tried_at is None


def test_a_try_that_another_one_s_end_followed_is_not_over(ledger: Ledger) -> None:
    """The first try timed out and the second won -> the first may act, whoever has the volume."""
    won = told(DETACH, END, request_id=REQUEST, own_request_id="try-1")
    accept(ledger, *tries(2), won, error(300.0))
    assert late_of(ledger).detach_tried_at is not None


def test_tries_of_an_attach_s_clean_up_are_known_to_the_attach(ledger: Ledger) -> None:
    """The clean-up begins to detach and does not end -> the attach's case knows of both."""
    accept(
        ledger,
        told(Operation.ATTACH, START, attachment_id="att-1", request_id=REQUEST),
        told(DETACH, START, attachment_id="att-1", request_id=REQUEST, own_request_id="x"),
        attach_error(attachment_id="att-1"),
    )
    make_due(ledger)
    taken = ledger.claim("w1", limit=1, lease_seconds=60.0, deadlines=True)
    for claim in taken:
        assert claim.case.late.attach_tried_at is not None
        assert claim.case.late.detach_tried_at is not None
        assert claim.case.late.asked_at is None


@pytest.mark.parametrize("operation", [DETACH, Operation.ATTACH])
def test_a_start_that_is_replayed_is_no_new_try(ledger: Ledger, operation: Operation) -> None:
    """A person replays a start that is long over -> nothing is waited for once more."""
    start = told(operation, START, request_id=REQUEST, own_request_id="try-0")
    accept(ledger, start)
    age_notifications(ledger, 100_000)
    ledger.replay(Replay("delivery-1", "0" * 64, "replay", "alice", "again"), start)
    make_due(ledger)
    claim = claim_one(ledger)
    heard_at = claim.case.late.detach_tried_at or claim.case.late.attach_tried_at
    assert heard_at is not None
    assert claim.claimed_at - heard_at > timedelta(seconds=99_000)


@pytest.mark.parametrize(("number", "over"), [(4, False), (5, True)])
def test_a_replayed_start_does_not_count_among_the_tries(
    ledger: Ledger, number: int, over: bool
) -> None:
    """A start of a quick failure is replayed -> four tries do not become five, nor five six."""
    starts = tries(number)
    accept(ledger, nova(START), *starts, error(0.4))
    ledger.replay(Replay("delivery-1", "0" * 64, "replay", "alice", "again"), starts[0])
    assert (late_of(ledger).detach_tried_at is None) is over


# -- refused at once -------------------------------------------------------------------------------


def test_tries_that_were_refused_at_once_are_over(ledger: Ledger) -> None:
    """Nova made its five tries and failed within a moment -> each was answered; none may act."""
    accept(ledger, nova(START), *tries(), error(0.4))
    assert late_of(ledger).detach_tried_at is None


def test_the_versioned_error_that_names_no_volume_tells_it_too(ledger: Ledger) -> None:
    """Nova's legacy format is off -> its compute.exception has the request, host and time."""
    named = nova(ERROR, 0.4, event_type="compute.exception", volume_id=None, instance_id=None)
    exception = dataclasses.replace(named, operation=None)
    accept(ledger, nova(START), *tries(), exception)
    assert late_of(ledger).detach_tried_at is None


NOT_PROVEN: dict[str, list[Notification]] = {
    "took longer": [nova(START), *tries(), error(2.0)],
    "one error took longer": [nova(START), *tries(), error(0.4), error(40.0)],
    "four tries heard": [nova(START), *tries(4), error(0.4)],
    "six tries heard": [nova(START), *tries(6), error(0.4)],
    "no start of Nova's": [*tries(), error(0.4)],
    "no error of Nova's": [nova(START), *tries(), error(0.4, request_id="b", own_request_id="b")],
    "two operations in the request": [
        nova(START, own_request_id="a"), nova(START), *tries(), error(0.4)
    ],
    "another operation's error": [nova(START), *tries(), error(0.4, own_request_id="b")],
    "another host's clock": [nova(START), *tries(), error(0.4, publisher_id="compute.other")],
    "a clock that was set back": [nova(START), *tries(), error(-1.0)],
    "no time": [nova(START, published_at=None), *tries(), error(0.4)],
    "six tries, one of them ended": [
        nova(START), *tries(6), told(DETACH, END, request_id=REQUEST, own_request_id="try-5"),
        error(0.4),
    ],
    "four tries, one of them heard twice": [nova(START), *tries(4), *tries(1), error(0.4)],
    "another volume's": [nova(START, volume_id=OTHER), *tries(), error(0.4)],
}  # fmt: skip


@pytest.mark.parametrize("said", NOT_PROVEN.values(), ids=NOT_PROVEN)
def test_what_does_not_prove_it_leaves_the_tries(
    ledger: Ledger, said: Iterable[Notification]
) -> None:
    """It only looks like a refusal at once -> the tries may still act."""
    fresh = [dataclasses.replace(n, message_id=f"{i}-{n.message_id}") for i, n in enumerate(said)]
    accept(ledger, *fresh)
    make_due(ledger)
    taken = ledger.claim("w1", limit=9, lease_seconds=60.0, deadlines=True)
    assert {c.case.late.detach_tried_at is None for c in taken if c.case.volume_id == VOLUME} == {
        False
    }
