"""How cases come to rest: on blind backends, after late calls, in outages, stopped and paused."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta

import pytest

from drivers.simulator import Cloud, Exporting, Landing, Service, scenes
from drivers.simulator.cinder_api import CinderFace
from handlers.case import CaseState, Conclusion, StepKind, VerifiedBy
from handlers.judgement.evidence import MOST_HOSTS
from handlers.recovery.recovery import Recovery
from tests.unit.handlers.recovery.stuck import (
    ATTACH,
    DETACH,
    STUCK,
    STUCK_BY_NAME,
    Stuck,
    leaked_beside,
)
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_announced_in_pairs, recovery_on

# -- blind backends --------------------------------------------------------------------------------

TRUSTED = dataclasses.replace(QUICK, trust_blind=True)


BY_DRIVER = (
    "UC1", "UC2", "UC3", "UC4", "UC5", "server deleted", "server deleted, detaching",
    "stray row", "left on the source",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_DRIVER)
def test_a_trusted_blind_backend_is_mended_on_its_driver_s_word(cloud: Cloud, name: str) -> None:
    """The driver cannot see and acts through Cinder -> mended, verified by the driver."""
    stuck = STUCK_BY_NAME[name]
    trial = stuck.trial(cloud)
    trial.kept = dataclasses.replace(trial.kept, released_unasked=name == "UC5")
    outcome = trial.run(recovery_on(cloud, TRUSTED, blind=True))
    assert outcome.conclusion is Conclusion.MENDED
    mended = next(o for o in trial.outcomes if o.mended)
    assert mended.verified_by is (None if name == "UC2" else VerifiedBy.DRIVER)
    stuck.assert_recovered(cloud, trial)
    assert cloud.hazards() == ()


@pytest.mark.parametrize("exporting", Exporting)
def test_a_reserved_attachment_s_export_goes_with_it(cloud: Cloud, exporting: Exporting) -> None:
    """cinder-volume died when it had exported, nobody can see -> no export is left, on any backend.

    DELETE alone would skip the backend, and terminate is a no-op on some.
    """
    cloud.add_backend("storage-9@any", exporting)
    volume_id = cloud.create_volume(backend="storage-9@any")
    attach = cloud.begin_attach(volume_id, cloud.boot_server(host="compute-1"))
    attach.give_up(reaches_cinder=False)
    cloud.export(volume_id, "compute-1")
    scene = scenes.Scene(volume_id, attach.instance_id, attach.attachment_id, "compute-1")
    trial = Trial(scene, ATTACH, backend="storage-9@any")
    assert trial.run(recovery_on(cloud, TRUSTED, blind=True)).conclusion is Conclusion.MENDED
    assert trial.made() == ["cinder.force_detach"]
    assert cloud.exported_to(volume_id) == ()
    assert cloud.statuses(volume_id) == ("available", "detached")
    assert cloud.hazards() == ()


def test_one_leak_of_several_is_for_a_person_where_cinder_has_to_do_it(cloud: Cloud) -> None:
    """A multiattach volume's second attach leaked, nobody can see -> parked, nobody is cut off."""
    trial = STUCK_BY_NAME["UC5, beside others"].trial(cloud)
    trial.kept = dataclasses.replace(trial.kept, released_unasked=True)
    outcome = trial.run(recovery_on(cloud, TRUSTED, blind=True))
    assert outcome.state is CaseState.PARKED
    assert "several attachments" in outcome.reason
    assert cloud.calls(writes=True) == ()


def test_a_server_deleted_while_its_compute_was_down_is_for_a_person(cloud: Cloud) -> None:
    """No compute says that it ended the guest, and it is up again -> parked: it may run on."""
    scene = scenes.attached(cloud)
    cloud.set_compute(scene.host, up=False)
    cloud.delete_server(scene.instance_id, guest_keeps_running=True)
    cloud.set_compute(scene.host, up=True)
    for blind in (True, False):
        outcome = Trial(scene, DETACH).run(recovery_on(cloud, TRUSTED, blind=blind))
        assert (outcome.rule, outcome.state) == ("P5.server-deleted", CaseState.PARKED)
    assert cloud.calls(writes=True) == ()


