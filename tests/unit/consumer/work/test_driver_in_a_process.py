"""A backend whose driver runs in a process: what is counted, and what counts as under way."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.counting import CallGivenUp, HangingCalls
from consumer.work.driver_calls import BoundedDrivers, DriverEvent, Returned
from drivers.base import Attachment, Connector, StorageDriver, VolumeRef
from drivers.child_driver import ChildDriver, DriverFailedError
from drivers.errors import IndeterminateError
from tests.bus import until
from tests.time_limits import HandTimer, TimeLimits, hand_timers, time_is_up
from tests.unit.consumer.due import LAB, SLOW, backends
from tests.unit.drivers.hanging_in_a_process import Hanging, made

REF = VolumeRef("volume-1", LAB)
ROW = Attachment("volume-1", "row-1", "server-1", Connector(host="compute1"))
GRACE = 5.0


@pytest.fixture
def events() -> list[DriverEvent]:
    return []


@pytest.fixture
def bounded(tmp_path: Path, events: list[DriverEvent]) -> BoundedDrivers:
    """Give the drivers of two backends; every detach hangs, and a look at LAB fails."""

    def driver_of(backend: str) -> StorageDriver:
        plan = {"detach": (False, "hang"), "fences": (False, "foreign")}
        make = functools.partial(made, {"log": str(tmp_path / "log"), "plan": plan})
        return ChildDriver(Hanging, backend, {}, make, grace_seconds=GRACE, most=2)

    return BoundedDrivers(driver_of, backends(driver_grace_seconds=GRACE), report=events.append)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[HandTimer]:
    """Have the processes killed when the test says so."""
    return hand_timers(monkeypatch)


def detach(drivers: BoundedDrivers) -> None:
    """Make a call that hangs."""
    drivers(LAB).detach(REF, ROW, request_id="req-1", timeout_seconds=60.0)


def test_killed_call_is_counted_and_none_hangs(
    bounded: BoundedDrivers, events: list[DriverEvent], timers: list[HandTimer]
) -> None:
    """A write hangs and is killed -> indeterminate, counted as given up; no thread is lost."""
    bounded(LAB)
    raised = time_is_up(timers, lambda: detach(bounded))
    assert isinstance(raised, IndeterminateError)
    assert "is killed" in str(raised)
    assert CallGivenUp(LAB, "detach") in events
    assert not [event for event in events if isinstance(event, HangingCalls)]
    assert bounded.hanging() == ()
    assert bounded.stopped() == {}


def test_call_whose_process_cannot_be_killed_is_under_way(
    bounded: BoundedDrivers, timers: list[HandTimer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, and not gone -> given up as in a thread: under way until it is gone, then told."""
    limits = TimeLimits(monkeypatch)
    bounded(LAB)
    child = bounded._drivers[LAB]._driver._children._free[0].one  # type: ignore[attr-defined]
    gone, collect = threading.Event(), child._process.wait
    child._process.wait = lambda: (limits.is_up(), gone.wait(60), collect())
    raised = time_is_up(timers, lambda: detach(bounded))
    assert isinstance(raised, IndeterminateError)
    assert "the call is given up and may still act" in str(raised)
    (call,) = bounded.hanging()
    assert call.request_id == "req-1"
    gone.set()
    until(lambda: bounded.hanging() == ())
    taken: list[Returned] = []
    until(lambda: taken.extend(bounded.take_returned()) or taken)
    assert [(back.request_id, back.how) for back in taken] == [
        ("req-1", "detach: it failed with HungError")
    ]


def test_other_backend_is_not_slowed(bounded: BoundedDrivers, timers: list[HandTimer]) -> None:
    """A call of one backend hangs -> the other one answers meanwhile."""
    bounded(SLOW), bounded(LAB)
    before = len(timers)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(detach, bounded)
        until(lambda: len(timers) > before)
        limit = timers[-1]
        assert bounded(SLOW).observe(REF, timeout_seconds=60).connections
        assert not hung.done()
        limit.goes_off()
        assert isinstance(hung.exception(), IndeterminateError)


def test_error_of_no_kind_is_named_without_its_text(
    bounded: BoundedDrivers, events: list[DriverEvent]
) -> None:
    """The driver breaks its contract -> the name of the error is told, and no word of it."""
    with pytest.raises(DriverFailedError):
        bounded(LAB).fences(timeout_seconds=60)
    (problem,) = [event.problem for event in events if hasattr(event, "problem")]
    assert problem == "its storage driver failed with KeyError"
