"""What a brake does to an attempt: it waits before its first write, and never in the midst."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.simulator import DEFAULT_BACKEND, Cloud, scenes
from handlers.brakes import Held, Scope, Spending
from handlers.case import CaseState
from handlers.counting import Braked, Counted
from handlers.judgement.policy import Mode
from handlers.recovery.recovery import SHORTEST_BRAKE_SECONDS, Recovery
from tests.unit.handlers.recovery.stuck import ATTACH, DETACH
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on

HOST = Held(Scope.HOST, "compute-1", 600.0)


def test_a_held_plan_waits_and_writes_nothing(cloud: Cloud) -> None:
    """A brake holds -> no write, no failure; due after the wait, with the brake as the reason."""
    counted: list[Counted] = []
    trial = Trial(scenes.uc1(cloud), ATTACH)
    trial.held = HOST
    recovery = Recovery(
        cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, count=counted.append
    )
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert (outcome.state, outcome.failed) == (CaseState.DUE, False)
    assert "too many volumes of compute host compute-1" in outcome.reason
    assert 600.0 <= (outcome.delay_seconds or 0.0) <= 900.0
    assert cloud.calls(writes=True) == ()
    assert trial.steps() == []
    assert Braked("host", HOST.words) in counted
    trial.held = None
    assert trial.run(recovery).state is CaseState.CLOSED


def test_the_wait_is_never_a_busy_loop(cloud: Cloud) -> None:
    """A token comes in a moment -> half a minute all the same: each wait costs a look."""
    trial = Trial(scenes.uc1(cloud), ATTACH)
    trial.held = dataclasses.replace(HOST, wait_seconds=0.5)
    outcome = trial.attempt(recovery_on(cloud, QUICK))
    assert outcome is not None
    assert (outcome.delay_seconds or 0.0) >= SHORTEST_BRAKE_SECONDS


@pytest.mark.parametrize("arrange", [scenes.uc1, scenes.uc3, scenes.uc5])
def test_one_plan_is_counted_once(cloud: Cloud, arrange: object) -> None:
    """A case of several steps and looks -> one count, of its backend, host and project."""
    scene = arrange(cloud)  # type: ignore[operator]
    trial = Trial(scene, ATTACH if arrange is scenes.uc1 else DETACH)
    trial.run(recovery_on(cloud, QUICK))
    assert trial.made()
    assert trial.spent == [Spending(DEFAULT_BACKEND, scene.host, None)]


@pytest.mark.parametrize("place", range(1, 9))
def test_what_was_begun_is_finished(cloud: Cloud, place: int) -> None:
    """A crash in the midst of a plan, then a brake holds -> it is carried on all the same."""
    trial = Trial(scenes.uc5(cloud), DETACH)
    trial.crash_at = place
    recovery = recovery_on(cloud, QUICK)
    assert trial.attempt(recovery) is None
    trial.held = HOST
    begun = bool(trial.steps())
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert (HOST.words in outcome.reason) is not begun
    assert cloud.hazards() == ()


def test_what_a_person_has_approved_is_not_held(cloud: Cloud) -> None:
    """The plan has its approval -> no brake is asked; that of another plan does not count."""
    approve = dataclasses.replace(QUICK, mode=Mode.APPROVE)
    trial = Trial(scenes.uc1(cloud), ATTACH)
    trial.held = HOST
    asked = trial.run(recovery_on(cloud, approve))
    assert asked.state is CaseState.AWAITING_APPROVAL
    assert trial.spent == []
    trial._keep(approved_by="me", approved_fingerprint="another", approved_at=trial.now)
    outcome = trial.attempt(recovery_on(cloud, QUICK))
    assert outcome is not None
    assert HOST.words in outcome.reason
    trial._keep(approved_fingerprint=asked.fingerprint, approved_at=trial.now)
    assert trial.run(recovery_on(cloud, approve)).state is CaseState.CLOSED
    assert len(trial.spent) == 1
