"""Each of Cinder's calls on a volume in each state: the answer, and what is then the case.

The tables say what Cinder 29.0.0 does. ``H`` is let in where a row of the state before says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from drivers.errors import ConflictError, IndeterminateError, NotFoundError, OutsideError
from tests.behaviour import states
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS, Ground, State
from tests.behaviour.states import Make, Scene, call

FIRST, SECOND = HOSTS
H, BOTH = (FIRST,), HOSTS
Table = Mapping[Make, State]

MENDED = State("available", "detached")
LEAKED = State("available", "detached", let_in=H)
RESERVED = State("attaching", "detached")
REFUSED_TWO = State("in-use", "attached", ("attached", "attached"), BOTH, ConflictError)
HALF_DONE = State("available", "detached", error=IndeterminateError)


def state_of(status: str, attach_status: str, attachment: str, *let_in: str, **error: Any) -> State:
    """Write a state with one row."""
    return State(status, attach_status, (attachment,), let_in, **error)


def cells(table: Table) -> pytest.MarkDecorator:
    """Make a test of each line of a table."""
    names = [getattr(make, "__name__", "") for make in table]
    return pytest.mark.parametrize(("make", "after"), table.items(), ids=names)


def named(make: Make, name: str) -> Make:
    """Give a maker a name for the test's id."""
    make.__name__ = name
    return make


ERROR, BACKING_UP, UPLOADING, MAINTENANCE = (
    named(states.with_status(status), status)
    for status in ("error", "backing-up", "uploading", "maintenance")
)
USED_UPLOADING, USED_BACKING_UP, HALF_RESET = (
    named(states.attached_with_status(status), f"attached_{status}")
    for status in ("uploading", "backing-up", "available")
)


def check(ground: Ground, scene: Scene, act: Callable[[], object], after: State) -> None:
    """Act, let the backend finish, and compare."""
    error: type[OutsideError] | None = None
    try:
        act()
    except OutsideError as raised:
        error = type(raised)
    if scene.finish:
        scene.finish()
    seen = ground.look(scene.volume_id)
    assert State(seen.status, seen.attach_status, seen.attachments, seen.let_in, error) == after


FORCE_DETACH: Table = {
    states.free: MENDED,
    states.os_reserve: MENDED,
    states.reserved: MENDED,
    states.attaching: MENDED,
    states.late: MENDED,
    states.in_use: MENDED,
    states.detaching: MENDED,
    states.legacy_in_use: MENDED,
    states.legacy_detaching: MENDED,
    states.legacy_leak: MENDED,
    states.legacy_leak_reserved: MENDED,
    states.leak: MENDED,
    states.busy: LEAKED,
    states.two_attachments: REFUSED_TWO,
    ERROR: MENDED,
    BACKING_UP: MENDED,
    UPLOADING: MENDED,
    MAINTENANCE: State("maintenance", "detached", error=IndeterminateError),
    USED_UPLOADING: State("uploading", "detached"),
    HALF_RESET: MENDED,
}


def test_protocol_of_the_backend(ground: Ground) -> None:
    """A volume without a row -> the pools of its backend tell how hosts reach it."""
    volume_id = ground.volume()
    volume = ground.cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert volume is not None
    assert ground.cinder.protocol_of(volume, timeout_seconds=TIMEOUT_SECONDS) == "iscsi"


@cells(FORCE_DETACH)
def test_force_detach(ground: Ground, make: Make, after: State) -> None:
    """os-force_detach with the host's connector -> mended, whatever the volume was doing."""
    scene = make(ground)
    connector = ground.connector(FIRST)
    act = functools.partial(ground.cinder.force_detach, scene.volume_id, None, connector, **call())
    check(ground, scene, act, after)


FORCE_DETACH_ROW: Table = {
    states.free: HALF_DONE,
    states.os_reserve: HALF_DONE,
    states.legacy_leak_reserved: HALF_DONE,
    states.leak: HALF_DONE,
    states.reserved: MENDED,
    states.attaching: MENDED,
    states.in_use: MENDED,
    states.detaching: MENDED,
    states.legacy_detaching: MENDED,
    states.busy: LEAKED,
    states.two_attachments: REFUSED_TWO,
}


