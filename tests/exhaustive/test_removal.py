"""Each safeguard of the real code, taken away: the search has to notice, or the table says why not.

Every run takes away those that are noticed, each in the world that shows it. The full form
(`make exhaustive`) takes the others away too, and the facts of the rules, in every bounded world in
which they make a difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests.exhaustive import removal
from tests.exhaustive.relevance import made_a_difference, may_differ
from tests.exhaustive.removal import Safeguard
from tests.exhaustive.search import Found, Search, Setting
from tests.exhaustive.settings import DEAD, FULL, MENDED, QUICK

WHOLE = "DETACHD_EXHAUSTIVE" in os.environ
MOST = 40_000
SETTINGS = {setting.name: setting for setting in (*FULL, *MENDED, *DEAD, *QUICK)}

NOTICED: Mapping[str, str] = {
    "guard BLIND_NOT_TRUSTED": "blind and not trusted",
    "guard OWN_CALL_UNANSWERED": "a crash of ours",
    "guard NOVA_AT_IT": "attached again while Nova is at our detach",
    "guard LATE_ATTACH_UNSEEN": "an attach, blind",
    "guard CANNOT_REVOKE": "a driver that cannot revoke",
    "guard SESSIONS_UNSEEN": "a driver that sees no sessions",
    "guard OBSERVE, and the mode asked again before each call": "observe",
    "guard APPROVE": "approve",
    "condition CLEAN": "an attach",
    "the look before each call": "an attach",
    "detaches that began since the claim, before a call": "deleted while its detach is stuck",
    "detaches that began since the claim, before an end": "detached while its first try is late",
    "the wait for calls under way before an end": "detached while its first try is late",
    "the second look a late horizon later": "moved",
    "the reserve that keeps others out": "stuck: a ghost",
    "the backend first, then Cinder": "an attach",
    "guard LIVE_SESSION, and condition QUIET": "an attach",
    "guard FOREIGN_CONNECTION, and condition ALONE": "a detach beside an access that is left",
    "guard LATE_DETACH, and detaches that began since the claim, before a call": "a detach",
}
"""In which world it is noticed that a safeguard is missing."""

UNNOTICED: Mapping[str, str] = {
    "guard PROTECTED": "nobody protects a volume here; it leaves to a person what is safe too",
    "guard FAILED_OVER": "no volume here has a replica",
    "guard NO_CONNECTOR": (
        "Cinder ends the connection of a row by the connector that it keeps, and the drivers of "
        "this world refuse a call without one; it would take a driver that accepts none"
    ),
    "guard CONNECTOR_INCOMPLETE": "each connector here has its host and its initiator",
    "guard PROTOCOL_UNKNOWN": "Cinder tells the protocol here whenever it is asked",
    "guard SEVERAL_ATTACHMENTS": (
        "Cinder refuses the same call for a volume with several rows, by itself"
    ),
    "guard NAMELESS_CONNECTION": (
        "a release names its host all the same; it would take a driver that ends what it sees"
    ),
    "guard FOREIGN_CONNECTION": "condition ALONE asks the same; noticed when both are missing",
    "guard LIVE_SESSION": "condition QUIET asks the same; noticed when both are missing",
    "guard OBSERVE": "the same is asked right before the call; noticed when both are missing",
    "the mode asked again before each call": "no mode changes here; guard OBSERVE asks the same",
    "guard LATE_DETACH": "the same is asked right before the call; noticed when both are missing",
    "guard SHARED_TARGETS": "there is one volume, so that no other is behind the same session",
    "guard COMES_BACK": "it ends a repetition, which endangers nothing",
    "guard SERVICE_DOWN": "cinder-volume is always up",
    "guard ANOTHER_CLIENT": "the drivers of these worlds know hosts, and end no single client",
    "guard NEVER_LEARNED": "the drivers of these worlds know hosts, and end no single client",
    "guard REACHES_OTHERS": "there is one volume, so that no client has another one",
    "guard REACH_UNKNOWN": "the drivers of these worlds know hosts, and end no single client",
    "guard HOST_NOT_LISTED": "Nova answers for each host here, or for none, which is X2",
    "guard ORDERED_DETACH": (
        "what ended well is then completed as ordered, and UC2.completed, which asks for the same, "
        "leaves it attached"
    ),
    "guard NO_SERVICE_TOKEN": "Cinder refuses nothing here, so that no token is ever ordered",
    "guard ORDERED_TOKEN": "Cinder refuses nothing here, so that no token is ever ordered",
    "guard UNSEEN_FINDING": "no sweep here is the first one of an old cloud",
    "condition UNUSED": "no row of a server that uses the volume is dropped here",
    "condition LET_GO": "the table that is asked anew before the call asks the same of Nova",
    "condition QUIET": "guard LIVE_SESSION asks the same; noticed when both are missing",
    "condition NAMED": "the table that is asked anew before the call asks the same of Nova",
    "condition ALONE": "guard FOREIGN_CONNECTION asks the same; noticed when both are missing",
    "condition SOLE": "no driver here may be called without a connector",
    "condition HELD": "the table that is asked anew before the call asks for our reserve too",
    "the verdict asked anew before each call": (
        "the conditions of the step and the rows that are read again refuse the same here"
    ),
    "rows and status read again before each call": (
        "the table that is asked anew before the call refuses the same here"
    ),
    "the second look before a person is asked": (
        "a look is not torn here, so that the first one is as right as the second"
    ),
}
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


@pytest.mark.skipif(not WHOLE, reason="takes minutes: make exhaustive")
@pytest.mark.parametrize("name", UNNOTICED)
def test_what_is_not_noticed_is_still_not_noticed(name: str) -> None:
    """A safeguard that the table calls unnoticed -> no world shows it; else the table is wrong."""
    asked = worlds_of(name)
    print(f"without {name}: it makes a difference in {len(asked)} worlds")
    noticed = [s.name for s in asked if without(ALL[name], s.name).wrong]
    assert noticed == []


@pytest.mark.skipif(not WHOLE, reason="takes minutes: make exhaustive")
def test_how_many_facts_of_the_rules_are_noticed() -> None:
    """Each fact of each rule that acts is taken away -> most that this world can show are noticed.

    A fact that is not noticed is printed: another rule comes first, another fact says the same
    here, or the world has no shelving, no old attachments, no dead computes and no error status.
    """
    noticed = {fact.name: _first(fact) for fact in removal.facts()}
    for name, world in noticed.items():
        print(f"without {name}: {world}")
    worlds = [world for world in noticed.values() if world not in (UNSEEN, NEVER_ASKED)]
    assert len(worlds) >= LEAST_FACTS


UNSEEN, NEVER_ASKED = "not noticed", "makes no difference in any world"
LEAST_FACTS = 10


def worlds_of(name: str) -> list[Setting]:
    """Return the bounded worlds in which a safeguard makes a difference."""
    return [s for s in QUICK if may_differ(name, s)]


def _first(fact: Safeguard) -> str:
    asked = worlds_of(fact.name)
    noticed = (s.name for s in asked if without(fact, s.name).wrong)
    return next(noticed, UNSEEN if asked else NEVER_ASKED)


def test_what_never_decides_anything_is_not_searched_for() -> None:
    """A world in which a guard never is the reason -> the search without it is not made."""
    setting = SETTINGS["observe"]
    assert "guard OBSERVE" in made_a_difference(setting)
    assert not may_differ("guard APPROVE", setting)
    assert may_differ("the look before each call", setting)
