"""Outages park no case for good, and what a person has is looked at again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from drivers.errors import PermanentError, TransientError
from drivers.simulator import Cloud, Fault, scenes
from handlers.case import CaseState, Conclusion, OtherCase, ReasonKind
from handlers.judgement.policy import Mode
from handlers.judgement.rules import CINDER_UNKNOWN, CRASHES
from handlers.recovery.recovery import Recovery
from tests.unit.handlers.recovery.stuck import ATTACH, DETACH, STUCK_BY_NAME
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_unharmed, recovery_on

DAY_SECONDS = 86400.0
HOUR_SECONDS = 3600.0
DOWN: list[Mapping[str, Any]] = [{"cinder_up": False}, {"nova_up": False}]


def looked(trial: Trial, recovery: Recovery, times: int = 1) -> None:
    """Look as often, each time when the case is due."""
    for _ in range(times):
        outcome = trial.attempt(recovery)
        assert outcome is not None
        assert outcome.delay_seconds is not None
        trial.advance(outcome.delay_seconds)


def parked(trial: Trial, recovery: Recovery) -> Trial:
    """Bring the case to a person."""
    outcome = trial.run(recovery, most=300)
    assert outcome.state is CaseState.PARKED
    assert outcome.delay_seconds == pytest.approx(HOUR_SECONDS, rel=3)
    trial.advance(outcome.delay_seconds)
    return trial


def guest_holds(cloud: Cloud) -> Trial:
    """Reset the status of a volume that a running guest holds: for a person."""
    scene = scenes.attached(cloud)
    cloud.set_status(scene.volume_id, "available", "detached")
    return Trial(scene, ATTACH)


@pytest.mark.parametrize("down", DOWN, ids=["cinder", "nova"])
def test_an_outage_parks_nothing_and_its_end_brings_the_recovery(
    cloud: Cloud, down: Mapping[str, Any]
) -> None:
    """An API is away for longer than all tries -> looked at on; when it is back -> recovered."""
    trial, recovery = STUCK_BY_NAME["UC1"].trial(cloud), recovery_on(cloud)
    cloud.set_apis(**down)
    looked(trial, recovery, 2 * QUICK.max_failures)
    assert {o.state for o in trial.outcomes} == {CaseState.DUE}
    assert (trial.events(), trial.kept.failures) == ([], 0)
    delays = [o.delay_seconds for o in trial.outcomes if o.delay_seconds]
    assert delays == sorted(delays)
    assert max(delays) <= QUICK.retry_backoff_max_seconds
    cloud.set_apis()
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert_unharmed(cloud, trial)


def test_a_long_outage_is_told_once_and_recovered_from(cloud: Cloud) -> None:
    """Cinder is away for three days -> one parked announcement; when it is back -> recovered."""
    trial, recovery = STUCK_BY_NAME["UC1"].trial(cloud), recovery_on(cloud)
    cloud.set_apis(cinder_up=False)
    while (trial.now - trial.kept.opened_at).total_seconds() < 3 * DAY_SECONDS:
        looked(trial, recovery)
    assert trial.kept.state is CaseState.PARKED
    assert (trial.events(), trial.kept.rule) == (["parked"], CINDER_UNKNOWN)
    cloud.set_apis()
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert trial.events() == ["parked", "start", "end"]
    assert_unharmed(cloud, trial)


def test_what_a_person_was_told_is_told_once(cloud: Cloud) -> None:
    """A parked case comes to the same at each look -> one announcement, no write."""
    trial, recovery = guest_holds(cloud), recovery_on(cloud)
    parked(trial, recovery)
    looked(trial, recovery, 5)
    assert trial.events() == ["parked"]
    assert [o.held for o in trial.outcomes[-5:]] == [True] * 5
    assert cloud.calls(writes=True) == ()


PARKED_BESIDE = OtherCase("case-0", CaseState.PARKED, ATTACH, None, rule="P6.guest-holds")


def beside(trial: Trial, **changes: Any) -> None:
    """Let another case of the volume be parked, by the same rule for the same attachment."""
    same = dataclasses.replace(PARKED_BESIDE, attachment_id=trial.kept.attachment_id)
    trial.kept = dataclasses.replace(trial.kept, beside=(dataclasses.replace(same, **changes),))


def test_one_cause_is_one_parked_case(cloud: Cloud) -> None:
    """The other case of the attachment is parked for the same -> this one is joined to it."""
    trial = guest_holds(cloud)
    beside(trial)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.conclusion, trial.events()) == (Conclusion.JOINED, [])
    assert "case-0" in outcome.reason


OTHERS: list[Mapping[str, Any]] = [
    {"attachment_id": "another"},
    {"rule": "P0.not-understood"},
    {"operation": DETACH},
]


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_another_cause_is_another_parked_case(cloud: Cloud, change: Mapping[str, Any]) -> None:
    """It is of another attachment, or for another reason, or knows of no wish -> both are told."""
    trial = guest_holds(cloud)
    if "operation" in change:  # this case is of the detach, the other one of the attach
        trial.kept = dataclasses.replace(trial.kept, operation=DETACH)
        change = {"operation": ATTACH}
    beside(trial, **change)
    assert trial.run(recovery_on(cloud)).state is CaseState.PARKED
    assert trial.events() == ["parked"]


def left_over(cloud: Cloud) -> Trial:
    """Delete one of two servers, its guest not ended: its row is left beside one that is right."""
    scene = scenes.attached(cloud)
    cloud.set_volume(scene.volume_id, multiattach=True)
    other = cloud.boot_server(host="compute-2")
    cloud.add_attachment(scene.volume_id, "attached", other, host="compute-2")
    cloud.set_server(other, deleted=True)
    return Trial(scene, ATTACH)


def test_what_is_left_of_another_attachment_is_told_at_once(cloud: Cloud) -> None:
    """Its own attachment is right, nobody is at work on the other's row -> parked, and named."""
    trial = left_over(cloud)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "P28.other-left-over")
    assert "attachment" in outcome.reason.rpartition("(")[2]


