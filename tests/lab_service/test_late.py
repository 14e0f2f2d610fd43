"""A terminate_connection that hangs ends late, on a real Cinder, Nova and tgtd.

As soon as Cinder calls the volume available a user attaches it to another server on the same host,
and that guest writes. What hung may not take its disk: so nobody may get the volume before it has
ended. Nova's tries and our own calls hang, before they act and after, all on the lab at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from handlers.case import StepResult
from tests.lab_service.lab_site import Eyes, LabSite
from tests.lab_service.late_calls import (
    LATE_CALLS,
    Hung,
    Late,
    all_hang,
    deletes,
    keeps_its_disk,
    user_takes_it,
)
from tests.lab_service.playing import AT_ONCE, HOST
from tests.lab_service.stage import Stage

pytestmark = pytest.mark.timeout(600)
EYES = Eyes.SEEING
OURS = [late for late in LATE_CALLS if late.ours]


@pytest.fixture(scope="module")
def ended(site: LabSite) -> Iterator[Mapping[str, Future[Hung]]]:
    """Have every call of them hang, and end; the user takes each volume as soon as it is free.

    No case is worked while it is arranged that our own calls hang; Nova's hang while cases are.
    """
    with ExitStack() as lent, ThreadPoolExecutor(len(LATE_CALLS)) as pool:
        stages = dict(zip(LATE_CALLS, _stages(site, lent), strict=True))
        with site.paused():
            list(pool.map(lambda late: _begin(stages[late], late), OURS))
        yield {late.name: pool.submit(_ended, stages[late], late) for late in LATE_CALLS}


def _stages(site: LabSite, lent: ExitStack) -> list[Stage]:
    site.ground.servers.shared(HOST)

    def staged(late: Late) -> Stage:
        server_id = lent.enter_context(site.cast.server(HOST))
        stage = Stage(site, site.ground.volume(), server_id, HOST)
        late.first(stage)
        return stage

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(staged, LATE_CALLS))


def _begin(stage: Stage, late: Late) -> None:
    late.begin(stage, late.acts)


def _ended(stage: Stage, late: Late) -> Hung:
    if late not in OURS:
        _begin(stage, late)
    hung = all_hang(stage, late)
    keeps_its_disk(hung, user_takes_it(stage))
    return hung


@pytest.mark.parametrize("late", LATE_CALLS, ids=lambda late: late.name)
def test_late_end_takes_no_disk(ended: Mapping[str, Future[Hung]], late: Late) -> None:
    """Calls hang and end late -> the volume is nobody's till then; its next guest writes on."""
    stage = ended[late.name].result().stage
    if late.ours:
        assert deletes(stage) == [StepResult.INDETERMINATE, StepResult.DONE]
    stage.is_mended()
