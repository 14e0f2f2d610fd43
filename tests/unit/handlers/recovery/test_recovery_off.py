"""A host without power, by a person's word: what waited for it is released, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import jsonschema
import pytest

from drivers.simulator import Cloud, scenes
from drivers.simulator.scenes import Scene
from handlers.announcement import Event, schema
from handlers.case import CaseState, Conclusion, OffWord, StepKind
from handlers.judgement.policy import BackendPolicy
from handlers.recovery import sides
from handlers.recovery.live import ReadOnlyFile, look_now
from tests.unit.handlers.recovery.stuck import DETACH, RELEASE_STEPS
from tests.unit.handlers.recovery.trial import (
    QUICK,
    Trial,
    assert_unharmed,
    made_up_connector,
    recovery_on,
)

TRUSTING = dataclasses.replace(QUICK, trust_off_word=True)
ONCE = dataclasses.replace(TRUSTING, patience_seconds=1.0)


def deleted(cloud: Cloud) -> Scene:
    """Delete a server while its host is off. Left: in-use / access / none."""
    scene = scenes.attached(cloud)
    cloud.power_off(scene.host)
    cloud.delete_server(scene.instance_id)
    return scene


def deleted_in_a_detach(cloud: Cloud) -> Scene:
    """Delete it so in a detach. Left: detaching / access / none."""
    scene = deleted(cloud)
    cloud.set_status(scene.volume_id, "detaching")
    return scene


def let_go(cloud: Cloud) -> Scene:
    """Nova forgot the block device in a detach, and the host lost its power. Left: detaching ...

    ... / access / none, of a server that is still there.
    """
    scene = scenes.attached(cloud)
    cloud.drop_block_device(scene.instance_id, scene.volume_id)
    cloud.power_off(scene.host)
    cloud.set_status(scene.volume_id, "detaching")
    return scene


STORIES = (deleted, deleted_in_a_detach, let_go)
Story = Callable[[Cloud], Scene]


def attest(trial: Trial, host: str, seconds: float = 8 * 3600.0) -> None:
    """Let a person say that a host is off."""
    until = trial.now + timedelta(seconds=seconds)
    trial.off[host] = OffWord(host, "anna", trial.now, until, "unplugged, ticket 4711")


def tried(
    cloud: Cloud,
    scene: Scene,
    policy: BackendPolicy = TRUSTING,
    *,
    host: str | None = None,
    blind: bool = False,
) -> Trial:
    """Attest the host of the scene, or another one, and make an attempt."""
    trial = Trial(scene, DETACH)
    attest(trial, host or scene.host)
    trial.attempt(recovery_on(cloud, policy, blind=blind))
    return trial


def assert_untouched(cloud: Cloud, trial: Trial) -> None:
    """Fail where anything was written."""
    assert trial.kept.intents == ()
    assert cloud.calls(writes=True) == ()


@pytest.mark.parametrize("story", STORIES)
def test_what_waited_for_the_host_is_released(cloud: Cloud, story: Story) -> None:
    """The host is attested off, the backend shows no session -> released, and the look says why."""
    trial = Trial(story(cloud), DETACH)
    attest(trial, trial.scene.host)
    outcome = trial.run(recovery_on(cloud, TRUSTING))
    assert (outcome.conclusion, trial.made()) == (Conclusion.MENDED, RELEASE_STEPS)
    volume = cloud.cinder.volume(trial.case.volume_id, timeout_seconds=1)
    assert volume is not None
    assert (volume.status, volume.attachments) == ("available", ())
    assert cloud.exported_to(trial.case.volume_id) == ()
    assert trial.counted == {trial.scene.host}
    assert trial.heard == []
    first = next(o.evidence["off"] for o in trial.outcomes if o.evidence.get("off"))
    assert (first[0]["said_by"], first[0]["counts"]) == ("anna", True)
    start = trial.announced[0]
    assert start.event_type == Event.START.value
    assert start.payload["hosts_said_off"] == [{"host": trial.scene.host, "said_by": "anna"}]
    jsonschema.validate(dict(start.payload), schema())
    assert_unharmed(cloud, trial)


@pytest.mark.parametrize("story", STORIES)
def test_no_word_or_no_policy_releases_nothing(cloud: Cloud, story: Story) -> None:
    """Nobody said so; or the operator of the backend lets no word count -> as ever."""
    unsaid = Trial(story(cloud), DETACH)
    unsaid.attempt(recovery_on(cloud, TRUSTING))
    assert_untouched(cloud, unsaid)
    distrusted = tried(cloud, story(cloud), QUICK)
    assert_untouched(cloud, distrusted)
    assert "off" not in distrusted.outcomes[-1].evidence


@pytest.mark.parametrize("session", [False, True])
def test_what_is_shown_says_whose_word_it_is(cloud: Cloud, *, session: bool) -> None:
    """It counts, or it does not -> shown beside Nova's answers, with who and until when."""
    scene = deleted(cloud)
    if session:
        cloud.log_in(scene.volume_id, cloud.connector(scene.host))
    trial = Trial(scene, DETACH)
    attest(trial, scene.host)
    look = look_now(
        recovery_on(cloud, TRUSTING)._viewer,
        ReadOnlyFile(trial.case, trial.now, made_up_connector, trial.off_word),
    )
    nova = next(side for side in sides.of(look) if side.name == "Nova")
    text = " ".join(answer.text for answer in nova.answers)
    assert f"anna says that {scene.host} is powered off, until 2026-11-22T20:15" in text
    assert ("this does NOT count: the backend has a live session" in text) is session
    assert ("; this counts" in text) is not session
    assert (trial.counted, trial.heard) == (set(), []), "a look changes nothing"