@cells(FORCE_DETACH_ROW)
def test_force_detach_of_a_attachment(ground: Ground, make: Make, after: State) -> None:
    """The same with a row named -> where there is no such row, refused after half of it is done."""
    scene = make(ground)
    connector = ground.connector(FIRST)
    act = functools.partial(
        ground.cinder.force_detach, scene.volume_id, scene.attachment, connector, **call()
    )
    check(ground, scene, act, after)


DELETE: Table = {
    states.free: MENDED,
    states.reserved: MENDED,
    states.attaching: MENDED,
    states.late: MENDED,
    states.in_use: MENDED,
    states.detaching: MENDED,
    states.legacy_in_use: LEAKED,
    states.legacy_detaching: LEAKED,
    states.busy: LEAKED,
    states.two_attachments: state_of("in-use", "attached", "attached", SECOND),
    states.two_on_one_host: state_of("in-use", "attached", "attached", FIRST),
    states.second_failed: state_of("in-use", "attached", "attached"),
    USED_UPLOADING: State("uploading", "detached"),
    USED_BACKING_UP: MENDED,
    HALF_RESET: MENDED,
}


@cells(DELETE)
def test_delete_attachment(ground: Ground, make: Make, after: State) -> None:
    """DELETE of the row -> terminated by the row's own connector; without one, or reserved, not."""
    scene = make(ground)
    act = functools.partial(ground.cinder.delete_attachment, scene.attachment, **call())
    check(ground, scene, act, after)


TERMINATE: Table = {
    states.free: MENDED,
    states.os_reserve: MENDED,
    states.reserved: state_of("reserved", "detached", "reserved"),
    states.attaching: state_of("in-use", "attaching", "attaching"),
    states.in_use: state_of("in-use", "attached", "attached"),
    states.detaching: state_of("detaching", "attached", "attached"),
    states.legacy_in_use: state_of("in-use", "attached", "attached"),
    states.legacy_leak: MENDED,
    states.legacy_leak_reserved: MENDED,
    states.leak: MENDED,
    states.busy: state_of("attaching", "attaching", "attaching", FIRST),
    states.two_attachments: REFUSED_TWO,
    MAINTENANCE: State("maintenance", "detached"),
}


@cells(TERMINATE)
def test_terminate_connection(ground: Ground, make: Make, after: State) -> None:
    """os-terminate_connection -> the host is out; rows stay; attaching is given up."""
    scene = make(ground)
    connector = ground.connector(FIRST)
    act = functools.partial(
        ground.cinder.terminate_connection, scene.volume_id, connector, **call()
    )
    check(ground, scene, act, after)


RESERVE: Table = {
    states.free: RESERVED,
    states.os_reserve: State("attaching", "detached", error=ConflictError),
    states.reserved: state_of("reserved", "detached", "reserved", error=ConflictError),
    states.in_use: state_of("in-use", "attached", "attached", FIRST, error=ConflictError),
    states.legacy_leak: State("attaching", "detached", let_in=H),
    states.two_attachments: State("attaching", "attached", ("attached", "attached"), BOTH),
    ERROR: State("error", "detached", error=ConflictError),
}


@cells(RESERVE)
def test_reserve(ground: Ground, make: Make, after: State) -> None:
    """os-reserve -> attaching where it was available, or multiattach and in-use; else refused."""
    scene = make(ground)
    check(ground, scene, lambda: ground.cinder.reserve(scene.volume_id, **call()), after)


UNRESERVE: Table = {
    states.free: MENDED,
    states.os_reserve: MENDED,
    states.reserved: state_of("reserved", "detached", "reserved"),
    states.attaching: state_of("in-use", "attaching", "attaching", FIRST),
    states.detaching: state_of("detaching", "attached", "attached", FIRST),
    states.legacy_leak_reserved: LEAKED,
}


@cells(UNRESERVE)
def test_unreserve(ground: Ground, make: Make, after: State) -> None:
    """os-unreserve -> attaching becomes available, or in-use where a row is; else no change."""
    scene = make(ground)
    check(ground, scene, lambda: ground.cinder.unreserve(scene.volume_id, **call()), after)


ROLL_DETACHING: Table = {
    states.free: MENDED,
    states.attaching: state_of("attaching", "attaching", "attaching", FIRST),
    states.detaching: state_of("in-use", "attached", "attached", FIRST),
    states.legacy_detaching: state_of("in-use", "attached", "attached", FIRST),
}


