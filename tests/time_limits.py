"""Time limits of calls that end when a test says so.

By the clock, a test would have to choose: a limit so short that a busy machine does not keep to it,
or one so long that the test takes its time.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from tests.bus import until


class TimeLimits:
    """Stands for the time limits that ``consumer/work/driver_calls.py`` sets.

    The time of a call is up when a driver has begun to hang and has said so by ``is_up``, and not
    before it returns otherwise. ``seconds`` are the limits that were asked for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        self._hanging = threading.Semaphore(0)
        monkeypatch.setattr(concurrent.futures, "wait", self._wait)

    def is_up(self) -> None:
        """End the wait for one call."""
        self._hanging.release()

    def _wait(self, futures: tuple[Future[Any]], seconds: float) -> None:
        self.seconds.append(seconds)
        while not self._hanging.acquire(blocking=False):
            if wait(futures, 0.01).done:
                return


class HandTimer:
    """A ``threading.Timer`` that the test lets go off."""

    def __init__(
        self, interval: float, function: Callable[..., None], args: tuple[Any, ...] = ()
    ) -> None:
        self.interval, self._function, self._args = interval, function, args

    def start(self) -> None:
        """Wait for the test."""

    def cancel(self) -> None:
        """Nothing goes off by itself."""

    def goes_off(self) -> None:
        """Do what it was set for."""
        self._function(*self._args)


def hand_timers(monkeypatch: pytest.MonkeyPatch) -> list[HandTimer]:
    """Make every timer from now on one of these; return them, the last one last."""
    made: list[HandTimer] = []

    def timer(*args: Any) -> HandTimer:
        made.append(HandTimer(*args))
        return made[-1]

    monkeypatch.setattr(threading, "Timer", timer)
    return made


def time_is_up(
    timers: list[HandTimer], call: Callable[[], object], when: Callable[[], object] = lambda: True
) -> BaseException | None:
    """Make a call whose timer goes off as soon as something is true; return what it raises."""
    before = len(timers)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(call)
        until(lambda: len(timers) > before and when())
        assert not hung.done()
        timers[-1].goes_off()
        return hung.exception()
