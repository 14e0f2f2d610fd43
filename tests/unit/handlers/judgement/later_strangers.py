"""More situations of public reports that the rules were not written for, and what decides each.

Each kind that came out wrong stands beside the strangers that look the same and must not come out
the same. The number after ``nova`` or ``cinder`` is a bug's on Launchpad; a path is that of a file
of Cinder or Nova that was read.
"""

from __future__ import annotations

from drivers.base import Connection
from drivers.control_plane import Swap
from handlers.judgement.evidence import Fact
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    DETACH,
    GHOST,
    LEFT,
    ONE_DELETED,
    SHELVED,
    UC1,
    UC2,
    UC4,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    UNSEEN,
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

C, Z = "attachment-c", "instance-z"

SNAPSHOT = "0d39f1b7-4f1c-4a63-8b1e-6a1f5ff8a1c2"
REVERTED = f"[revert] temporary volume created from snapshot {SNAPSHOT}"
COPIED = GHOST.but(display_name=REVERTED)
"""Cinder copies a snapshot back through a host of its own, which is a compute too."""

OF_CINDER: tuple[tuple[str, Picture, str], ...] = (
    (
        "a snapshot is copied back through a compute host, cinder/volume/manager.py",
        COPIED,
        "B1.volume-busy",
    ),
    ("the same, and the copy's session is open", COPIED.but(backend=(access(H1, sessions=1),)),
     "B1.volume-busy"),
    ("a user's volume with a name that begins alike", COPIED.but(display_name="[revert] mine"),
     "UC5.ghost"),
    (
        "a server has got a volume of that name", ATTACHED.but(display_name=REVERTED),
        "H2.attached",
    ),
    (
        "the same name, and a server may be using it there",
        COPIED.but(holding=holding("instance-y")),
        "B1.volume-busy",
    ),
)  # fmt: skip

OFFLOADED = server(Z, C, vm_state="shelved_offloaded", host=None, compute_up=None)
RESERVED = attachment(C, "reserved", Z)
"""What brings the volume back to a third server, which is shelved and offloaded."""
STRAY_BESIDE = Picture(
    status="attaching",
    multiattach=True,
    attachments=(attachment(A, "attaching"), attachment(B, instance_id=Y, host=H2), RESERVED),
    servers=(server(X), server(Y, B, host=H2), OFFLOADED),
    backend=(access(H1), access(H2, sessions=1)),
)
STRAY_ALONE = STRAY_BESIDE.but(
    attachments=(attachment(A, "attaching"), RESERVED), servers=(server(X), OFFLOADED),
    backend=(access(H1),),
)  # fmt: skip
BOTH_DELETED = ONE_DELETED.but(gone=(X, Y), servers=(), ended=(), backend=())
BOTH_ENDED = BOTH_DELETED.but(ended=((X, H1), (Y, H2)), backend=(access(H1), access(H2)))
ON_ONE_HOST = BOTH_DELETED.but(
    attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1))
)
MEANWHILE = SHELVED.but(
    multiattach=True,
    status="attaching",
    attachments=(attachment(A, "reserved"), attachment(B, "attaching", Y, host=H2)),
    servers=(*SHELVED.servers, server(Y, B, host=H2)),
    backend=(access(H2),),
)
"""The volume is reserved for a shelved server, and another one is just getting it."""

