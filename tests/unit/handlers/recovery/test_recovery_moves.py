"""A world that moves while a case is worked: nothing is made worse, and all comes to rest.

The simulated cloud judges each of our calls by what really happens in it (``Cloud.hazards``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import PermanentError, TransientError
from drivers.simulator import Cloud, Service
from handlers.recovery.recovery import Recovery
from handlers.recovery.steps import Calls
from tests.unit.handlers.recovery.stuck import STUCK, Stuck, name_of, named
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_announced_in_pairs

MOVES: dict[str, Callable[[Cloud, Trial], Any]] = {
    "a task begins": lambda c, d: c.set_server(d.scene.instance_id, task_state="rebooting"),
    "the compute dies": lambda c, d: c.set_compute(d.kept.host, up=False),
    "nova-api goes away": lambda c, _: c.set_apis(nova_up=False),
    "cinder-api goes away": lambda c, _: c.set_apis(cinder_up=False),
    "cinder-volume freezes": lambda c, _: c.set_service(Service.FROZEN),
    "cinder-volume dies": lambda c, _: c.set_service(Service.DOWN),
    "a user attaches": lambda c, d: c.begin_attach(d.kept.volume_id, d.scene.instance_id).finish(),
    "another user begins to": lambda c, d: c.begin_attach(d.kept.volume_id, c.boot_server()),
    "another attaches on the host": lambda c, d: c.attach(d.kept.volume_id, c.boot_server()),
    "another attaches elsewhere": lambda c, d: c.attach(
        d.kept.volume_id, c.boot_server(host="compute-3")
    ),
    "the guest opens the disk again": lambda c, d: c._compute.open(
        d.kept.volume_id, d.scene.instance_id
    ),
    "a backup begins": lambda c, d: c.begin_backup(d.kept.volume_id),
    "the volume migrates": lambda c, d: c.set_volume(
        d.kept.volume_id, migration_status="migrating"
    ),
    "the volume is deleted": lambda c, d: c.delete_volume(d.kept.volume_id),
    "the backend forgets it": lambda c, d: c.forget_on_backend(d.kept.volume_id),
    "somebody reserves it": lambda c, d: c.cinder.api.reserve(d.kept.volume_id),
    "a person deletes the row": lambda c, d: c.drop_attachment(d.kept.attachment_id),
    "a stranger is let in": lambda c, d: c.export(d.kept.volume_id, "compute-9"),
}  # fmt: skip
CALMED: dict[str, Callable[[Cloud, Trial], Any]] = {
    "a task begins": lambda c, d: c.set_server(d.scene.instance_id, task_state=None),
    "the compute dies": lambda c, d: c.set_compute(d.kept.host, up=True),
    "nova-api goes away": lambda c, _: c.set_apis(),
    "cinder-api goes away": lambda c, _: c.set_apis(),
    "cinder-volume freezes": lambda c, _: c.set_service(Service.UP),
    "cinder-volume dies": lambda c, _: c.set_service(Service.UP),
    "the volume migrates": lambda c, d: c.set_volume(d.kept.volume_id, migration_status=None),
}


class Moment:
    """The n-th time that something comes round, at which the world moves."""

    def __init__(self, place: int, move: Callable[[], Any]) -> None:
        self._left, self._move = place, move

    @property
    def is_now(self) -> bool:
        """Tell whether it was the last time that something came round."""
        return self._left == 0

    def comes(self, _: object = None) -> None:
        """Count; at the n-th time let it happen, unless Cinder or Nova refuse it."""
        self._left -= 1
        if self._left == 0:
            with contextlib.suppress(PermanentError, TransientError):
                self._move()


class Watched:
    """Cinder, with a moment just before each look at a volume."""

    def __init__(self, cinder: Any, moment: Moment) -> None:
        self._cinder, self._moment = cinder, moment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cinder, name)

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Any:
        """Look, after the moment."""
        self._moment.comes()
        return self._cinder.volume(volume_id, timeout_seconds=timeout_seconds)


Played = Callable[[Stuck, str], None]


def at_any_look(stuck: Stuck, words: str) -> None:
    """Let something happen just before the n-th look, for every n."""
    for place in range(1, 4):
        with Cloud() as cloud:
            trial = stuck.trial(cloud)
            moment = Moment(place, lambda: MOVES[words](cloud, trial))  # noqa: B023 - used at once
            watched: Any = Watched(cloud.cinder, moment)
            assert_survives(cloud, trial, words, watched)


def between_plan_and_call(stuck: Stuck, words: str) -> None:
    """Let something happen after the n-th intent is written, for every n."""
    for place in range(1, len(stuck.steps_left) + 1):
        with Cloud() as cloud:
            trial = stuck.trial(cloud)
            moment = Moment(place, lambda: MOVES[words](cloud, trial))  # noqa: B023 - used at once
            trial.written = moment.comes
            assert_survives(cloud, trial, words, cloud.cinder)


def between_two_tries(stuck: Stuck, words: str) -> None:
    """Let the n-th call surely do nothing, and something happen then, for every n."""
    for place in range(1, len(stuck.steps_left) + 1):
        with Cloud() as cloud, pytest.MonkeyPatch.context() as patch:
            trial = stuck.trial(cloud)
            moment = Moment(place, lambda: MOVES[words](cloud, trial))  # noqa: B023 - used at once
            patch.setattr(Calls, "make", faltering(Calls.make, moment))
            assert_survives(cloud, trial, words, cloud.cinder)


PLACES = (at_any_look, between_plan_and_call, between_two_tries)


@given(st.sampled_from(PLACES), st.sampled_from(STUCK), st.sampled_from(sorted(MOVES)))
def test_a_world_that_moves_is_not_harmed(played: Played, stuck: Stuck, words: str) -> None:
    """Something happens between our looks, calls and tries -> nothing worse, and rest."""
    played(stuck, words)


@pytest.mark.slow
@pytest.mark.parametrize("played", PLACES, ids=lambda played: played.__name__)
@pytest.mark.parametrize("stuck", STUCK, ids=name_of)
def test_a_world_that_moves_at_any_place_is_not_harmed(stuck: Stuck, played: Played) -> None:
    """Each move at each place, each in turn -> the same: no call is made or repeated unseen."""
    for words in MOVES:
        with named(words):
            played(stuck, words)


def faltering(make: Callable[..., None], moment: Moment) -> Callable[..., None]:
    """Return calls of which one fails without having done anything at that moment."""

    def falter(*args: Any, **kwargs: Any) -> None:
        moment.comes()
        if moment.is_now:
            raise TransientError("turned away at the door")
        make(*args, **kwargs)

    return falter


def assert_survives(cloud: Cloud, trial: Trial, words: str, cinder: Any) -> None:
    """Run one case while the world moves once; what can pass by itself has passed afterwards."""

    def calm(seconds: float) -> None:
        if seconds and words in CALMED:
            with contextlib.suppress(PermanentError):
                CALMED[words](cloud, trial)

    trial.between = calm
    trial.run(Recovery(cinder, cloud.nova, cloud.driver, lambda _: QUICK), most=200)
    assert cloud.hazards() == (), trial.steps()
    assert_announced_in_pairs(trial)
