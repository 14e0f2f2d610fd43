"""Time in an attempt: waiting for Nova's own detach, and a process that was stopped in between."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from drivers.simulator import Cloud, Detaching, Landing, scenes
from handlers.case import CaseState
from handlers.recovery import steps
from handlers.recovery.recovery import Recovery
from tests.unit.handlers.recovery.stuck import DETACH, STUCK, STUCK_BY_NAME, Stuck
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on

# Long: a test that waits for so long has failed, unless its pauses take no time.
WAIT_SECONDS = 100.0
PATIENT = dataclasses.replace(QUICK, nova_detach_wait_seconds=WAIT_SECONDS)


@pytest.fixture
def trial(cloud: Cloud) -> Trial:
    """Give a case whose guest takes its time over Nova's detach."""
    scene = scenes.compute_came_back(cloud)
    cloud.script_detach(scene.instance_id, Detaching(landing=Landing()))
    return Trial(scene, DETACH)


def once_asked(trial: Trial, happens: Callable[[], Any]) -> None:
    """Let something happen as soon as Nova has accepted the detach."""
    kept = trial.result

    def result(request_id: str, *rest: Any) -> None:
        kept(request_id, *rest)
        if trial.steps()[-1] == "nova.detach:done":
            happens()

    trial.result = result  # type: ignore[method-assign]


class Clock:
    """Stands for ``time`` in a module: monotonic time that only the test moves on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self._began + self.ahead_seconds


class Pauses(threading.Event):
    """An event that nobody sets; to wait for it takes no time, but moves a clock on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Let so many seconds go by."""
        self._clock.ahead_seconds += timeout or 0.0
        return False


@pytest.mark.parametrize("patience", [2.0, WAIT_SECONDS])
def test_guest_that_takes_its_time_is_not_a_storm_of_looks(
    cloud: Cloud, trial: Trial, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Nova is at it for as long as one attempt waits -> a look a second, or every tenth of that."""
    clock = Clock()
    monkeypatch.setattr(steps, "time", clock)
    policy = dataclasses.replace(QUICK, nova_detach_wait_seconds=patience)
    looks: list[int] = []
    once_asked(trial, lambda: looks.append(len(cloud.calls("cinder.volume"))))
    trial.attempt(
        Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: policy, stop=Pauses(clock))
    )
    assert clock.ahead_seconds == pytest.approx(patience)
    fewest = patience / min(steps.POLL_SECONDS, patience / 10)
    assert fewest - 1 <= len(cloud.calls("cinder.volume")) - looks[0] <= fewest + 3


def test_stop_ends_the_wait_at_once(cloud: Cloud, trial: Trial) -> None:
    """The service stops while Nova is at it -> the attempt ends, and asks Cinder no further."""
    stop = threading.Event()
    looks: list[int] = []

    def stops() -> None:
        looks.append(len(cloud.calls("cinder.volume")))
        stop.set()

    once_asked(trial, stops)
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: PATIENT, stop=stop)
    began = time.monotonic()
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert outcome.state is CaseState.DUE
    assert time.monotonic() - began < WAIT_SECONDS
    assert len(cloud.calls("cinder.volume")) - looks[0] <= 2


def test_cinder_that_goes_away_ends_the_wait(cloud: Cloud, trial: Trial) -> None:
    """cinder-api is gone while Nova is at it -> looked at again later, as after any such look."""
    once_asked(trial, lambda: cloud.set_apis(cinder_up=False))
    began = time.monotonic()
    outcome = trial.attempt(Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: PATIENT))
    assert outcome is not None
    assert (outcome.state, outcome.rule) == (CaseState.DUE, "X1.cinder-unknown")
    assert time.monotonic() - began < WAIT_SECONDS


# -- a process that was stopped in between ---------------------------------------------------------


@pytest.mark.parametrize("stuck", STUCK, ids=[s.name for s in STUCK])
def test_thawed_after_its_lease_it_makes_no_call(
    cloud: Cloud, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen for an hour between intent and call -> somebody else may have the volume: no call."""
    trial, clock = stuck.trial(cloud), Clock()
    monkeypatch.setattr(steps, "time", clock)
    freezes = iter([3600.0])
    trial.written = lambda _: setattr(
        clock, "ahead_seconds", clock.ahead_seconds + next(freezes, 0.0)
    )
    place = len(trial.steps())
    trial.attempt(recovery_on(cloud))
    assert trial.steps()[place].endswith(":withheld")
    assert trial.run(recovery_on(cloud)).state is CaseState.CLOSED
    stuck.assert_recovered(cloud, trial)


def test_the_two_looks_that_park_lie_a_pause_apart(cloud: Cloud) -> None:
    """A stranger is let in -> not parked on two looks of the same moment."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    cloud.export(trial.case.volume_id, "compute-9")
    slow = dataclasses.replace(QUICK, try_backoff_seconds=0.3)
    trial.attempt(Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: slow))
    first, second = cloud.calls("driver.observe")
    assert second.began_seconds - first.began_seconds >= 0.3


def _detach_begins(trial: Trial) -> None:
    late = dataclasses.replace(trial.kept.late, detach_tried_at=trial.now)
    trial.kept = dataclasses.replace(trial.kept, late=late)


def test_nothing_is_completed_while_a_detach_that_began_since_may_act(cloud: Cloud) -> None:
    """A detach begins between our intent and the call -> Cinder is not told that it is attached."""
    trial = STUCK_BY_NAME["UC2"].trial(cloud)
    trial.written = lambda _: _detach_begins(trial)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert outcome.state is CaseState.DUE
    assert "may still act" in outcome.reason
    assert trial.steps() == ["cinder.complete:withheld"]
    assert cloud.calls(writes=True) == ()


def test_no_end_is_announced_while_a_detach_that_began_since_may_act(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user asks for a detach when we have completed it -> no end until its try is over."""
    trial = STUCK_BY_NAME["UC2"].trial(cloud)
    kept = trial.result

    def result(request_id: str, *rest: Any) -> None:
        kept(request_id, *rest)
        _detach_begins(trial)

    monkeypatch.setattr(trial, "result", result)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert (outcome.state, trial.events()) == (CaseState.DUE, ["start"])
    assert "may still act" in outcome.reason
    trial.advance(QUICK.late_horizon_seconds)
    trial.attempt(recovery_on(cloud))
    assert trial.events() == ["start", "end"]