BESIDE_OTHERS: tuple[tuple[str, Picture, str], ...] = (
    # -- a third server is shelved: its reservation is as right as an attachment
    ("a second server's attach failed, a third one is shelved", STRAY_BESIDE, "S1.stray-row"),
    ("an attach failed, and the only other server is shelved", STRAY_ALONE, "S1.stray-row"),
    (
        "the same, but the other server was unshelved and is active",
        STRAY_ALONE.but(servers=(server(X), server(Z, C))),
        "P0.not-understood",
    ),
    (
        "the same, but nothing of the shelved server names its row",
        STRAY_ALONE.but(servers=(server(X), server(Z, vm_state="shelved_offloaded", host=None))),
        "P0.not-understood",
    ),
    (
        "one of three servers is deleted, one is right, one is shelved",
        ONE_DELETED.but(
            attachments=(*ONE_DELETED.attachments, RESERVED),
            servers=(*ONE_DELETED.servers, OFFLOADED),
        ),
        "S4.deleted-beside-others",
    ),
    *(
        (f"a volume is reserved for a shelved server, and another one {words}, seen from {case}",
         MEANWHILE.but(operation=operation, **change), "B3.other-attachment")
        for case, operation in (("its detach", DETACH), ("its attach", Operation.ATTACH))
        for words, change in (
            ("is getting it", {}),
            ("is getting it, unseen", {"backend": BLIND}),
            ("is giving it back", {
                "status": "detaching",
                "attachments": (attachment(A, "reserved"), attachment(B, "attached", Y, host=H2)),
            }),
        )
    ),
    (
        "an unshelving broke off, and another server is getting the volume",
        MEANWHILE.but(servers=(
            server(X, A, vm_state="error", host=None), server(Y, B, host=H2))),
        "P12.no-guest-to-ask",
    ),
    # -- all servers of a volume are deleted, and every row is left
    ("two servers are deleted while Cinder is down, and nobody is let in", BOTH_DELETED,
     "S4.deleted-beside-others"),
    ("the same, and both guests are known to have ended", BOTH_ENDED,
     "S4.deleted-beside-others"),
    ("the same, and nobody can see the backend", BOTH_ENDED.but(backend=BLIND),
     "S4.deleted-beside-others"),
    ("the same, of two servers of one host", ON_ONE_HOST, "S4.deleted-beside-others"),
    (
        "the same, and both guests are known to have ended there",
        ON_ONE_HOST.but(ended=((X, H1), (Y, H1)), backend=(access(H1),)),
        "S4.deleted-beside-others",
    ),
    (
        "of two deleted servers of one host only this one's guest is known to have ended",
        ON_ONE_HOST.but(ended=((X, H1),), backend=(access(H1),)),
        "P24.deleted-on-a-shared-host",
    ),
    ("of two deleted servers nothing shows that the guests ended",
     BOTH_DELETED.but(backend=BLIND), "P5.server-deleted"),
    (
        "of two deleted servers the other one's guest may be running",
        BOTH_ENDED.but(ended=((X, H1),)), "P0.not-understood",
    ),
    (
        "the other one's guest is in session",
        BOTH_ENDED.but(ended=((X, H1),), backend=(access(H1), access(H2, sessions=1))),
        "P0.not-understood",
    ),
    (
        "of two deleted servers this Nova never had one", BOTH_DELETED.but(gone=(X,),
        stranger=(Y,)), "X2.nova-unknown",
    ),
    (
        "the row of the other one is of the old way, which does not follow its server",
        BOTH_DELETED.but(
            attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H2, info=False)),
            ended=((X, H1),), backend=(access(H1),),
        ),
        "P24.deleted-on-a-shared-host",
    ),
    *(
        (f"one of two servers of one host is deleted, nobody is let in, the other one is {words}",
         ON_ONE_HOST.but(gone=(X,), servers=(server(Y, B, **state),)), rule)
        for words, state, rule in (
            ("stopped", {"vm_state": "stopped"}, "S4.deleted-beside-others"),
            ("switched off", {"powered_off": True}, "S4.deleted-beside-others"),
            ("running", {}, "P8.access-lost"),
            ("being started", {"vm_state": "stopped", "task_state": "powering-on"},
             "B2.server-busy"),
        )
    ),
    # -- the wish of which nobody says whose it is
    (
        "one of two servers is deleted while a detach is on record",
        ONE_DELETED.but(status="detaching"),
        "P10.whose-wish",
    ),
    (
        "a server is detached that was migrated, and the source's row is left",
        LEFT.but(status="detaching"), "P10.whose-wish",
    ),
    ("the same, and the server names a row that is gone", LEFT.but(
        status="detaching", servers=(server(X, "gone", host=H2),)), "P6.guest-holds"),
    ("the same, and the server has let go of both", LEFT.but(
        status="detaching", servers=(server(X, host=H2),)), "P0.not-understood"),
    ("the same, and its host is let in no more",
     ONE_DELETED.but(status="detaching", backend=(access(H2, sessions=1),)), "P10.whose-wish"),
)  # fmt: skip

