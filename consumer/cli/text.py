"""Text for a terminal: no control character gets there, and lines have the terminal's width."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

NARROWEST, WIDEST = 60, 200
ABBREVIATED = 8
BYTE = 0xFF
HARMLESS = frozenset({"Zs"})
GAP = "  "


def width() -> int:
    """Return how wide a line may be: ``COLUMNS``, else the terminal's, else 80."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def printable(text: str) -> str:
    """Return the text with every character escaped that moves the cursor or turns the direction.

    These are the control and format characters of Unicode, its separators but for spaces, and what
    is no character. Names of servers, hosts and backends may hold any of them.
    """
    return "".join(c if _shows(c) else _escaped(c) for c in text)


def _shows(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] not in "CZ" or category in HARMLESS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= BYTE else f"\\u{code:04x}"


def harmless(value: Any) -> Any:
    """Return plain JSON values with every text in them ``printable``."""
    return changed(value, printable)


def wrapped(label: str, text: str, columns: int, indent: int) -> Iterator[str]:
    """Yield the text under a label of ``indent`` characters; a long word is never lost."""
    room = max(columns - indent, 20)
    parts = textwrap.wrap(printable(text), room, break_on_hyphens=False) or [""]
    yield f"{label:<{indent}}{parts[0]}".rstrip()
    yield from (" " * indent + part for part in parts[1:])


def beside(blocks: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Yield blocks of texts side by side, each wrapped to its share of the width."""
    room = (columns - len(GAP) * (len(blocks) - 1)) // len(blocks)
    cells = [_block(block, room) for block in blocks]
    for row in zip_longest(*cells, fillvalue=""):
        yield GAP.join(f"{cell:<{room}}" for cell in row).rstrip()


def _block(texts: Iterable[str], room: int) -> list[str]:
    wrap = (
        textwrap.wrap(printable(t), room, break_on_hyphens=False, subsequent_indent="  ")
        for t in texts
    )
    return [line for lines in wrap for line in lines]


def age(seconds: float) -> str:
    """Return a duration in its one or two largest units."""
    whole = max(int(seconds), 0)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    named = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((at for at, (count, _) in enumerate(named) if count), len(named) - 1)
    shown = named[first : first + (1 if named[first][1] in ("min", "s") else 2)]
    return " ".join(f"{count} {unit}" for count, unit in shown if count or unit == "s")


def ago(at: datetime | str | None, now: datetime) -> str:
    """Return how long ago that was; nothing where it is not known."""
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    return "" if when is None else f"{age((now - when) / timedelta(seconds=1))} ago"


def abbreviated(value: Any, ids: Iterable[str | None]) -> Any:
    """Return plain JSON values with each of these ids cut to its beginning in every text.

    One whose beginning is also that of another one stays whole.
    """
    known = {one for one in ids if one is not None and len(one) > ABBREVIATED}
    beginnings = [one[:ABBREVIATED] for one in known]
    alone = [one for one in known if beginnings.count(one[:ABBREVIATED]) == 1]

    def cut(text: str) -> str:
        for one in alone:
            text = text.replace(one, one[:ABBREVIATED])
        return text

    return changed(value, cut)


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain JSON values with every text in them changed, keys too."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {changed(k, change): changed(held, change) for k, held in value.items()}
        case list() | tuple():
            return [changed(held, change) for held in value]
        case _:
            return value
