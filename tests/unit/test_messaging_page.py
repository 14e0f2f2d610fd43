"""The page of the bus's traps names tests that there are, at least one for each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "messaging.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def attachments() -> Iterator[tuple[str, ...]]:
    """Return the cells of each row of each table, heads left out."""
    for line in PAGE.read_text().splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if line.startswith("|") and cells[0] not in {"trap", "---"}:
            yield cells


def functions_in(file: str) -> set[str]:
    """Return the names of the test functions of a file, those in classes too."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_trap_says_what_is_done_and_which_test_shows_it() -> None:
    """A row -> a trap, what detachd does about it, and one test or more."""
    found = list(attachments())
    assert len(found) > 30
    for trap, done, shown in found:
        assert trap, found
        assert done, trap
        assert NAMED.search(shown), trap
        assert not NAMED.sub("", shown).strip(), trap


def test_every_test_that_the_page_names_is_there() -> None:
    """A test was renamed or removed -> the page that names it must change too."""
    named = NAMED.findall(PAGE.read_text())
    missing = [f"{file}::{name}" for file, name in named if name not in functions_in(file)]
    assert missing == []
