"""A loop in its thread: how it ends, and who hears of its death."""

from __future__ import annotations

import threading
import time

import pytest

from consumer.service import Loop


def test_loop_that_is_told_to_stop_ends_well() -> None:
    """A stop that was asked for -> no death, and wait() says that all is well."""
    died = threading.Event()
    loop = Loop("listener", lambda stop: stop.wait() and None, died.set)
    loop.start()
    loop.ask_to_stop()
    assert loop.wait(5.0)
    assert not died.is_set()


def test_loop_that_raises_is_a_death_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An error out of the loop -> logged with its traceback, on_death called, wait() says no."""

    def broken(stop: threading.Event) -> None:
        raise KeyError("a bug")

    died = threading.Event()
    loop = Loop("publisher", broken, died.set)
    loop.start()
    assert died.wait(5.0)
    assert not loop.wait(5.0)
    assert "the publisher failed" in caplog.text
    assert "Traceback" in caplog.text


def test_loop_that_returns_unasked_is_a_death_too(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that ends by itself -> the service is not whole any more, so it counts as death."""
    died = threading.Event()
    loop = Loop("worker", lambda stop: None, died.set)
    loop.start()
    assert died.wait(5.0)
    assert not loop.wait(5.0)
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
    assert not loop.wait(5.0)
    assert not died.is_set()


def test_loop_that_hangs_is_left_behind_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that does not end -> wait() gives up when its time is over, and says so."""
    released = threading.Event()
    loop = Loop("listener", lambda stop: released.wait() and None, lambda: None)
    loop.start()
    loop.ask_to_stop()
    began = time.monotonic()
    assert not loop.wait(0.1)
    assert time.monotonic() - began < 2.0
    assert "the listener did not stop in time" in caplog.text
    released.set()


def test_loop_that_never_started_has_ended_well() -> None:
    """Start failed before it -> wait() does not block."""
    assert Loop("worker", lambda stop: None, lambda: None).wait(5.0)
