"""What Nova's own code and an operator's hands leave, which no rule was written for: seen, unseen.

Each situation stands with the rule where the backend is seen and where it is not, and with what
detachd may do in mode *auto* where the operator trusts a driver that cannot see. Functions are
those of nova/compute/manager.py and api.py, or of cinder/volume/api.py, where no file is named.
"""

from __future__ import annotations

import dataclasses

from drivers.base import Connection
from drivers.control_plane import Swap
from handlers.case import Trigger
from handlers.judgement.evidence import Fact
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    DETACH,
    LEFT,
    MIGRATING,
    RESIZED,
    SHELVED,
    UC1,
    UC3,
    UC4,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    holding,
    server,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Stranger:
    """A situation, the rule where it is seen and where not, and the steps that trust permits."""

    words: str
    picture: Picture
    seen: str
    blind: str
    acts: bool = False
    """Whether detachd may act where it is blind, is trusted and in mode *auto*."""
    unasked: bool = False
    """Whether Nova is not asked of a host where it is not seen to be let in."""


def unseen(stranger: Stranger) -> Picture:
    """Return the situation where the backend cannot be seen."""
    elsewhere = () if stranger.unasked else stranger.picture.elsewhere
    return stranger.picture.but(backend=BLIND, elsewhere=elsewhere)


C = "attachment-c"
RESERVED_A, RESERVED_B = attachment(A, "reserved"), attachment(B, "reserved")
ATTACHING_B = attachment(B, "attaching", host=H2)
FC = Connection("iqn.2026-01.test:compute-1", sessions=None)

# -- live migration --------------------------------------------------------------------------------
RESET_MIDWAY = MIGRATING.but(
    attachments=(attachment(A, host=H1), attachment(B, host=H2)), servers=(server(X, B),),
    attachment_id=B, computes=((H2, True),),
)  # fmt: skip
"""`nova reset-state --active` in the midst of it: no task shows, Nova names the destination's."""
OF_LIVE_MIGRATION = (
    Stranger(
        "`nova reset-state` in the midst of a live migration, before the guest moves",
        RESET_MIDWAY,
        "P2.names-the-wrong-row",
        "P2.names-the-wrong-row",
    ),
    Stranger(
        "the same, and both hosts are in session",
        RESET_MIDWAY.but(backend=(access(H1, sessions=1), access(H2, sessions=1))),
        "P15.two-writers",
        "P2.names-the-wrong-row",
    ),
    Stranger(
        "the same, and the destination's row is not completed yet",
        RESET_MIDWAY.but(status="attaching", attachments=(attachment(A, host=H1), ATTACHING_B)),
        "P2.names-the-wrong-row",
        "P2.names-the-wrong-row",
    ),
    Stranger(
        "pre_live_migration died before it saved its row, and the server was reset",
        RESET_MIDWAY.but(
            status="attaching",
            attachments=(attachment(A, host=H1), ATTACHING_B),
            servers=(server(X, A),),
            backend=(access(H1, sessions=1),),
        ),
        "S1.stray-row",
        "S1.stray-row",
        acts=True,
    ),
    Stranger(
        "a rollback could not delete the destination's row (_rollback_volume_bdms)",
        RESET_MIDWAY.but(servers=(server(X, B, host=H1),)),
        "P2.names-the-wrong-row",
        "P2.names-the-wrong-row",
    ),
    Stranger(
        "the destination failed after the guest moved, and the server is in error there",
        LEFT.but(servers=(server(X, B, host=H2, vm_state="error"),)),
        "S2.left-on-source",
        "S2.left-on-source",
        acts=True,
    ),
    Stranger(
        "the same, and the source's compute is down",
        LEFT.but(servers=(server(X, B, host=H2, vm_state="error"),), computes=((H1, False),)),
        "B7.source-down",
        "B7.source-down",
    ),
    Stranger(
        "an evacuation while a migration had left a row on the dead source",
        LEFT.but(computes=((H1, False),), backend=(access(H1, sessions=1), access(H2, sessions=1))),
        "B7.source-down",
        "B7.source-down",
    ),
    Stranger(
        "the source of an evacuation is back, and Nova has not ended its guest yet",
        LEFT.but(
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
            elsewhere=(holding(X, host=H1),),
        ),
        "P15.two-writers",
        "P20.another-user",
    ),
)

