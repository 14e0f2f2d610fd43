"""What an attempt reports of itself, so that it can be counted.

A part of the program is given a function and calls it with each event. That function must be quick
and must not raise. The process has events of its own: ``consumer.counting``.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Called:
    """One call outside is over; ``error`` is the kind's class name, None for success.

    ``words`` is what the error says, without secrets.
    """

    system: str
    method: str
    seconds: float
    error: str | None
    words: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Stepped:
    """One step of a plan is over, its last look included."""

    step: str
    result: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Guarded:
    """A guard kept a plan from being carried out."""

    guard: str


@dataclasses.dataclass(frozen=True, slots=True)
class Braked:
    """A brake held a plan back; ``words`` say which and why."""

    scope: str
    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeSought:
    """Cinder answered for a volume; ``known``: it has it, or is known to have had it."""

    volume_id: str
    known: bool


Counted = Called | Stepped | Guarded | Braked | VolumeSought


def uncounted(_: object) -> None:
    """Do nothing: for parts whose events are not counted."""
