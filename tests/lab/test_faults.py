"""The faults that the lab's drivers take from a directory, and how they strike a method."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.lab.inside.faults import Fault, Faults, How, When
from tests.lab.inside.struck import struck


class Driver:
    """Something with a method that faults can strike."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.done: list[str] = []

    def raise_fault(self, fault: Fault) -> None:
        """Raise as a driver would."""
        raise RuntimeError(fault.error or "the fault")

    @struck(lambda volume, **_: volume)
    def act(self, volume: str, *, extra: int = 0) -> int:
        """Do something."""
        self.done.append(volume)
        return extra


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """Give an empty directory."""
    return Faults(tmp_path / "faults")


@pytest.fixture
def driver(faults: Faults) -> Driver:
    """Give a driver that reads from it."""
    return Driver(faults)


def test_no_fault_no_harm(driver: Driver) -> None:
    """Nothing waits -> the method does its work; begin and end are in the log."""
    assert driver.act("v", extra=7) == 7
    assert [(c["method"], c["subject"], c["phase"]) for c in driver.faults.calls()] == [
        ("act", "v", "begin"),
        ("act", "v", "end"),
    ]


@pytest.mark.parametrize(("when", "done"), [(When.BEFORE, []), (When.AFTER, ["v"])])
def test_raises_so_often(driver: Driver, when: When, done: list[str]) -> None:
    """A fault for two calls -> both raise, before or after acting; the third goes well."""
    driver.faults.add(Fault("act", when=when, times=2, error="because"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="because"):
            driver.act("v")
    assert driver.done == done * 2
    assert driver.faults.left() == []
    driver.act("v")
    assert driver.done == [*done * 2, "v"]
    assert driver.faults.calls()[1]["outcome"] == "raised"


def test_one_volume_only(driver: Driver) -> None:
    """A fault for one volume -> others and other methods pass, and it goes on waiting."""
    driver.faults.add(Fault("act", subject="b"))
    driver.faults.add(Fault("other"))
    driver.act("a")
    assert len(driver.faults.left()) == 2
    with pytest.raises(RuntimeError):
        driver.act("b")


def test_the_oldest_strikes_first(driver: Driver) -> None:
    """Two faults for one call -> in the order in which they were set."""
    for word in ("first", "second"):
        driver.faults.add(Fault("act", error=word))
    for word in ("first", "second"):
        with pytest.raises(RuntimeError, match=word):
            driver.act("v")


def test_hangs_until_released(driver: Driver) -> None:
    """A hang -> the call has not acted; released -> it acts and returns as if nothing had been."""
    driver.faults.add(Fault("act", How.HANG))
    calling = threading.Thread(target=driver.act, args=("v",))
    calling.start()
    ends_at = time.monotonic() + 60
    while not driver.faults.hanging():
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    assert driver.done == []
    driver.faults.release()
    calling.join(60)
    assert (driver.done, driver.faults.hanging()) == (["v"], 0)


def test_hangs_for_so_long(driver: Driver) -> None:
    """A hang of a tenth of a second -> over by itself."""
    driver.faults.add(Fault("act", How.HANG, When.AFTER, seconds=0.1))
    before = time.monotonic()
    driver.act("v")
    assert time.monotonic() - before >= 0.1
    assert driver.faults.hanging() == 0


def test_cleared(driver: Driver) -> None:
    """What waits is taken back -> nothing strikes."""
    driver.faults.add(Fault("act"))
    driver.faults.clear()
    driver.act("v")
    assert driver.done == ["v"]


def test_cleared_for_one_volume(driver: Driver) -> None:
    """Faults and hangs of two volumes, one of them cleared -> the other's are as they were."""
    for volume in ("a", "b"):
        driver.faults.add(Fault("act", How.HANG, subject=volume))
        driver.faults.add(Fault("act", subject=volume))
    calling = {volume: threading.Thread(target=driver.act, args=(volume,)) for volume in "ab"}
    for thread in calling.values():
        thread.start()
    ends_at = time.monotonic() + 60
    while driver.faults.hanging() < 2:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    driver.faults.clear("a")
    calling["a"].join(60)
    assert (driver.done, driver.faults.hanging("a"), driver.faults.hanging("b")) == (["a"], 0, 1)
    assert [fault.subject for fault in driver.faults.left()] == ["b"]
    driver.faults.withdraw("b")
    assert (driver.faults.left(), driver.faults.hanging("b")) == ([], 1)
    driver.faults.release("b", at_most=1)
    calling["b"].join(60)
    assert driver.done == ["a", "b"]


def test_written_by_hand(driver: Driver) -> None:
    """A file with the method alone -> raises once, before it acts."""
    (driver.faults.directory / "1.json").write_text('{"method": "act"}')
    with pytest.raises(RuntimeError):
        driver.act("v")
    assert driver.faults.left() == []