@cells(ROLL_DETACHING)
def test_roll_detaching(ground: Ground, make: Make, after: State) -> None:
    """os-roll_detaching -> detaching becomes in-use, anything else stays."""
    scene = make(ground)
    check(ground, scene, lambda: ground.cinder.roll_detaching(scene.volume_id, **call()), after)


COMPLETE: Table = {
    states.free: State("available", "detached", error=NotFoundError),
    states.reserved: state_of("in-use", "attached", "attached"),
    states.attaching: state_of("in-use", "attached", "attached", FIRST),
    states.late: state_of("in-use", "attached", "attached", FIRST),
    states.in_use: state_of("in-use", "attached", "attached", FIRST),
    states.detaching: state_of("in-use", "attached", "attached", FIRST),
    HALF_RESET: state_of("in-use", "attached", "attached", FIRST),
}


@cells(COMPLETE)
def test_complete(ground: Ground, make: Make, after: State) -> None:
    """os-complete -> attached and in-use, whatever it was; a row that is gone is not found."""
    scene = make(ground)
    check(ground, scene, lambda: ground.cinder.complete(scene.attachment, **call()), after)


BEGIN_DETACHING: Table = {
    states.free: State("available", "detached", error=ConflictError),
    states.attaching: state_of("attaching", "attaching", "attaching", FIRST, error=ConflictError),
    states.in_use: state_of("detaching", "attached", "attached", FIRST),
    states.detaching: state_of("detaching", "attached", "attached", FIRST, error=ConflictError),
    HALF_RESET: state_of("available", "attached", "attached", FIRST, error=ConflictError),
}


@cells(BEGIN_DETACHING)
def test_begin_detaching(ground: Ground, make: Make, after: State) -> None:
    """os-begin_detaching -> detaching where in-use and attached, else refused."""
    scene = make(ground)
    check(ground, scene, lambda: ground.others.begin_detaching(scene.volume_id), after)


RESET_AVAILABLE: Table = {
    states.os_reserve: MENDED,
    states.reserved: state_of("available", "detached", "reserved"),
    states.attaching: state_of("available", "attaching", "attaching", FIRST),
    states.in_use: state_of("available", "attached", "attached", FIRST),
    states.detaching: state_of("available", "attached", "attached", FIRST),
    states.two_attachments: State("available", "attached", ("attached", "attached"), BOTH),
}


@cells(RESET_AVAILABLE)
def test_reset_status_half(ground: Ground, make: Make, after: State) -> None:
    """An administrator resets to available, no more -> rows and access stay: the worst there is."""
    scene = make(ground)
    check(ground, scene, lambda: ground.others.reset_status(scene.volume_id, "available"), after)


RESET_DETACHED: Table = {
    states.os_reserve: MENDED,
    states.reserved: MENDED,
    states.attaching: LEAKED,
    states.in_use: LEAKED,
    states.detaching: LEAKED,
    states.busy: LEAKED,
    states.two_attachments: State("available", "detached", let_in=BOTH),
}


@cells(RESET_DETACHED)
def test_reset_status_whole(ground: Ground, make: Make, after: State) -> None:
    """An administrator resets both -> available, no rows, and whoever was let in still is."""
    scene = make(ground)

    def act() -> None:
        ground.others.reset_status(scene.volume_id, "available", "detached")

    check(ground, scene, act, after)


OS_DETACH: Table = {
    states.in_use: MENDED,
    states.detaching: MENDED,
    states.legacy_detaching: MENDED,
    states.legacy_leak: LEAKED,
    states.two_attachments: REFUSED_TWO,
    MAINTENANCE: State("maintenance", "detached", error=ConflictError),
}


@cells(OS_DETACH)
def test_os_detach(ground: Ground, make: Make, after: State) -> None:
    """os-detach of the old API -> the export is removed with the row; without a row nothing is."""
    scene = make(ground)
    check(ground, scene, lambda: ground.others.detach(scene.volume_id, None), after)


CONNECT: Table = {
    states.reserved: state_of("attaching", "attaching", "attaching", FIRST),
    states.attaching: state_of("attaching", "attaching", "attaching", FIRST),
    states.in_use: state_of("attaching", "attaching", "attaching", FIRST),
}


@cells(CONNECT)
def test_update_attachment(ground: Ground, make: Make, after: State) -> None:
    """PUT with the host's connector -> let in and attaching, even where it was attached."""
    scene = make(ground)

    def act() -> None:
        ground.others.update_attachment(scene.attachment, ground.connector(FIRST))

    check(ground, scene, act, after)
