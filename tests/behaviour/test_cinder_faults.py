"""Cinder's calls while the backend fails, hangs, or cinder-volume is frozen."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from drivers.errors import IndeterminateError
from tests.behaviour import states
from tests.behaviour.ground import HOSTS, Ground, State
from tests.behaviour.states import Scene, call

FIRST = HOSTS[0]
ROW = ("attached",)
MENDED = State("available", "detached")
STUCK = State("detaching", "attached", ROW, (FIRST,))
CUT_OFF = State("detaching", "attached", ROW)
Call = Callable[[Ground, Scene], None]


def force_detach(ground: Ground, scene: Scene) -> None:
    connector = ground.connector(FIRST)
    ground.cinder.force_detach(scene.volume_id, scene.attachment, connector, **call())


def delete_attachment(ground: Ground, scene: Scene) -> None:
    ground.cinder.delete_attachment(scene.attachment, **call())


def terminate_connection(ground: Ground, scene: Scene) -> None:
    ground.cinder.terminate_connection(scene.volume_id, ground.connector(FIRST), **call())


def os_detach(ground: Ground, scene: Scene) -> None:
    ground.others.detach(scene.volume_id, scene.attachment)


RAISED = [
    (force_detach, "terminate_connection", False, STUCK),
    (force_detach, "terminate_connection", True, CUT_OFF),
    (force_detach, "remove_export", False, CUT_OFF),
    (delete_attachment, "terminate_connection", False, STUCK),
    (delete_attachment, "terminate_connection", True, CUT_OFF),
    (terminate_connection, "terminate_connection", False, STUCK),
    (terminate_connection, "terminate_connection", True, CUT_OFF),
    (os_detach, "remove_export", False, STUCK),
]


@pytest.mark.parametrize(("act", "method", "acts", "left"), RAISED)
def test_the_driver_raises(ground: Ground, act: Call, method: str, acts: bool, left: State) -> None:
    """The driver raises, before or after it acts -> 500, still detaching; asked again, mended."""
    scene = states.detaching(ground)
    ground.break_backend(method, scene.volume_id, acts=acts)
    with pytest.raises(IndeterminateError):
        act(ground, scene)
    assert ground.look(scene.volume_id) == left
    assert not ground.faults_left()
    force_detach(ground, scene)
    assert ground.look(scene.volume_id) == MENDED


def test_delete_swallows_a_failing_remove_export(ground: Ground) -> None:
    """remove_export raises in a DELETE -> 200 all the same: Cinder only logs it."""
    scene = states.detaching(ground)
    ground.break_backend("remove_export", scene.volume_id)
    delete_attachment(ground, scene)
    assert not ground.faults_left()
    assert ground.look(scene.volume_id) == MENDED


def test_initialize_fails(ground: Ground) -> None:
    """The driver refuses to let the host in -> 500, reserved as before, nobody let in."""
    scene = states.reserved(ground)
    ground.break_backend("initialize_connection", scene.volume_id)
    with pytest.raises(IndeterminateError):
        ground.others.update_attachment(scene.attachment, ground.connector(FIRST))
    assert ground.look(scene.volume_id) == State("reserved", "detached", ("reserved",))


HUNG = [
    (force_detach, "terminate_connection", STUCK, CUT_OFF),
    (force_detach, "remove_export", CUT_OFF, MENDED),
    (delete_attachment, "terminate_connection", STUCK, CUT_OFF),
]


@pytest.mark.parametrize(("act", "method", "meanwhile", "after"), HUNG)
def test_the_driver_hangs(
    ground: Ground, act: Call, method: str, meanwhile: State, after: State
) -> None:
    """The driver hangs -> 500, and it is done late: cinder-volume's part, never cinder-api's."""
    scene = states.detaching(ground)
    finish = ground.busy_backend(method, scene.volume_id, functools.partial(act, ground, scene))
    assert ground.look(scene.volume_id) == meanwhile
    finish()
    assert ground.look(scene.volume_id) == after


@pytest.mark.parametrize("act", [force_detach, delete_attachment])
def test_the_volume_service_is_frozen(ground: Ground, act: Call) -> None:
    """cinder-volume is frozen -> 500 and nothing yet; thawed -> the host is cut off after all.

    What cinder-api does alone still works meanwhile.
    """
    free, scene = states.free(ground), states.detaching(ground)
    thaw = ground.frozen(scene.volume_id, functools.partial(act, ground, scene))
    try:
        ground.cinder.reserve(free.volume_id, **call())
        assert ground.look(free.volume_id).status == "attaching"
        assert ground.look(scene.volume_id) == STUCK
    finally:
        thaw()
    assert ground.look(scene.volume_id) == CUT_OFF


def test_late_first_try_undoes_the_second(ground: Ground) -> None:
    """A first try finishes after the second one has won -> in-use goes back to attaching.

    The guest has the disk all the while; os-complete on the row puts it right.
    """
    scene = states.reserved(ground)
    connector = ground.connector(FIRST)
    connect = functools.partial(ground.others.update_attachment, scene.attachment, connector)
    finish = ground.busy_backend("initialize_connection", scene.volume_id, connect)
    connect()
    ground.cinder.complete(scene.attachment, **call())
    assert ground.look(scene.volume_id) == State("in-use", "attached", ROW, (FIRST,))
    finish()
    late = State("attaching", "attaching", ("attaching",), (FIRST,))
    assert ground.look(scene.volume_id) == late
    ground.cinder.complete(scene.attachment, **call())
    assert ground.look(scene.volume_id) == State("in-use", "attached", ROW, (FIRST,))


def test_the_attachment_goes_while_the_backend_is_busy(ground: Ground) -> None:
    """UC5 as it comes about -> available, no row, and then the backend lets the host in."""
    scene = states.busy(ground)
    assert scene.finish is not None
    assert ground.look(scene.volume_id) == State("reserved", "detached", ("reserved",))
    delete_attachment(ground, scene)
    assert ground.look(scene.volume_id) == MENDED
    scene.finish()
    assert ground.look(scene.volume_id) == State("available", "detached", let_in=(FIRST,))
