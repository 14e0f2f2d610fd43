"""The page of states has a line for each state that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from consumer.ledger import BodyState
from handlers.announcement import Event
from handlers.case import CaseState, Conclusion

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
PARTS = re.split(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
SECTIONS = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))


def edges(section: str) -> list[tuple[str, str]]:
    """Return where each edge of a table leads from and to."""
    attachments = [
        attachment.strip("|").split("|")
        for attachment in SECTIONS[section].splitlines()
        if "|" in attachment
    ]
    return [(attachment[0], attachment[1]) for attachment in attachments[2:] if len(attachment) > 2]


@pytest.mark.parametrize("state", CaseState)
def test_every_state_of_a_case_is_explained_and_reached(state: CaseState) -> None:
    """A state -> a line of its own, an edge that leads to it, and one that leads on."""
    name = f"`{state.value}`"
    assert f"\n| {name} |" in SECTIONS["States"]
    assert any(name in to for _, to in edges("Edges"))
    assert any(name in begin for begin, _ in edges("Edges"))


def test_every_conclusion_and_announcement_is_named() -> None:
    """A way to close a case, an event -> the page says when."""
    told = SECTIONS["Edges"] + SECTIONS["What is announced, and when"]
    assert [c.value for c in Conclusion if f"`{c.value}`" not in told] == []
    assert [e.value for e in Event if f".{e.value}`" not in told and e.value not in told] == []


@pytest.mark.parametrize("state", BodyState)
def test_every_state_of_a_quarantined_body_is_reached(state: BodyState) -> None:
    """A state -> an edge that leads to it."""
    assert any(f"`{state.value}`" in to for _, to in edges("A quarantined body"))
