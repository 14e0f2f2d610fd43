"""The journal: every call that reached the simulated cloud, in order, with its outcome."""

from __future__ import annotations

import dataclasses
import threading
import time

UNDER_WAY = "under way"
OK = "ok"


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One call as it was asked. ``arguments`` are ids and host names, nothing secret."""

    actor: str
    method: str
    volume_id: str | None
    request_id: str | None
    timeout_seconds: float
    writes: bool
    arguments: tuple[tuple[str, str | None], ...] = ()

    @property
    def name(self) -> str:
        """``actor.method``, as faults and tests name it."""
        return f"{self.actor}.{self.method}"


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One entry of the journal.

    ``outcome`` is "ok", the name of the error's class, or "under way". The two times are
    ``time.monotonic`` seconds of the cloud's process; ``ended_seconds`` is None while under way.
    """

    number: int
    asked: Asked
    thread: str
    began_seconds: float
    ended_seconds: float | None = None
    outcome: str = UNDER_WAY

    @property
    def name(self) -> str:
        """``actor.method``."""
        return self.asked.name

    @property
    def volume_id(self) -> str | None:
        """The volume that the call was about."""
        return self.asked.volume_id

    def argument(self, name: str) -> str | None:
        """Return one of the ids that went with the call."""
        return dict(self.asked.arguments).get(name)


class Journal:
    """Thread-safe, append-only; entries are in the order in which the calls began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def begin(self, asked: Asked) -> int:
        """Note a call that has begun; return its number."""
        thread = threading.current_thread().name
        with self._lock:
            number = len(self._calls)
            self._calls.append(Call(number, asked, thread, time.monotonic()))
        return number

    def end(self, number: int, outcome: str) -> None:
        """Note how it ended."""
        with self._lock:
            self._calls[number] = dataclasses.replace(
                self._calls[number], ended_seconds=time.monotonic(), outcome=outcome
            )

    def calls(
        self, name: str | None = None, *, volume_id: str | None = None, writes: bool = False
    ) -> tuple[Call, ...]:
        """Return the entries, all or those of one ``actor.method``, one volume, only writes."""
        with self._lock:
            calls = tuple(self._calls)
        return tuple(
            c
            for c in calls
            if name in (None, c.name)
            and volume_id in (None, c.volume_id)
            and (c.asked.writes or not writes)
        )
