"""What differs between two looks, as history keeps them, in lines for a person. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = ("attachment_id", "instance_id", "name", "host")
"""What an entry of a list goes by, the surest first."""
WORDS = ("control", "reason")
"""What is worded anew at each look and tells nothing of the situation."""
FIRST = ("rule", "plan")
"""What a person compares first."""
DERIVED = frozenset({"asked_at", "facts", "guards", "parties"})
"""What follows from the rule and from what each side said, and would only hide those."""
MOST_LINES = 12
LONGEST = 160


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line for each thing that was another: what it was, what it is now."""
    said_before, said_now = _plan_in_words(before), _plan_in_words(now)
    names = sorted({*said_before, *said_now} - DERIVED, key=lambda n: (n not in FIRST, n))
    lines = [
        _cut(line)
        for name in names
        for line in _differing(name, said_before.get(name), said_now.get(name))
    ]
    if len(lines) > MOST_LINES:
        return (*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES} more")
    return tuple(lines)


def _plan_in_words(look: Mapping[str, Any]) -> dict[str, Any]:
    steps = [step["step"] for step in look.get("plan", ())]
    return {**look, "plan": ", then ".join(steps) or "no step"}


def _differing(path: str, before: Any, now: Any) -> Iterator[str]:
    if before == now:
        return
    if isinstance(before, list) and isinstance(now, list):
        before, now = _by_name(before), _by_name(now)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            if name not in WORDS:
                yield from _differing(_joined(path, name), before.get(name), now.get(name))
        return
    # The words of an error hold a request id or a time, and differ each time.
    if not (path.endswith("unknown") and isinstance(before, str) and isinstance(now, str)):
        yield f"{path}: {_in_words(before)} -> {_in_words(now)}"


def _by_name(entries: list[Any]) -> dict[str, Any]:
    """Return the entries by what they go by, so that their order does not count."""
    named: dict[str, Any] = {}
    for entry in entries:
        name = _name(entry)
        # Two entries of one name are both kept: one that came beside another is news.
        while name in named:
            name += "'"
        named[name] = entry
    return named


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return next((str(entry[n]) for n in NAMES if entry.get(n)), json.dumps(entry))
    return str(entry)


def _joined(path: str, name: str) -> str:
    return f"{path} {name}" if path else name


def _in_words(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
