"""More situations of public reports that the rules were not written for, and what decides each.

Each kind that came out wrong stands beside the strangers that look the same and must not come out
the same. The number after ``nova`` or ``cinder`` is a bug's on Launchpad; a path is that of a file
of Cinder or Nova that was read.
"""

from __future__ import annotations

from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    DETACH,
    GHOST,
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
    # -- the wish of which nobody says whose it is
    (
        "one of two servers is deleted while a detach is on record",
        ONE_DELETED.but(status="detaching"),
        "P10.whose-wish",
    ),
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
     "P0.not-understood"),
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

LATER_STRANGERS = (*OF_CINDER, *BESIDE_OTHERS, *OF_STATUS)
