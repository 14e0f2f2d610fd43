"""Situations in which a volume is stuck, or only looks so, as the lab's own services leave them.

The numbers are those of tests/situations, where all thirty are played on the simulated cloud.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from drivers.control_plane import Row
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES
from tests.lab_service.stage import INITIALIZE, TERMINATE, Stage, other_host
from tests.lab_service.use_cases import BACKEND, DELETE, unfinished_attach

Holds = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
RELEASE = (BACKEND, DELETE)
HERE, THERE = HOSTS


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """What is arranged, and what must come of it.

    ``decided`` are verdict, rule and the case's state, ``holds`` what all three sides hold in the
    end: Cinder's status and rows, whom the backend lets in, what Nova's block devices name.
    """

    name: str
    arrange: Callable[[Stage], None]
    decided: tuple[str, str, str]
    done: tuple[str, ...]
    holds: Holds
    multiattach: bool = False


def retry_wins(stage: Stage) -> None:
    """Let the backend fail once; Nova's second try goes well."""
    stage.breaks(INITIALIZE, times=1)
    stage.attach()


def cleaned_up_by_nova(stage: Stage) -> None:
    """Let the guest not take the disk; Nova deletes the attachment."""
    stage.guest_fails("attach_volume")
    stage.begin_attach()
    stage.nova_gave_up()


def guest_refuses(stage: Stage) -> None:
    """Let the guest refuse; Nova takes the wish back."""
    stage.attach()
    stage.guest_fails("detach_volume", "DeviceDetachFailed")
    stage.begin_detach()
    until(lambda: not stage.guest_faults_left(), "the guest has refused")
    until(lambda: stage.look().status == "in-use", "Nova has taken the wish back")


def destination_times_out(stage: Stage) -> None:
    """Migrate; the destination's connection times out and is made late, when Nova has given up."""
    stage.attach()
    stage.hangs(INITIALIZE)
    stage.migrate(other_host(stage.host))
    stage.faults.release(stage.volume_id)
    until(lambda: len(stage.look().let_in) == 2, "the destination is let in")


def source_row_stays(stage: Stage) -> None:
    """Migrate; the source's row cannot be deleted, and Nova goes on."""
    stage.attach()
    stage.breaks(TERMINATE, times=TRIES)
    stage.migrate(other_host(stage.host))


def shelved(stage: Stage) -> None:
    """Shelve and offload: a reserved row, by which the server gets its volume back."""
    stage.attach()
    stage.site.ground.servers.shelve(stage.server_id)


def second_of_two_fails(stage: Stage) -> None:
    """Attach one server on another host well, and this one not; cleaning up fails too."""
    _attached_elsewhere(stage, other_host(stage.host))
    unfinished_attach(stage, acts=False)


def second_on_one_host_fails(stage: Stage) -> None:
    """Do the same on one host, whose connection both use."""
    _attached_elsewhere(stage, stage.host)
    unfinished_attach(stage, acts=False)


def _attached_elsewhere(stage: Stage, host: str) -> None:
    servers = stage.site.ground.servers
    assert servers.attach(stage.volume_id, servers.shared(host))


def attached_again_by_the_user(stage: Stage) -> None:
    """Fail an attach; before anybody looks the user has attached it to another server."""
    cleaned_up_by_nova(stage)
    _attached_elsewhere(stage, other_host(stage.host))


def half_reset(stage: Stage) -> None:
    """Reset the status alone, by hand: available, while the guest has the disk."""
    guest_refuses(stage)
    stage.site.ground.others.reset_status(stage.volume_id, "available")


def volume_deleted(stage: Stage) -> None:
    """Fail an attach cleanly, then delete the volume."""
    cleaned_up_by_nova(stage)
    stage.site.ground.delete_volume(stage.volume_id)


def in_maintenance(stage: Stage) -> None:
    """Keep a half-attached volume in maintenance: Cinder refuses after it has terminated."""
    unfinished_attach(stage)
    stage.site.ground.others.reset_status(stage.volume_id, "maintenance")


SITUATIONS: Sequence[Situation] = (
    Situation(
        "01 retry that won is left alone",
        retry_wins,
        ("healthy", "H2.attached", "closed"),
        (),
        ("in-use", ("attached",), (HERE,), ("attached",)),
    ),
    Situation(
        "04 what Nova cleaned up is clean",
        cleaned_up_by_nova,
        ("clean", "C1.nothing-left", "closed"),
        (),
        ("available", (), (), ()),
    ),
    Situation(
        "08 guest that refuses is healthy",
        guest_refuses,
        ("healthy", "H2.attached", "closed"),
        (),
        ("in-use", ("attached",), (HERE,), ("attached",)),
    ),
    Situation(
        "10 stray row of a failed migration",
        destination_times_out,
        ("release", "S1.stray-row", "parked"),
        (),
        ("attaching", ("attached", "attaching"), HOSTS, ("attached",)),
    ),
    Situation(
        "11 row left on the source is released",
        source_row_stays,
        ("release", "S2.left-on-source", "closed"),
        RELEASE,
        ("in-use", ("attached",), (THERE,), ("attached",)),
    ),
    Situation(
        "12 shelved server keeps its reservation",
        shelved,
        ("healthy", "H1.shelved", "closed"),
        (),
        ("reserved", ("reserved",), (), ("reserved",)),
    ),
    Situation(
        "20 failed second attach is released alone",
        second_of_two_fails,
        ("release", "S1.stray-row", "closed"),
        RELEASE,
        ("in-use", ("attached",), (THERE,), ()),
        multiattach=True,
    ),
    Situation(
        "21 shared connection of one host is kept",
        second_on_one_host_fails,
        ("release", "S1.stray-row", "closed"),
        (DELETE,),
        ("in-use", ("attached",), (HERE,), ()),
        multiattach=True,
    ),
    Situation(
        "25 attached again meanwhile is left alone",
        attached_again_by_the_user,
        ("clean", "C1.nothing-left", "closed"),
        (),
        ("in-use", ("attached",), (THERE,), ()),
    ),
    Situation(
        "27 half reset is for a person",
        half_reset,
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", ("attached",), (HERE,), ("attached",)),
    ),
    Situation(
        "29 deleted volume ends its case",
        volume_deleted,
        ("gone", "G1.volume-gone", "closed"),
        (),
        ("gone", (), (), ()),
    ),
    Situation(
        "30 maintenance is for a person",
        in_maintenance,
        ("park", "P1.volume-error", "parked"),
        (),
        ("maintenance", ("attaching",), (), ()),
    ),
)


def holds(stage: Stage) -> Holds:
    """Return what all three sides hold of the volume now."""
    ground = stage.site.ground
    volume = ground.cinder.volume(stage.volume_id, timeout_seconds=TIMEOUT_SECONDS)
    if volume is None:
        return "gone", (), (), ()
    statuses = tuple(sorted(row.status for row in volume.rows))
    return volume.status, statuses, stage.look().let_in, _named(stage, volume.rows)


def _named(stage: Stage, rows: Sequence[Row]) -> tuple[str, ...]:
    nova = stage.site.ground.nova
    server = nova.server(stage.server_id, stage.volume_id, timeout_seconds=TIMEOUT_SECONDS)
    by_id = {row.attachment_id: row.status for row in rows}
    devices = server.block_devices if server else ()
    return tuple(sorted(by_id.get(str(device.attachment_id), "gone") for device in devices))
