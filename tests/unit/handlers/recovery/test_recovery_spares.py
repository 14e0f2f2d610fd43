"""What recovery leaves alone on the simulated cloud, whose judge tells of every cut that it makes.

Servers that this Nova never had, two hosts that write at once, and a host that lost its access.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from drivers.simulator import Cloud, scenes
from drivers.simulator.scenes import Scene
from handlers.case import CaseState, Conclusion
from handlers.judgement.policy import Mode
from handlers.notification import Operation
from handlers.recovery.recovery import Recovery
from tests.unit.handlers.recovery.stuck import ATTACH, DETACH, left_on_source, released_in_nova
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on

TRUSTED = dataclasses.replace(QUICK, trust_blind=True)


def attaching_elsewhere(cloud: Cloud) -> Scene:
    """Have another region's guest use the disk; access is all that this backend shows of it."""
    scene = scenes.uc2(cloud)
    cloud.export(scene.volume_id, scene.host, sessions=0, instance_id=scene.instance_id)
    return scene


def detaching_elsewhere(cloud: Cloud) -> Scene:
    """Have another region's guest keep the disk, with a wish to detach on record."""
    return scenes.uc4(cloud)


def under_way_elsewhere(cloud: Cloud) -> Scene:
    """Have another region's Nova be in the midst of an attach."""
    volume_id, server_id = cloud.create_volume(), cloud.boot_server()
    attach = cloud.begin_attach(volume_id, server_id).advance()
    return Scene(volume_id, server_id, attach.attachment_id, "compute-1")


ELSEWHERE = (attaching_elsewhere, detaching_elsewhere, under_way_elsewhere, scenes.attached)


@pytest.mark.parametrize("blind", [False, True], ids=["seeing", "blind and trusted"])
@pytest.mark.parametrize("arrange", ELSEWHERE)
def test_server_that_this_nova_never_had_keeps_its_disk(
    cloud: Cloud, arrange: Callable[[Cloud], Scene], blind: bool
) -> None:
    """No server, and nothing on record of one -> nothing is written, a person is told why."""
    scene = arrange(cloud)
    cloud.set_server(scene.instance_id, on_record=False)
    for operation in (ATTACH, DETACH):
        outcome = Trial(scene, operation).run(recovery_on(cloud, TRUSTED, blind=blind))
        assert (outcome.rule, outcome.state) == ("X2.nova-unknown", CaseState.PARKED)
        assert "check the region" in outcome.reason
    assert cloud.calls(writes=True) == ()
    assert cloud.hazards() == ()


def _dead_row(cloud: Cloud) -> Scene:
    """Have an attach that never finished, and access alone of its host, as of some backends."""
    scene = scenes.uc1(cloud)
    cloud.export(scene.volume_id, scene.host, sessions=0)
    return scene


@pytest.mark.parametrize("blind", [False, True], ids=["seeing", "blind and trusted"])
@pytest.mark.parametrize(
    ("arrange", "operation"),
    [(_dead_row, ATTACH), (released_in_nova, DETACH), (left_on_source, DETACH)],
)
def test_server_whose_row_was_dropped_keeps_the_access_of_its_host(
    cloud: Cloud, arrange: Callable[[Cloud], Scene], operation: Operation, blind: bool
) -> None:
    """Another server of the same host uses the volume without a row -> its host stays let in.

    Nobody else there -> the row is released, after Nova has been asked that.
    """
    scene = arrange(cloud)
    before = cloud.exported_to(scene.volume_id)
    other = cloud.boot_server(host=scene.host)
    cloud.add_block_device(other, scene.volume_id, "a row that was dropped")
    outcome = Trial(scene, operation).run(recovery_on(cloud, TRUSTED, blind=blind))
    assert (outcome.rule, outcome.state) == ("P20.another-user", CaseState.PARKED)
    assert other in outcome.reason
    assert cloud.exported_to(scene.volume_id) == before
    cloud.drop_block_device(other, scene.volume_id)
    assert Trial(scene, operation).run(recovery_on(cloud, TRUSTED, blind=blind)).state is (
        CaseState.CLOSED
    )
    assert len(cloud.calls("nova.holders")) >= 3


def test_deleted_server_of_this_nova_is_still_believed_to_be_gone(cloud: Cloud) -> None:
    """The same, and this Nova has its actions on record -> released: the control lets through."""
    scene = scenes.orphaned_attach(cloud)
    cloud.delete_server(scene.instance_id)
    outcome = Trial(scene, ATTACH).run(recovery_on(cloud, QUICK))
    assert outcome.conclusion is Conclusion.MENDED
    assert cloud.hazards() == ()


