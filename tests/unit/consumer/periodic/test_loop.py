"""A loop in its thread: how it ends, and who hears of its death."""

from __future__ import annotations

import threading
import time

import pytest

from consumer.periodic.loop import Loop, Pulse
from tests.bus import until


def test_loop_that_is_told_to_stop_ends_well() -> None:
    """A stop that was asked for -> no death, and wait() says that all is well."""
    died = threading.Event()
    loop = Loop("listener", lambda stop: stop.wait() and None, died.set)
    loop.start()
    loop.ask_to_stop()
    assert loop.wait(60.0)
    assert not died.is_set()


def test_loop_that_raises_is_a_death_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An error out of the loop -> logged with its traceback, on_death called, wait() says no."""

    def broken(stop: threading.Event) -> None:
        raise KeyError("a bug")

    died = threading.Event()
    loop = Loop("publisher", broken, died.set)
    loop.start()
    assert died.wait(60.0)
    assert not loop.wait(60.0)
    assert "the publisher failed" in caplog.text
    assert "Traceback" in caplog.text


def test_loop_that_returns_unasked_is_a_death_too(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that ends by itself -> the service is not whole any more, so it counts as death."""
    died = threading.Event()
    loop = Loop("worker", lambda stop: None, died.set)
    loop.start()
    assert died.wait(60.0)
    assert not loop.wait(60.0)
    assert "the worker ended unexpectedly" in caplog.text


def test_error_on_the_way_down_is_no_second_death() -> None:
    """An error after the stop was asked for -> not well, but nobody is called."""

    def breaks_at_the_end(stop: threading.Event) -> None:
        stop.wait()
        raise RuntimeError

    died = threading.Event()
    loop = Loop("worker", breaks_at_the_end, died.set)
    loop.start()
    loop.ask_to_stop()
    assert not loop.wait(60.0)
    assert not died.is_set()


def test_loop_that_hangs_is_left_behind_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that does not end -> wait() gives up when its time is over, and says so."""
    released = threading.Event()
    loop = Loop("listener", lambda stop: released.wait() and None, lambda: None)
    loop.start()
    loop.ask_to_stop()
    began = time.monotonic()
    assert not loop.wait(0.1)
    assert time.monotonic() - began < 60.0
    assert "the listener did not stop in time" in caplog.text
    released.set()


def test_loop_that_never_started_has_ended_well() -> None:
    """Start failed before it -> wait() does not block."""
    assert Loop("worker", lambda stop: None, lambda: None).wait(60.0)


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_pulse_is_each_question_and_each_pause() -> None:
    """A loop asks whether to stop, or has paused -> it has turned; in a long call it has not."""
    clock = Clock()
    pulse = Pulse(clock)
    clock.now += 50.0
    assert pulse.still_seconds() == 50.0
    assert not pulse.is_set()
    assert pulse.still_seconds() == 0.0
    clock.now += 30.0
    assert not pulse.wait(0.0)
    assert pulse.still_seconds() == 0.0


def test_a_pause_is_no_standstill() -> None:
    """A loop pauses for ten minutes -> it is well all the time."""
    clock = Clock()
    pulse = Pulse(clock)
    paused = threading.Thread(target=pulse.wait)
    paused.start()
    until(lambda: pulse.still_seconds() == 0.0 and pulse._waits)
    clock.now += 600.0
    assert pulse.still_seconds() == 0.0
    pulse.set()
    paused.join()


def test_a_loop_that_hangs_is_stuck_after_its_bound() -> None:
    """A turn takes longer than its bound -> the loop says so; when it goes on, it is well again."""
    hangs, turns = threading.Event(), threading.Event()

    def run(stop: threading.Event) -> None:
        while not stop.is_set():
            turns.set()
            hangs.wait(60.0)

    loop = Loop("worker", run, lambda: None, bound_seconds=0.1)
    assert loop.stuck() is None
    loop.start()
    assert turns.wait(60.0)
    until(lambda: loop.stuck() is not None)
    assert "the worker has not turned for" in (loop.stuck() or "")
    hangs.set()
    until(lambda: loop.stuck() is None)
    loop.ask_to_stop()
    assert loop.wait(60.0)
    assert loop.stuck() is None
