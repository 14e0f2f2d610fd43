"""Texts and ages as a person reads them. Pure: nothing here knows a terminal or a browser."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

ABBREVIATED = 8
"""How many characters of an id are shown where it is cut."""
BYTE = 0xFF
# Spaces, without which a text could not be wrapped.
HARMLESS = frozenset({"Zs"})


def printable(text: str) -> str:
    """Return the text with every character escaped that moves the cursor or turns the direction.

    These are the control and format characters of Unicode, its separators but for spaces, and what
    is no character. Names of servers, hosts and backends may hold any of them.
    """
    return "".join(c if _shows(c) else _escaped(c) for c in text)


def _shows(character: str) -> bool:
    category = unicodedata.category(character)
    # By Unicode's category and not by a list of codes: those that turn the direction are of it too
    # (Cf).
    return category[0] not in "CZ" or category in HARMLESS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= BYTE else f"\\u{code:04x}"


def cut(text: str, longest: int) -> str:
    """Return at most so many characters of the text, and a sign where more was left out."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def harmless(value: Any) -> Any:
    """Return plain JSON values with every text in them ``printable``."""
    return changed(value, printable)


def age(seconds: float) -> str:
    """Return a duration in its one or two largest units."""
    # Two clocks may differ: nothing is younger than now.
    whole = max(int(seconds), 0)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    named = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((at for at, (count, _) in enumerate(named) if count), len(named) - 1)
    # Days and hours say enough with two units, minutes and seconds with one.
    shown = named[first : first + (1 if named[first][1] in ("min", "s") else 2)]
    return " ".join(f"{count} {unit}" for count, unit in shown if count or unit == "s")


def ago(at: datetime | str | None, now: datetime) -> str:
    """Return how long ago that was; nothing where it is not known."""
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    return "" if when is None else f"{age((now - when) / timedelta(seconds=1))} ago"


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain JSON values with every text in them changed, keys too."""
    match value:
        case str():
            return change(value)
        case Mapping():
            # Keys too: they are names of hosts and backends in some values.
            return {changed(k, change): changed(held, change) for k, held in value.items()}
        case list() | tuple():
            return [changed(held, change) for held in value]
        case _:
            return value
