"""Processes that are kept between requests: how many, for how long, and which one may be kept.

1. Whoever asks has the process to himself. It is ended afterwards, unless he says that he has its
   whole answer and nothing else: in doubt it is never asked again.
2. There are at most so many at once. Whoever finds none free waits, until his deadline.
3. One that nobody has asked for a while is ended, and so is one that is old: what it knows of the
   world outside, of its rights and its files, is never older than that.

They are started without code of ours between fork and exec, and no other process gets their pipes
(PEP 446), so that threads may start them, and they see it when this process ends.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from drivers.child import Deadline
from drivers.errors import TransientError

# A storm of cases comes within seconds; after a minute without a call the memory is worth more than
# the start (30 to 45 MB against a tenth of a second).
IDLE_SECONDS = 60.0
# A right that was taken away is used no longer than this (docs/decisions/0031).
LIFE_SECONDS = 600.0


class Endable(Protocol):
    """A process, or whatever has to be ended."""

    def end(self) -> None:
        """End it, whatever it does; returns soon."""


E = TypeVar("E", bound=Endable)


@dataclasses.dataclass(slots=True, eq=False)
class Borrowed(Generic[E]):
    """A process and who has it. ``is_sound`` is set by the one who has its whole answer."""

    one: E
    is_new: bool = True
    is_sound: bool = False
    started_at: float = dataclasses.field(default_factory=time.monotonic)
    free_since: float = 0.0

    @property
    def is_stale(self) -> bool:
        """Tell whether it was not asked for long, or is old."""
        now = time.monotonic()
        return now - self.free_since > IDLE_SECONDS or now - self.started_at > LIFE_SECONDS


class ProcessPool(Generic[E]):
    """At most ``most`` processes. Thread-safe."""

    def __init__(self, start: Callable[[], E], most: int) -> None:
        self._start = start
        self._most = most
        self._changed = threading.Condition()
        self._free: list[Borrowed[E]] = []
        self._number = 0
        self._is_closed = False

    @contextmanager
    def lend(self, deadline: Deadline, *, new: bool = False) -> Iterator[Borrowed[E]]:
        """Lend a process for one request: a ``new`` one, or one that is free.

        Blocks while as many as may be are at work, and raises TransientError at the deadline, or
        whatever starting one raises.
        """
        # What may block, ending and starting a process, is done outside the lock, with the place
        # already taken.
        lent, unwanted = self._taken(deadline, new=new)
        try:
            for one in unwanted:
                one.end()
            # A place was counted for it: whatever raises from here on, ``finally`` gives it back.
            lent = lent or Borrowed(self._start())
            yield lent
        finally:
            self._take_back(lent)

    @property
    def at_work(self) -> int:
        """How many are lent now."""
        with self._changed:
            return self._number - len(self._free)

    def close(self) -> None:
        """End those that are free now, and the others when they come back."""
        with self._changed:
            self._is_closed = True
            ended, self._free = self._free, []
            self._number -= len(ended)
        for lent in ended:
            lent.one.end()

    def _taken(self, deadline: Deadline, *, new: bool) -> tuple[Borrowed[E] | None, list[E]]:
        """Take a free one, or the place for a new one; with those that have to be ended first."""
        with self._changed:
            # Asked again below: the wait may have ended by the deadline, or another thread was
            # faster.
            self._changed.wait_for(self._is_room, max(deadline.left_seconds, 0.0))
            if not self._is_room():
                raise TransientError(
                    f"Nothing done: {self._most} requests at once are under way already."
                )
            # With room, but no time: a process that is asked now would be killed before it answers.
            if deadline.left_seconds <= 0:
                raise TransientError("Nothing done: no time was left.")
            unwanted = [lent for lent in self._free if lent.is_stale]
            self._free = [lent for lent in self._free if lent not in unwanted]
            self._number -= len(unwanted)
            # The last one that came back: the others get old enough to be ended.
            taken = None if new or not self._free else self._free.pop()
            if taken is None and self._number >= self._most:
                # All places are taken by idle ones, and a new one is wanted: the one that is idle
                # for longest goes.
                unwanted.append(self._free.pop(0))
            elif taken is None:
                self._number += 1
            return taken, [lent.one for lent in unwanted]

    def _is_room(self) -> bool:
        return bool(self._free) or self._number < self._most

    def _take_back(self, lent: Borrowed[E] | None) -> None:
        # In doubt it is ended: an answer that nobody took would be taken for the next question's.
        if lent is not None and lent.is_sound and self._kept(lent):
            return
        if lent is not None:
            lent.one.end()
        with self._changed:
            # The place is free only now, after the end: at most so many processes are there at any
            # time.
            self._number -= 1
            self._changed.notify_all()

    def _kept(self, lent: Borrowed[E]) -> bool:
        """Put it among the free ones, unless the pool was closed."""
        # Under one lock: a pool that is closed in between would never end it.
        with self._changed:
            if self._is_closed:
                return False
            lent.is_new = lent.is_sound = False
            lent.free_since = time.monotonic()
            self._free.append(lent)
            self._changed.notify_all()
            return True