def test_an_untrusted_blind_backend_is_not_acted_on(cloud: Cloud) -> None:
    """Nobody opted in -> parked, no write."""
    trial = STUCK_BY_NAME["UC1"].trial(cloud)
    assert "cannot be seen" in trial.run(recovery_on(cloud, blind=True)).reason
    assert cloud.calls(writes=True) == ()


def test_a_late_export_that_nobody_could_see_is_waited_for(cloud: Cloud) -> None:
    """Blind, and the attach's tries still land -> released only after they cannot land any more."""
    scene = scenes.uc5_before_the_export(cloud)
    trial = Trial(scene, ATTACH, released_unasked=True)
    trial.now = trial.case.opened_at + timedelta(seconds=15)

    def land(_: float) -> None:
        if trial.now >= trial.case.opened_at + timedelta(seconds=300):
            cloud.land_late()

    trial.between = land
    trial.run(recovery_on(cloud, TRUSTED, blind=True))
    assert cloud.exported_to(scene.volume_id) == ()
    assert cloud.hazards() == ()


# -- coming to rest --------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["within the attempt", "after it"])
def test_a_late_export_after_the_mending_is_found_and_mended_again(cloud: Cloud, when: str) -> None:
    """The attach's tries land once more after the release -> found, and mended again."""
    within = Landing(after_method="cinder.unreserve")
    scene = scenes.uc5_before_the_export(
        cloud, landing=within if when == "within the attempt" else None
    )
    cloud.export(scene.volume_id, scene.host)
    trial = Trial(scene, ATTACH)
    trial.between = lambda _: cloud.land_late()
    outcome = trial.run(recovery_on(cloud))
    assert outcome.conclusion is Conclusion.MENDED
    assert trial.made() == STUCK_BY_NAME["UC5"].steps * 2
    assert trial.events() == ["start", "end"] * (1 if when == "within the attempt" else 2)
    assert cloud.exported_to(scene.volume_id) == ()
    assert cloud.hazards() == ()


def test_what_comes_back_for_ever_ends_with_a_person(cloud: Cloud) -> None:
    """Somebody exports it again after each mending -> parked once the patience is over."""
    scene = scenes.uc5(cloud)
    trial = Trial(scene, ATTACH)
    trial.between = lambda _: cloud.export(scene.volume_id, scene.host)
    outcome = trial.run(recovery_on(cloud), most=400)
    assert outcome.state is CaseState.PARKED
    assert "came back" in outcome.reason
    assert cloud.hazards() == ()


def test_a_detach_that_nova_accepts_and_never_ends_goes_to_a_person(cloud: Cloud) -> None:
    """The backend fails each time that Nova tries -> parked in the end, never cut by us."""
    scene = scenes.uc4(cloud)
    cloud.script(scenes.Fault.before(scenes.TERMINATE, volume_id=scene.volume_id, times=10_000))
    trial = Trial(scene, DETACH)
    assert trial.run(recovery_on(cloud), most=300).state is CaseState.PARKED
    assert not [c for c in cloud.calls(writes=True) if c.asked.actor == "driver"]
    assert_announced_in_pairs(trial)


def test_a_frozen_cinder_volume_keeps_the_case_open(cloud: Cloud) -> None:
    """Clean, but cinder-volume is down -> not closed until it is up again."""
    scene = scenes.uc5_before_the_export(cloud)
    trial = Trial(scene, ATTACH)
    recovery = recovery_on(cloud)
    trial.attempt(recovery)
    cloud.set_service(Service.FROZEN)
    for _ in range(3):
        trial.advance(QUICK.late_horizon_seconds)
        outcome = trial.attempt(recovery)
        assert outcome is not None
        assert outcome.state is CaseState.SETTLING
    cloud.set_service(Service.UP)
    cloud.land_late()
    assert trial.run(recovery).conclusion is Conclusion.MENDED
    assert cloud.exported_to(scene.volume_id) == ()


