"""UC1-UC5 on a real Cinder and Nova, mended by a service that sees the backend.

All scenes are on the lab at once; detachd hears of them through the lab's own bus.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from handlers.casefile import VerifiedBy
from tests.lab_service import use_cases
from tests.lab_service.lab_site import Eyes
from tests.lab_service.playing import Played, came_out_right
from tests.lab_service.use_cases import Scene

EYES = Eyes.SEEING
SCENES = use_cases.SCENES


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_use_case(play: Mapping[str, Future[Played]], scene: Scene) -> None:
    """A volume is stuck -> mended by just the steps it takes, then attached anew and written to."""
    played = play[scene.name].result()
    came_out_right(played)
    if played.after.status == "available":
        assert played.verified_by == VerifiedBy.PROBE.value
