"""A call that Cinder's own check refuses, and a person's order to make it with a service token."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from drivers.errors import ConflictError, IndeterminateError
from drivers.simulator import Cloud, Fault
from handlers.case import Action, CaseState, Conclusion, Outcome
from handlers.judgement import approval
from handlers.judgement.policy import BackendPolicy, Mode
from tests.unit.handlers.recovery.stuck import DETACH, RELEASE_STEPS, released_in_nova
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_unharmed, recovery_on

APPROVING = dataclasses.replace(QUICK, mode=Mode.APPROVE, max_failures=2)
ALONE = dataclasses.replace(QUICK, max_failures=2)
MODES = pytest.mark.parametrize("policy", [APPROVING, ALONE], ids=["approve", "auto"])


def refused(cloud: Cloud, *, token: bool = True) -> Trial:
    """Make UC3 of which Cinder's Nova says that the server has it, unlike the service's."""
    scene = released_in_nova(cloud)
    cloud.ask_another_nova(scene.attachment_id or "")
    if token:
        cloud.have_service_token()
    return Trial(scene, DETACH)


def say_yes(trial: Trial, mark: str, action: Action | None = None) -> None:
    """Let a person approve the plan with this fingerprint."""
    yes = {
        "approved_by": "alice", "approved_fingerprint": mark, "approved_at": trial.now,
        "approved_action": action,
    }  # fmt: skip
    trial.kept = dataclasses.replace(trial.kept, **yes, state=CaseState.DUE)


def until_refused(cloud: Cloud, policy: BackendPolicy, trial: Trial) -> Outcome:
    """Work the case until a person has it, with the plain plan approved where that takes one."""
    recovery = recovery_on(cloud, policy)
    outcome = trial.run(recovery)
    for _ in range(4):
        if outcome.state is not CaseState.AWAITING_APPROVAL or offered(outcome):
            return outcome
        say_yes(trial, str(outcome.fingerprint))
        outcome = trial.run(recovery)
    raise AssertionError("it asks again and again")


def offered(outcome: Outcome) -> dict[str, Any]:
    """Return what the last look says of the plan with a service token."""
    told: dict[str, Any] = outcome.evidence.get("instead", {}).get(Action.SERVICE_TOKEN.value, {})
    return told


def status(cloud: Cloud, trial: Trial) -> str:
    """Return the volume's status."""
    volume = cloud.cinder.volume(trial.case.volume_id, timeout_seconds=1)
    assert volume is not None
    return volume.status


def calls(cloud: Cloud) -> int:
    """Count the deletes of attachments that were asked of Cinder."""
    return len(cloud.calls("cinder.delete_attachment"))


