"""What is done about a fence at a look: by what the cluster says, and nothing by time alone."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from consumer.ledger.work.fences import Fence, FenceState
from consumer.work.fences import SKEW, UNSURE, Doing, decide, is_about_to_end

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1000)
STANDS = Fence(
    fence_id=1, backend="storage-1@rbd", cluster="fsid-1", address="192.0.2.1:0/1001",
    client="client.1", host="compute-1", volume_id="v", attachment_id="a", case_id="c",
    state=FenceState.STANDING, reason="r", fenced_at=NOW - timedelta(days=3), until=LATER,
    renewed_at=None, ended_at=None, ended_by=None, ended_why=None,
)  # fmt: skip
RAN_OUT = dataclasses.replace(STANDS, until=NOW - timedelta(seconds=1))
MAYBE = dataclasses.replace(STANDS, state=FenceState.INTENDED, until=None)
LIFTING = dataclasses.replace(STANDS, state=FenceState.LIFTING)
OLD = dataclasses.replace(MAYBE, fenced_at=NOW - UNSURE - timedelta(seconds=1))
NEW = dataclasses.replace(MAYBE, fenced_at=NOW - UNSURE + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("fence", "until", "off", "doing"),
    [
        (STANDS, LATER, False, Doing.NOTHING),
        (STANDS, LATER, True, Doing.NOTHING),
        (STANDS, LATER + timedelta(days=1), False, Doing.NOTE),
        (dataclasses.replace(STANDS, until=None), LATER, False, Doing.NOTE),
        (MAYBE, LATER, False, Doing.NOTE),
        (LIFTING, LATER, False, Doing.NOTHING),
        (STANDS, None, False, Doing.REMOVED),
        (STANDS, None, True, Doing.REMOVED),
        (RAN_OUT, None, False, Doing.MAKE_AGAIN),
        (RAN_OUT, None, True, Doing.RAN_OUT),
        (dataclasses.replace(STANDS, until=NOW + SKEW / 2), None, False, Doing.MAKE_AGAIN),
        (dataclasses.replace(STANDS, until=None), None, False, Doing.MAKE_AGAIN),
        (LIFTING, None, False, Doing.LIFTED),
        (OLD, None, False, Doing.NEVER_MADE),
        (NEW, None, False, Doing.NOTHING),
    ],
)
def test_what_is_done(fence: Fence, until: datetime | None, off: bool, doing: Doing) -> None:
    """By whether the cluster refuses the client, and whether it was to -> one thing is done."""
    assert decide(fence, until, NOW, host_off=off) is doing


def test_a_fence_of_years_is_looked_at_now_and_then() -> None:
    """It has days left -> no close look; seconds left, or none -> a close one, until it stands."""
    assert not is_about_to_end(STANDS, NOW)
    assert is_about_to_end(RAN_OUT, NOW)
    assert is_about_to_end(dataclasses.replace(STANDS, until=NOW + timedelta(seconds=90)), NOW)
    assert not is_about_to_end(dataclasses.replace(LIFTING, until=NOW), NOW)
    assert not is_about_to_end(MAYBE, NOW)
