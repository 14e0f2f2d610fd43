"""Exports that nobody claims, on the simulated cloud: what may be using them is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from drivers.errors import PermanentError, TransientError
from drivers.simulator import Cloud, Fault, scenes
from drivers.simulator.scenes import Scene
from handlers.case import CaseState, StepKind, StepResult
from handlers.judgement.policy import Mode
from tests.unit.handlers.recovery.stuck import ATTACH, NOBODY_S, ghost
from tests.unit.handlers.recovery.trial import QUICK, Trial, assert_announced_in_pairs, recovery_on

HOST, ELSEWHERE = "compute-1", "compute-2"


def trial_of(scene: Scene) -> Trial:
    """Open the case as the sweep does: its host is known by the connector, nothing else is."""
    return Trial(scene, ATTACH, **dict(NOBODY_S))


def reset_by_hand(cloud: Cloud) -> Scene:
    """Have an operator reset an attached volume: its row is dropped, its guest writes on."""
    scene = scenes.attached(cloud)
    cloud.drop_attachment(scene.attachment_id)
    cloud.set_status(scene.volume_id, "available", "detached")
    return scene


def no_session(cloud: Cloud, scene: Scene) -> Scene:
    """Hide the guest's session, as a backend does whose protocol has none to show."""
    volume = cloud._estate.volume(scene.volume_id)
    for link in cloud._estate.backend_of(volume).exports[volume.name].links.values():
        link.sessions = 0
    return scene


def reset_unseen(cloud: Cloud) -> Scene:
    """Reset an attached volume by hand where nothing but Nova tells of its guest."""
    return no_session(cloud, reset_by_hand(cloud))


def reset_legacy(cloud: Cloud) -> Scene:
    """Reset one that was attached the old way: Nova's record of it names no attachment."""
    scene = reset_unseen(cloud)
    cloud._compute.name_attachment(cloud._estate.server(scene.instance_id), scene.volume_id, None)  # type: ignore[arg-type]
    return scene


def reset_and_stopped(cloud: Cloud) -> Scene:
    """Reset that of a server in error: its guest may be there or not, the disk is in its record."""
    scene = reset_unseen(cloud)
    cloud.set_server(scene.instance_id, vm_state="error")
    return scene


def migrating_to(cloud: Cloud) -> Scene:
    """Reset while the server moves: its guest is on the destination before Nova's record is."""
    scene = scenes.attached(cloud, host=ELSEWHERE)
    cloud.begin_migration(scene.volume_id, scene.instance_id, HOST)
    for attachment in list(cloud._estate.volume(scene.volume_id).attachments):
        cloud.drop_attachment(attachment)
    cloud.set_status(scene.volume_id, "available", "detached")
    cloud.unexport(scene.volume_id, ELSEWHERE)
    return dataclasses.replace(no_session(cloud, scene), host=HOST)


def evacuated(cloud: Cloud) -> Scene:
    """Evacuate and detach there; the old host was only cut off, and its old guest runs on."""
    scene = reset_unseen(cloud)
    cloud.set_server(scene.instance_id, host=ELSEWHERE, evacuated_from=HOST)
    cloud.drop_block_device(scene.instance_id, scene.volume_id)
    return scene


HELD: dict[str, Callable[[Cloud], Scene]] = {
    "reset by hand, the guest writes on": reset_by_hand,
    "reset by hand, and no session shows": reset_unseen,
    "reset by hand, attached the old way": reset_legacy,
    "reset by hand, the server in error": reset_and_stopped,
    "being migrated to the host": migrating_to,
    "evacuated off the host, its old guest not ended": evacuated,
}


@pytest.mark.parametrize("words", HELD)
@pytest.mark.parametrize("mode", Mode)
def test_what_a_server_may_be_using_is_for_a_person(cloud: Cloud, words: str, mode: Mode) -> None:
    """Nova's records let a guest on the host have it -> parked with its name, no call made."""
    scene = HELD[words](cloud)
    before = len(cloud.calls(writes=True))
    trial = trial_of(scene)
    outcome = trial.run(recovery_on(cloud, dataclasses.replace(QUICK, mode=mode)))
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "P6.guest-holds")
    assert f"on {HOST} by instance {scene.instance_id}" in outcome.reason
    assert len(cloud.calls(writes=True)) == before
    assert cloud.exported_to(scene.volume_id) == (HOST,)
    assert trial.events() == ["parked"]


def test_session_without_any_record_is_guarded(cloud: Cloud) -> None:
    """Nova knows of nobody, the host holds a session: a deleted server's guest -> for a person."""
    scene = scenes.attached(cloud)
    cloud.set_compute(HOST, up=False)
    cloud.drop_attachment(scene.attachment_id)
    cloud.set_status(scene.volume_id, "available", "detached")
    cloud.delete_server(scene.instance_id, guest_keeps_running=True)
    cloud.set_compute(HOST, up=True)
    outcome = trial_of(scene).run(recovery_on(cloud))
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "UC5.ghost")
    assert "holds a live session" in outcome.reason
    assert cloud.exported_to(scene.volume_id) == (HOST,)
    assert cloud.hazards() == ()


def test_backup_on_a_compute_host_is_left_alone(cloud: Cloud) -> None:
    """A backup maps the volume to a host that is a compute too -> Cinder's status tells of it."""
    scene = ghost(cloud)
    cloud.export(scene.volume_id, HOST, purpose="a backup", sessions=1)
    cloud.set_status(scene.volume_id, "backing-up")
    trial = trial_of(scene)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert (outcome.state, outcome.rule) == (CaseState.DUE, "B1.volume-busy")
    assert trial.made() == []


