"""Plays what befalls everybody on a host or behind a service at once: it dies, and comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from threading import BoundedSemaphore

from tests.lab_service.lab_site import LabSite
from tests.lab_service.playing import AT_ONCE, HOST
from tests.lab_service.resting import Decided, Rested, concluded, rested
from tests.lab_service.situations import Holds
from tests.lab_service.stage import Stage

Act = Callable[[Stage], None]


def nothing(_: Stage) -> None:
    """Do nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Victim:
    """One volume: what was going on with it when the blow fell, and what must come of it.

    ``before`` is arranged before the blow, ``meanwhile`` happens after it, both while no case is
    worked. ``waits`` is what has been decided before all is well again, with nothing done; None
    where nobody looks by then. ``watch`` is seen right after that. ``after`` waits for what Nova
    does of itself when all is well again.
    ``decided``, ``done`` and ``holds`` are as in a ``Situation``.
    """

    name: str
    before: Act
    waits: Decided | None
    decided: Decided
    done: tuple[str, ...]
    holds: Holds
    meanwhile: Act = nothing
    after: Act = nothing
    watch: Act = nothing


@dataclasses.dataclass(frozen=True, slots=True)
class Survived:
    """What had come of a victim before all was well again, and what in the end."""

    waited: Future[tuple[Decided, tuple[str, ...]]] | None
    ended: Future[Rested]


def befall(
    site: LabSite, victims: Sequence[Victim], blow: Callable[[], AbstractContextManager[None]]
) -> Mapping[str, Survived]:
    """Arrange the victims, let the blow fall, look at what is decided, end it, and look again.

    Blocks until all is over, some minutes. The blow is ended whatever comes of it.
    """
    # One pool for all of it: initiators die with the thread that started them.
    with ExitStack() as lent, ThreadPoolExecutor(len(victims)) as pool:
        with ExitStack() as bad:
            with site.paused():
                stages = _staged(site, lent, pool, victims)
                bad.enter_context(blow())
                _each(pool, [v.meanwhile for v in victims], stages)
            waited = [
                pool.submit(_watched, victim, stage) if victim.waits else None
                for victim, stage in zip(victims, stages, strict=True)
            ]
            wait([future for future in waited if future])
        ended = [pool.submit(_ended, *pair) for pair in zip(victims, stages, strict=True)]
        wait(ended)
    came = zip(victims, waited, ended, strict=True)
    return {victim.name: Survived(before, after) for victim, before, after in came}


def _watched(victim: Victim, stage: Stage) -> tuple[Decided, tuple[str, ...]]:
    waited = concluded(stage)
    victim.watch(stage)
    return waited


def _ended(victim: Victim, stage: Stage) -> Rested:
    victim.after(stage)
    return rested(stage, waiting=False)


def _staged(
    site: LabSite, lent: ExitStack, pool: ThreadPoolExecutor, victims: Sequence[Victim]
) -> list[Stage]:
    with ThreadPoolExecutor(AT_ONCE) as few:
        servers = list(few.map(lambda _: lent.enter_context(site.cast.server(HOST)), victims))
    stages = [Stage(site, site.ground.volume(), server_id, HOST) for server_id in servers]
    _each(pool, [victim.before for victim in victims], stages)
    return stages


def _each(pool: ThreadPoolExecutor, acts: Sequence[Act], stages: Sequence[Stage]) -> None:
    some = BoundedSemaphore(AT_ONCE)

    def one(act: Act, stage: Stage) -> None:
        with some:
            act(stage)

    list(pool.map(one, acts, stages))
