"""Whole cases on the simulated cloud: each ends as it must, and nothing is harmed on the way."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from drivers.simulator import Cloud, Detaching, Guest, Landing, scenes
from handlers.case import CaseState, Conclusion
from handlers.judgement.policy import Mode
from handlers.recovery.recovery import Recovery
from tests.unit.handlers.recovery.stuck import (
    ATTACH,
    DETACH,
    RELEASE_STEPS,
    STUCK,
    STUCK_BY_NAME,
    Stuck,
)
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on

NAMES = [stuck.name for stuck in STUCK]
ASKED = ("cinder.volume", "nova.server", "nova.compute_up", "nova.holders", "nova.swapping")


# -- what is stuck is mended -----------------------------------------------------------------------


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_what_is_stuck_is_mended_and_closed(cloud: Cloud, stuck: Stuck) -> None:
    """A stuck attachment -> its rule, its steps in order, mended, looked at again, closed."""
    trial = stuck.trial(cloud)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.state, outcome.conclusion) == (CaseState.CLOSED, Conclusion.MENDED)
    assert trial.made() == stuck.steps
    assert trial.events() == ["start", "end"]
    assert trial.announced[0].payload["rule"] == stuck.rule
    assert trial.announced[1].payload["steps"] == stuck.steps
    assert len(trial.outcomes) == 2
    assert trial.outcomes[0].delay_seconds == QUICK.late_horizon_seconds
    stuck.assert_recovered(cloud, trial)
    assert cloud.hazards() == ()


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_start_and_end_are_told_of_one_attachment(cloud: Cloud, stuck: Stuck) -> None:
    """Whether a message named the row or not -> start and end name the same, and its host."""
    trial = stuck.trial(cloud)
    trial.run(recovery_on(cloud))
    start, end = (
        [told.payload[name] for name in ("attachment_id", "instance_uuid", "attached_host")]
        for told in trial.announced
    )
    assert start == end
    if trial.scene.attachment_id != "unknown":
        assert start[0] == trial.scene.attachment_id
    assert start[2] == trial.scene.host


@pytest.mark.parametrize("known", [True, False])
def test_the_attachment_s_own_host_is_told(cloud: Cloud, known: bool) -> None:
    """The guest's host is in the messages, and the row's connector known or not -> the row's."""
    stuck = STUCK_BY_NAME["left on the source, row untold"]
    trial = Trial(stuck.story(cloud), DETACH, attachment_id=None, host="compute-2")
    trial.known -= set() if known else {"compute-1"}
    policy = dataclasses.replace(QUICK, trust_blind=True)
    trial.run(recovery_on(cloud, policy, blind=True))
    assert trial.events() == (["start", "end"] if known else ["parked"])
    assert {told.payload["attached_host"] for told in trial.announced} == {"compute-1"}


def test_what_somebody_reserves_after_the_mending_is_left_alone(cloud: Cloud) -> None:
    """No message named the row, it is mended, and then the volume is reserved -> not ours."""
    trial = Trial(scenes.orphaned_attach(cloud), ATTACH, attachment_id=None)
    recovery = recovery_on(cloud)
    assert trial.attempt(recovery) is not None
    cloud.cinder.reserve(trial.kept.volume_id, request_id="req-theirs", timeout_seconds=1)
    trial.advance(QUICK.late_horizon_seconds)
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert (outcome.rule, trial.made()) == ("B3.other-attachment", RELEASE_STEPS)
    volume = cloud.cinder.volume(trial.kept.volume_id, timeout_seconds=1)
    assert volume is not None
    assert volume.status == "attaching"


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_every_write_is_written_down_first_under_the_id_it_goes_out_with(
    cloud: Cloud, stuck: Stuck
) -> None:
    """A case is worked -> each write outside has the id of an intent, and a lease outlasts it."""
    trial = stuck.trial(cloud)
    before = {call.asked.request_id for call in cloud.calls(writes=True)}
    trial.run(recovery_on(cloud))
    intended = {i.request_id for i in trial.kept.intents}
    made = [call.asked.request_id for call in cloud.calls(writes=True)]
    assert {request_id for request_id in made if request_id not in before} <= intended
    assert all(lease >= QUICK.longest_step_seconds for lease in trial.leases)


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_a_recovery_looks_no_more_often_than_it_says(cloud: Cloud, stuck: Stuck) -> None:
    """A look, one before each write, one after them, one after settling -> as docs/openstack.md."""
    trial = stuck.trial(cloud)
    let_in = cloud.exported_to(trial.case.volume_id)
    before = {name: len(cloud.calls(name)) for name in ASKED}
    trial.run(recovery_on(cloud))
    volumes, servers, computes, holders, swaps = (
        len(cloud.calls(name)) - seen for name, seen in before.items()
    )
    waits_for_nova = int("nova.detach" in stuck.steps)
    plans = 2 if stuck.rule == "UC4.overwritten" else 1
    assert volumes == len(stuck.steps_left) + 2 + plans + waits_for_nova
    looks = len(stuck.steps_left) + 2 + plans
    if "ghost" in stuck.name:  # the last two looks find nobody let in, and ask no more
        assert (servers, computes, holders) == (0, looks - 2, looks - 2)
    else:
        assert servers == (2 if stuck.name == "UC5, beside others" else 1) * looks
        # Until an access is ended, Nova is asked who else uses it.
        ends = let_in and "backend.force_detach" in stuck.steps_left
        lives = cloud.nova.server(trial.case.instance_id or "", "", timeout_seconds=1) is not None
        asks = lives and not stuck.rule.startswith(("UC5", "UC2"))
        assert swaps == (2 + len(stuck.steps_left) - plans if asks else 0)
        assert holders == (2 + stuck.steps_left.index("backend.force_detach") if ends else 0)


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_observe_and_approve_touch_nothing(cloud: Cloud, stuck: Stuck) -> None:
    """Mode observe -> parked with the reason; approve -> waits for a yes; no write is made."""
    for mode, state in (
        (Mode.OBSERVE, CaseState.PARKED),
        (Mode.APPROVE, CaseState.AWAITING_APPROVAL),
    ):
        with Cloud() as other:
            trial = stuck.trial(other)
            writes = len(other.calls(writes=True))
            outcome = trial.run(recovery_on(other, dataclasses.replace(QUICK, mode=mode)))
            assert outcome.state is state
            assert outcome.fingerprint
            assert f"the mode is {mode.value}" in outcome.reason
            assert len(other.calls(writes=True)) == writes


