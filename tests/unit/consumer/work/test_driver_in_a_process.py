"""A backend whose driver runs in a process: what is counted, and what counts as under way."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.counting import CallGivenUp, HangingCalls
from consumer.work.driver_calls import BoundedDrivers, DriverEvent
from drivers.base import Attachment, Connector, StorageDriver, VolumeRef
from drivers.child_driver import ChildDriver, DriverFailedError
from drivers.errors import IndeterminateError
from tests.bus import until
from tests.unit.consumer.due import LAB, SLOW, backends
from tests.unit.drivers.hanging_in_a_process import Hanging, made

REF = VolumeRef("volume-1", LAB)
ROW = Attachment("volume-1", "row-1", "server-1", Connector(host="compute1"))
GRACE = 1.0


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


def detach(drivers: BoundedDrivers) -> None:
    """Make a call that hangs."""
    drivers(LAB).detach(REF, ROW, request_id="req-1", timeout_seconds=0.1)


def test_killed_call_is_counted_and_none_hangs(
    bounded: BoundedDrivers, events: list[DriverEvent]
) -> None:
    """A write hangs and is killed -> indeterminate, counted as given up; no thread is lost."""
    with pytest.raises(IndeterminateError, match=r"its process .* is killed"):
        detach(bounded)
    assert CallGivenUp(LAB, "detach") in events
    assert not [event for event in events if isinstance(event, HangingCalls)]
    assert bounded.hanging() == ()
    assert bounded.stopped() == {}


def test_call_whose_process_cannot_be_killed_is_under_way(bounded: BoundedDrivers) -> None:
    """Killed, and not gone -> given up as in a thread: under way until it is gone, then told."""
    bounded(LAB)
    child = bounded._drivers[LAB]._driver._children._free[0].one  # type: ignore[attr-defined]
    gone, collect = threading.Event(), child._process.wait
    child._process.wait = lambda: (gone.wait(60), collect())
    with pytest.raises(IndeterminateError, match="the call is given up and may still act"):
        detach(bounded)
    (call,) = bounded.hanging()
    assert call.request_id == "req-1"
    gone.set()
    until(lambda: bounded.hanging() == ())
    (back,) = bounded.take_returned()
    assert (back.request_id, back.how) == ("req-1", "detach: it failed with HungError")


def test_other_backend_is_not_slowed(bounded: BoundedDrivers) -> None:
    """A call of one backend hangs -> the other one answers meanwhile."""
    bounded(SLOW), bounded(LAB)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(bounded(LAB).detach, REF, ROW, request_id="req-1", timeout_seconds=1.0)
        assert bounded(SLOW).observe(REF, timeout_seconds=20).connections
        assert not hung.done()
        assert isinstance(hung.exception(), IndeterminateError)


def test_error_of_no_kind_is_named_without_its_text(
    bounded: BoundedDrivers, events: list[DriverEvent]
) -> None:
    """The driver breaks its contract -> the name of the error is told, and no word of it."""
    with pytest.raises(DriverFailedError):
        bounded(LAB).fences(timeout_seconds=20)
    (problem,) = [event.problem for event in events if hasattr(event, "problem")]
    assert problem == "its storage driver failed with KeyError"
