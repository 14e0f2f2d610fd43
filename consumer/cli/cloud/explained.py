"""An explanation as text for a terminal. Pure but for the width of the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from consumer.cli.text import beside, wrapped
from consumer.status.words import ago
from handlers.recovery.explanation import (
    NOT_RECORDED,
    SHOWN_FINGERPRINT,
    Explanation,
    ToldInstead,
)
from handlers.recovery.sides import Side

INDENT = 10
SIDE_BY_SIDE = 120
"""From this width on the three sides stand side by side."""


def lines(told: Explanation, now: datetime, columns: int, *, every: bool = False) -> Iterator[str]:
    """Yield the lines of an explanation. ``every``: all guards, and each fact on its line."""
    yield from _sides(told.sides, now, columns)
    yield from _parties(told, columns)
    yield ""
    yield from _rule(told, columns, every=every)
    yield from _plan(told, columns)
    yield from _guards(told, columns, every=every)
    yield ""
    for number, text in enumerate(told.missing):
        yield from wrapped("" if number else "Missing", text, columns, INDENT)
    for number, command in enumerate(told.next or ("nothing",)):
        for part, line in enumerate(_to_type(command, columns)):
            yield f"{'' if number or part else 'Next':<{INDENT}}{line}"


def _to_type(command: str, columns: int) -> Iterator[str]:
    """Yield a command in lines that a shell takes as one; what it is for stands before a long one.

    It is broken before an option alone.
    """
    room = columns - INDENT
    if len(command) <= room:
        yield command
        return
    words, _, what = command.partition("  # ")
    if what:
        yield f"# {what}:"
    # A value in quotes may have blanks; before an option there is always one to break at.
    line, *options = re.split(r" (?=--)", words)
    for option in options:
        if len(f"{line} {option} \\") > room:
            yield f"{line} \\"
            line = f"  {option}"
        else:
            line = f"{line} {option}"
    yield line


def _sides(sides: Sequence[Side], now: datetime, columns: int) -> Iterator[str]:
    if columns >= SIDE_BY_SIDE:
        yield from beside([_block(side, now) for side in sides], columns)
        yield ""
        return
    for side in sides:
        title = _title(side, now)
        first, *rest = [answer.text for answer in side.answers]
        yield from wrapped(side.name, f"{title}{first}", columns, INDENT)
        for text in rest:
            yield from wrapped("", text, columns, INDENT)


def _block(side: Side, now: datetime) -> list[str]:
    return [f"{side.name} {_title(side, now)}", *(answer.text for answer in side.answers)]


def _title(side: Side, now: datetime) -> str:
    asked = ago(side.asked_at, now)
    return f"[{asked}] " if asked else ""


def _parties(told: Explanation, columns: int) -> Iterator[str]:
    if told.parties is None:
        yield from wrapped("Parties", NOT_RECORDED, columns, INDENT)
        return
    for number, party in enumerate(told.parties):
        mark = "-" if party.explained else "!"
        text = f"{mark} {party.who}: {party.why}"
        yield from wrapped("" if number else "Parties", text, columns, INDENT)


def _rule(told: Explanation, columns: int, *, every: bool) -> Iterator[str]:
    yield from wrapped("Verdict", told.judged, columns, INDENT)
    sentences = [fact.sentence for fact in told.facts]
    for number, text in enumerate(sentences if every else [" ".join(sentences)]):
        if text:
            yield from wrapped("" if number else "Because", text, columns, INDENT)


def _plan(told: Explanation, columns: int) -> Iterator[str]:
    if not told.plan:
        yield f"{'Plan':<{INDENT}}none: this verdict asks for no call"
        return
    for call in told.plan:
        label = "Plan" if call.number == 1 else ""
        yield from wrapped(label, f"{call.number}. {call.in_full}", columns, INDENT)
    if told.fingerprint:
        yield f"{'':<{INDENT}}fingerprint {told.fingerprint[:SHOWN_FINGERPRINT]}"
    for instead in told.instead:
        yield from _instead(instead, columns)


def _instead(instead: ToldInstead, columns: int) -> Iterator[str]:
    """Yield what a person may order instead of the plan."""
    for call in instead.plan:
        label = "Instead" if call.number == 1 else ""
        yield from wrapped(label, f"{call.number}. {call.in_full}", columns, INDENT)
    mark = f"--action {instead.action}, fingerprint {instead.fingerprint[:SHOWN_FINGERPRINT]}"
    yield f"{'':<{INDENT}}{mark}"
    for sentence in instead.stops:
        yield from wrapped("", f"not now: {sentence}", columns, INDENT)
    for sentence in instead.waits:
        yield from wrapped("", f"it would wait: {sentence}", columns, INDENT)


def _guards(told: Explanation, columns: int, *, every: bool) -> Iterator[str]:
    if told.guards is None:
        yield from wrapped("Guards", NOT_RECORDED, columns, INDENT)
        return
    yield from wrapped("Guards", told.guards_in_short, columns, INDENT)
    for guard in told.guards if every else ():
        yield from wrapped("", guard.in_full, columns, INDENT)
