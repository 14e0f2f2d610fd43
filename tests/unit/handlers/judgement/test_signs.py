"""Single signs, where the table cannot reach them: a rule above would decide first.

Each sign must be right by itself too, because the order of the table may change.
"""

from __future__ import annotations

import pytest

from handlers.judgement.situation import Situation, situate
from tests.unit.handlers.judgement.pictures import Picture
from tests.unit.handlers.judgement.signs_held import HOLDS_BUT_HELD, Sign
from tests.unit.handlers.judgement.signs_let_go import HOLDS_BUT_LET_GO

HOLDS_BUT = (*HOLDS_BUT_HELD, *HOLDS_BUT_LET_GO)


def seen(picture: Picture) -> Situation:
    """Return the situation, without asking the table."""
    return situate(picture.case, picture.volume, picture.evidence, picture.late_attach)


@pytest.mark.parametrize(
    ("sign", "picture"),
    [(sign, picture) for sign, picture, _ in HOLDS_BUT],
    ids=[sign.__name__ for sign, _, _ in HOLDS_BUT],
)
def test_the_sign_holds(sign: Sign, picture: Picture) -> None:
    """The whole picture -> yes."""
    assert sign(seen(picture))


@pytest.mark.parametrize(
    ("sign", "picture"),
    [
        pytest.param(sign, picture.but(**change), id=f"{sign.__name__} but {sorted(change)}")
        for sign, picture, changes in HOLDS_BUT
        for change in changes
    ],
)
def test_the_sign_does_not_hold_without_each_of_its_facts(sign: Sign, picture: Picture) -> None:
    """One fact changed -> no."""
    assert not sign(seen(picture))
