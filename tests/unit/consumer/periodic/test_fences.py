"""What is done about a fence at a look: by what the cluster says, and nothing by time alone."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.ledger.periodic.fences import Fence, FenceState
from consumer.periodic.fences import (
    SKEW,
    STILL_REFUSED,
    UNSURE,
    Doing,
    FenceWatch,
    decide,
    is_about_to_end,
)
from drivers.base import Attachment, Capabilities, Fences, Observation, StorageDriver, VolumeRef
from handlers.judgement.policy import BackendPolicy, Mode
from tests.bus import new_ledger
from tests.unit.consumer.ledger.periodic.test_fences import BACKEND, made

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


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("as_of", "doing"),
    [
        (LATER - SKEW - timedelta(seconds=1), Doing.REMOVED),
        (LATER - SKEW / 2, Doing.MAKE_AGAIN),
        (LATER + timedelta(seconds=1), Doing.MAKE_AGAIN),
    ],
)
@pytest.mark.parametrize("database", [NOW - 1000 * HOUR, LATER - HOUR, LATER + HOUR])
def test_whether_it_had_run_out_is_said_by_the_cluster_s_clock(
    database: datetime, as_of: datetime, doing: Doing
) -> None:
    """The database's clock is an hour behind, or ahead -> what is done is the same."""
    assert decide(STANDS, None, database, host_off=False, as_of=as_of) is doing


def test_a_fence_of_years_is_looked_at_now_and_then() -> None:
    """It has days left -> no close look; seconds left, or none -> a close one, until it stands."""
    assert not is_about_to_end(STANDS, NOW)
    assert is_about_to_end(RAN_OUT, NOW)
    assert is_about_to_end(dataclasses.replace(STANDS, until=NOW + timedelta(seconds=90)), NOW)
    assert not is_about_to_end(dataclasses.replace(LIFTING, until=NOW), NOW)
    assert not is_about_to_end(MAYBE, NOW)


class Empty(StorageDriver):
    """A cluster that refuses nobody, until it is asked to."""

    capabilities = Capabilities(sees_connections=True, sees_hosts=True, by_learned_client=True)

    def __init__(self, cluster: str) -> None:
        super().__init__(BACKEND, {})
        self.cluster = cluster
        self.refused: dict[str, datetime] = {}
        self.as_of: datetime | None = None

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Nobody asks."""
        raise AssertionError

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Nobody asks."""
        raise AssertionError

    detach = terminate_connection

    def fences(self, *, timeout_seconds: float) -> Fences:
        """Tell whom it refuses."""
        del timeout_seconds
        return Fences(self.cluster, dict(self.refused), self.as_of)

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Refuse a client."""
        self.refused[address] = LATER
        return self.fences(timeout_seconds=timeout_seconds)


def watched(ledger: Ledger, driver: Empty, mode: Mode = Mode.AUTO) -> bool:
    """Look once, as a service whose backend is this cluster; tell whether one is about to end."""
    return FenceWatch(
        ledger,
        lambda _: driver,
        lambda _: BackendPolicy(mode=mode),
        held=lambda _: False,
        count=lambda _: None,
    ).watch_once()


@pytest.mark.parametrize("lifting", [False, True])
@pytest.mark.parametrize("until", [NOW - timedelta(days=1), LATER])
def test_another_cluster_says_nothing_of_a_fence(
    tmp_path: Path, until: datetime, lifting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The backend was given another cluster, which has no such fence -> on record as it was.

    The cluster that has it may still do so: it is neither removed, nor lifted, nor made elsewhere.
    """
    with new_ledger(tmp_path) as ledger:
        number, other = made(ledger), Empty("fsid-2")
        ledger.fences.seen(number, "fsid-1", until)
        if lifting:
            ledger.fences.begin_lift(number, "anna", "compute1 was started anew")
        before = ledger.fences.one(number)
        watched(ledger, other)
        now = ledger.fences.one(number)
        assert dataclasses.replace(now, trouble=None) == before
        assert "is cluster fsid-2 now" in (now.trouble or "")
        assert other.refused == {}
    assert "is cluster fsid-2 now" in caplog.text


@pytest.mark.parametrize(("mode", "again"), [(Mode.OBSERVE, 0), (Mode.APPROVE, 1), (Mode.AUTO, 1)])
def test_in_mode_observe_none_is_made_again(
    tmp_path: Path, mode: Mode, again: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A fence ran out, and its backend is in mode observe -> nothing is written, and it is told."""
    with new_ledger(tmp_path) as ledger:
        number, cluster = made(ledger), Empty("fsid-1")
        ledger.fences.seen(number, "fsid-1", NOW - timedelta(days=400))
        watched(ledger, cluster, mode)
        fence = ledger.fences.one(number)
        assert fence.state is FenceState.STANDING
        assert ("is not made again" in (fence.trouble or "")) is (not again)
    assert len(cluster.refused) == again
    assert ("is not made again now" in caplog.text) is (not again)


def test_a_database_whose_clock_is_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten minutes behind the cluster, a fence ends in five by the latter -> watched closely; told.

    Where it is gone then it had run out, and is made again; by the database it was removed.
    """
    with new_ledger(tmp_path) as ledger:
        number, until = made(ledger), ledger.now() + timedelta(minutes=15)
        address, driver = ledger.fences.one(number).address, Empty("fsid-1")
        driver.refused, driver.as_of = {address: until}, ledger.now()
        assert not watched(ledger, driver)
        driver.as_of = until - timedelta(minutes=1, seconds=30)
        assert watched(ledger, driver)
        assert "s behind that of the cluster" in caplog.text
        driver.refused, driver.as_of = {}, until + timedelta(seconds=1)
        watched(ledger, driver)
        assert driver.refused == {address: LATER}


def test_a_lift_that_does_not_end_is_shown_until_it_does(tmp_path: Path) -> None:
    """A person lifts it and the cluster refuses the client still -> on record; then it is over."""
    with new_ledger(tmp_path) as ledger:
        number, cluster = made(ledger), Empty("fsid-1")
        cluster.refused = {ledger.fences.one(number).address: LATER}
        watched(ledger, cluster)
        ledger.fences.begin_lift(number, "anna", "compute1 was started anew")
        watched(ledger, cluster)
        assert ledger.fences.one(number).trouble == STILL_REFUSED
        cluster.refused.clear()
        watched(ledger, cluster)
        over = ledger.fences.one(number)
        assert (over.state, over.trouble) == (FenceState.OVER, None)
