"""Situations in which a volume is stuck, or only looks so, as the lab's own services leave them.

The numbers are those of tests/situations, where all thirty are played on the simulated cloud.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from drivers.control_plane import CinderAttachment
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS
from tests.lab_service import arrangements
from tests.lab_service.arrangements import HERE, THERE
from tests.lab_service.stage import Stage
from tests.lab_service.use_cases import BACKEND, DELETE

Holds = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
RELEASE = (BACKEND, DELETE)


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """What is arranged, and what must come of it.

    ``decided`` are verdict, rule and the case's state, ``holds`` what all three sides hold in the
    end: Cinder's status and rows, whom the backend lets in, what Nova's block devices name.
    ``arrange`` may return another stage, whose server is the one that matters. ``later`` lets go on
    what was held up, and sees how it ends.
    """

    name: str
    arrange: Callable[[Stage], Stage | None]
    decided: tuple[str, str, str]
    done: tuple[str, ...]
    holds: Holds
    multiattach: bool = False
    later: Callable[[Stage], None] | None = None


SITUATIONS: Sequence[Situation] = (
    Situation(
        "01 retry that won is left alone",
        arrangements.retry_wins,
        ("healthy", "H2.attached", "closed"),
        (),
        ("in-use", ("attached",), (HERE,), ("attached",)),
    ),
    Situation(
        "04 what Nova cleaned up is clean",
        arrangements.cleaned_up_by_nova,
        ("clean", "C1.nothing-left", "closed"),
        (),
        ("available", (), (), ()),
    ),
    Situation(
        "08 guest that refuses is healthy",
        arrangements.guest_refuses,
        ("healthy", "H2.attached", "closed"),
        (),
        ("in-use", ("attached",), (HERE,), ("attached",)),
    ),
    Situation(
        "10 stray row of a failed migration",
        arrangements.destination_times_out,
        ("release", "S1.stray-row", "parked"),
        (),
        ("attaching", ("attached", "attaching"), HOSTS, ("attached",)),
    ),
    Situation(
        "11 row left on the source is released",
        arrangements.source_attachment_stays,
        ("release", "S2.left-on-source", "closed"),
        RELEASE,
        ("in-use", ("attached",), (THERE,), ("attached",)),
    ),
    Situation(
        "09 live migration is left alone",
        arrangements.migration_under_way,
        ("in-flight", "B2.server-busy", "due"),
        (),
        ("attaching", ("attached", "attaching"), HOSTS, ("attaching",)),
        later=arrangements.migration_goes_on,
    ),
    Situation(
        "12 shelved server keeps its reservation",
        arrangements.shelved,
        ("healthy", "H1.shelved", "closed"),
        (),
        ("reserved", ("reserved",), (), ("reserved",)),
    ),
    Situation(
        "13 unshelving that broke off is shelved again",
        arrangements.unshelving_broken_off,
        ("healthy", "H1.shelved", "closed"),
        (),
        ("reserved", ("reserved",), (), ("reserved",)),
    ),
    Situation(
        "14 record of a server that never ran is for a person",
        arrangements.boot_in_vain,
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", (), (), ("gone",)),
    ),
    Situation(
        "20 failed second attach is released alone",
        arrangements.second_of_two_fails,
        ("release", "S1.stray-row", "closed"),
        RELEASE,
        ("in-use", ("attached",), (THERE,), ()),
        multiattach=True,
    ),
    Situation(
        "21 shared connection of one host is kept",
        arrangements.second_on_one_host_fails,
        ("release", "S1.stray-row", "closed"),
        (DELETE,),
        ("in-use", ("attached",), (HERE,), ()),
        multiattach=True,
    ),
    Situation(
        "25 attached again meanwhile is left alone",
        arrangements.attached_again_by_the_user,
        ("clean", "C1.nothing-left", "closed"),
        (),
        ("in-use", ("attached",), (THERE,), ()),
    ),
    Situation(
        "27 half reset is for a person",
        arrangements.half_reset,
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", ("attached",), (HERE,), ("attached",)),
        later=arrangements.still_writes,
    ),
    Situation(
        "reset by hand while its guest writes",
        arrangements.reset_while_it_writes,
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", (), (HERE,), ("gone",)),
        later=arrangements.still_writes,
    ),
    Situation(
        "29 deleted volume ends its case",
        arrangements.volume_deleted,
        ("gone", "G1.volume-gone", "closed"),
        (),
        ("gone", (), (), ()),
    ),
    Situation(
        "30 maintenance is for a person",
        arrangements.in_maintenance,
        ("park", "P1.volume-error", "parked"),
        (),
        ("maintenance", ("attaching",), (), ()),
    ),
    Situation(
        "detach that timed out is asked of Nova again",
        arrangements.detach_hangs,
        ("nova-detach", "UC4.wish-on-record", "closed"),
        ("cinder.roll_detaching", "nova.detach"),
        ("available", (), (), ()),
    ),
    Situation(
        "destination that failed shuts out the source",
        arrangements.destination_fails,
        ("release", "S1.stray-row", "parked"),
        (DELETE,),
        ("in-use", ("attached",), (), ("attached",)),
    ),
    Situation(
        "migration undone badly is for a person",
        arrangements.migration_undone_badly,
        ("park", "P2.names-the-wrong-row", "parked"),
        (),
        ("attaching", ("attached", "attaching"), HOSTS, ("attaching",)),
    ),
    Situation(
        "shelving that broke off is for a person",
        arrangements.shelving_broken_off,
        ("park", "P9.unfinished-sibling", "parked"),
        (),
        ("in-use", ("attached", "reserved"), (HERE,), ("attached",)),
    ),
    Situation(
        "second attach that hung is ended alone",
        arrangements.second_of_two_hangs,
        ("terminate", "UC5.leaked-beside-others", "closed"),
        (BACKEND,),
        ("in-use", ("attached",), (THERE,), ()),
        multiattach=True,
    ),
    Situation(
        "second attach that failed shuts out the first",
        arrangements.second_of_two_shuts_out_the_first,
        ("park", "P8.access-lost", "parked"),
        (),
        ("in-use", ("attached",), (), ()),
        multiattach=True,
    ),
    Situation(
        "server that this Nova never had keeps its disk",
        arrangements.server_of_another_nova,
        ("unknown", "X2.nova-unknown", "due"),
        (),
        ("attaching", ("attaching",), (HERE,), ()),
        later=arrangements.still_writes,
    ),
    Situation(
        "two hosts that write are for a person",
        arrangements.two_hosts_write,
        ("park", "P15.two-writers", "parked"),
        (),
        ("attaching", ("attaching",), HOSTS, ("gone",)),
        later=arrangements.both_still_write,
    ),
)


def holds(stage: Stage) -> Holds:
    """Return what all three sides hold of the volume now."""
    ground = stage.site.ground
    volume = ground.cinder.volume(stage.volume_id, timeout_seconds=TIMEOUT_SECONDS)
    if volume is None:
        return "gone", (), (), ()
    statuses = tuple(sorted(attachment.status for attachment in volume.attachments))
    return volume.status, statuses, stage.look().let_in, _named(stage, volume.attachments)


def _named(stage: Stage, attachments: Sequence[CinderAttachment]) -> tuple[str, ...]:
    nova = stage.site.ground.nova
    server = nova.server(stage.server_id, stage.volume_id, timeout_seconds=TIMEOUT_SECONDS)
    by_id = {attachment.attachment_id: attachment.status for attachment in attachments}
    devices = server.block_devices if server else ()
    return tuple(sorted(by_id.get(str(device.attachment_id), "gone") for device in devices))