# -- cold migration, resize, revert ----------------------------------------------------------------
HALF_RESIZED = Picture(
    status="in-use",
    attachments=(attachment(A, host=H1), RESERVED_B),
    servers=(server(X, A, vm_state="error", powered_off=True),),
    backend=(access(H1),),
    operation=DETACH,
)
"""_terminate_volume_connections: the new row is made, and the delete of the old one failed."""
LOST_BETWEEN = Picture(
    status="reserved",
    attachments=(RESERVED_B,),
    servers=(server(X, A, vm_state="error"),),
    operation=DETACH,
)
"""The same died after the delete, before the block device was saved."""
AT_DESTINATION = Picture(
    status="attaching",
    attachments=(attachment(A, "attaching", host=H2),),
    servers=(server(X, A, vm_state="error", host=H2),),
    backend=(access(H2),),
    host=H2,
)
"""_finish_resize: the destination was let in, and could not make the guest."""
DETACHED_WHILE_RESIZED = Picture(
    status="reserved",
    attachments=(RESERVED_A,),
    servers=(server(X, vm_state="resized", host=H2),),
    host=None,
)
"""A volume was detached after a resize to another cell: the source's cell keeps a row for it."""
OF_RESIZE = (
    Stranger(
        "a resize: the old row could not be deleted, seen from it",
        HALF_RESIZED,
        "P9.unfinished-sibling",
        "P9.unfinished-sibling",
    ),
    Stranger(
        "the same, seen from the new row",
        HALF_RESIZED.but(attachment_id=B, operation=Operation.ATTACH, host=None),
        "S1.stray-row",
        "S1.stray-row",
        acts=False,
    ),
    Stranger(
        "a resize died between the delete of a row and its own record",
        LOST_BETWEEN,
        "P22.record-alone",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and a host is let in",
        LOST_BETWEEN.but(backend=(access(H1),)),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "a resize failed at the destination",
        AT_DESTINATION,
        "P12.no-guest-to-ask",
        "P12.no-guest-to-ask",
    ),
    Stranger(
        "the same, and a person reset the server to active",
        AT_DESTINATION.but(servers=(server(X, A, host=H2),)),
        "UC2.attached",
        "UC2.attached",
        acts=True,
    ),
    Stranger(
        "a volume was detached while resized to another cell",
        DETACHED_WHILE_RESIZED,
        "UC1.unfinished",
        "UC1.unfinished",
        acts=True,
    ),
    Stranger(
        "a resize to another cell, reset by hand, still goes on",
        RESIZED.but(servers=(server(X, B, host=H2),)),
        "S1.stray-row",
        "S1.stray-row",
    ),
    Stranger(
        "a resize to another cell waits, and a third row is being made",
        RESIZED.but(
            attachments=(*RESIZED.attachments, attachment(C, "attaching", Y)),
            servers=(*RESIZED.servers, server(Y)),
            multiattach=True,
        ),
        "B8.other-unexplained",
        "B8.other-unexplained",
    ),
)