def test_what_is_left_of_another_attachment_is_told_by_its_own_case(cloud: Cloud) -> None:
    """The same, and a person has the case of that row -> joined to it, whatever its rule."""
    trial = left_over(cloud)
    volume = cloud.cinder.volume(trial.scene.volume_id, timeout_seconds=1.0)
    assert volume is not None
    left = volume.attachments[-1].attachment_id
    beside(trial, attachment_id=left, rule="P5.server-deleted")
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.conclusion, trial.events()) == (Conclusion.JOINED, [])


def test_what_a_person_has_is_joined_to_nothing(cloud: Cloud) -> None:
    """Both are parked already -> neither vanishes at its next look."""
    trial, recovery = guest_holds(cloud), recovery_on(cloud)
    parked(trial, recovery)
    beside(trial)
    looked(trial, recovery)
    assert trial.kept.state is CaseState.PARKED


def test_an_outage_changes_nothing_about_a_parked_case(cloud: Cloud) -> None:
    """Cinder is away when a parked case is looked at, and is back -> what was told stays."""
    trial, recovery = guest_holds(cloud), recovery_on(cloud)
    parked(trial, recovery)
    told = trial.kept.rule, trial.kept.reason
    cloud.set_apis(cinder_up=False)
    looked(trial, recovery, 3)
    assert (trial.kept.state, trial.kept.rule, trial.kept.reason) == (CaseState.PARKED, *told)
    cloud.set_apis()
    looked(trial, recovery, 3)
    assert (trial.kept.state, trial.events()) == (CaseState.PARKED, ["parked"])


def test_a_parked_case_closes_when_its_trouble_has_ended(cloud: Cloud) -> None:
    """Somebody repaired the volume and told nobody -> closed at the second clean look."""
    trial, recovery = guest_holds(cloud), recovery_on(cloud)
    parked(trial, recovery)
    cloud.set_status(trial.scene.volume_id, "in-use", "attached")
    outcome = trial.run(recovery)
    assert outcome.conclusion is Conclusion.HEALTHY
    assert trial.events() == ["parked"]


@pytest.mark.parametrize(
    ("age_seconds", "delay_seconds"),
    [(0, HOUR_SECONDS), (DAY_SECONDS, 3 * HOUR_SECONDS), (30 * DAY_SECONDS, DAY_SECONDS)],
)
def test_the_older_a_parked_case_the_later_it_is_looked_at(
    cloud: Cloud, age_seconds: float, delay_seconds: float
) -> None:
    """A parked case of that age -> due again after an eighth of it, an hour to a day."""
    trial = guest_holds(cloud)
    trial.now = trial.kept.opened_at
    trial.advance(age_seconds)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert outcome.delay_seconds == pytest.approx(delay_seconds, rel=0.01)