GIVEN_BACK = UC1.but(status="in-use")
"""An attach never finished, and somebody ended its connection through Cinder, or its reserve."""
NAMED_IN_USE = GIVEN_BACK.but(servers=(server(X, A),), backend=(access(H1, sessions=1),))
OF_STATUS: tuple[tuple[str, Picture, str], ...] = (
    # -- somebody else has dealt with it: os-terminate_connection, os-unreserve (cinder/volume/api)
    ("an operator ended the connection of a stuck attach by hand", GIVEN_BACK, "UC1.unfinished"),
    ("the same, and nobody is let in", GIVEN_BACK.but(backend=()), "UC1.unfinished"),
    ("the same, and the row was only reserved",
     GIVEN_BACK.but(attachments=(attachment(A, "reserved"),), backend=()), "UC1.unfinished"),
    ("a failed driver check left in-use and a row in error, cinder/volume/manager.py",
     GIVEN_BACK.but(attachments=(attachment(A, "error_attaching"),), backend=()),
     "UC1.unfinished"),
    (
        "a person says by hand that it is in use, and nobody can see the backend",
        GIVEN_BACK.but(backend=BLIND), "P0.not-understood",
    ),
    ("the same by hand, and Nova's block device names the row", NAMED_IN_USE,
     "P37.half-done"),
    ("the same, and its server is being built", GIVEN_BACK.but(servers=(
        server(X, vm_state="building", task_state="spawning", host=None),)), "B2.server-busy"),
    ("the same, and its server was deleted, and nobody can see the backend",
     GIVEN_BACK.but(servers=(), gone=(X,), backend=BLIND), "P5.server-deleted"),
    # -- servers that are off and keep their volumes: Nova attaches and detaches there as elsewhere
    *(
        (f"{words} of a server that is {state}", picture.but(servers=(
            server(X, A, vm_state=state),)), rule)
        for state in ("shelved", "soft-delete")
        for words, picture, rule in (
            ("Cinder was not told of the attach", UC2, "UC2.attached"),
            ("Cinder was not told of the attach, which nobody can see,", UC2.but(backend=BLIND),
             "UC2.attached"),
            ("an attach broke off before the backend was asked", UC2.but(backend=()),
             "P13.broke-off"),
            ("a detach came to nothing", UC4, "UC4.wish-on-record"),
            ("the volume is attached", ATTACHED, "H2.attached"),
        )
    ),
    (
        "an offloading broke off between two volumes",
        SHELVED.but(servers=(server(X, A, vm_state="shelved"),)),
        "P13.broke-off",
    ),
)  # fmt: skip