# -- boot, reschedule, rebuild, evacuate -----------------------------------------------------------
RESCHEDULED = Picture(
    status="reserved",
    attachments=(RESERVED_A,),
    host=None,
    servers=(server(X, "dead", vm_state="error", host=None, launched=False, compute_up=None),),
)
"""The conductor made a row for the next host, and died before it saved it."""
OF_BUILDING = (
    Stranger(
        "a build was sent to another host, and the conductor died (nova/conductor/manager.py)",
        RESCHEDULED,
        "P22.record-alone",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and the first host is still let in",
        RESCHEDULED.but(backend=(access(H1),)),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, while it is built",
        RESCHEDULED.but(
            servers=(
                server(
                    X,
                    "dead",
                    vm_state="building",
                    task_state="scheduling",
                    host=None,
                    launched=False,
                ),
            )
        ),
        "B2.server-busy",
        "B2.server-busy",
    ),
    Stranger(
        "a server that failed in its build was deleted before it had a host",
        RESCHEDULED.but(servers=(), gone=(X,), never_built=(X,), starts=0),
        "UC1.unfinished",
        "UC1.unfinished",
        acts=True,
    ),
    Stranger(
        "the same, but a compute had it",
        RESCHEDULED.but(servers=(), gone=(X,)),
        "UC1.unfinished",
        "UC1.unfinished",
    ),
    Stranger(
        "nova-api died after it made a row, before its own record of it",
        RESCHEDULED.but(servers=(server(X, None),)),
        "P22.record-alone",
        "P6.guest-holds",
    ),
    Stranger(
        "the cast of an attach was lost",
        RESCHEDULED.but(servers=(server(X, A),)),
        "P13.broke-off",
        "P13.broke-off",
    ),
    Stranger(
        "an evacuated server runs twice, of which each has its own session",
        ATTACHED.but(
            attachments=(attachment(A, host=H2),),
            servers=(server(X, A, host=H2),),
            host=H2,
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "P15.two-writers",
        "H2.attached",
    ),
    Stranger(
        "the same on an array that does not show sessions",
        ATTACHED.but(
            attachments=(attachment(A, host=H2),),
            servers=(server(X, A, host=H2),),
            host=H2,
            backend=(FC, access(H2, sessions=1)),
            elsewhere=(holding(X, host=H1),),
        ),
        "P20.another-user",
        "H2.attached",
        unasked=True,
    ),
)

# -- refresh, shelve, swap, reboot -----------------------------------------------------------------
REFRESHED = Picture(
    status="reserved",
    attachments=(RESERVED_A,),
    servers=(server(X, A, vm_state="stopped"),),
    host=None,
)
"""`nova-manage volume_attachment refresh` failed: it makes a bare row anew."""
MIDWAY = REFRESHED.but(
    status="attaching", attachments=(attachment(A, "attaching", host=H1),), backend=(access(H1),)
)
LET_GO = UC3.but(
    status="in-use",
    attachments=(attachment(A, info=False),),
    host=None,
    servers=(server(X, vm_state="shelved_offloaded", host=None, compute_up=None),),
)
"""_detach_volume_shelved_offloaded asks for no begin_detaching, and swallows Cinder's refusal."""
OF_OTHERS = (
    Stranger(
        "a refresh of a stopped server's attachment failed",
        REFRESHED,
        "P13.broke-off",
        "P13.broke-off",
    ),
    Stranger(
        "the same died before it told Cinder that it is complete",
        MIDWAY,
        "UC2.attached",
        "UC2.attached",
        acts=True,
    ),
    Stranger(
        "the same died before it saved its row",
        MIDWAY.but(servers=(server(X, "gone", vm_state="stopped"),)),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "a shelved server got a volume: attached, and on no host",
        SHELVED.but(status="in-use", attachments=(attachment(A, info=False),), host=None),
        "H1.shelved",
        "H1.shelved",
    ),
    Stranger(
        "it is detached from it, and Cinder refused the last call",
        LET_GO,
        "UC3.let-go-in-use",
        "P23.no-device",
    ),
    Stranger(
        "the same, and nobody told of the detach",
        LET_GO.but(operation=Operation.ATTACH),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "the same, and its end was heard",
        LET_GO.but(end_seen=True),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "the same, and a host is let in",
        LET_GO.but(backend=(access(H1),), host=H1),
        "P17.unexplained",
        "P23.no-device",
    ),
    Stranger(
        "the same, and of a server that runs",
        LET_GO.but(attachments=(attachment(A, host=H1),), servers=(server(X),), host=H1),
        "UC3.let-go-in-use",
        "P23.no-device",
    ),
    Stranger(
        "the same, and the server is just being moved",
        LET_GO.but(servers=(server(X, task_state="resize_migrating"),)),
        "B2.server-busy",
        "B2.server-busy",
    ),
    Stranger(
        "the same, beside another server's",
        LET_GO.but(
            multiattach=True,
            attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H2)),
            servers=(server(X), server(Y, B, host=H2)),
            backend=(access(H2, sessions=1),),
            host=H1,
        ),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "a volume is being swapped: the old one is detaching",
        UC4.but(swapping=Fact(Swap.UNDER_WAY)),
        "B2.server-busy",
        "B2.server-busy",
    ),
    Stranger(
        "the swap failed, and Cinder did not take the wish back",
        UC4.but(swapping=Fact(Swap.FAILED)),
        "P32.swap-failed",
        "P32.swap-failed",
    ),
    Stranger(
        "the same, found by a sweep",
        UC4.but(swapping=Fact(Swap.FAILED), starts=0),
        "P32.swap-failed",
        "P32.swap-failed",
    ),
    Stranger(
        "a swap failed, and Nova told of this detach",
        UC4.but(swapping=Fact(Swap.FAILED), nova_started=True),
        "UC4.wish-on-record",
        "UC4.wish-on-record",
        acts=True,
    ),
    Stranger(
        "a swap failed, and Nova has let go of this volume",
        UC3.but(swapping=Fact(Swap.FAILED)),
        "UC3.released-in-nova",
        "UC3.released-in-nova",
        acts=True,
    ),
    Stranger(
        "a swap failed: its new volume's row is left",
        UC1.but(swapping=Fact(Swap.FAILED)),
        "UC1.unfinished",
        "P33.swapped-unseen",
    ),
    Stranger(
        "the same, and the guest had moved to it",
        UC1.but(swapping=Fact(Swap.FAILED), backend=(access(H1, sessions=1),)),
        "UC1.unfinished",
        "P33.swapped-unseen",
    ),
    Stranger(
        "a swap failed, and Nova told of this attach",
        UC1.but(swapping=Fact(Swap.FAILED), nova_started=True),
        "UC1.unfinished",
        "UC1.unfinished",
        acts=True,
    ),
    Stranger(
        "the new volume of a swap: the guest is on it, and the compute died before its record",
        ATTACHED.but(servers=(server(X),)),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "a hard reboot dropped the block device whose row a person had dropped",
        UC3.but(status="available", attachments=()),
        "C1.nothing-left",
        "C2.nothing-left-blind",
    ),
)

