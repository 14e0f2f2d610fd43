"""The rounds of one attempt: how often it looks, tries again, and when it gives up for now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivers.errors import ConflictError, OutsideError, PermanentError, TransientError
from drivers.simulator import Cloud, Effect, Fault, scenes
from handlers.case import CaseState, Conclusion, Outcome
from handlers.counting import Called, Counted, Guarded, Stepped
from handlers.judgement.guards import Guard
from handlers.recovery.recovery import ROUNDS, SETBACKS, Recovery
from tests.unit.handlers.recovery.stuck import ATTACH, STUCK_BY_NAME
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on


class After:
    """One side of the cloud, with something that happens right after each call of a method."""

    def __init__(self, side: Any, method: str, happens: Callable[[int], None]) -> None:
        self._side, self._method, self._happens = side, method, happens
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._side, name)
        if name != self._method:
            return call

        def called(*args: Any, **kwargs: Any) -> Any:
            answer = call(*args, **kwargs)
            self.calls += 1
            self._happens(self.calls)
            return answer

        return called


def attempted(cloud: Cloud, trial: Trial, cinder: Any = None) -> Outcome:
    """Make one attempt."""
    side = cinder or cloud.cinder
    outcome = trial.attempt(Recovery(side, cloud.nova, cloud.driver, lambda _: QUICK))
    assert outcome is not None
    return outcome


def test_a_backend_that_exports_again_each_time_ends_the_attempt(cloud: Cloud) -> None:
    """Released, and exported again at once, for ever -> a bounded number of rounds, then later."""
    scene = scenes.uc5(cloud)
    again = After(cloud.cinder, "unreserve", lambda _: cloud.export(scene.volume_id, scene.host))
    outcome = attempted(cloud, Trial(scene, ATTACH), again)
    assert again.calls == ROUNDS
    assert (outcome.state, outcome.failed) == (CaseState.DUE, True)
    assert outcome.reason == "the situation did not settle within one attempt"


def test_what_comes_to_rest_in_the_last_round_is_mended(cloud: Cloud) -> None:
    """Exported again all but the last time -> mended, not failed."""
    scene = scenes.uc5(cloud)

    def export(times: int) -> None:
        if times < ROUNDS:
            cloud.export(scene.volume_id, scene.host)

    outcome = attempted(cloud, Trial(scene, ATTACH), After(cloud.cinder, "unreserve", export))
    assert (outcome.mended, outcome.failed) == (True, False)


def test_a_conflict_is_looked_at_anew_but_not_for_ever(cloud: Cloud) -> None:
    """Cinder refuses for its state, each time -> a second look and try, then later."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    cloud.script(Fault.before("cinder.delete_attachment", ConflictError, times=100))
    outcome = attempted(cloud, trial)
    assert len(cloud.calls("cinder.delete_attachment")) == SETBACKS
    assert (outcome.state, outcome.failed) == (CaseState.DUE, True)
    assert trial.events() == ["start", "error"]


def test_a_call_that_surely_did_nothing_is_repeated_and_then_left_for_later(cloud: Cloud) -> None:
    """cinder-api away for the write alone -> as many tries as the policy has, then later."""
    trial = STUCK_BY_NAME["UC2"].trial(cloud)
    cloud.script(Fault.before("cinder.complete", TransientError, times=100))
    outcome = attempted(cloud, trial)
    assert len(cloud.calls("cinder.complete")) == QUICK.tries
    assert trial.steps() == ["cinder.complete:transient"]
    assert outcome.state is CaseState.DUE


def test_what_is_refused_for_good_is_looked_at_once_more_and_parked(cloud: Cloud) -> None:
    """The driver refuses -> one more look, the same plan: a person, with the driver's words."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    cloud.script(Fault.before("driver.terminate_connection", PermanentError, times=100))
    outcome = attempted(cloud, trial)
    assert outcome.state is CaseState.PARKED
    assert "driver.terminate_connection" in outcome.reason
    assert len(cloud.calls("driver.terminate_connection")) == 1
    assert trial.events() == ["start", "error", "parked"]


def test_what_is_refused_and_had_happened_all_the_same_is_mended(cloud: Cloud) -> None:
    """The driver refuses, and the backend is clean -> our reserve is given back."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    cloud.script(Fault("driver.terminate_connection", Effect.NOW, PermanentError, times=100))
    outcome = attempted(cloud, trial)
    assert outcome.mended
    assert trial.steps()[-1] == "cinder.unreserve:done"
    assert cloud.hazards() == ()