def test_a_deleted_volume_closes_its_case(cloud: Cloud) -> None:
    """The volume is gone, and was seen or told to be deleted -> closed as gone."""
    for control in ({"volume_seen": True}, {"deletion_told": True}):
        trial = STUCK_BY_NAME["UC5"].trial(cloud)
        trial.kept = dataclasses.replace(trial.kept, **control)
        cloud.delete_volume(trial.case.volume_id)
        assert trial.run(recovery_on(cloud)).conclusion is Conclusion.GONE


class _AnotherRegion(CinderFace):
    """A Cinder that has none of the volumes."""

    def __init__(self) -> None:
        pass

    def volume(self, volume_id: str, *, timeout_seconds: float) -> None:
        """Deny it, in good faith."""


def test_a_volume_that_this_cinder_never_had(cloud: Cloud) -> None:
    """A 404 for a volume that nothing shows it had -> unknown, nothing done; at last a person."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    held = cloud.exported_to(trial.case.volume_id)
    recovery = Recovery(_AnotherRegion(), cloud.nova, cloud.driver, lambda _: QUICK)
    last = trial.run(recovery)
    assert (last.state, last.rule) == (CaseState.PARKED, "X4.unknown-to-cinder")
    assert "region" in last.reason
    assert not any(outcome.volume_seen for outcome in trial.outcomes)
    assert (trial.kept.intents, cloud.exported_to(trial.case.volume_id)) == ((), held)


def test_a_look_is_the_control_of_the_next_one(cloud: Cloud) -> None:
    """Seen in one attempt, deleted before the next -> gone, without a word on the bus."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    recovery = recovery_on(cloud)
    first = trial.attempt(recovery)
    assert first is not None
    assert first.volume_seen
    cloud.delete_volume(trial.case.volume_id)
    trial.advance(86_400.0)
    last = trial.attempt(recovery)
    assert last is not None
    assert last.conclusion is Conclusion.GONE


# -- stopping and pausing --------------------------------------------------------------------------


def test_a_stopping_service_makes_no_further_write(cloud: Cloud) -> None:
    """Stopped before the attempt acts -> due at once, nothing written; later it is mended."""
    stop = threading.Event()
    stop.set()
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, stop=stop)
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert (outcome.state, outcome.delay_seconds) == (CaseState.DUE, 0.0)
    assert cloud.calls(writes=True) == ()
    stop.clear()
    assert trial.run(recovery).conclusion is Conclusion.MENDED


def test_stopped_between_two_steps_the_rest_is_made_by_the_next_process(cloud: Cloud) -> None:
    """Stopped after the reserve -> the volume stays held; the next process carries on."""
    stop = threading.Event()
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    kept = trial.result

    def stop_after(*args: object) -> None:
        kept(*args)  # type: ignore[arg-type]
        stop.set()

    trial.result = stop_after  # type: ignore[method-assign]
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, stop=stop)
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert trial.made() == ["cinder.reserve"]
    assert outcome.state is CaseState.DUE
    trial.result = kept  # type: ignore[method-assign]
    assert trial.run(recovery_on(cloud)).conclusion is Conclusion.MENDED
    assert cloud.hazards() == ()


@pytest.mark.parametrize("stuck", STUCK, ids=[s.name for s in STUCK])
def test_stopped_while_it_looks_before_a_call_that_call_is_not_made(
    cloud: Cloud, stuck: Stuck
) -> None:
    """The stop comes between an intent and its call -> not made, and nothing failed by it."""
    stop, trial = threading.Event(), stuck.trial(cloud)
    before = cloud.calls(writes=True)
    trial.written = lambda _: stop.set()
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, stop=stop)
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert cloud.calls(writes=True) == before
    assert (outcome.state, outcome.delay_seconds, outcome.failed) == (CaseState.DUE, 0.0, False)
    assert trial.steps()[-1].endswith(":withheld")


