"""The house as a newcomer walks through it: few doors on each floor, and pages that lead there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOZEN = 12
ONE_STORY = {"consumer/ledger/migrations/versions"}
"""Rooms that grow by a module for each step, and are read by number."""
TREE = re.compile(r"^ {4}( *)(\w+(?:\.py|/)(?: \w+(?:\.py|/))*)(?: {2,}|$)", re.MULTILINE)
NAMED = re.compile(r"(?<![\w./])(?:consumer|handlers|drivers|metrics|tests)/[\w./-]*\w\.py\b")
PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "metrics").rglob("*.md"))
HISTORY = "CHANGELOG.md"


def rooms(of: str) -> Iterator[Path]:
    """Yield the packages of one of the four, itself too, by their path in the repository."""
    for found in sorted((ROOT / of).rglob("__init__.py")):
        yield found.parent.relative_to(ROOT)


def shown() -> set[str]:
    """Return the paths in the tree of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("## The rooms")[2].partition("## ")[0]
    above: list[str] = []
    paths = set()
    for indent, named in TREE.findall(tree):
        depth = len(indent) // 2
        names = named.split()
        paths |= {"/".join([*above[:depth], name.rstrip("/")]) for name in names}
        above[depth:] = [names[-1].rstrip("/")]
    return paths


@pytest.mark.parametrize("room", [str(r) for r in rooms("consumer") if str(r) not in ONE_STORY])
def test_a_thirteenth_module_needs_a_room(room: str) -> None:
    """A room of the process has more than a dozen modules -> divide it, along a seam."""
    modules = [m.name for m in (ROOT / room).glob("*.py") if m.name[:2] != "__"]
    assert len(modules) <= DOZEN, modules


def test_every_room_is_in_the_tree() -> None:
    """A room is added or removed -> the tree of docs/architecture.md has to say so."""
    there = {str(room) for of in ("consumer", "handlers", "drivers") for room in rooms(of)}
    assert there - ONE_STORY - shown() == set()
    assert {path for path in shown() if not (ROOT / path).exists()} == set()


def test_every_module_at_the_top_is_in_the_tree() -> None:
    """A module stands beside the rooms of the process -> the tree says what it is for."""
    beside = {f"consumer/{m.name}" for m in (ROOT / "consumer").glob("*.py") if m.name[:2] != "__"}
    assert beside - shown() == set()


@pytest.mark.parametrize(
    "page", [page for page in sorted(PAGES) if page.name != HISTORY], ids=lambda page: page.name
)
def test_pages_name_modules_that_exist(page: Path) -> None:
    """A module is moved -> no page still leads to its old place."""
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    assert {path for path in named if not (ROOT / path).is_file()} == set()


def test_the_tests_stand_as_the_source_does() -> None:
    """A room is moved or renamed -> its tests move with it."""
    of_tests = {str(room.relative_to("tests/unit")) for room in rooms("tests/unit/consumer")}
    # The ledger's own tests once more, on a cluster.
    assert of_tests - {str(r) for r in rooms("consumer")} == {"consumer/ledger/galera"}