@pytest.mark.parametrize("story", STORIES)
def test_a_session_contradicts_the_word(cloud: Cloud, story: Story) -> None:
    """The host is only cut off, and its guest writes -> the word does not count; not ended either.

    A backend may take a while to notice that a host is gone.
    """
    scene = story(cloud)
    assert cloud.log_in(scene.volume_id, cloud.connector(scene.host))
    trial = tried(cloud, scene)
    assert_untouched(cloud, trial)
    (told,) = trial.outcomes[-1].evidence["off"]
    assert not told["counts"]
    assert "live session" in told["against"]
    assert (trial.heard, trial.counted) == ([], set())


def test_a_session_that_is_seen_anew_ends_the_word(cloud: Cloud) -> None:
    """It counted, and then the host has a session on the volume -> ended, nothing is released."""
    scene = deleted(cloud)
    trial = Trial(scene, DETACH)
    attest(trial, scene.host)
    trial.counted.add(scene.host)
    cloud.log_in(scene.volume_id, cloud.connector(scene.host))
    trial.attempt(recovery_on(cloud, TRUSTING))
    assert [host for host, _ in trial.heard] == [scene.host]
    assert "new session" in trial.heard[0][1]
    assert trial.off == {}
    assert_untouched(cloud, trial)


@pytest.mark.parametrize("story", [let_go])
def test_a_compute_that_is_up_again_ends_the_word(cloud: Cloud, story: Story) -> None:
    """Evacuated, repaired and back -> the word has ended, and does not count in that very look."""
    scene = story(cloud)
    cloud.set_compute(scene.host, up=True)
    trial = tried(cloud, scene)
    assert trial.heard == [(scene.host, "its nova-compute is up")]
    assert trial.counted == set()


@pytest.mark.parametrize("story", STORIES)
def test_a_word_for_another_host_is_no_word(cloud: Cloud, story: Story) -> None:
    """A typo that names another host of this cloud -> nothing is released of this one."""
    assert_untouched(cloud, tried(cloud, story(cloud), host="compute-2"))


@pytest.mark.parametrize("story", STORIES)
def test_a_backend_that_cannot_be_seen_takes_no_word(cloud: Cloud, story: Story) -> None:
    """A blind driver, trusted or not -> the word does not count: nothing could contradict it."""
    trusting = dataclasses.replace(TRUSTING, trust_blind=True)
    trial = tried(cloud, story(cloud), trusting, blind=True)
    assert trial.counted == set()
    assert_untouched(cloud, trial)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("session", [False, True])
