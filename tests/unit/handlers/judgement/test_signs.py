"""Single signs, where the table cannot reach them: a rule above would decide first.

Each sign must be right by itself too, because the order of the table may change.
"""

from __future__ import annotations

import pytest

from handlers.judgement.diagnosis import holds
from handlers.judgement.situation import Situation, situate
from tests.unit.handlers.judgement.pictures import Picture
from tests.unit.handlers.judgement.signs_held import HOLDS_BUT_HELD, Sign
from tests.unit.handlers.judgement.signs_let_go import HOLDS_BUT_LET_GO

HOLDS_BUT = (*HOLDS_BUT_HELD, *HOLDS_BUT_LET_GO)


def seen(picture: Picture) -> Situation:
    """Return the situation, without asking the table."""
    return situate(picture.case, picture.volume, picture.evidence, picture.late_attach)


def says(sign: Sign, picture: Picture) -> bool:
    """Ask one fact, or all that one rule asks for, without the table."""
    return holds(sign, seen(picture)) if isinstance(sign, str) else sign(seen(picture))


def name(sign: Sign) -> str:
    """Return what a test about it is called by."""
    return sign if isinstance(sign, str) else sign.name


@pytest.mark.parametrize(
    ("sign", "picture"),
    [(sign, picture) for sign, picture, _ in HOLDS_BUT],
    ids=[name(sign) for sign, _, _ in HOLDS_BUT],
)
def test_the_sign_holds(sign: Sign, picture: Picture) -> None:
    """The whole picture -> yes."""
    assert says(sign, picture)


@pytest.mark.parametrize(
    ("sign", "picture"),
    [
        pytest.param(sign, picture.but(**change), id=f"{name(sign)} but {sorted(change)}")
        for sign, picture, changes in HOLDS_BUT
        for change in changes
    ],
)
def test_the_sign_does_not_hold_without_each_of_its_facts(sign: Sign, picture: Picture) -> None:
    """One fact changed -> no."""
    assert not says(sign, picture)