def test_two_hosts_that_write_are_for_a_person(cloud: Cloud) -> None:
    """A reset, then attached to B while A's guest writes on -> parked for both, both are named."""
    first = scenes.attached(cloud)
    cloud.drop_attachment(first.attachment_id)
    second_server = cloud.boot_server(host="compute-2")
    attachment = cloud.attach(first.volume_id, second_server)
    second = Scene(first.volume_id, second_server, attachment, "compute-2")
    for scene in (first, second):
        for operation in (ATTACH, DETACH):
            outcome = Trial(scene, operation).run(recovery_on(cloud, QUICK))
            assert (outcome.rule, outcome.state) == ("P15.two-writers", CaseState.PARKED)
            assert outcome.reason.startswith("critical: ")
            assert "(compute-1 and compute-2; " in outcome.reason
    assert cloud.calls(writes=True) == ()
    assert cloud.guests_holding(first.volume_id) == tuple(
        sorted((first.instance_id, second_server))
    )


def test_two_servers_of_a_multiattach_volume_are_healthy(cloud: Cloud) -> None:
    """The same on a multiattach volume, with a row for each -> healthy."""
    volume_id = cloud.create_volume(multiattach=True)
    for host in ("compute-1", "compute-2"):
        server_id = cloud.boot_server(host=host)
        scene = Scene(volume_id, server_id, cloud.attach(volume_id, server_id), host)
    outcome = Trial(scene, ATTACH).run(recovery_on(cloud, QUICK))
    assert (outcome.rule, outcome.state) == ("H2.attached", CaseState.CLOSED)


def test_one_host_that_lost_its_access_is_for_a_person(cloud: Cloud) -> None:
    """The first of two hosts is let in no more -> parked, whichever of the two is looked at."""
    volume_id, made = cloud.create_volume(multiattach=True), []
    for host in ("compute-1", "compute-2"):
        server_id = cloud.boot_server(host=host)
        made.append(Scene(volume_id, server_id, cloud.attach(volume_id, server_id), host))
    cloud.unexport(volume_id, "compute-1")
    for scene in made:
        outcome = Trial(scene, ATTACH).run(recovery_on(cloud, QUICK))
        assert (outcome.rule, outcome.state) == ("P8.access-lost", CaseState.PARKED)
        assert outcome.reason.endswith("(compute-1)")


@pytest.mark.parametrize("arrange", [scenes.uc1, scenes.uc2, scenes.uc3, scenes.uc4, scenes.uc5])
def test_protected_volume_is_diagnosed_and_left(
    cloud: Cloud, arrange: Callable[[Cloud], Scene]
) -> None:
    """Its owner has set the metadata -> nothing is written, whatever is stuck; a person is told."""
    scene = arrange(cloud)
    cloud.set_metadata(scene.volume_id, detachd_protected="true")
    operation = DETACH if arrange in {scenes.uc3, scenes.uc4, scenes.uc5} else ATTACH
    outcome = Trial(scene, operation).run(recovery_on(cloud, QUICK))
    assert outcome.state is CaseState.PARKED
    assert "the volume is protected" in outcome.reason
    assert cloud.calls(writes=True) == ()


def test_volume_that_is_protected_right_before_the_call(cloud: Cloud) -> None:
    """Its owner sets the metadata while the plan is made -> the last look withholds it."""
    scene = scenes.uc1(cloud)
    cloud.set_metadata(scene.volume_id, detachd_protected="false")
    trial = Trial(scene, ATTACH)
    intend = trial.intend

    def protect_meanwhile(*args: Any, **named: Any) -> None:
        cloud.set_metadata(scene.volume_id, detachd_protected="yes")
        intend(*args, **named)

    trial.intend = protect_meanwhile  # type: ignore[method-assign]
    outcome = trial.run(recovery_on(cloud, QUICK))
    assert outcome.state is CaseState.PARKED
    assert cloud.calls(writes=True) == ()


def test_mode_that_becomes_observe_right_before_the_call(cloud: Cloud) -> None:
    """SIGHUP with mode observe while a plan is carried out -> the last look withholds the call."""
    policies = [QUICK]
    trial = Trial(scenes.uc1(cloud), ATTACH)
    intend = trial.intend

    def observe_meanwhile(*args: Any, **named: Any) -> None:
        policies[0] = dataclasses.replace(QUICK, mode=Mode.OBSERVE)
        intend(*args, **named)

    trial.intend = observe_meanwhile  # type: ignore[method-assign]
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: policies[0])
    outcome = trial.run(recovery)
    assert outcome.state is CaseState.PARKED
    assert "the mode is observe" in outcome.reason
    assert cloud.calls(writes=True) == ()
