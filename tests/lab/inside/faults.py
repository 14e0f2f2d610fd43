"""Faults that wait in a directory for a driver's call, and the log of what the driver was asked.

The tests put faults in and read the log; the drivers in Cinder's and Nova's processes take faults
out and write the log. Only files go between them, so it works across kill -9 and on both sides'
Pythons; a person can do it with an editor. One fault is one file ``NAME.json``::

    {"method": "terminate_connection", "how": "raise", "when": "before", "times": 2}

Standard library only: this runs in both worlds.
"""

from __future__ import annotations

import dataclasses
import enum
import fcntl
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALWAYS = 1_000_000
_POLL_SECONDS = 0.05


class How(enum.Enum):
    """What a fault does to the call: an error, or no answer for a while."""

    RAISE = "raise"
    HANG = "hang"


class When(enum.Enum):
    """Whether the driver does what it was asked before the fault strikes, or only after it.

    A call that raises ``BEFORE`` it acts never does; one that hangs ``BEFORE`` acts late.
    """

    BEFORE = "before"
    AFTER = "after"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it strikes ``times`` calls of ``method``, for one subject or (None) for any.

    The subject is a volume's id; a server's, where the hypervisor is asked about a whole guest.
    A hang lasts until ``Faults.release`` or for ``seconds``. ``error`` names the exception that a
    raise raises, a class that the driver's module knows.
    """

    method: str
    how: How = How.RAISE
    when: When = When.BEFORE
    times: int = 1
    subject: str | None = None
    seconds: float = 120.0
    error: str | None = None

    def to_json(self) -> str:
        """Return the text of its file."""
        plain = dataclasses.asdict(self) | {"how": self.how.value, "when": self.when.value}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> Fault:
        """Read a file; KeyError, TypeError or ValueError where it is no fault."""
        given: dict[str, Any] = json.loads(text)
        given["how"] = How(given.get("how", "raise"))
        given["when"] = When(given.get("when", "before"))
        return cls(**given)


class Faults:
    """The directory: faults that wait, hangs that go on, and the log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._hanging = directory / "hanging"
        self._log = directory / "calls.jsonl"
        self._hanging.mkdir(parents=True, exist_ok=True)

    def add(self, fault: Fault) -> None:
        """Let a fault wait; of several for one call the oldest strikes."""
        with self._alone():
            _write(self.directory / f"{time.time_ns()}-{fault.method}.json", fault.to_json())

    def clear(self, subject: str | None = None) -> None:
        """Take away what has not struck yet, and end every hang; of one subject, or of all."""
        self.withdraw(subject)
        self.release(subject)

    def withdraw(self, subject: str | None = None) -> None:
        """Take away what has not struck yet; what hangs goes on hanging."""
        with self._alone():
            for fault, file in self._waiting():
                if subject in (None, fault.subject):
                    file.unlink()

    def left(self) -> list[Fault]:
        """Return what has not struck yet: a test that set a fault can see that it did."""
        with self._alone():
            return [fault for fault, _ in self._waiting()]

    def hanging(self, subject: str | None = None) -> int:
        """Return how many calls hang now, for one subject or at all."""
        return len(self._marks(subject))

    def release(self, subject: str | None = None, *, at_most: int = ALWAYS) -> None:
        """End hangs, the longest first: those calls go on as if nothing had been."""
        for file in self._marks(subject)[:at_most]:
            file.unlink(missing_ok=True)

    def calls(self) -> list[dict[str, Any]]:
        """Return what the driver was asked so far: method, subject, phase (begin or end) ..."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line) for line in lines]

    def note(self, **what: object) -> None:
        """Append a line to the log."""
        with self._log.open("a") as log:
            log.write(json.dumps({"at": time.time()} | what) + "\n")

    def take(self, method: str, subject: str | None) -> Fault | None:
        """Return the fault that strikes this call, counted down, or None."""
        with self._alone():
            for fault, file in self._waiting():
                if fault.method == method and fault.subject in (None, subject):
                    _count_down(fault, file)
                    return fault
        return None

    def hang(self, seconds: float, subject: str | None = None) -> None:
        """Block until released, or for so long."""
        mark = self._hanging / f"{time.time_ns()}-{uuid.uuid4().hex}-{subject}"
        mark.touch()
        ends_at = time.monotonic() + seconds
        while mark.exists() and time.monotonic() < ends_at:
            time.sleep(_POLL_SECONDS)
        mark.unlink(missing_ok=True)

    def _marks(self, subject: str | None) -> list[Path]:
        return sorted(self._hanging.glob(f"*-{subject or '*'}"))

    def _waiting(self) -> list[tuple[Fault, Path]]:
        files = sorted(self.directory.glob("*.json"))
        return [(Fault.from_json(file.read_text()), file) for file in files]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _count_down(fault: Fault, file: Path) -> None:
    if fault.times > 1:
        _write(file, dataclasses.replace(fault, times=fault.times - 1).to_json())
    else:
        file.unlink()


def _write(file: Path, text: str) -> None:
    """Write it whole or not at all: the other side may be killed, or reads meanwhile."""
    half = file.with_suffix(".half")
    half.write_text(text)
    half.replace(file)
