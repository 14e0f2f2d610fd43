"""An attach that only Cinder does not know of, where the operator wants such to be detached."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.simulator import Cloud, Detaching, Guest, scenes
from handlers.announcement import Event
from handlers.case import CaseState, Conclusion
from handlers.judgement.policy import LateAttach, Mode
from tests.unit.handlers.recovery.stuck import ATTACH
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_unharmed, recovery_on

UNWANTED = dataclasses.replace(QUICK, late_attach=LateAttach.DETACH)
LOOKS = 6  # as docs/openstack.md says
STEPS = ["cinder.complete", "nova.detach"]


def free(cloud: Cloud, trial: Trial) -> bool:
    """Tell whether all three sides have let it go."""
    volume = cloud.cinder.volume(trial.case.volume_id, timeout_seconds=1)
    let_in = cloud.exported_to(trial.case.volume_id)
    return volume is not None and (volume.status, volume.attachments, let_in) == (
        "available",
        (),
        (),
    )


@pytest.mark.parametrize("blind", [False, True])
def test_it_is_completed_and_detached_by_nova(cloud: Cloud, blind: bool) -> None:
    """The guest has it and nobody said so -> Cinder is told, Nova detaches; told of as UC2."""
    policy = dataclasses.replace(UNWANTED, trust_blind=blind)
    trial = Trial(scenes.uc2(cloud), ATTACH)
    before = len(cloud.calls("nova.server"))
    outcome = trial.run(recovery_on(cloud, policy, blind=blind))
    assert len(cloud.calls("nova.server")) - before == LOOKS
    assert (outcome.conclusion, trial.made()) == (Conclusion.MENDED, STEPS)
    assert free(cloud, trial)
    end = next(told for told in trial.announced if told.event_type == Event.END.value)
    assert (end.payload["rule"], end.payload["use_case"]) == ("UC2.completed", "UC2")
    assert_unharmed(cloud, trial)


def test_what_ended_well_is_kept(cloud: Cloud) -> None:
    """A first try that finished late put it back, and its end was heard -> it stays attached."""
    trial = Trial(scenes.uc2(cloud), ATTACH, end_seen=True)
    outcome = trial.run(recovery_on(cloud, UNWANTED))
    assert (outcome.conclusion, trial.made()) == (Conclusion.MENDED, STEPS[:1])
    assert cloud.guests_holding(trial.case.volume_id) == (trial.case.instance_id,)


def test_a_crash_at_any_place_ends_in_the_same_state() -> None:
    """Kill -9 before or after every write, and before the finish -> completed and detached."""
    with Cloud() as cloud:
        whole = Trial(scenes.uc2(cloud), ATTACH)
        whole.run(recovery_on(cloud, UNWANTED))
    for place in range(1, whole.places + 1):
        with Cloud() as cloud:
            trial = Trial(scenes.uc2(cloud), ATTACH)
            trial.crash_at = place
            assert trial.run(recovery_on(cloud, UNWANTED)).conclusion is Conclusion.MENDED
            assert trial.crash_at is None
            assert free(cloud, trial)
            assert_unharmed(cloud, trial)


def test_a_guest_that_refuses_keeps_it(cloud: Cloud) -> None:
    """The guest does not let go -> in-use, healthy, and not asked again."""
    scene = scenes.uc2(cloud)
    cloud.script_detach(scene.instance_id, Detaching(Guest.REFUSES))
    trial = Trial(scene, ATTACH)
    outcome = trial.run(recovery_on(cloud, UNWANTED))
    assert (outcome.state, outcome.rule) == (CaseState.CLOSED, "H2.attached")
    assert len(cloud.calls("nova.detach")) == 1
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)


def test_each_step_takes_a_yes_of_its_own(cloud: Cloud) -> None:
    """Mode approve -> asked whether to complete it, and then whether to detach it."""
    recovery = recovery_on(cloud, dataclasses.replace(UNWANTED, mode=Mode.APPROVE))
    trial = Trial(scenes.uc2(cloud), ATTACH)
    for made in ([], STEPS[:1]):
        asked = trial.run(recovery)
        assert (asked.state, trial.made()) == (CaseState.AWAITING_APPROVAL, made)
        yes = {
            "approved_by": "alice", "approved_fingerprint": asked.fingerprint,
            "approved_at": trial.now,
        }  # fmt: skip
        trial.kept = dataclasses.replace(trial.kept, **yes, state=CaseState.DUE)
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert free(cloud, trial)