def test_image_service_s_mapping_on_a_compute_host_is_guarded(cloud: Cloud) -> None:
    """Somebody's mapping that Cinder has no status for, with a session -> for a person."""
    scene = ghost(cloud)
    cloud.export(scene.volume_id, HOST, purpose="an image")
    volume = cloud._estate.volume(scene.volume_id)
    for link in cloud._estate.backend_of(volume).exports[volume.name].links.values():
        link.sessions = 1
    outcome = trial_of(scene).run(recovery_on(cloud))
    assert outcome.state is CaseState.PARKED
    assert "holds a live session" in outcome.reason
    assert cloud.hazards() == ()


def test_host_that_is_no_compute_is_for_a_person(cloud: Cloud) -> None:
    """The only host has no nova-compute -> nobody can be asked, and nobody waits for it."""
    scene = ghost(cloud)
    cloud.set_compute(HOST, up=None)
    trial = trial_of(scene)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "P4.no-instance")
    assert (len(trial.outcomes), trial.made(), cloud.calls("nova.holders")) == (1, [], ())


def test_host_whose_compute_is_down_is_waited_for(cloud: Cloud) -> None:
    """The compute of the only host is down -> waited for, then ended when it is back."""
    scene = ghost(cloud)
    cloud.set_compute(HOST, up=False)
    trial, recovery = trial_of(scene), recovery_on(cloud)
    for _ in range(3):
        outcome = trial.attempt(recovery)
        assert outcome is not None
        assert (outcome.state, outcome.rule) == (CaseState.DUE, "B4.compute-down")
    assert (trial.made(), cloud.calls("nova.holders")) == ([], ())
    cloud.set_compute(HOST, up=True)
    assert trial.run(recovery).state is CaseState.CLOSED
    assert cloud.exported_to(scene.volume_id) == ()


@pytest.mark.parametrize("method", ["nova.holders", "nova.compute_up"])
@pytest.mark.parametrize("kind", [TransientError, PermanentError])
def test_nova_that_never_says_is_no_proof(
    cloud: Cloud, method: str, kind: type[PermanentError | TransientError]
) -> None:
    """Nova does not say who has it there, again and again -> parked in the end, no call made.

    What it refuses is tried some times, an outage for as long as patience lasts.
    """
    scene = ghost(cloud)
    cloud.script(Fault.before(method, kind, times=1000))
    trial = trial_of(scene)
    outcome = trial.run(recovery_on(cloud), most=300)
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "X2.nova-unknown")
    patient = (trial.now - trial.kept.opened_at).total_seconds() >= QUICK.patience_seconds
    assert patient is (kind is TransientError)
    assert patient or len(trial.outcomes) == QUICK.max_failures
    assert trial.made() == []


TURNS: dict[str, Callable[[Cloud, Scene], Any]] = {
    "a server of the host has it after all": lambda c, s: c.add_block_device(
        s.instance_id, s.volume_id, None
    ),
    "a server that has it begins to move": lambda c, s: c.add_block_device(
        c.boot_server(host=ELSEWHERE, task_state="migrating"), s.volume_id, None
    ),
    "a server turns out to have been evacuated": lambda c, _: c.boot_server(
        host=ELSEWHERE, evacuated_from=HOST
    ),
    "the compute goes down": lambda c, _: c.set_compute(HOST, up=False),
    "the host turns out to be no compute": lambda c, _: c.set_compute(HOST, up=None),
    "Nova does not say any more": lambda c, _: c.script(Fault.before("nova.holders", times=1000)),
    "the host logs in": lambda c, s: c.log_in(s.volume_id, c.connector(HOST)),
    "a second host is let in": lambda c, s: c.export(s.volume_id, ELSEWHERE),
}


@pytest.mark.parametrize("words", TURNS)
@pytest.mark.parametrize("kind", [StepKind.CINDER_RESERVE, StepKind.BACKEND_FORCE_DETACH])
def test_what_turns_up_between_plan_and_call_withholds_it(
    cloud: Cloud, words: str, kind: StepKind
) -> None:
    """Something in the evidence of the host changes after the intent -> the call is not made."""
    scene = ghost(cloud)
    trial = trial_of(scene)
    turned: list[StepKind] = []

    def turn(written: StepKind) -> None:
        if written is kind and not turned:
            turned.append(written)
            TURNS[words](cloud, scene)

    trial.written = turn
    trial.attempt(recovery_on(cloud))
    assert turned == [kind]
    assert f"{kind.value}:{StepResult.WITHHELD.value}" in trial.steps()
    assert HOST in cloud.exported_to(scene.volume_id)
    assert StepKind.BACKEND_FORCE_DETACH.value not in trial.made()
    assert cloud.hazards() == ()


def test_volume_attached_anew_between_sweep_and_step_is_left_alone(cloud: Cloud) -> None:
    """A user attaches it on that very host before the case is looked at -> healthy, no call."""
    scene = ghost(cloud)
    cloud.attach(scene.volume_id, scene.instance_id)
    before = len(cloud.calls(writes=True))
    trial = trial_of(scene)
    outcome = trial.run(recovery_on(cloud))
    assert (outcome.state, outcome.rule) == (CaseState.CLOSED, "H2.attached")
    assert len(cloud.calls(writes=True)) == before
    assert cloud.hazards() == ()
    assert_announced_in_pairs(trial)
