"""An attach that only Cinder does not know of, where the operator wants such to be detached."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from drivers.simulator import Cloud, Detaching, Guest, scenes
from handlers import intents
from handlers.announcement import Event
from handlers.case import Action, CaseState, Conclusion, Outcome
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


APPROVING = dataclasses.replace(QUICK, mode=Mode.APPROVE)


def offered(outcome: Outcome) -> dict[str, Any]:
    """Return what a person may order instead of the plan, as history keeps it."""
    found: dict[str, Any] = outcome.evidence.get("instead", {})
    return found


def order(trial: Trial, mark: str, action: Action | None = Action.DETACH) -> None:
    """Let a person say yes to the plan with this fingerprint."""
    yes = {
        "approved_by": "alice", "approved_fingerprint": mark, "approved_at": trial.now,
        "approved_action": action,
    }  # fmt: skip
    trial.kept = dataclasses.replace(trial.kept, **yes, state=CaseState.DUE)


def test_a_person_orders_that_it_is_detached(cloud: Cloud) -> None:
    """Kept by policy, and a person orders detach -> one yes: completed, then detached by Nova."""
    trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
    asked = trial.run(recovery)
    (told,) = offered(asked).values()
    assert [step["step"] for step in told["plan"]] == STEPS
    assert set(told["guards"]["held"]) == {"APPROVE"}
    assert told["guards"]["fingerprint"] != asked.fingerprint
    order(trial, told["guards"]["fingerprint"])
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert trial.made() == STEPS
    assert free(cloud, trial)
    assert_unharmed(cloud, trial)


def test_an_order_is_no_yes_to_another_plan(cloud: Cloud) -> None:
    """The yes is to the plan as it is, or the order is of another fingerprint -> never detached."""
    recovery = recovery_on(cloud, APPROVING)
    plain, wrong = (Trial(scenes.uc2(cloud), ATTACH) for _ in range(2))
    mark = str(plain.run(recovery).fingerprint)
    order(plain, mark, None)
    assert plain.run(recovery).conclusion is Conclusion.MENDED
    assert plain.made() == STEPS[:1]
    mark = str(wrong.run(recovery).fingerprint)
    for given, action in ((mark[::-1], Action.DETACH), (mark[::-1], None)):
        order(wrong, given, action)
        assert wrong.run(recovery).state is CaseState.AWAITING_APPROVAL
        assert wrong.made() == []


def test_an_order_that_names_the_plan_as_it_is_orders_nothing(cloud: Cloud) -> None:
    """The fingerprint of the plan without the order, with the order -> asked again, no call."""
    trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
    order(trial, str(trial.run(recovery).fingerprint))
    assert trial.run(recovery).state is CaseState.AWAITING_APPROVAL
    assert trial.made() == []


def test_an_end_that_is_heard_after_the_order_keeps_it(cloud: Cloud) -> None:
    """Nova says that the attach ended well before the order is carried out -> nothing is detached.

    The plan as it is waits for a yes of its own.
    """
    trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
    (told,) = offered(trial.run(recovery)).values()
    order(trial, told["guards"]["fingerprint"])
    trial.kept = dataclasses.replace(trial.kept, end_seen=True)
    outcome = trial.run(recovery)
    assert (outcome.state, trial.made()) == (CaseState.AWAITING_APPROVAL, [])
    assert "ORDERED_DETACH" in offered(outcome)["detach"]["guards"]["held"]


def test_an_end_that_is_heard_between_both_calls_keeps_it(cloud: Cloud) -> None:
    """The attach ends well after it was completed as ordered -> it stays attached."""
    trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
    (told,) = offered(trial.run(recovery)).values()
    order(trial, told["guards"]["fingerprint"])
    trial.crash_at = trial.places + 4  # after the completion was written down as done
    assert trial.attempt(recovery) is None
    assert trial.made() == STEPS[:1]
    trial.kept = dataclasses.replace(trial.kept, end_seen=True)
    trial.run(recovery)
    assert trial.made() == STEPS[:1]
    assert cloud.guests_holding(trial.case.volume_id) == (trial.case.instance_id,)


def test_a_server_that_nova_detaches_nothing_of_gets_no_order(cloud: Cloud) -> None:
    """Its server is rescued -> the order is shown with what stands against it."""
    scene = scenes.uc2(cloud)
    cloud.set_server(scene.instance_id, vm_state="rescued")
    outcome = Trial(scene, ATTACH).run(recovery_on(cloud, APPROVING))
    assert "ORDERED_DETACH" in offered(outcome)["detach"]["guards"]["held"]


def test_a_crash_at_any_place_of_what_was_ordered() -> None:
    """Kill -9 before or after every write -> completed and detached once, with the one yes."""
    with Cloud() as cloud:
        whole, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
        (told,) = offered(whole.run(recovery)).values()
        order(whole, told["guards"]["fingerprint"])
        before = whole.places
        whole.run(recovery)
        places = range(1, whole.places - before + 1)
    assert len(places) > 4
    for place in places:
        with Cloud() as cloud:
            trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
            (told,) = offered(trial.run(recovery)).values()
            order(trial, told["guards"]["fingerprint"])
            trial.crash_at = trial.places + place
            assert trial.run(recovery).conclusion is Conclusion.MENDED
            assert trial.crash_at is None
            assert free(cloud, trial)
            assert_unharmed(cloud, trial)


def test_an_order_serves_once(cloud: Cloud) -> None:
    """It was detached as ordered -> the order is no reason to detach anything more."""
    trial, recovery = Trial(scenes.uc2(cloud), ATTACH), recovery_on(cloud, APPROVING)
    (told,) = offered(trial.run(recovery)).values()
    order(trial, told["guards"]["fingerprint"])
    trial.run(recovery)
    assert intents.detach_ordered(trial.kept) is False


def test_one_that_was_begun_and_waits_for_another_yes_is_announced_once(cloud: Cloud) -> None:
    """Begun with a yes, and now it needs another one -> an error follows the start, once."""
    recovery = recovery_on(cloud, dataclasses.replace(UNWANTED, mode=Mode.APPROVE))
    trial = Trial(scenes.uc2(cloud), ATTACH)
    asked = trial.run(recovery)
    assert trial.events() == []
    yes = {
        "approved_by": "alice", "approved_fingerprint": asked.fingerprint,
        "approved_at": trial.now,
    }  # fmt: skip
    trial.kept = dataclasses.replace(trial.kept, **yes, state=CaseState.DUE)
    for _ in range(3):
        assert trial.run(recovery).state is CaseState.AWAITING_APPROVAL
        assert trial.events() == ["start", "error"]


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
