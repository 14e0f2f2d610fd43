"""What strikes the whole cloud while one volume is stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from handlers.case import CaseState
from tests.lab_service.lab_site import LabSite
from tests.lab_service.mending import left_detaching
from tests.lab_service.playing import HOST
from tests.lab_service.stage import Stage, can_be_used_again
from tests.lab_service.use_cases import FREE


@contextmanager
def stuck_while(site: LabSite, strike: Callable[[], object]) -> Iterator[Stage]:
    """Have a volume stuck, and something strike before any case is worked."""
    with site.cast.server(HOST) as server_id:
        stage = Stage(site, site.ground.volume(), server_id, HOST)
        with site.paused():
            left_detaching(stage)
            strike()
        yield stage


def mended_after_all(stage: Stage) -> None:
    """Wait until it is mended, and use the volume again."""
    stage.is_mended()
    assert stage.look() == FREE
    can_be_used_again(stage)
    stage.reaches(CaseState.SETTLING, CaseState.CLOSED)
