"""Plays scenes on one site, all at once, each on a volume and a server of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager

from consumer.ledger import CaseRecord
from handlers.casefile import CaseState, Conclusion, StepResult
from tests.behaviour.ground import State
from tests.lab_service.lab_site import LabSite
from tests.lab_service.stage import Stage, can_be_used_again
from tests.lab_service.use_cases import Scene

HOST = "lab-compute-1"


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """What came of a scene: what was there before, after the mending, and what the case says."""

    scene: Scene
    stage: Stage
    before: State
    after: State
    record: CaseRecord

    @property
    def steps(self) -> tuple[str, ...]:
        """What was done, in order."""
        return tuple(i.kind.value for i in self.record.intents if i.result is StepResult.DONE)

    @property
    def rule(self) -> str:
        """The rule by which it was first acted."""
        return str(self.record.outbox[0].payload["rule"])

    @property
    def verified_by(self) -> str | None:
        """On whose word the backend was held to be clean."""
        said = [sent.payload["verified_by"] for sent in self.record.outbox]
        return next((by for by in said if by), None)

    @property
    def told(self) -> tuple[str, ...]:
        """What the case has said."""
        return self.stage.told()


@contextmanager
def playing(site: LabSite, scenes: Sequence[Scene]) -> Iterator[Mapping[str, Future[Played]]]:
    """Arrange them while no case is worked, then let the service work; the futures tell the rest.

    Blocks until each is arranged, some ten seconds, and when it is left until each has ended.
    """
    with ExitStack() as lent, ThreadPoolExecutor(max_workers=len(scenes)) as pool:
        with site.paused():
            arranged = [pool.submit(_arranged, site, lent, scene) for scene in scenes]
            wait(arranged)
        yield {
            scene.name: pool.submit(_ended, scene, there)
            for scene, there in zip(scenes, arranged, strict=True)
        }


def _arranged(site: LabSite, lent: ExitStack, scene: Scene) -> tuple[Stage, State]:
    server_id = lent.enter_context(site.cast.server(HOST))
    stage = Stage(site, site.ground.volume(), server_id, HOST)
    scene.arrange(stage)
    return stage, stage.look()


def _ended(scene: Scene, arranged: Future[tuple[Stage, State]]) -> Played:
    """Wait until it is mended, use the volume again, and wait until the case is closed."""
    stage, before = arranged.result()
    expected = scene.expected(stage.site.eyes, stage.host)
    if scene.later is not None:
        scene.later(stage)
    stage.has_told(*expected.told)
    after = stage.look()
    if after.status == "in-use":
        stage.site.cast.detach(stage.volume_id, stage.server_id)
    can_be_used_again(stage)
    stage.reaches(CaseState.CLOSED)
    return Played(scene, stage, before, after, stage.case())


def came_out_right(played: Played) -> None:
    """Fail unless all of it is as the scene says, on the bus too, and the case closed as mended."""
    site, volume_id = played.stage.site, played.stage.volume_id
    expected = played.scene.expected(site.eyes, played.stage.host)
    assert played.before == expected.before
    assert (played.rule, played.steps) == (expected.rule, expected.steps)
    assert (played.after, played.told) == (expected.after, expected.told)
    assert site.announced(volume_id) == expected.told
    assert played.record.summary.conclusion is Conclusion.MENDED