@pytest.mark.parametrize("stuck", STUCK, ids=NAMES)
def test_an_approved_plan_is_carried_out(cloud: Cloud, stuck: Stuck) -> None:
    """A person said yes to each plan's fingerprint -> mended as in mode auto."""
    recovery = recovery_on(cloud, dataclasses.replace(QUICK, mode=Mode.APPROVE))
    trial = stuck.trial(cloud)
    for _ in range(2 if stuck.rule == "UC4.overwritten" else 1):
        asked = trial.run(recovery)
        yes = {
            "approved_by": "alice", "approved_fingerprint": asked.fingerprint,
            "approved_at": trial.now,
        }  # fmt: skip
        trial.kept = dataclasses.replace(trial.kept, **yes, state=CaseState.DUE)
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    stuck.assert_recovered(cloud, trial)
    assert cloud.hazards() == ()


# -- what is healthy is left alone -----------------------------------------------------------------


@pytest.mark.parametrize("story", [scenes.retry_won, scenes.attached, scenes.shelved])
def test_what_is_healthy_is_closed_after_two_looks_and_not_touched(
    cloud: Cloud, story: object
) -> None:
    """A retry that won, a healthy attachment, a shelved server -> closed as healthy, no write."""
    trial = Trial(story(cloud), ATTACH)  # type: ignore[operator]
    outcome = trial.run(recovery_on(cloud))
    assert outcome.conclusion is Conclusion.HEALTHY
    assert len(trial.outcomes) == 2
    assert (cloud.calls(writes=True), trial.announced) == ((), [])


def test_a_live_migration_is_waited_for(cloud: Cloud) -> None:
    """Two rows while the server moves -> due again and again, untouched; closed once it is over."""
    scene = scenes.live_migration(cloud)
    trial = Trial(scene, ATTACH)
    recovery = recovery_on(cloud)
    for _ in range(3):
        outcome = trial.attempt(recovery)
        assert outcome is not None
        assert (outcome.state, outcome.rule) == (CaseState.DUE, "B2.server-busy")
    cloud.finish_migration(scene.volume_id, scene.instance_id)
    assert trial.run(recovery).conclusion is Conclusion.HEALTHY
    assert cloud.calls(writes=True) == ()


def test_a_guest_that_refuses_leaves_the_volume_in_use(cloud: Cloud) -> None:
    """UC4, Nova asks, the guest refuses -> in-use again, healthy, said so, and not asked again."""
    scene = scenes.compute_came_back(cloud)
    cloud.script_detach(scene.instance_id, Detaching(Guest.REFUSES))
    trial = Trial(scene, DETACH)
    outcome = trial.run(recovery_on(cloud))
    assert outcome.state is CaseState.CLOSED
    assert outcome.rule == "H2.attached"
    told = [said.event_type.rpartition(".")[2] for said in trial.announced]
    assert told == ["start", "error"]
    assert "attached, as before" in trial.announced[-1].payload["reason"]
    assert len(cloud.calls("nova.detach")) == 1
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)
    assert cloud.hazards() == ()


