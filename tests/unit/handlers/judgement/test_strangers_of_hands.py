"""What Nova, operators and bug reports leave -> its rule, seen and unseen; what trust permits."""

from __future__ import annotations

import pytest

from handlers.judgement.approval import fingerprint
from handlers.judgement.guards import Means, guard
from handlers.judgement.plan import make_plan
from handlers.judgement.policy import BackendPolicy, Mode
from tests.unit.handlers.judgement.pictures import NOW, THROUGH_CINDER, Picture
from tests.unit.handlers.judgement.strangers_of_hands import STRANGERS_OF_HANDS, Stranger, unseen
from tests.unit.handlers.judgement.strangers_of_the_field import STRANGERS_OF_THE_FIELD

TRUSTED = BackendPolicy(mode=Mode.AUTO, trust_blind=True)


def acts(picture: Picture) -> bool:
    """Tell whether steps are made in mode *auto*, where a driver that cannot see is trusted."""
    steps = make_plan(picture.diagnosis, THROUGH_CINDER)
    means = Means(THROUGH_CINDER, TRUSTED, NOW, fingerprint(picture.diagnosis, steps))
    return bool(steps) and guard(picture.situation, steps, means) is None


STRANGERS = (*STRANGERS_OF_HANDS, *STRANGERS_OF_THE_FIELD)


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda s: s.words)
def test_the_stranger_is_decided_by_its_rule(stranger: Stranger) -> None:
    """A situation -> the rule where it is seen and unseen, and steps only where trust permits."""
    rules = stranger.picture.diagnosis.rule, unseen(stranger).diagnosis.rule
    assert (*rules, acts(unseen(stranger))) == (stranger.seen, stranger.blind, stranger.acts)
