"""The service with a driver that sees the backend, on a real Cinder, Nova and tgtd.

UC1-UC5 and the situations that the lab can be brought into are on the lab at once; detachd hears of
them through the lab's own bus, and by its sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from handlers.case import VerifiedBy
from tests.lab_service import use_cases
from tests.lab_service.lab_site import Eyes
from tests.lab_service.playing import Played, came_out_right
from tests.lab_service.resting import Rested
from tests.lab_service.situations import SITUATIONS, Situation
from tests.lab_service.use_cases import Scene

pytestmark = pytest.mark.timeout(900)  # the first test of a play waits for it to be arranged
EYES = Eyes.SEEING
SCENES = [*use_cases.SCENES, *SITUATIONS]


def name_of(scene: Scene | Situation) -> str:
    """Return what a test is called by."""
    return scene.name


@pytest.mark.parametrize("scene", use_cases.SCENES, ids=name_of)
def test_use_case(play: Mapping[str, Future[Played]], scene: Scene) -> None:
    """A volume is stuck -> mended by just the steps it takes, then attached anew and written to."""
    played = play[scene.name].result()
    came_out_right(played)
    if played.after.status == "available":
        assert played.verified_by == VerifiedBy.PROBE.value


@pytest.mark.parametrize("situation", SITUATIONS, ids=name_of)
def test_situation(play: Mapping[str, Future[Rested]], situation: Situation) -> None:
    """A volume is stuck, or only looks so -> what is decided, done and left is what must be."""
    ended = play[situation.name].result()
    assert ended.decided == situation.decided
    assert ended.done == situation.done
    assert ended.holds == situation.holds
