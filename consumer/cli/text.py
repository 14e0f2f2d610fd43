"""Text for a terminal: no control character gets there, and lines have the terminal's width."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from consumer.status.words import ABBREVIATED, changed, cut, printable

if TYPE_CHECKING:
    from consumer.status.rows import Cells

NARROWEST, WIDEST = 60, 200
GAP = "  "
WIDE = 120
SHORTEST_REASON = 16
ONLY_WIDE = frozenset({"VOLUME", "BACKEND", "RULE"})
"""Columns that are left out below ``WIDE``."""


def width() -> int:
    """Return how wide a line may be: ``COLUMNS``, else the terminal's, else 80."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def wrapped(label: str, text: str, columns: int, indent: int) -> Iterator[str]:
    """Yield the text under a label of ``indent`` characters; a long word is never lost."""
    room = max(columns - indent, 20)
    # Ids have hyphens, and are copied.
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


def lines(rows: Iterable[Cells], columns: int) -> Iterator[str]:
    """Yield a heading and a line for each row; the reason takes the room that is left."""
    shown = [{k: printable(v) for k, v in row.items()} for row in rows]
    # Ids before all: a command needs one, and the reason tells most of the rest.
    hidden = ONLY_WIDE if columns < WIDE and "ID" in (shown or [{}])[0] else frozenset()
    left = [{k: v for k, v in row.items() if k not in hidden} for row in shown]
    fixed = list(aligned([{k: v for k, v in row.items() if k != "REASON"} for row in left]))
    room = max(columns - max(map(len, fixed), default=0) - len(GAP), SHORTEST_REASON)
    widest = max(map(len, fixed), default=0)
    for line, reason in zip(fixed, ["REASON", *(row["REASON"] for row in left)], strict=False):
        yield f"{line:<{widest}}{GAP}{cut(reason, room)}"


def aligned(rows: Sequence[Cells]) -> Iterator[str]:
    """Yield a heading and a line for each row, each column as wide as its widest cell."""
    if not rows:
        return
    wide = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in ({name: name for name in wide}, *rows):
        yield GAP.join(f"{row[name]:<{wide[name]}}" for name in wide).rstrip()


def abbreviated(value: Any, ids: Iterable[str | None]) -> Any:
    """Return plain JSON values with each of these ids cut to its beginning in every text.

    One whose beginning is also that of another one stays whole.
    """
    known = {one for one in ids if one is not None and len(one) > ABBREVIATED}
    beginnings = [one[:ABBREVIATED] for one in known]
    # Two ids that begin alike would look like one.
    alone = [one for one in known if beginnings.count(one[:ABBREVIATED]) == 1]

    def shortened(text: str) -> str:
        for one in alone:
            text = text.replace(one, one[:ABBREVIATED])
        return text

    return changed(value, shortened)
