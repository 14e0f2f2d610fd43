"""Situations of public reports that the rules were not written for, and the rule that decides each.

The number after ``nova`` or ``cinder`` is a bug's on Launchpad; ``cpo`` is the repository
kubernetes/cloud-provider-openstack, ``k8s`` kubernetes/kubernetes.
"""

from __future__ import annotations

import dataclasses

from drivers.base import Connection, Connector
from handlers.case import Trigger
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    DELETED,
    DETACH,
    LEFT,
    ONE_DELETED,
    UC1,
    UC3,
    UC4,
    UC5,
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
    server,
)

ON_SOURCE = LEFT.but(
    servers=(server(X, B, host=H1),), backend=(access(H1, sessions=1), access(H2)),
    computes=((H2, True),),
)  # fmt: skip
"""The server is on the source, and Nova names the destination's row."""
NEVER_RAN = server(X, "dead", vm_state="error", launched=False, host=None, compute_up=None)
GIVEN_UP = Picture(servers=(NEVER_RAN,), operation=DETACH).but(end_seen=True)
"""A boot from a volume that exists was given up: Nova gave the volume back."""
IN_ERROR = DELETED.but(attachments=(attachment(A, "error_detaching", host=H1),))
LOSER = ATTACHED.but(
    attachments=(attachment(A, "reserved", Y), attachment(B, host=H1)),
    servers=(server(X, B),),
    gone=(Y,),
    instance_id=Y,
    host=None,
)
"""Cinder gave a volume for one server to two of them; the one without it was deleted."""
FC = Connection("iqn.2026-01.test:compute-1", sessions=None)
"""What an array of Fibre Channel shows of a host: its access, and no session."""


class Cloned(Picture):
    """A cloud whose computes were cloned with one initiator name."""

    def _connector(self, host: str) -> Connector:
        return dataclasses.replace(super()._connector(host), initiator="iqn.of-the-image")


def cloned(picture: Picture, sessions: int = 0) -> Picture:
    """Return the picture in such a cloud, where all connections are one."""
    fields = {f.name: getattr(picture, f.name) for f in dataclasses.fields(Picture)}
    return Cloned(**fields | {"backend": (Connection("iqn.of-the-image", sessions=sessions),)})