def test_a_guest_that_takes_its_time_is_asked_once(cloud: Cloud) -> None:
    """UC4, the detach ends only at the third look later -> one Nova detach, then mended."""
    scene = scenes.compute_came_back(cloud)
    cloud.script_detach(scene.instance_id, Detaching(landing=Landing()))
    trial = Trial(scene, DETACH)
    trial.between = lambda _: cloud.land_late() if trial.kept.attempts == 3 else 0
    assert trial.run(recovery_on(cloud)).conclusion is Conclusion.MENDED
    assert len(cloud.calls("nova.detach")) == 1
    assert cloud.exported_to(scene.volume_id) == ()


def test_the_guest_on_a_dead_compute_is_not_touched(cloud: Cloud) -> None:
    """The compute died with the detach in hand -> waited for; when it comes back, mended."""
    scene = scenes.guest_holds(cloud)
    trial = Trial(scene, DETACH)
    recovery = recovery_on(cloud)
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert outcome.rule == "B4.compute-down"
    assert cloud.calls(writes=True) == ()
    cloud.set_compute(scene.host, up=True)
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert cloud.hazards() == ()


def test_a_dead_compute_that_never_comes_back_is_for_a_person(cloud: Cloud) -> None:
    """A day later it is still down -> parked, untouched."""
    trial = Trial(scenes.guest_holds(cloud), DETACH)
    assert trial.run(recovery_on(cloud), most=200).state is CaseState.PARKED
    assert cloud.calls(writes=True) == ()
    assert trial.now - trial.case.opened_at >= timedelta(days=1)


# -- what only a person may do ---------------------------------------------------------------------


def test_the_guest_that_nova_forgot_keeps_its_disk(cloud: Cloud) -> None:
    """The last call of an attach failed: no block device, a live guest -> parked, nothing cut."""
    volume_id, server = cloud.create_volume(), cloud.boot_server()
    attach = cloud.begin_attach(volume_id, server).advance(2)
    attach.give_up(reaches_cinder=False)
    trial = Trial(scenes.Scene(volume_id, server, attach.attachment_id, "compute-1"), ATTACH)
    outcome = trial.run(recovery_on(cloud))
    assert outcome.state is CaseState.PARKED
    assert "its guest may be using the disk" in outcome.reason
    assert len(trial.outcomes) == 1
    assert cloud.guests_holding(volume_id) == (server,)
    assert cloud.exported_to(volume_id) == ("compute-1",)
    assert cloud.calls(writes=True) == ()


def test_a_verdict_for_a_person_takes_two_looks(cloud: Cloud) -> None:
    """A block device without a row -> looked at twice before a person is asked."""
    scene = scenes.attached(cloud)
    cloud.drop_attachment(scene.attachment_id)
    trial = Trial(scene, DETACH)
    assert trial.run(recovery_on(cloud)).rule == "P6.guest-holds"
    assert len(cloud.calls("cinder.volume")) == 2
    assert trial.events() == ["parked"]


def test_what_looks_wrong_only_once_is_not_parked(cloud: Cloud) -> None:
    """A ghost that is gone at the second look -> not parked."""
    scene = scenes.attached(cloud)
    cloud.drop_attachment(scene.attachment_id)
    cloud.unexport(scene.volume_id, scene.host)
    reads = 0

    class Fleeting:
        """Nova, whose ghost goes after the first look."""

        def server(self, *args: str, timeout_seconds: float) -> object:
            nonlocal reads
            reads += 1
            if reads == 2:
                cloud.drop_block_device(scene.instance_id, scene.volume_id)
            return cloud.nova.server(*args, timeout_seconds=timeout_seconds)

    nova = Fleeting()
    recovery = Recovery(cloud.cinder, nova, cloud.driver, lambda _: QUICK)  # type: ignore[arg-type]
    assert Trial(scene, DETACH).run(recovery).conclusion is Conclusion.HEALTHY


def test_without_the_host_s_connector_nothing_is_guessed(cloud: Cloud) -> None:
    """UC1 with access left, the connector never seen -> parked: every host would be cut off."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    trial.known = set()
    assert "no connector" in trial.run(recovery_on(cloud)).reason
    assert cloud.calls(writes=True) == ()


def test_a_case_that_ends_the_process_is_parked_without_a_look(cloud: Cloud) -> None:
    """Three crashes in a row -> parked, nobody asked, announced once."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    trial.kept = dataclasses.replace(trial.kept, crashes=3)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "P11.crashes")
    assert cloud.journal == ()
    assert trial.events() == ["parked"]