@pytest.mark.parametrize("stuck", STUCK, ids=[s.name for s in STUCK])
def test_paused_while_it_looks_before_a_call_that_call_is_not_made(
    cloud: Cloud, stuck: Stuck
) -> None:
    """A person pauses between an intent and its call -> not made; resumed, it is mended."""
    trial = stuck.trial(cloud)
    before, pauses = cloud.calls(writes=True), iter([True])
    trial.written = lambda _: setattr(trial, "paused", next(pauses, False))
    recovery = Recovery(
        cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK, paused=lambda _: trial.paused
    )
    assert trial.attempt(recovery) is None
    assert cloud.calls(writes=True) == before
    trial.paused = False
    assert trial.run(recovery).state is CaseState.CLOSED
    stuck.assert_recovered(cloud, trial)


@pytest.mark.parametrize("name", ["UC1", "UC2", "UC4, guest runs", "UC5"])
def test_paused_in_the_middle_and_resumed_it_is_mended(cloud: Cloud, name: str) -> None:
    """Paused after the first write -> handed back; resumed, the rest is done."""
    stuck = STUCK_BY_NAME[name]
    trial = stuck.trial(cloud)
    kept = trial.result

    def pause_after(*args: object) -> None:
        kept(*args)  # type: ignore[arg-type]
        trial.paused = True

    trial.result = pause_after  # type: ignore[method-assign]
    recovery = recovery_on(cloud)
    trial.attempt(recovery)
    assert len(trial.made()) == 1
    for _ in range(3):
        trial.attempt(recovery)
    trial.paused, trial.result = False, kept  # type: ignore[method-assign]
    assert trial.run(recovery).state is CaseState.CLOSED
    stuck.assert_recovered(cloud, trial)
    assert cloud.hazards() == ()


def test_more_servers_to_ask_need_a_longer_lease(cloud: Cloud) -> None:
    """A multiattach volume -> its lease outlasts the look at both servers and at two hosts more.

    Whatever the last look asked, the next one may ask Nova of as many hosts as a look ever does.
    """
    trial = Trial(leaked_beside(cloud), ATTACH)
    trial.run(recovery_on(cloud))
    assert trial.leases == [QUICK.step_seconds(servers=2 + MOST_HOSTS + 1)]
    assert [i.kind for i in trial.kept.intents] == [StepKind.BACKEND_FORCE_DETACH]


def test_the_row_that_a_half_reset_left_goes_where_nobody_is_let_in(cloud: Cloud) -> None:
    """A stuck attach, its status reset to available -> the row goes, and nobody else is called."""
    scene = scenes.uc1(cloud)
    cloud.set_status(scene.volume_id, "available")
    trial = Trial(scene, ATTACH)
    outcome = trial.run(recovery_on(cloud))
    assert (trial.made(), outcome.state) == (
        [StepKind.CINDER_DELETE_ATTACHMENT.value],
        CaseState.CLOSED,
    )
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1.0)
    assert volume is not None
    assert (volume.status, volume.attachments) == ("available", ())


def test_a_half_reset_is_told_as_a_danger_while_a_host_is_let_in(cloud: Cloud) -> None:
    """The same, and the host is let in still -> nothing is written, and a person is told."""
    scene = scenes.orphaned_attach(cloud)
    cloud.set_status(scene.volume_id, "available")
    trial = Trial(scene, ATTACH)
    outcome = trial.run(recovery_on(cloud))
    assert (trial.made(), outcome.state) == ([], CaseState.PARKED)
    assert outcome.rule == "P27.let-in-beside-a-row"