def test_the_operator_may_switch_the_looks_off(cloud: Cloud) -> None:
    """parked_look_seconds = 0 -> a parked case is never due by itself."""
    policy = dataclasses.replace(QUICK, parked_look_seconds=0.0)
    outcome = guest_holds(cloud).attempt(recovery_on(cloud, policy))
    assert outcome is not None
    assert (outcome.state, outcome.delay_seconds) == (CaseState.PARKED, None)


def test_what_may_have_killed_the_process_is_never_looked_at_by_itself(cloud: Cloud) -> None:
    """The lease ran out three times in a row -> parked, and not due again."""
    trial = guest_holds(cloud)
    trial.kept = dataclasses.replace(trial.kept, crashes=3)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert (outcome.rule, outcome.delay_seconds) == (CRASHES, None)


def test_danger_is_told_once_while_an_approval_is_awaited(cloud: Cloud) -> None:
    """A leak awaits approval and Nova is away for a day -> one error, and the plan is kept."""
    policy = dataclasses.replace(QUICK, mode=Mode.APPROVE)
    trial, recovery = STUCK_BY_NAME["UC5"].trial(cloud), recovery_on(cloud, policy)
    asked = trial.run(recovery)
    cloud.set_apis(nova_up=False)
    looked(trial, recovery, 40)
    assert (trial.kept.state, trial.events()) == (CaseState.AWAITING_APPROVAL, ["error"])
    assert trial.kept.fingerprint == asked.fingerprint


def test_what_was_refused_for_good_is_not_tried_at_each_look(cloud: Cloud) -> None:
    """Cinder refuses the delete, the case is parked -> no call at later looks, but in a replay."""
    trial, recovery = STUCK_BY_NAME["UC1"].trial(cloud), recovery_on(cloud)
    cloud.script(Fault.before("cinder.delete_attachment", PermanentError, times=1000))
    parked(trial, recovery)
    writes, told = len(cloud.calls(writes=True)), trial.events()
    looked(trial, recovery, 5)
    assert (len(cloud.calls(writes=True)), trial.events()) == (writes, told)
    cloud.clear_faults()
    trial.kept = dataclasses.replace(trial.kept, state=CaseState.DUE)
    assert trial.run(recovery).conclusion is Conclusion.MENDED