STRANGERS: tuple[tuple[str, Picture, str], ...] = (
    # -- Nova names the destination's row, and the guest is on the source
    (
        "the source's compute was restarted in a live migration, seen from the source's row",
        ON_SOURCE,
        "P2.names-the-wrong-row",
    ),
    ("the same, and nobody can see the backend", ON_SOURCE.but(backend=BLIND),
     "P2.names-the-wrong-row"),
    ("the same, and no message says which row", ON_SOURCE.but(attachment_id=None, host=None),
     "P2.names-the-wrong-row"),
    (
        "a post-copy migration failed: the server is in error, and both hosts are in session",
        ON_SOURCE.but(
            servers=(server(X, B, host=H1, vm_state="error"),),
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "P15.two-writers",
    ),
    # -- a server was deleted without its guest, and the row is not called attached
    (
        "a detach failed, then the server was deleted, and its host is let in (cinder, os-detach)",
        IN_ERROR.but(backend=(access(H1),)),
        "P5.server-deleted",
    ),
    ("the same, and the volume is detaching",
     IN_ERROR.but(status="detaching", backend=(access(H1),)), "P5.server-deleted"),
    ("the same, and nobody can see the backend", IN_ERROR.but(backend=BLIND),
     "P5.server-deleted"),
    ("the same, and Nova says that it ended the guest there",
     IN_ERROR.but(backend=BLIND, ended=((X, H1),)), "UC3.failed-detach"),
    ("the same, and nobody is let in", IN_ERROR, "UC3.failed-detach"),
    (
        "a server was deleted in its attach, and the array does not show who is in session",
        UC1.but(servers=(), gone=(X,), backend=(FC,)),
        "P5.server-deleted",
    ),
    # -- a person reset the status alone, and others may get the volume
    *(
        (f"reset to available, the row is {status}, and {words}", UC5.but(
            attachments=(attachment(A, status),), **change), "P27.let-in-beside-a-row")
        for status in ("reserved", "attaching", "attached")
        for words, change in (
            ("its host is let in", {"backend": (access(H1),)}),
            ("the array does not show who is in session", {"backend": (FC,)}),
            ("nobody can see the backend", {"backend": BLIND}),
        )
    ),
    (
        "a detach failed, the volume is free, and its server was deleted since",
        IN_ERROR.but(status="available", backend=(access(H1),)),
        "P27.let-in-beside-a-row",
    ),
    (
        "an attached row was reset, and its server is deleted: its host is let in",
        IN_ERROR.but(
            status="available", attachments=(attachment(A, host=H1),), backend=(access(H1),)
        ),
        "P27.let-in-beside-a-row",
    ),
    # -- a boot from a volume was given up
    ("a boot from a volume was given up, nova 1899649", GIVEN_UP, "P6.guest-holds"),
    ("the same, and nobody can see the backend", GIVEN_UP.but(backend=BLIND), "P6.guest-holds"),
    (
        "the same, and another server has got the volume since",
        GIVEN_UP.but(
            status="in-use", attachments=(attachment(B, instance_id=Y, host=H2),),
            servers=(NEVER_RAN, server(Y, B, host=H2)), backend=(access(H2, sessions=1),),
        ),
        "P6.guest-holds",
    ),
    ("the same, and its host is still let in", GIVEN_UP.but(backend=(access(H1, sessions=1),)),
     "P6.guest-holds"),
    (
        "the same, and a row that was reserved was dropped by hand, which nobody can see",
        GIVEN_UP.but(backend=BLIND, trigger=Trigger.RESET),
        "P6.guest-holds",
    ),
    *(
        (f"the same, but {words}", GIVEN_UP.but(
            backend=BLIND, servers=(dataclasses.replace(NEVER_RAN, **change),)), rule)
        for words, change, rule in (
            ("the server ran", {"launched": True}, "P6.guest-holds"),
            ("the server is on a host", {"host": H1, "compute_up": True}, "P6.guest-holds"),
            ("it is being built again", {"task_state": "scheduling"}, "B2.server-busy"),
        )
    ),
    # -- Cinder is at work
    (
        "an available volume is migrated with its lock: it is in maintenance meanwhile",
        UC5.but(status="maintenance", migration="migrating"),
        "B1.volume-busy",
    ),
    ("the same, and the migration is over", UC3.but(status="maintenance", migration="error"),
     "P1.volume-error"),
    (
        "a rebuild wrote the image to the volume and did not end, cinder 2036994",
        UC1.but(status="downloading", servers=(server(X, A, vm_state="error"),)),
        "B1.volume-busy",
    ),
    # -- records that do not fit
    (
        "a rebuild from a volume failed: the server is in error, its new row is reserved",
        Picture(status="reserved", attachments=(attachment(A, "reserved"),),
                servers=(server(X, A, vm_state="error"),)),
        "P12.no-guest-to-ask",
    ),
    ("two block devices of one server, of which one names no row, nova 1937375",
     ATTACHED.but(servers=(server(X, A, None),)), "P6.guest-holds"),
    (
        "after a detach a second row of the server stays reserved, cpo 2553",
        Picture(status="reserved", attachments=(attachment(B, "reserved"),), operation=DETACH),
        "B8.other-unexplained",
    ),
    (
        "the same, and the case is about that one, found by the sweep",
        Picture(status="reserved", attachments=(attachment(A, "reserved"),), host=None),
        "UC1.unfinished",
    ),
    (
        "an old server's reap detached the volume that another one of its host has, nova 1756507",
        ATTACHED.but(
            attachments=(attachment(B, instance_id=Y, host=H1),), servers=(server(Y, B),),
            gone=(X,), backend=(), operation=Operation.DETACH,
        ),
        "P8.access-lost",
    ),
    # -- the loser of a race is deleted, its row stays beside the winner's
    ("two servers reserved the volume at once, and the one without it was deleted", LOSER,
     "S1.stray-row"),
    ("the same, and nobody can see the backend", LOSER.but(
        attachments=(attachment(A, "attaching", Y, host=H2), attachment(B, host=H1)),
        backend=BLIND, host=H2), "P5.server-deleted"),
    ("the same, and its guest runs on", LOSER.but(
        attachments=(attachment(A, "attaching", Y, host=H2), attachment(B, host=H1)),
        backend=(access(H1, sessions=1), access(H2, sessions=1)), host=H2), "P15.two-writers"),
    ("this Nova never had it", LOSER.but(gone=(), stranger=(Y,)), "X2.nova-unknown"),
    (
        "a detach is on record, and a second row of the same server is on the same host",
        UC4.but(attachments=(attachment(A, host=H1), attachment(B, host=H1))),
        "P10.whose-wish",
    ),
    # -- two computes with one initiator name
    (
        "cloned computes: the access of a leak is that of another server's host too",
        cloned(ATTACHED.but(
            multiattach=True, attachments=(attachment(B, instance_id=Y, host=H2),),
            servers=(server(X), server(Y, B, host=H2)),
        ), 1),
        "C1.nothing-left",
    ),
    ("cloned computes: one of two servers is deleted, k8s nodes made from one image",
     cloned(ONE_DELETED), "P24.deleted-on-a-shared-host"),
    ("cloned computes: the source's row outlived a live migration", cloned(LEFT, 1),
     "P36.second-row"),
)  # fmt: skip
