"""What our own writes so far tell: results, order and attachment all count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from handlers import intents
from handlers.case import Case, Intent, StepKind, StepResult
from tests.unit.handlers.judgement.pictures import NOW, A, B, Picture, intent

FORCE, ROLL, NOVA = (
    StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_ROLL_DETACHING, StepKind.NOVA_DETACH,
)  # fmt: skip
DID_NOTHING = (StepResult.REFUSED, StepResult.TRANSIENT, StepResult.WITHHELD)
COMPLETE = StepKind.CINDER_COMPLETE
MAY_HAVE = (StepResult.DONE, StepResult.INDETERMINATE, StepResult.INTENDED)


def case(*made: Intent, **facts: object) -> Case:
    """Return a case with these intents, oldest first."""
    return Picture(attempts=9).but(intents=made, **facts).case


def test_the_six_results_are_sorted_by_whether_they_may_have_acted() -> None:
    """Every result -> it may have acted, or it surely did not."""
    assert {*DID_NOTHING, *MAY_HAVE} == set(StepResult)
    for result in StepResult:
        kept = intents.may_have_acted((intent(FORCE, result),))
        assert bool(kept) is (result in MAY_HAVE)


def test_since_recovered_leaves_out_the_mending_attempt() -> None:
    """Mended in attempt 2 -> only what attempt 3 did."""
    made = [intent(FORCE, attempt=n) for n in (1, 2, 3)]
    assert intents.since_recovered(case(*made, mended_attempt=2)) == (made[2],)
    assert intents.since_recovered(case(*made)) == tuple(made)


@pytest.mark.parametrize(
    ("results", "held"),
    [
        ("", False),
        ("reserve:done", True),
        ("reserve:intended", True),
        ("reserve:indeterminate", True),
        ("reserve:refused", False),
        ("reserve:transient", False),
        ("reserve:withheld", False),
        ("reserve:done reserve:refused", True),
        ("reserve:done unreserve:done", False),
        ("reserve:done unreserve:indeterminate", True),
        ("reserve:done unreserve:intended", True),
        ("reserve:done unreserve:refused", True),
        ("reserve:done roll_detaching:done", True),
        ("reserve:done unreserve:done reserve:done", True),
        ("reserve:indeterminate reserve:done unreserve:done", True),
    ],
)
def test_a_bare_reserve_is_ours_as_far_as_our_own_writes_tell(results: str, held: bool) -> None:
    """Our reserves and unreserves in order -> whether a bare reserve is taken for ours."""
    made = [
        intent(StepKind(f"cinder.{kind}"), StepResult(result))
        for kind, _, result in (step.partition(":") for step in results.split())
    ]
    assert intents.holds_reserve(case(*made)) is held


@pytest.mark.parametrize("result", list(StepResult))
def test_only_the_driver_s_success_is_its_word(result: StepResult) -> None:
    """A force detach of any result -> released only where it was done, asked where it may be."""
    made = case(intent(FORCE, result))
    assert intents.released_by_driver(made) is (result is StepResult.DONE)
    assert intents.asked_driver(made) is (result in MAY_HAVE)


def test_another_call_s_success_is_not_the_driver_s_word() -> None:
    """Cinder's delete was done -> the driver has reported nothing."""
    other = case(intent(StepKind.CINDER_DELETE_ATTACHMENT))
    assert not intents.released_by_driver(other)
    assert not intents.asked_driver(other)


@pytest.mark.parametrize("result", MAY_HAVE)
def test_a_wish_is_pending_once_it_may_have_been_rolled(result: StepResult) -> None:
    """A roll that may have acted -> pending; for another attachment, or none -> not."""
    assert intents.wish_pending(case(intent(ROLL, result)), A)
    assert not intents.wish_pending(case(intent(ROLL, result, attachment_id=B)), A)
    assert not intents.wish_pending(case(intent(ROLL, result, attachment_id=None)), A)


@pytest.mark.parametrize("result", StepResult)
def test_an_attach_is_ours_once_it_may_have_been_completed(result: StepResult) -> None:
    """A complete that may have acted -> completed, its Nova detach perhaps pending; else not."""
    ours, may_have = case(intent(COMPLETE, result)), result in MAY_HAVE
    assert intents.completed(ours, A) is may_have
    assert intents.wish_pending(ours, A) is (COMPLETE if may_have else None)
    assert not intents.completed(case(intent(COMPLETE, result, attachment_id=B)), A)
    assert not intents.completed(case(intent(ROLL, result)), A)


@pytest.mark.parametrize("result", DID_NOTHING)
def test_a_roll_that_did_nothing_leaves_no_wish(result: StepResult) -> None:
    """A roll that was not made -> nothing pending."""
    assert not intents.wish_pending(case(intent(ROLL, result)), A)


@pytest.mark.parametrize(
    ("answer", "pending"),
    [
        (StepResult.DONE, False),
        (StepResult.REFUSED, False),
        (StepResult.TRANSIENT, True),
        (StepResult.WITHHELD, True),
        (StepResult.INDETERMINATE, True),
        (StepResult.INTENDED, True),
    ],
)
def test_only_nova_s_answer_ends_the_wish(answer: StepResult, pending: bool) -> None:
    """Rolled, then a Nova detach of any result -> pending until Nova has answered."""
    found = intents.wish_pending(case(intent(ROLL), intent(NOVA, answer)), A)
    assert found is (ROLL if pending else None)
    again = case(intent(ROLL), intent(NOVA, answer), intent(ROLL))
    assert intents.wish_pending(again, A)


def test_an_answer_about_something_else_ends_no_wish() -> None:
    """Another attachment's detach, or another call -> the wish is pending still."""
    assert intents.wish_pending(case(intent(ROLL), intent(NOVA, attachment_id=B)), A)
    assert intents.wish_pending(case(intent(ROLL), intent(FORCE)), A)


def test_the_last_nova_detach_that_may_have_been_accepted_is_found() -> None:
    """Several, of several attachments and results -> the last of this one that may have acted."""
    first, last = intent(NOVA, attempt=1), intent(NOVA, StepResult.INDETERMINATE, attempt=4)
    noise = [
        intent(NOVA, StepResult.REFUSED, attempt=6), intent(NOVA, attempt=7, attachment_id=B),
        intent(ROLL, attempt=8),
    ]  # fmt: skip
    assert intents.last_nova_detach(case(first, last, *noise), A) == last
    assert intents.last_nova_detach(case(*noise), A) is None


def test_the_last_call_without_an_answer_is_found_by_its_time() -> None:
    """Calls that reach the backend, answered or not -> the latest time of those that were not."""
    early, late = NOW - timedelta(seconds=9), NOW - timedelta(seconds=3)
    made = [
        intent(FORCE, StepResult.INTENDED, intended_at=late),
        intent(StepKind.CINDER_DELETE_ATTACHMENT, StepResult.INDETERMINATE, intended_at=early),
        intent(StepKind.CINDER_UNRESERVE, StepResult.INDETERMINATE, intended_at=early),
        intent(NOVA, StepResult.INTENDED, intended_at=early),
        intent(FORCE, StepResult.DONE, intended_at=NOW),
        intent(StepKind.CINDER_RESERVE, StepResult.INDETERMINATE, intended_at=NOW),
        intent(FORCE, StepResult.INTENDED, intended_at=None),
    ]
    assert intents.last_unanswered_at(case(*made)) == late
    assert intents.last_unanswered_at(case(*made[1:])) == early
    assert intents.last_unanswered_at(case(*made[2:3])) == early
    assert intents.last_unanswered_at(case(*made[3:4])) == early
    assert intents.last_unanswered_at(case(*made[4:])) is None