def test_another_host_that_nothing_explains(cloud: Cloud, story: Story, *, session: bool) -> None:
    """Somebody else has access too, with a session or without -> nothing is released."""
    scene = story(cloud)
    cloud.export(scene.volume_id, "compute-3")
    if session:
        cloud.log_in(scene.volume_id, made_up_connector("compute-3"))
    assert_untouched(cloud, tried(cloud, scene))


@pytest.mark.parametrize("story", STORIES)
def test_a_host_of_which_no_connector_was_learned(cloud: Cloud, story: Story) -> None:
    """A session that nobody can name -> it may be the host's, so the word does not count."""
    scene = story(cloud)
    cloud.log_in(scene.volume_id, cloud.connector(scene.host))
    trial = Trial(scene, DETACH)
    trial.known = set()
    attest(trial, scene.host)
    trial.attempt(recovery_on(cloud, TRUSTING))
    assert trial.counted == set()
    assert_untouched(cloud, trial)


def test_another_server_of_the_host_has_it_too(cloud: Cloud) -> None:
    """Nova lists a server of that host with the volume whose row was dropped -> not released."""
    scene = deleted(cloud)
    other = cloud.boot_server(host=scene.host, guest_host=None, guest_running=False)
    cloud.add_block_device(other, scene.volume_id, None)
    assert_untouched(cloud, tried(cloud, scene))


def test_a_server_that_still_names_it_waits(cloud: Cloud) -> None:
    """A detach is wished of a server on the host -> no request is left for a host without power."""
    scene = scenes.attached(cloud)
    cloud.power_off(scene.host)
    cloud.set_status(scene.volume_id, "detaching")
    trial = tried(cloud, scene)
    assert trial.outcomes[-1].rule == "B4.compute-down"
    assert_untouched(cloud, trial)


def test_an_attach_is_not_completed_on_the_word(cloud: Cloud) -> None:
    """UC2 of a server on the host -> the word is no reason to call it attached."""
    scene = scenes.uc2(cloud)
    cloud.power_off(scene.host)
    trial = tried(cloud, scene)
    assert "cinder.complete" not in trial.made()
    assert_untouched(cloud, trial)


@pytest.mark.parametrize("story", STORIES)
def test_a_word_that_ends_between_two_steps(cloud: Cloud, story: Story) -> None:
    """Its time is over right before the first call -> the call is not made."""
    trial = Trial(story(cloud), DETACH)
    attest(trial, trial.scene.host, seconds=60.0)

    def expire(kind: StepKind) -> None:
        if kind is StepKind.BACKEND_FORCE_DETACH:
            trial.off.clear()

    trial.written = expire
    trial.attempt(recovery_on(cloud, TRUSTING))
    assert trial.made() == []
    assert cloud.calls(writes=True) == ()
    assert cloud.hazards() == ()


@pytest.mark.parametrize("story", STORIES)
def test_a_host_that_comes_back_between_look_and_call(cloud: Cloud, story: Story) -> None:
    """A session appears after the intent was written down -> the call is not made."""
    trial = Trial(story(cloud), DETACH)
    attest(trial, trial.scene.host)

    def back(kind: StepKind) -> None:
        if kind is StepKind.BACKEND_FORCE_DETACH:
            cloud.log_in(trial.scene.volume_id, cloud.connector(trial.scene.host))

    trial.written = back
    trial.attempt(recovery_on(cloud, TRUSTING))
    assert trial.made() == []
    assert [host for host, _ in trial.heard] == [trial.scene.host]
    assert cloud.hazards() == ()


@pytest.mark.parametrize("story", STORIES)
def test_a_crash_at_any_place(story: Story) -> None:
    """Kill -9 before or after every write -> released once, and nobody is harmed."""
    with Cloud() as cloud:
        whole = Trial(story(cloud), DETACH)
        attest(whole, whole.scene.host)
        whole.run(recovery_on(cloud, TRUSTING))
    for place in range(1, whole.places + 1):
        with Cloud() as cloud:
            trial = Trial(story(cloud), DETACH)
            attest(trial, trial.scene.host)
            trial.crash_at = place
            assert trial.run(recovery_on(cloud, TRUSTING)).state is CaseState.CLOSED
            assert cloud.exported_to(trial.case.volume_id) == ()
            assert_unharmed(cloud, trial)
