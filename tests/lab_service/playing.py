"""Plays scenes on one site, all at once, each on a volume and a server of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import BoundedSemaphore
from typing import Any, Protocol, TypeVar

from consumer.ledger import IntentRecord, OutboxRecord
from handlers.case import CaseState, Conclusion, StepResult
from tests.behaviour.ground import State
from tests.lab_service.lab_site import LabSite
from tests.lab_service.resting import Rested, rested
from tests.lab_service.situations import Situation
from tests.lab_service.stage import Stage, can_be_used_again
from tests.lab_service.use_cases import Scene
from tests.services.initiator import Initiator

HOST = "lab-compute-1"
AT_ONCE = 5  # more servers that boot at once make the lab's RPC time out
CUT_OFF = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """What came of a scene: what was there before and after, what was tried and said."""

    scene: Scene
    stage: Stage
    before: State
    after: State
    tried: Sequence[IntentRecord]
    said: Sequence[OutboxRecord]
    conclusion: Conclusion | None
    written_anew: int

    @property
    def writer(self) -> Initiator | None:
        """The host that had the volume before it was broken, where one really wrote."""
        return self.stage.site.writers.get(self.stage.volume_id)

    @property
    def steps(self) -> tuple[str, ...]:
        """What was done, in order."""
        return tuple(i.kind.value for i in self.tried if i.result is StepResult.DONE)

    @property
    def rule(self) -> str:
        """The rule by which it was first acted."""
        return str(self.said[0].payload["rule"])

    @property
    def verified_by(self) -> str | None:
        """On whose word the backend was held to be clean."""
        by = (sent.payload["verified_by"] for sent in self.said)
        return next((word for word in by if word), None)

    @property
    def told(self) -> tuple[str, ...]:
        """What was announced of the volume."""
        return self.stage.told()


class Playable(Protocol):
    """What can be played."""

    @property
    def name(self) -> str:
        """What it is called by."""

    @property
    def arrange(self) -> Callable[[Stage], Stage | None]:
        """How it comes about while no case is worked; where it returns a stage, that one counts."""


Kind = TypeVar("Kind", bound=Playable)


def playing(
    site: LabSite, scenes: Sequence[Scene | Situation]
) -> AbstractContextManager[Mapping[str, Future[Any]]]:
    """Play scenes and situations, each until it has ended as its kind does."""
    return played(site, scenes, _end)


@contextmanager
def played(
    site: LabSite,
    scenes: Sequence[Kind],
    end: Callable[[Kind, Future[tuple[Stage, State]]], Any],
) -> Iterator[Mapping[str, Future[Any]]]:
    """Arrange them while no case is worked, then let the service work; the futures tell the rest.

    ``end`` is given what was arranged, waits until it is over, and returns what came of it. Blocks
    until each is arranged, half a minute, and when it is left until each has ended.
    """
    with ExitStack() as lent, ThreadPoolExecutor(max_workers=len(scenes)) as pool:
        some = BoundedSemaphore(AT_ONCE)  # and no pool of its own: initiators die with their thread
        with site.paused():
            arranged = [pool.submit(_arranged, site, lent, some, scene) for scene in scenes]
            wait(arranged)
        yield {
            scene.name: pool.submit(end, scene, there)
            for scene, there in zip(scenes, arranged, strict=True)
        }


def _arranged(
    site: LabSite, lent: ExitStack, some: BoundedSemaphore, scene: Playable
) -> tuple[Stage, State]:
    with some:
        server_id = lent.enter_context(site.cast.server(HOST))
        multiattach = isinstance(scene, Situation) and scene.multiattach
        stage = Stage(site, site.ground.volume(multiattach=multiattach), server_id, HOST)
        stage = scene.arrange(stage) or stage
        return stage, stage.look()


def _end(scene: Scene | Situation, arranged: Future[tuple[Stage, State]]) -> Played | Rested:
    stage, before = arranged.result()
    return _at_rest(scene, stage) if isinstance(scene, Situation) else _ended(scene, stage, before)


def _at_rest(situation: Situation, stage: Stage) -> Rested:
    came_to = rested(stage)
    if situation.later is not None:
        situation.later(stage)
    return came_to


def _ended(scene: Scene, stage: Stage, before: State) -> Played:
    """Wait until it is mended, use the volume again, and wait until the case is closed."""
    expected = scene.expected(stage.site.eyes, stage.host)
    if scene.later is not None:
        scene.later(stage)
    if expected.told is None:
        stage.is_mended()
    else:
        stage.has_told(*expected.told)
    after = stage.look()
    if after.status == "in-use":
        stage.site.cast.detach(stage.volume_id, stage.server_id)
    written = can_be_used_again(stage)
    stage.reaches(CaseState.CLOSED)
    tried, said = stage.site.tried(stage.volume_id), stage.site.said(stage.volume_id)
    conclusion = stage.case().case.conclusion
    return Played(scene, stage, before, after, tried, said, conclusion, written)


def came_out_right(played: Played) -> None:
    """Fail unless all of it is as the scene says, on the bus too, and the case closed as mended."""
    site, volume_id = played.stage.site, played.stage.volume_id
    expected = played.scene.expected(site.eyes, played.stage.host)
    assert played.before == expected.before
    assert (played.rule, played.after) == (expected.rule, expected.after)
    if expected.told is None:
        assert {intent.kind.value for intent in played.tried} == set(expected.steps)
    else:
        assert (played.steps, played.told) == (expected.steps, expected.told)
    assert site.announced(volume_id) == played.told
    assert played.conclusion is Conclusion.MENDED
    if (writer := played.writer) is not None:
        assert (writer.ended(), writer.counts().logins) == (CUT_OFF, 1)
