"""The decorator that lets a driver's method be struck by a fault, and logs each call of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tests.lab.inside.faults import Fault, Faults, How, When

T = TypeVar("T")
Method = Callable[..., T]


def struck(subject: Callable[..., str | None]) -> Callable[[Method[T]], Method[T]]:
    """Wrap a method of an object that has ``faults`` and ``raise_fault(fault)``.

    ``subject`` gets the method's arguments and returns the id of what it is about (``Fault``).
    """

    def wrap(method: Method[T]) -> Method[T]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> T:
            about = subject(*args, **kwargs)
            name = method.__name__
            self.faults.note(method=name, subject=about, phase="begin")
            outcome = "raised"
            try:
                result = _carry_out(self, name, about, lambda: method(self, *args, **kwargs))
                outcome = "returned"
            finally:
                self.faults.note(method=name, subject=about, phase="end", outcome=outcome)
            return result

        return call

    return wrap


def first_volume(volume: Any, *_: Any, **__: Any) -> str:
    """Return the id of the volume that a method of Cinder's driver is asked about first."""
    return str(volume["id"])


def second_volume(_context: Any, volume: Any, *_: Any, **__: Any) -> str:
    """Return the same where a context goes before it."""
    return str(volume["id"])


def _carry_out(driver: Any, name: str, subject: str | None, act: Callable[[], T]) -> T:
    faults: Faults = driver.faults
    if (fault := faults.take(name, subject)) is None:
        return act()
    if fault.when is When.BEFORE:
        _strike(driver, fault, subject)
        return act()
    result = act()
    _strike(driver, fault, subject)
    return result


def _strike(driver: Any, fault: Fault, subject: str | None) -> None:
    match fault.how:
        case How.RAISE:
            driver.raise_fault(fault)
        case How.HANG:
            driver.faults.hang(fault.seconds, subject)