def failing(cloud: Cloud, recovery: Recovery) -> Trial:
    """Park a case whose call fails each time, without being refused; its failures were told."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    cloud.script(Fault.before("cinder.delete_attachment", TransientError, times=1000))
    parked(trial, recovery)
    assert trial.events() == ["start", "error"] * QUICK.max_failures + ["parked"]
    assert trial.kept.told == (ReasonKind.FAILED,)
    return trial


def test_a_failure_is_told_once_while_a_person_has_the_case(cloud: Cloud) -> None:
    """The call of a parked case fails on at each look -> it is tried, and nothing is told again."""
    recovery = recovery_on(cloud)
    trial = failing(cloud, recovery)
    tried, told = len(trial.kept.intents), trial.events()
    looked(trial, recovery, 5)
    assert len(trial.kept.intents) > tried
    assert (trial.events(), trial.kept.told) == (told, (ReasonKind.FAILED,))


def test_what_succeeds_at_last_is_told_with_its_start(cloud: Cloud) -> None:
    """The same, and it succeeds -> a start and an end, although no start was told before."""
    recovery = recovery_on(cloud)
    trial = failing(cloud, recovery)
    looked(trial, recovery, 2)
    told = trial.events()
    cloud.clear_faults()
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert trial.events() == [*told, "start", "end"]
    start, end = (announced.payload for announced in trial.announced[-2:])
    assert (start["verdict"], start["rule"]) == (end["verdict"], end["rule"])
    assert start["verdict"] == "release"
    assert_unharmed(cloud, trial)


def test_a_refusal_after_failures_is_news(cloud: Cloud) -> None:
    """The same, and the call is refused for good -> that is told, once, and it is tried no more."""
    recovery = recovery_on(cloud)
    trial = failing(cloud, recovery)
    told = trial.events()
    cloud.clear_faults()
    cloud.script(Fault.before("cinder.delete_attachment", PermanentError, times=1000))
    looked(trial, recovery, 3)
    writes = len(cloud.calls(writes=True))
    assert trial.events() == [*told, "parked"]
    assert trial.kept.told == (ReasonKind.REFUSED,)
    looked(trial, recovery, 3)
    assert len(cloud.calls(writes=True)) == writes


def test_a_crash_of_a_quiet_attempt_loses_no_end(cloud: Cloud) -> None:
    """It succeeds and the process dies before it is told -> the next look tells start and end."""
    recovery = recovery_on(cloud)
    trial = failing(cloud, recovery)
    told = trial.events()
    cloud.clear_faults()
    before = trial.places
    trial.crash_at = before + 4
    while trial.crash_at is not None:
        trial.attempt(recovery)
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert trial.events() == [*told, "start", "end"]


def test_a_failure_after_a_guard_is_told_once(cloud: Cloud) -> None:
    """Parked by a guard, which is lifted, and the call fails -> an error, once."""
    policy = dataclasses.replace(QUICK, mode=Mode.OBSERVE)
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    parked(trial, recovery_on(cloud, policy))
    assert trial.kept.told == (ReasonKind.GUARD,)
    cloud.script(Fault.before("cinder.delete_attachment", TransientError, times=1000))
    looked(trial, recovery_on(cloud), 2 * QUICK.max_failures)
    assert trial.events() == ["parked", "start", "error"]
    assert trial.kept.told == (ReasonKind.GUARD, ReasonKind.FAILED)


def test_another_guard_is_another_reason(cloud: Cloud) -> None:
    """Parked as a blind backend; it is trusted, and the mode is observe -> told anew, truly."""
    policy = dataclasses.replace(QUICK, mode=Mode.OBSERVE, trust_blind=True)
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    parked(trial, recovery_on(cloud, QUICK, blind=True))
    looked(trial, recovery_on(cloud, policy, blind=True), 2)
    assert trial.events() == ["parked", "parked"]
    assert "the mode is observe" in (trial.kept.reason or "")


def test_a_protocol_that_the_connector_does_not_fit_is_not_called(cloud: Cloud) -> None:
    """UC5 on a trusted blind PowerFlex, no row is left and no sdc_guid is known -> no write."""
    policy = dataclasses.replace(QUICK, trust_blind=True)
    trial = Trial(scenes.uc5(cloud), ATTACH, released_unasked=True)
    cloud.set_protocol("scaleio")
    outcome = trial.run(recovery_on(cloud, policy, blind=True))
    assert outcome.state is CaseState.PARKED
    assert "lacks what its protocol needs" in (trial.kept.reason or "")
    assert cloud.calls(writes=True) == ()


def test_a_protocol_that_is_not_known_is_waited_for(cloud: Cloud) -> None:
    """UC5, blind and trusted, and Cinder does not list its pools yet -> nothing, then ended."""
    policy = dataclasses.replace(QUICK, trust_blind=True)
    trial = Trial(scenes.uc5(cloud), ATTACH, released_unasked=True)
    recovery = recovery_on(cloud, policy, blind=True)
    cloud.set_protocol(None)
    looked(trial, recovery, 3)
    assert trial.kept.state is CaseState.DUE
    assert cloud.calls(writes=True) == ()
    cloud.set_protocol("iscsi")
    assert trial.run(recovery).conclusion is Conclusion.MENDED


def test_a_driver_that_asks_nothing_of_cinder_needs_no_protocol(cloud: Cloud) -> None:
    """UC5 on a backend whose driver sees for itself -> Cinder is not asked for the pools."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    cloud.set_protocol(None)
    assert trial.run(recovery_on(cloud)).conclusion is Conclusion.MENDED
    assert not [call for call in cloud.calls() if "protocol_of" in call.name]


def test_an_approval_that_nobody_needs_any_more_is_not_asked_for(cloud: Cloud) -> None:
    """A plan awaits approval and the volume is repaired by hand -> closed, nothing was written."""
    policy = dataclasses.replace(QUICK, mode=Mode.APPROVE)
    trial, recovery = STUCK_BY_NAME["UC5"].trial(cloud), recovery_on(cloud, policy)
    assert trial.run(recovery).state is CaseState.AWAITING_APPROVAL
    looked(trial, recovery, 2)
    assert trial.kept.state is CaseState.AWAITING_APPROVAL
    assert trial.kept.fingerprint is not None
    cloud.unexport(trial.scene.volume_id, "compute-1")
    trial.advance(HOUR_SECONDS)
    for _ in range(3):
        outcome = trial.attempt(recovery)
        assert outcome is not None
        trial.advance(outcome.delay_seconds or 0.0)
    assert trial.kept.state is CaseState.CLOSED
    assert cloud.calls(writes=True) == ()