NO_ROW = Picture(status="reserved")
"""cinder-api died between its reserve and the row (cinder/volume/api.py _attachment_reserve)."""
NO_ROW_NOR_SERVER = NO_ROW.but(attachment_id=None, instance_id=None, servers=(), host=None)
"""The same, found by a sweep."""
WITHOUT_ROW: tuple[tuple[str, Picture, str], ...] = (
    ("a reserve whose row was never written", NO_ROW, "P30.status-without-a-row"),
    ("the same, found by a sweep", NO_ROW_NOR_SERVER, "P30.status-without-a-row"),
    ("the same, and nobody can see the backend", NO_ROW_NOR_SERVER.but(backend=BLIND),
     "P30.status-without-a-row"),
    ("the same, and its server is deleted", NO_ROW.but(servers=(), gone=(X,)),
     "P30.status-without-a-row"),
    (
        "a detach was rolled back after its row was gone: os-roll_detaching asks for none",
        NO_ROW.but(status="in-use", operation=DETACH), "P30.status-without-a-row",
    ),
    ("a host is let in beside it", NO_ROW.but(backend=(access(H1),)), "P17.unexplained"),
    ("a session is open beside it", NO_ROW.but(
        status="in-use", backend=(access(H1, sessions=1),)), "P17.unexplained"),
    ("a server still has a block device for it, of a row that is gone",
     NO_ROW.but(status="in-use", servers=(server(X, A),)), "P6.guest-holds"),
    ("Nova does not answer for its server", NO_ROW.but(servers=(), unseen=(X,)),
     "X2.nova-unknown"),
    ("the backend does not answer", NO_ROW.but(backend=UNSEEN), "X3.backend-unknown"),
    ("the attach has just begun, and its server is being built",
     NO_ROW.but(servers=(server(X, task_state="scheduling", host=None),)), "B2.server-busy"),
    (
        "a legacy client's reserve, of which the case knows the row that is gone",
        NO_ROW.but(status="attaching"), "B3.other-attachment",
    ),
)  # fmt: skip
FAILED_EVACUATION = Picture(
    status="reserved",
    attachments=(attachment(A, "reserved"),),
    servers=(server(X, A, vm_state="error", compute_up=False),),
    backend=(access(H1, sessions=1),),
    host=None,
)
"""Nova had exchanged the row for a new one when the rebuild failed; the old guest may run on."""
FAILED_REBUILD = Picture(
    status="in-use",
    attachments=(attachment(B, host=H1), attachment(A, "reserved")),
    servers=(server(X, B, vm_state="error"),),
    backend=(access(H1, sessions=1),),
    host=None,
)
"""A rebuild with a new image made a new row, and could not delete the old one."""
RENAMED = ATTACHED.but(attachments=(attachment(A, host="compute-1.example.org"),))
PORTS = tuple(Connection(f"50:01:43:80:12:34:56:{port}", sessions=None) for port in ("78", "7a"))
OF_MOVES: tuple[tuple[str, Picture, str], ...] = (
    ("an evacuation broke off after the exchange of rows, nova/compute/manager.py",
     FAILED_EVACUATION, "B4.compute-down"),
    ("the same, and the old host is back",
     FAILED_EVACUATION.but(servers=(server(X, A, vm_state="error"),)), "P12.no-guest-to-ask"),
    (
        "a cold migration failed at its end, and the source is still let in",
        FAILED_EVACUATION.but(
            servers=(server(X, A, vm_state="error", host=H2),), backend=(access(H1),)
        ),
        "P12.no-guest-to-ask",
    ),
    ("a rebuild with a new image left its new row beside the old one", FAILED_REBUILD,
     "S1.stray-row"),
    ("the same, seen from the old row",
     FAILED_REBUILD.but(attachment_id=B, operation=DETACH), "P9.unfinished-sibling"),
    ("the same, while it is under way", FAILED_REBUILD.but(servers=(
        server(X, B, task_state="rebuild_block_device_mapping"),)), "B2.server-busy"),
    ("the image could not be written: the volume is in error", Picture(
        status="error", attachments=(attachment(A, "reserved"),),
        servers=(server(X, A, vm_state="error"),)), "P1.volume-error"),
    ("the same, and a person reset the status", Picture(
        attachments=(attachment(A, "reserved"),),
        servers=(server(X, A, vm_state="error"),)), "P6.guest-holds"),
    ("a swap of volumes died: the new volume's row is left", Picture(
        status="reserved", attachments=(attachment(A, "reserved"),), host=None),
     "UC1.unfinished"),
    ("the same, and the swap may go on", Picture(
        status="reserved", attachments=(attachment(A, "reserved"),), host=None,
        swapping=Fact(Swap.UNDER_WAY)), "B2.server-busy"),
    ("a compute got another name, its rows have the old one", RENAMED, "H2.attached"),
    ("the same, and nobody can see the backend", RENAMED.but(backend=BLIND), "H2.attached"),
    ("two Fibre Channel ports of one host whose connector was never seen",
     ATTACHED.but(known=(), attachments=(attachment(A, host=H1),), backend=PORTS),
     "H2.attached"),
    ("a client that is no server made a row and never connected", Picture(
        status="reserved", attachments=(attachment(A, "reserved", None),), instance_id=None,
        servers=(), host=None), "P4.no-instance"),
    (
        "a live migration's source is left beside a third server's attachment",
        LEFT.but(
            multiattach=True,
            attachments=(*LEFT.attachments, attachment(C, instance_id=Z, host=H3)),
            servers=(*LEFT.servers, server(Z, C, host=H3)),
            backend=(*LEFT.backend, access(H3, sessions=1)),
        ),
        "S2.left-on-source",
    ),
)  # fmt: skip