def test_a_guard_that_parks_takes_two_looks(cloud: Cloud) -> None:
    """A stranger is let in -> looked at twice, then parked; gone at the second look -> mended."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    cloud.export(trial.case.volume_id, "compute-9")
    outcome = attempted(cloud, trial)
    assert Guard.FOREIGN_CONNECTION.sentence in outcome.reason
    assert len(cloud.calls("driver.observe")) == 2


def test_a_guard_that_holds_only_once_does_not_park(cloud: Cloud) -> None:
    """A stranger that is gone at the second look -> mended."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    volume_id = trial.case.volume_id
    cloud.export(volume_id, "compute-9")

    def leaves(times: int) -> None:
        if times == 2:
            cloud.unexport(volume_id, "compute-9")

    assert attempted(cloud, trial, After(cloud.cinder, "volume", leaves)).mended


def test_the_backend_s_own_policy_counts_once_the_volume_is_seen(cloud: Cloud) -> None:
    """The case knows no backend -> the policy of where Cinder says that the volume is."""
    asked: list[str] = []

    def policy_of(backend: str) -> Any:
        asked.append(backend)
        return QUICK

    trial = Trial(scenes.uc5(cloud), ATTACH, backend=None)
    trial.attempt(Recovery(cloud.cinder, cloud.nova, cloud.driver, policy_of))
    assert asked[0] == ""
    assert set(asked[1:]) == {"storage-1@tgt"}


def test_every_call_step_and_objection_is_told(cloud: Cloud) -> None:
    """An attempt -> its calls with their errors, its steps with their results, its guards."""
    told: list[Counted] = []
    cloud.script(Fault.before("cinder.reserve"))
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, count=told.append)
    STUCK_BY_NAME["UC5"].trial(cloud).run(recovery)
    calls = [event for event in told if isinstance(event, Called)]
    assert {
        ("cinder", "reserve", "TransientError"), ("cinder", "reserve", None),
        ("backend", "observe", None), ("nova", "server", None),
    } <= {(call.system, call.method, call.error) for call in calls}  # fmt: skip
    steps = [event for event in told if isinstance(event, Stepped)]
    assert [(step.step, step.result) for step in steps] == [
        ("cinder.reserve", "done"), ("backend.force_detach", "done"), ("cinder.unreserve", "done"),
    ]  # fmt: skip
    assert all(0 <= event.seconds < 60 for event in (*calls, *steps))
    stranger = STUCK_BY_NAME["UC5"].trial(cloud)
    cloud.export(stranger.case.volume_id, "compute-9")
    stranger.run(recovery)
    assert Guarded("foreign_connection") in told


def test_two_volumes_can_be_worked_by_one_recovery(cloud: Cloud) -> None:
    """One recovery, two cases in turn -> nothing of the one is left in the other."""
    recovery = recovery_on(cloud)
    first, second = STUCK_BY_NAME["UC1"].trial(cloud), STUCK_BY_NAME["UC3"].trial(cloud)
    for trial in (first, second, first, second):
        outcome = trial.attempt(recovery)
        assert outcome is not None
        trial.advance(outcome.delay_seconds or 0.0)
    assert {first.kept.state, second.kept.state} == {CaseState.CLOSED}


@pytest.mark.parametrize("kind", [TransientError, PermanentError, ConflictError])
def test_what_was_released_in_part_is_on_record(cloud: Cloud, kind: type[OutsideError]) -> None:
    """Terminated, and the driver's second call did nothing -> announced as our mending."""
    trial = STUCK_BY_NAME["UC5, beside others"].trial(cloud)
    cloud.script(Fault.before("driver.detach", kind, times=100))
    outcome = trial.run(recovery_on(cloud))
    assert outcome.conclusion is Conclusion.MENDED
    assert trial.steps() == ["backend.force_detach:indeterminate"]
    (end,) = [a for a in trial.announced if a.event_type.endswith(".end")]
    assert end.payload["steps"] == ["backend.force_detach"]


def test_what_is_refused_in_part_for_good_comes_to_a_person(cloud: Cloud) -> None:
    """Terminated, the second call refused each time, and Cinder to be told -> parked with both."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    cloud.script(Fault.before("driver.detach", PermanentError, times=100))
    outcome = trial.run(recovery_on(cloud))
    assert outcome.state is CaseState.PARKED
    assert outcome.reason.startswith("Terminated, then: driver.detach")
    assert "backend.force_detach" in trial.announced[-1].payload["steps"]
