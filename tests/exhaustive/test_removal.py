"""Each safeguard of the real code, taken away: the search has to notice, or the table says why not.

The full form (`make exhaustive`) takes all of them away, the facts of the rules too, in every world
of the bounded form. The short form takes those that are noticed quickly.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import pytest

from tests.exhaustive import removal
from tests.exhaustive.removal import Safeguard
from tests.exhaustive.search import Found, Search
from tests.exhaustive.settings import FULL, QUICK

WHOLE = "DETACHD_EXHAUSTIVE" in os.environ
MOST = 40_000
SETTINGS = {setting.name: setting for setting in (*FULL, *QUICK)}

NOTICED: Mapping[str, str] = {}
"""In which world it is noticed that a safeguard is missing."""

UNNOTICED: Mapping[str, str] = {}
"""What can be taken away in these worlds, and why."""

ALL = {one.name: one for one in (*removal.safeguards(), *removal.pairs())}


def without(safeguard: Safeguard, setting: str) -> Found:
    """Search a world without a safeguard, and print what came of it."""
    with safeguard.away():
        found = Search(SETTINGS[setting]).run(most=MOST)
    print(f"without {safeguard.name}, {setting}: {found}")
    return found


def test_every_safeguard_has_its_place_in_a_table() -> None:
    """A guard, a condition or a re-read that is new, or gone -> a table has to say so."""
    assert set(NOTICED) | set(UNNOTICED) == set(ALL)
    assert not set(NOTICED) & set(UNNOTICED)


@pytest.mark.parametrize("name", NOTICED)
def test_a_missing_safeguard_is_noticed(name: str) -> None:
    """A safeguard is taken away -> a counterexample, step by step."""
    found = without(ALL[name], NOTICED[name])
    assert found.wrong
    assert found.trace


@pytest.mark.parametrize("name", [n for n in NOTICED if n in SETTINGS])
def test_with_it_the_same_world_is_whole(name: str) -> None:
    """The same world with the safeguard -> no counterexample (``test_search``)."""
    assert not Search(SETTINGS[NOTICED[name]]).run(most=MOST).wrong


@pytest.mark.skipif(not WHOLE, reason="takes minutes: make exhaustive")
@pytest.mark.parametrize("name", UNNOTICED)
def test_what_is_not_noticed_is_still_not_noticed(name: str) -> None:
    """A safeguard that the table calls unnoticed -> no world shows it; else the table is wrong."""
    noticed = [s.name for s in QUICK if without(ALL[name], s.name).wrong]
    assert noticed == []


@pytest.mark.skipif(not WHOLE, reason="takes minutes: make exhaustive")
def test_how_many_facts_of_the_rules_are_noticed() -> None:
    """Each fact of each rule that acts is taken away -> most that this world can show are noticed.

    A fact that is not noticed is printed: another rule comes first, another fact says the same
    here, or the world has no shelving, no old attachments, no dead computes and no error status.
    """
    noticed = {fact.name: _first(fact) for fact in removal.facts()}
    for name, world in noticed.items():
        print(f"without {name}: {world or 'not noticed'}")
    assert sum(world is not None for world in noticed.values()) >= LEAST_FACTS


LEAST_FACTS = 1


def _first(fact: Safeguard) -> str | None:
    return next((s.name for s in QUICK if without(fact, s.name).wrong), None)


__all__ = ["dataclasses"]