@MODES
def test_it_is_offered_after_a_refusal_and_carried_out_on_an_order(
    cloud: Cloud, policy: BackendPolicy
) -> None:
    """Cinder refuses although Nova let go -> never a token by itself; with one yes, recovered."""
    trial = refused(cloud)
    outcome = until_refused(cloud, policy, trial)
    told = offered(outcome)
    assert status(cloud, trial) == "detaching"
    assert [step["step"] for step in told["plan"]] == RELEASE_STEPS
    assert [step.get("service_token") for step in told["plan"]] == [None, True]
    assert set(told["guards"]["held"]) <= {"APPROVE"}
    assert told["guards"]["fingerprint"] != outcome.fingerprint
    say_yes(trial, told["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    assert trial.run(recovery_on(cloud, policy)).conclusion is Conclusion.MENDED
    assert status(cloud, trial) == "available"
    assert_unharmed(cloud, trial)


def test_it_is_not_offered_before_cinder_refused(cloud: Cloud) -> None:
    """No call was made yet -> the plan alone is offered."""
    assert offered(refused(cloud).run(recovery_on(cloud, APPROVING))) == {}


def test_an_order_of_the_plan_without_it_sends_none(cloud: Cloud) -> None:
    """A yes to the plain plan, whatever action it names -> no token, and Cinder refuses again."""
    trial = refused(cloud)
    outcome = until_refused(cloud, ALONE, trial)
    mark = outcome.evidence["guards"]["fingerprint"]
    say_yes(trial, mark, Action.SERVICE_TOKEN)
    assert trial.run(recovery_on(cloud, ALONE)).state is CaseState.PARKED
    say_yes(trial, offered(outcome)["guards"]["fingerprint"], None)
    assert trial.run(recovery_on(cloud, ALONE)).state is CaseState.PARKED
    assert status(cloud, trial) == "detaching"


@MODES
def test_an_order_that_is_too_old_is_none(cloud: Cloud, policy: BackendPolicy) -> None:
    """Given longer ago than approval_valid_seconds -> no token, in mode auto too."""
    trial = refused(cloud)
    outcome = until_refused(cloud, policy, trial)
    say_yes(trial, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    trial.advance(policy.approval_valid_seconds + 1)
    trial.run(recovery_on(cloud, policy))
    assert status(cloud, trial) == "detaching"


def test_without_a_service_token_it_says_which_options(cloud: Cloud) -> None:
    """None is configured -> it is shown with what is missing, and an order sends none."""
    trial = refused(cloud, token=False)
    told = offered(until_refused(cloud, ALONE, trial))
    assert "NO_SERVICE_TOKEN" in told["guards"]["held"]
    say_yes(trial, told["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    assert trial.run(recovery_on(cloud, ALONE)).state is CaseState.PARKED
    assert status(cloud, trial) == "detaching"


def test_a_block_device_that_comes_back_ends_the_order(cloud: Cloud) -> None:
    """Nova has the block device again when the order is carried out -> no call, nothing is cut."""
    trial = refused(cloud)
    outcome = until_refused(cloud, ALONE, trial)
    say_yes(trial, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    scene = trial.scene
    cloud.add_block_device(scene.instance_id or "", scene.volume_id, scene.attachment_id)
    before = calls(cloud)
    trial.run(recovery_on(cloud, ALONE))
    assert calls(cloud) == before
    assert_unharmed(cloud, trial)


def test_a_nova_that_answers_no_more_ends_the_order(cloud: Cloud) -> None:
    """Nova is down when the order is carried out -> unknown is not gone: no call."""
    trial = refused(cloud)
    outcome = until_refused(cloud, ALONE, trial)
    say_yes(trial, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    cloud.set_apis(nova_up=False)
    before = calls(cloud)
    trial.attempt(recovery_on(cloud, ALONE))
    assert calls(cloud) == before
    assert status(cloud, trial) == "detaching"


def test_an_order_serves_once(cloud: Cloud) -> None:
    """Recovered with it -> the order is used up, and is no reason to send a token again."""
    trial = refused(cloud)
    outcome = until_refused(cloud, ALONE, trial)
    say_yes(trial, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    trial.run(recovery_on(cloud, ALONE))
    assert approval.carried_out_since_approved(trial.kept)


def test_a_crash_at_any_place_of_what_was_ordered() -> None:
    """Kill -9 before or after every write -> recovered, with the one yes."""
    with Cloud() as cloud:
        whole = refused(cloud)
        outcome = until_refused(cloud, ALONE, whole)
        say_yes(whole, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
        before = whole.places
        whole.run(recovery_on(cloud, ALONE))
        places = range(1, whole.places - before + 1)
    assert len(places) > 4
    for place in places:
        with Cloud() as cloud:
            trial = refused(cloud)
            outcome = until_refused(cloud, ALONE, trial)
            say_yes(trial, offered(outcome)["guards"]["fingerprint"], Action.SERVICE_TOKEN)
            trial.crash_at = trial.places + place
            assert trial.run(recovery_on(cloud, ALONE)).conclusion is Conclusion.MENDED
            assert trial.crash_at is None
            assert status(cloud, trial) == "available"
            assert_unharmed(cloud, trial)


def test_an_order_waits_for_a_call_that_gave_no_answer(cloud: Cloud) -> None:
    """Cinder cannot ask Nova (500) at each look -> it is offered, and waits a late horizon."""
    trial = Trial(released_in_nova(cloud), DETACH)
    cloud.have_service_token()
    cloud.script(Fault.before("cinder.delete_attachment", IndeterminateError, times=1))
    outcome = trial.run(recovery_on(cloud, dataclasses.replace(ALONE, max_failures=1)))
    assert (outcome.state, status(cloud, trial)) == (CaseState.PARKED, "detaching")
    told = offered(outcome)
    assert set(told["guards"]["held"]) == {"OWN_CALL_UNANSWERED"}
    say_yes(trial, told["guards"]["fingerprint"], Action.SERVICE_TOKEN)
    before, ordered_at = calls(cloud), trial.now
    trial.attempt(recovery_on(cloud, ALONE))
    assert calls(cloud) == before
    assert trial.run(recovery_on(cloud, ALONE)).conclusion is Conclusion.MENDED
    assert (trial.now - ordered_at).total_seconds() >= ALONE.late_horizon_seconds
    assert_unharmed(cloud, trial)


def test_a_refusal_of_something_else_offers_none(cloud: Cloud) -> None:
    """The backend's own call is refused -> Cinder's check is not what stands in the way."""
    trial = Trial(released_in_nova(cloud), DETACH)
    cloud.have_service_token()
    cloud.script(Fault.before("driver.terminate_connection", ConflictError, times=20))
    assert offered(trial.run(recovery_on(cloud, ALONE))) == {}
    assert trial.made() != RELEASE_STEPS
