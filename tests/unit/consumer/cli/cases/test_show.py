"""``detachd case show``: what a person reads of the record, in the terminal's width."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli.cases import show
from consumer.ledger import CaseRecord
from consumer.status import one_case
from consumer.status.words import age, printable
from handlers.case import CaseState, StepKind, StepResult
from handlers.judgement.policy import Mode
from tests.unit.consumer.cli.told import acted, look, record
from tests.unit.handlers.judgement.acting_pictures import BESIDE, UC1, UC3, UC4, UC5
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    NOW,
    SEEING,
    THROUGH_CINDER,
    UNSEEN,
    Picture,
    X,
    intent,
)

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 200)
BLIND_LEAK = UC5.but(backend=BLIND, released_unasked=True, hosts_known=False)


def kept(picture: Picture, state: CaseState, mode: Mode, **fields: Any) -> CaseRecord:
    """Return the case of a picture, with the driver that its backend would have."""
    able = THROUGH_CINDER if picture.backend is BLIND else SEEING
    return record(picture, state, look(picture, mode, able), **fields)


CASES = {
    "wish-awaits-approval": kept(UC4, CaseState.AWAITING_APPROVAL, Mode.APPROVE),
    "leak-observed": kept(UC5, CaseState.PARKED, Mode.OBSERVE),
    "leak-on-a-blind-backend": kept(BLIND_LEAK, CaseState.PARKED, Mode.AUTO),
    "backend-gives-no-answer": kept(
        UC5.but(backend=UNSEEN, hosts_known=False), CaseState.DUE, Mode.AUTO
    ),
    "server-gone-nova-silent": kept(UC1.but(servers=(), unseen=(X,)), CaseState.DUE, Mode.AUTO),
    "leak-beside-others": kept(BESIDE, CaseState.AWAITING_APPROVAL, Mode.APPROVE),
    "refused-by-cinder": kept(
        UC3.but(intents=(intent(StepKind.CINDER_DELETE_ATTACHMENT, StepResult.REFUSED),)),
        CaseState.PARKED,
        Mode.AUTO,
    ),
}


def shown(one: CaseRecord, columns: int = 80, *, every: bool = False) -> str:
    """Return the text of a case."""
    return "\n".join(show.text(one, NOW, columns, every=every)) + "\n"


def golden(name: str, columns: int) -> str:
    """Return a text that was looked at and kept."""
    return (GOLDEN / f"{name}.{columns}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_case_is_shown_as_it_was_looked_at(name: str, columns: int) -> None:
    """A situation, 80 and 200 columns -> the text that a person has looked at."""
    text = shown(CASES[name], columns)
    assert text == golden(name, columns)
    assert max(map(len, text.splitlines())) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_timeline_is_drawn_as_it_was_looked_at(columns: int) -> None:
    """Messages, a look, a write, announcements -> in order, with the time since the first."""
    drawn = "\n".join(show.timeline(acted(CASES["leak-observed"]), columns)) + "\n"
    assert drawn == golden("timeline", columns)


@pytest.mark.parametrize("name", CASES)
def test_short_text_fits_a_screen(name: str) -> None:
    """80 columns -> no more than 44 lines; every raw detail is behind --all."""
    short, whole = shown(CASES[name]), shown(CASES[name], every=True)
    assert len(short.splitlines()) <= 44
    assert "HISTORY" not in short
    assert all(f"{part} (" in whole for part in ("NOTIFICATIONS", "HISTORY", "WRITES"))


def test_four_answers_of_the_backend_read_differently() -> None:
    """Connected, proven clean, no answer, blind -> four texts that nobody mixes up."""
    answers = [UC5.backend, (), UNSEEN, BLIND]
    found = {
        next(line for line in shown(kept(UC5.but(backend=a), CaseState.DUE, Mode.AUTO)).splitlines()
             if line.startswith("backend   ["  if a is not BLIND else "backend   C"))
        for a in answers
    }  # fmt: skip
    assert len(found) == 4
    assert sum("no connection, proven: " in line for line in found) == 1
    assert sum("UNKNOWN" in line for line in found) == 1
    assert sum("CANNOT BE SEEN" in line for line in found) == 1


def test_approval_is_offered_for_the_plan_that_is_shown_alone() -> None:
    """The last look asks for another plan, or none -> no command to approve, and why."""
    one = CASES["wish-awaits-approval"]
    assert "case approve" in shown(one)
    for case in (
        dataclasses.replace(one.case, fingerprint="another"),
        dataclasses.replace(one.case, state=CaseState.PARKED),
    ):
        assert "case approve" not in shown(dataclasses.replace(one, case=case))
    changed = dataclasses.replace(one, case=dataclasses.replace(one.case, fingerprint="another"))
    assert "the last look does not ask for it" in " ".join(shown(changed).split())


def test_look_of_an_older_version_still_shows() -> None:
    """No parties, facts, guards and times on record -> told as not recorded; the rest is there."""
    seen = look(UC4)
    old = {k: v for k, v in seen.items() if k not in ("asked_at", "facts", "parties", "guards")}
    one = record(UC4, CaseState.AWAITING_APPROVAL, old, fingerprint="f" * 64)
    text = " ".join(shown(one).split())
    assert text.count("not recorded") == 2
    assert f"case approve 7c1f0a92 --plan {'f' * 12}" in text


def test_case_without_any_look_is_shown() -> None:
    """Opened a moment ago -> no look is on record, and nothing is claimed."""
    one = record(UC1, CaseState.WAITING, {})
    bare = dataclasses.replace(one, history=one.history[:1])
    text = shown(bare)
    assert text.count("no look is on record") >= 2
    assert "guard" not in text.lower() or "not recorded" in text


# -- what hostile names can do ---------------------------------------------------------------------

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\x9b1A\u202eevil\u2028\u200b"


def is_harmless(text: str) -> bool:
    """Tell whether a text moves the cursor by its own line ends alone."""
    return all(c == "\n" or unicodedata.category(c)[0] not in "CZ" or _space(c) for c in text)


def _space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


@pytest.mark.parametrize("every", [False, True])
def test_no_name_moves_the_cursor(every: bool) -> None:
    """Escape sequences in each text of look, case and messages -> shown as escapes, no effect."""
    evil = json.loads(
        json.dumps(look(BESIDE))
        .replace("compute-1", json.dumps(HOSTILE)[1:-1])
        .replace("storage-1@tgt", json.dumps(HOSTILE)[1:-1])
    )
    evil["reason"] = HOSTILE
    one = record(BESIDE, CaseState.PARKED, evil, host=HOSTILE, backend=HOSTILE, reason=HOSTILE)
    for text in (
        shown(one, every=every),
        shown(one, 200, every=every),
        "".join(printable(line) + "\n" for line in show.timeline(acted(one), 80)),
    ):
        assert is_harmless(text)
        assert "\\x1b" in text


@given(st.text())
def test_printable_text_has_nothing_that_acts(text: str) -> None:
    """Any text -> only characters that show, and the harmless ones unchanged."""
    assert is_harmless(printable(text).replace("\n", "x"))
    assert printable("Grüße, 世界 🙂") == "Grüße, 世界 🙂"


def test_no_secret_is_shown() -> None:
    """Keys of a look or a target that nobody declared -> not in the text, whatever they hold."""
    seen = look(UC5)
    seen["cinder"]["connection_info"] = {"auth_password": "canary"}
    for step in seen["plan"]:
        step["auth_password"] = "canary"
    one = record(UC5, CaseState.PARKED, seen)
    assert "canary" not in shown(one) + shown(one, every=True)
    assert "canary" not in json.dumps(one_case.explanation(one).plain())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"),
     (11_100, "3 h 5 min"), (86400 * 2 + 3600 * 4, "2 d 4 h"), (-5, "0 s")],
)  # fmt: skip
def test_age_is_told_in_its_largest_units(seconds: float, words: str) -> None:
    """A duration -> one unit below an hour, two above."""
    assert age(seconds) == words
