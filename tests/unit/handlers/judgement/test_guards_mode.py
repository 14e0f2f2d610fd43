"""The operator's mode: observe lets nothing through, approve what a person said yes to."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from handlers.judgement.approval import fingerprint
from handlers.judgement.guards import Guard
from handlers.judgement.plan import make_plan
from handlers.judgement.policy import BackendPolicy, Mode
from tests.unit.handlers.judgement.acting_pictures import (
    BESIDE,
    COMPLETED,
    GHOST,
    GHOST_HELD,
    HELD,
    LEFT,
    ROLLED,
    STRAY,
    UC1,
    UC2,
    UC3,
    UC4,
    UC5,
)
from tests.unit.handlers.judgement.pictures import H1, NOW, SEEING, Picture, access
from tests.unit.handlers.judgement.test_guards import objecting


def with_mode(mode: Mode) -> BackendPolicy:
    """Return a policy of that mode."""
    return BackendPolicy(mode=mode)


@pytest.mark.parametrize(
    "picture", [UC1, UC2, COMPLETED, UC3, UC4, ROLLED, UC5, HELD, BESIDE, STRAY, LEFT, GHOST]
)
def test_observe_lets_nothing_through(picture: Picture) -> None:
    """Mode observe, any plan, approved or not -> observe."""
    assert objecting(picture, with_mode(Mode.OBSERVE)) is Guard.OBSERVE
    assert objecting(approved(picture), with_mode(Mode.OBSERVE)) is Guard.OBSERVE


def approved(picture: Picture, at: datetime = NOW) -> Picture:
    """Return the picture with its own plan approved."""
    steps = make_plan(picture.diagnosis, SEEING)
    mark = fingerprint(picture.diagnosis, steps)
    return picture.but(approved_fingerprint=mark, approved_at=at)


@pytest.mark.parametrize(
    "picture", [UC1, UC2, COMPLETED, UC3, UC4, UC5, BESIDE, STRAY, LEFT, GHOST]
)
def test_approve_wants_a_yes_to_this_very_plan(picture: Picture) -> None:
    """No yes, or one to another plan -> ask; a yes to this one -> go."""
    policy = with_mode(Mode.APPROVE)
    assert objecting(picture, policy) is Guard.APPROVE
    assert objecting(approved(picture).but(approved_fingerprint="another"), policy) is Guard.APPROVE
    assert objecting(approved(picture), policy) is None


def begun(picture: Picture, at: datetime) -> Picture:
    """Return the picture with its first write made at this time, its whole plan approved at NOW."""
    made = (dataclasses.replace(picture.case.intents[0], intended_at=at),)
    return picture.but(intents=made, approved_fingerprint="the whole plan's", approved_at=NOW)


@pytest.mark.parametrize("picture", [HELD, GHOST_HELD, ROLLED])
def test_what_was_approved_and_begun_is_carried_on_without_a_second_yes(picture: Picture) -> None:
    """Our own reserve or roll on record -> the rest of the approved plan; unapproved -> ask."""
    policy = with_mode(Mode.APPROVE)
    assert objecting(begun(picture, NOW), policy) is None
    assert objecting(begun(picture, NOW), policy, SEEING, NOW + timedelta(days=1)) is None
    assert objecting(picture, policy) is Guard.APPROVE


@pytest.mark.parametrize("picture", [HELD, GHOST_HELD, ROLLED])
def test_what_was_begun_before_the_approval_is_not_the_approved_plan(picture: Picture) -> None:
    """Our reserve or roll is older than a yes to another plan -> ask; a yes to the rest -> go."""
    policy = with_mode(Mode.APPROVE)
    before = NOW - timedelta(seconds=1)
    assert objecting(begun(picture, before), policy) is Guard.APPROVE
    assert objecting(approved(picture), policy) is None


@pytest.mark.parametrize("picture", [UC1, UC4, UC5, GHOST])
def test_approval_ends(picture: Picture) -> None:
    """It is older than approval_valid_seconds -> ask again; as old -> go; without a time -> ask."""
    policy = dataclasses.replace(with_mode(Mode.APPROVE), approval_valid_seconds=600.0)
    given = NOW - timedelta(seconds=600)
    assert objecting(approved(picture, given), policy) is None
    late = approved(picture, given - timedelta(seconds=1))
    assert objecting(late, policy) is Guard.APPROVE
    assert objecting(approved(picture).but(approved_at=None), policy) is Guard.APPROVE


def test_approval_is_used_up_by_what_it_was_for() -> None:
    """The case was mended since, and the same trouble came back -> ask; mended before it -> go."""
    policy = with_mode(Mode.APPROVE)
    assert objecting(approved(UC1).but(mended_at=NOW), policy) is Guard.APPROVE
    assert objecting(approved(UC1).but(mended_at=NOW - timedelta(seconds=1)), policy) is None


def test_the_mode_never_hides_a_deeper_reason() -> None:
    """Observe or approve, and the host logged in -> the session is told, not the mode."""
    for picture in (UC1, GHOST, GHOST_HELD):
        logged_in = picture.but(backend=(access(H1, sessions=1),))
        for mode in Mode:
            assert objecting(logged_in, with_mode(mode)) is Guard.LIVE_SESSION


def test_ghost_behind_a_shared_session_or_an_unanswered_call_is_left_alone() -> None:
    """Other volumes behind the session, a driver that cannot keep it out, no service -> as any."""
    auto = with_mode(Mode.AUTO)
    assert objecting(GHOST, auto) is None
    assert objecting(GHOST.but(shared_targets=True), auto) is Guard.SHARED_TARGETS
    assert objecting(GHOST.but(service_up=False), auto) is Guard.SERVICE_DOWN
    cannot = dataclasses.replace(SEEING, revokes_access=False)
    assert objecting(GHOST, auto, cannot) is Guard.CANNOT_REVOKE


def test_finding_that_nobody_has_seen() -> None:
    """Only a sweep told of it, the list is not acknowledged -> asked in auto too; a yes -> go."""
    unseen, auto = UC1.but(unseen_finding=True), with_mode(Mode.AUTO)
    assert objecting(unseen, auto) is Guard.UNSEEN_FINDING
    assert objecting(unseen.but(unseen_finding=False), auto) is None
    assert objecting(approved(unseen), auto) is None


def test_the_mode_comes_before_what_nobody_has_seen() -> None:
    """The mode lets nothing through without a person anyway -> the mode is what is said."""
    unseen = UC1.but(unseen_finding=True)
    assert objecting(unseen, with_mode(Mode.OBSERVE)) is Guard.OBSERVE
    assert objecting(unseen, with_mode(Mode.APPROVE)) is Guard.APPROVE
