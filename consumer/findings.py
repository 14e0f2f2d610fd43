"""What ``detachd doctor`` finds: how bad it is, where, what, and what to do about it."""

from __future__ import annotations

import dataclasses
import enum


class Level(enum.IntEnum):
    """How bad a finding is; the worst decides the exit status."""

    GOOD = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One answer. ``area`` is what was examined, ``todo`` what to do about it, if anything."""

    level: Level
    area: str
    said: str
    todo: str = ""


def good(area: str, said: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(Level.GOOD, area, said)


def note(area: str, said: str, todo: str = "") -> Finding:
    """Return a finding that a person should know."""
    return Finding(Level.NOTE, area, said, todo)


def warning(area: str, said: str, todo: str = "") -> Finding:
    """Return a finding that keeps detachd from a part of its work."""
    return Finding(Level.WARNING, area, said, todo)


def error(area: str, said: str, todo: str = "") -> Finding:
    """Return a finding that keeps detachd from its work."""
    return Finding(Level.ERROR, area, said, todo)