GIVEN_UP = ATTACHED.but(
    attachments=(attachment(B, host=H1),), servers=(server(X, B),), backend=BLIND, host=None,
    released_unasked=True,
)  # fmt: skip
"""Cinder's API deleted the destination's row while the backend was being asked."""
UNSEEN_LEAKS: tuple[tuple[str, Picture, str], ...] = (
    ("a destination's row was given up, and nobody can see the backend", GIVEN_UP,
     "P31.leak-unseen"),
    ("the same, and the backend is seen to let nobody else in",
     GIVEN_UP.but(backend=(access(H1, sessions=1),)), "C1.nothing-left"),
    ("the same, and the backend had never been asked", GIVEN_UP.but(starts=0),
     "C2.nothing-left-blind"),
    ("the same, and the migration still runs",
     GIVEN_UP.but(servers=(server(X, B, task_state="migrating"),)), "B2.server-busy"),
    ("the same, and no other attachment is left",
     GIVEN_UP.but(status="available", attachments=(), servers=(server(X),), host=H1),
     "UC5.leaked"),
)  # fmt: skip

SWITCHED_OFF = ATTACHED.but(servers=(server(X, A, powered_off=True),), backend=())
"""A guest shut itself down, so that nobody has the image open; Nova says active for a while."""
OF_POWER: tuple[tuple[str, Picture, str], ...] = (
    ("a guest has shut itself down, nova/compute/manager.py _sync_instance_power_state",
     SWITCHED_OFF, "H2.attached"),
    ("a server was off when it was resized, and waits to be confirmed",
     SWITCHED_OFF.but(servers=(server(X, A, vm_state="resized", powered_off=True),)),
     "H2.attached"),
    ("the same, and it was attached the old way",
     SWITCHED_OFF.but(servers=(server(X, None, powered_off=True),)),
     "H3.attached-the-old-way"),
    ("a guest that is paused", ATTACHED.but(servers=(server(X, A, vm_state="paused"),),
     backend=()), "P8.access-lost"),
    ("a guest that runs, beside one that is off", ATTACHED.but(
        multiattach=True, attachments=(attachment(A), attachment(B, instance_id=Y, host=H2)),
        servers=(server(X, A, powered_off=True), server(Y, B, host=H2)), backend=()),
     "P8.access-lost"),
    ("a guest that is off on one host, and another server's session",
     ATTACHED.but(servers=(server(X, A, powered_off=True),), backend=(
         access(H1), access(H2, sessions=1)), elsewhere=(holding(host=H2),)),
     "P15.two-writers"),
)  # fmt: skip

LATER_STRANGERS = (
    *OF_CINDER, *BESIDE_OTHERS, *OF_STATUS, *WITHOUT_ROW, *OF_MOVES, *UNSEEN_LEAKS, *OF_POWER,
)  # fmt: skip