# -- an operator beside us -------------------------------------------------------------------------
FORCED = ATTACHED.but(status="available", attachments=())
"""os-force_detach by hand, without Nova: it drops the row and the connection."""
DROPPED = FORCED.but(trigger=Trigger.RESET)
BY_HAND = (
    Stranger(
        "os-force_detach by hand of what a guest uses, and its session is left",
        FORCED,
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and nobody is let in any more",
        FORCED.but(backend=()),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "reset-state --attach-status detached alone: in-use without a row",
        FORCED.but(status="in-use", trigger=Trigger.RESET),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the same of a volume that nobody has",
        DROPPED.but(status="in-use", servers=(server(X),), backend=()),
        "P30.status-without-a-row",
        "P30.status-without-a-row",
    ),
    Stranger(
        "reset-state --state attaching of what is attached",
        ATTACHED.but(status="attaching", trigger=Trigger.RESET),
        "P14.status-alone",
        "P14.status-alone",
    ),
    Stranger(
        "reset-state --state error of what is stuck",
        UC1.but(status="error"),
        "P1.volume-error",
        "P1.volume-error",
    ),
    Stranger(
        "os-terminate_connection by hand of what a guest uses",
        ATTACHED.but(backend=()),
        "P8.access-lost",
        "H2.attached",
    ),
    Stranger(
        "os-roll_detaching by hand after the guest let go",
        UC3.but(status="in-use", attachments=(attachment(A, host=H1),)),
        "UC3.let-go-in-use",
        "P23.no-device",
    ),
    Stranger(
        "the same, and its host is still let in",
        UC3.but(status="in-use", attachments=(attachment(A, host=H1),), backend=(access(H1),)),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "attachment-complete by hand of an attach that never came to the guest",
        UC1.but(status="in-use", attachments=(attachment(A, host=H1),)),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "attachment-create by hand on a host that is no compute",
        UC1.but(
            attachments=(attachment(A, "attaching", host=H3),),
            host=H3,
            backend=(access(H3),),
            elsewhere=(holding(host=H3, up=None),),
        ),
        "UC1.unfinished",
        "UC1.unfinished",
    ),
    Stranger(
        "attachment-delete by hand of what a guest uses",
        FORCED.but(operation=DETACH).but(end_seen=True),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the access of a stuck attach was removed on the array",
        UC1.but(backend=()),
        "UC1.unfinished",
        "UC1.unfinished",
        acts=True,
    ),
    Stranger(
        "a host was let in on the array beside an attachment",
        ATTACHED.but(backend=(access(H1, sessions=1), access(H3))),
        "P17.unexplained",
        "H2.attached",
    ),
    Stranger(
        "the status was reset while Cinder migrates the volume",
        UC1.but(migration="migrating"),
        "B1.volume-busy",
        "B1.volume-busy",
    ),
    Stranger(
        "the volume was retyped, and its other copy is a target",
        UC1.but(migration="target:volume-2"),
        "B1.volume-busy",
        "B1.volume-busy",
    ),
    Stranger(
        "its server was force-deleted, and no compute ended the guest",
        UC3.but(
            status="in-use",
            attachments=(attachment(A, host=H1),),
            servers=(),
            gone=(X,),
            backend=(access(H1, sessions=1),),
        ),
        "P5.server-deleted",
        "P5.server-deleted",
    ),
    Stranger(
        "a soft-deleted server was reclaimed and ended there, Cinder was down",
        UC3.but(
            status="in-use",
            attachments=(attachment(A, host=H1),),
            servers=(),
            gone=(X,),
            ended=((X, H1),),
            backend=(access(H1),),
        ),
        "S3.deleted-with-server",
        "S3.deleted-with-server",
        acts=True,
    ),
    Stranger(
        "a soft-deleted server was restored before that", ATTACHED, "H2.attached", "H2.attached"
    ),
    Stranger(
        "a server is in error, and its detach came to nothing",
        UC4.but(servers=(server(X, A, vm_state="error"),)),
        "P12.no-guest-to-ask",
        "P12.no-guest-to-ask",
    ),
)

STRANGERS_OF_HANDS: tuple[Stranger, ...] = (
    *OF_LIVE_MIGRATION, *OF_RESIZE, *OF_BUILDING, *OF_OTHERS, *BY_HAND,
)  # fmt: skip
