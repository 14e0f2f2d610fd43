"""What bug reports, commits and drivers tell of, and no rule was written for: seen and unseen.

As in ``strangers_of_hands``. The number after ``nova``, ``cinder`` or ``os-brick`` is a bug's on
Launchpad; a path is that of a file that was read.
"""

from __future__ import annotations

import dataclasses

from handlers.case import StepKind
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    DETACH,
    LEFT,
    ONE_LET_GO,
    UC1_LEGACY,
    UC2,
    UC3,
    UC4,
    UC5,
    WISH_NAMED,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    OPENED_AT,
    A,
    B,
    X,
    Y,
    access,
    attachment,
    holding,
    intent,
    server,
)
from tests.unit.handlers.judgement.strangers_of_hands import Stranger

C, Z = "attachment-c", "instance-z"

# -- rescue, and clients that only read ------------------------------------------------------------
RESCUED = ATTACHED.but(servers=(server(X, A, vm_state="rescued"),), backend=())
"""The guest runs from the disk for the rescue: on Ceph nobody has the volume's image open."""
READS = dataclasses.replace(attachment(A), read_only=True)
TWO_ROWS = (attachment(A, host=H1), attachment(B, instance_id=Y, host=H2))
OF_RESCUE = (
    Stranger(
        "a rescued server's volume has no client (nova/virt/libvirt/driver.py rescue)",
        RESCUED,
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and its host is let in",
        RESCUED.but(backend=(access(H1),)),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "a rescue that keeps the devices",
        RESCUED.but(backend=(access(H1, sessions=1),)),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "a rescued server's volume, and only a stranger is let in",
        RESCUED.but(backend=(access("stranger"),)),
        "P17.unexplained",
        "H2.attached",
    ),
    Stranger(
        "a rescued server beside one whose guest has lost the disk",
        RESCUED.but(
            multiattach=True,
            attachments=TWO_ROWS,
            servers=(*RESCUED.servers, server(Y, B, host=H2)),
        ),
        "P8.access-lost",
        "H2.attached",
    ),
    Stranger(
        "a rescued server's volume was reset to available",
        RESCUED.but(status="available", attachments=()),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "a detach was asked for before the rescue",
        UC4.but(servers=RESCUED.servers, backend=()),
        "P21.nova-refuses",
        "P21.nova-refuses",
    ),
    Stranger(
        "Cinder was not told of an attach before the rescue",
        UC2.but(servers=RESCUED.servers, backend=()),
        "P13.broke-off",
        "UC2.attached",
        acts=True,
    ),
    Stranger(
        "a guest that only reads has no watch on its image (qemu opens it read-only)",
        ATTACHED.but(attachments=(READS,), backend=()),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "a guest that reads beside one that writes and has lost the disk",
        ATTACHED.but(
            multiattach=True,
            attachments=(READS, TWO_ROWS[1]),
            servers=(server(X, A), server(Y, B, host=H2)),
            backend=(),
        ),
        "P8.access-lost",
        "H2.attached",
    ),
)

# -- hosts that are no compute of Nova's: bare metal (Ironic), vCenter -----------------------------
OF_METAL = ATTACHED.but(
    attachments=(attachment(A, host=H3),), backend=(access(H3, sessions=1),), host=H3
)
"""The row has the node, and the server the compute that speaks to Ironic."""
LET_GO_OF_METAL = UC3.but(attachments=(attachment(A, host=H3),), host=H3)
OF_METAL_HOSTS = (
    Stranger(
        "a server of bare metal has its volume (nova/virt/ironic/driver.py)",
        OF_METAL,
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and another compute speaks to Ironic now",
        OF_METAL.but(servers=(server(X, A, host=H2),)),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and the node is let in no more",
        OF_METAL.but(backend=()),
        "P8.access-lost",
        "H2.attached",
    ),
    Stranger(
        "the same, and the compute's own host is let in instead",
        OF_METAL.but(backend=(access(H1, sessions=1),)),
        "P8.access-lost",
        "H2.attached",
    ),
    Stranger(
        "a detach from bare metal came to nothing",
        OF_METAL.but(status="detaching", operation=DETACH),
        "UC4.wish-on-record",
        "UC4.wish-on-record",
        acts=True,
    ),
    Stranger(
        "Nova let go of the volume of bare metal, and the node is let in",
        LET_GO_OF_METAL.but(backend=(access(H3),), elsewhere=(holding(host=H3, up=None),)),
        "UC3.released-in-nova",
        "UC3.released-in-nova",
    ),
    Stranger(
        "a server of bare metal is deleted, and its node is let in",
        LET_GO_OF_METAL.but(
            status="in-use", servers=(), gone=(X,), ended=((X, H1),), backend=(access(H3),)
        ),
        "P5.server-deleted",
        "P5.server-deleted",
    ),
    Stranger(
        "a server of libvirt's left the host of its row, which alone is let in",
        ATTACHED.but(
            attachments=(attachment(A, host=H1),),
            servers=(server(X, A, host=H2),),
            computes=((H1, True),),
        ),
        "P8.access-lost",
        "H2.attached",
    ),
)

# -- up for transfer with what was left ------------------------------------------------------------
GIVEN = ATTACHED.but(status="awaiting-transfer")
"""The status was reset to available, and the volume offered to another project since."""
OF_TRANSFER = (
    Stranger(
        "what a guest uses is up for transfer (cinder/transfer/api.py asks for `available` alone)",
        GIVEN,
        "P19.given-away",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and its row was dropped",
        GIVEN.but(attachments=()),
        "P19.given-away",
        "P6.guest-holds",
    ),
    Stranger(
        "Nova let go of it, and the row is left",
        GIVEN.but(servers=(server(X),), backend=()),
        "P34.row-up-for-transfer",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the same, and its host is let in",
        GIVEN.but(servers=(server(X),), backend=(access(H1),)),
        "P19.given-away",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "its server is deleted, and the row is left",
        GIVEN.but(servers=(), gone=(X,), backend=()),
        "P34.row-up-for-transfer",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the row of another server is left",
        GIVEN.but(attachments=(TWO_ROWS[1],), servers=(server(X), server(Y, host=H2)), backend=()),
        "P34.row-up-for-transfer",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "only the error of an attach is left",
        GIVEN.but(
            attachments=(attachment(A, "error_attaching"),), servers=(server(X),), backend=()
        ),
        "P34.row-up-for-transfer",
        "P34.row-up-for-transfer",
    ),
    Stranger(
        "nothing is left of it",
        GIVEN.but(attachments=(), servers=(server(X),), backend=()),
        "C1.nothing-left",
        "C2.nothing-left-blind",
    ),
    Stranger(
        "reset to available, and the row of another server is left",
        GIVEN.but(
            status="available",
            attachments=(TWO_ROWS[1],),
            servers=(server(X), server(Y, host=H2)),
            backend=(access(H2),),
        ),
        "P27.let-in-beside-a-row",
        "P27.let-in-beside-a-row",
    ),
)

# -- another server is getting a multiattach volume, or is to get it back --------------------------
ANEW = ATTACHED.but(
    multiattach=True,
    status="reserved",
    attachments=(TWO_ROWS[0], attachment(B, "reserved", Y)),
    servers=(server(X, A), server(Y, B, host=H2)),
)
"""cinder/volume/api.py _attachment_reserve makes in-use reserved, until the row is connected."""
OFFLOADED = server(Z, C, vm_state="shelved_offloaded", host=None, compute_up=None)
KEPT = attachment(C, "reserved", Z)
DELETED_MEANWHILE = ANEW.but(
    servers=(server(Y, B, host=H2),),
    gone=(X,),
    ended=((X, H1),),
    backend=(access(H1),),
    operation=DETACH,
)
OF_SEVERAL = (
    Stranger(
        "a second server is getting the volume of one that has it",
        ANEW,
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, seen from a detach that the first one's guest refused",
        ANEW.but(operation=DETACH),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and a third one is shelved",
        ANEW.but(attachments=(*ANEW.attachments, KEPT), servers=(*ANEW.servers, OFFLOADED)),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and the first one's guest has lost the disk",
        ANEW.but(backend=()),
        "P8.access-lost",
        "H2.attached",
    ),
    Stranger(
        "the same, and Nova has not saved the second one's row yet",
        ANEW.but(servers=(server(X, A), server(Y, host=H2))),
        "B8.other-unexplained",
        "B8.other-unexplained",
    ),
    Stranger(
        "the same, seen from the second one, whose attach was lost",
        ANEW.but(attachment_id=B, instance_id=Y, host=None),
        "P13.broke-off",
        "P13.broke-off",
    ),
    Stranger(
        "a volume that is no multiattach is reserved by hand beside its only row",
        ANEW.but(multiattach=False, attachments=(TWO_ROWS[0],), servers=(server(X, A),)),
        "P14.status-alone",
        "P14.status-alone",
    ),
    Stranger(
        "the first server is deleted while a second one is getting the volume",
        DELETED_MEANWHILE,
        "B3.other-attachment",
        "B3.other-attachment",
    ),
    Stranger(
        "the same, and the second one has got it",
        DELETED_MEANWHILE.but(
            status="in-use", attachments=TWO_ROWS, backend=(access(H1), access(H2, sessions=1))
        ),
        "S4.deleted-beside-others",
        "S4.deleted-beside-others",
        acts=True,
    ),
    Stranger(
        "one of three servers is to be detached, and one is shelved",
        WISH_NAMED.but(
            attachments=(*WISH_NAMED.attachments, KEPT), servers=(*WISH_NAMED.servers, OFFLOADED)
        ),
        "UC4.wish-beside-others",
        "UC4.wish-beside-others",
        acts=True,
    ),
    Stranger(
        "one of two servers is to be detached, and the other is shelved",
        WISH_NAMED.but(
            attachments=(TWO_ROWS[0], KEPT),
            servers=(server(X, A), OFFLOADED),
            backend=(access(H1),),
        ),
        "UC4.wish-beside-others",
        "UC4.wish-beside-others",
        acts=True,
    ),
    *(
        Stranger(
            f"one of two servers is to be detached, and the other one is deleted, {words}",
            WISH_NAMED.but(
                servers=(server(X, A),), gone=(Y,), ended=ended, backend=(access(H1), access(H2))
            ),
            rule,
            rule,
            acts=bool(ended),
        )
        for words, ended, rule in (
            ("its guest ended there", ((Y, H2),), "UC4.wish-beside-others"),
            ("its guest may be running", (), "P10.whose-wish"),
        )
    ),
    *(
        Stranger(
            f"Nova let go of one of two servers, and the other one is deleted, {words}",
            ONE_LET_GO.but(
                servers=(server(X),), gone=(Y,), ended=ended, backend=(access(H1), access(H2))
            ),
            rule,
            rule,
            acts=bool(ended),
        )
        for words, ended, rule in (
            ("its guest ended there", ((Y, H2),), "S5.let-go-beside-others"),
            ("its guest may be running", (), "P0.not-understood"),
        )
    ),
    Stranger(
        "one of two servers is to be detached, and the other one's row is only reserved",
        WISH_NAMED.but(attachments=ANEW.attachments, servers=ANEW.servers, backend=(access(H1),)),
        "P10.whose-wish",
        "P10.whose-wish",
    ),
    Stranger(
        "Nova let go of one of three servers, and one is shelved",
        ONE_LET_GO.but(
            attachments=(*ONE_LET_GO.attachments, KEPT), servers=(*ONE_LET_GO.servers, OFFLOADED)
        ),
        "S5.let-go-beside-others",
        "S5.let-go-beside-others",
        acts=True,
    ),
    Stranger(
        "the same, and the shelved one does not name its row",
        ONE_LET_GO.but(
            attachments=(*ONE_LET_GO.attachments, KEPT),
            servers=(
                *ONE_LET_GO.servers,
                dataclasses.replace(OFFLOADED, block_devices=()),
            ),
        ),
        "P0.not-understood",
        "P0.not-understood",
    ),
)

# -- rows that several moves left ------------------------------------------------------------------
TWICE = LEFT.but(
    attachments=(*LEFT.attachments, attachment(C, host=H3)),
    servers=(server(X, C, host=H3),),
    backend=(access(H1), access(H2), access(H3, sessions=1)),
    computes=((H1, True), (H2, True)),
)
"""Two live migrations went well, and after each the source's row could not be deleted."""
ANEW_THERE = UC5.but(
    status="in-use",
    backend=BLIND,
    released_unasked=True,
    attachments=(attachment(B, instance_id=Y, host=H1),),
    servers=(server(X), server(Y, B)),
)
"""Cinder dropped the row of a hung attach unasked; another server of its host has the volume."""
OF_MOVES = (
    Stranger(
        "two live migrations left their rows, nova 1628606",
        TWICE,
        "S2.left-on-source",
        "S2.left-on-source",
        acts=True,
    ),
    Stranger(
        "the same, seen from the second one",
        TWICE.but(attachment_id=B, host=H2),
        "S2.left-on-source",
        "S2.left-on-source",
        acts=True,
    ),
    Stranger(
        "the same, seen from the row that is right",
        TWICE.but(attachment_id=C, host=H3),
        "P28.other-left-over",
        "P28.other-left-over",
    ),
    Stranger(
        "the same, and the host of the other row that is left is down",
        TWICE.but(computes=((H1, True), (H2, False))),
        "S2.left-on-source",
        "S2.left-on-source",
        acts=True,
    ),
    Stranger(
        "the same, and its own host is down",
        TWICE.but(computes=((H1, False), (H2, True))),
        "B7.source-down",
        "B7.source-down",
    ),
    Stranger(
        "the same, and the host of the other one is in session",
        TWICE.but(backend=(access(H1), access(H2, sessions=1), access(H3, sessions=1))),
        "P15.two-writers",
        "S2.left-on-source",
        acts=True,
    ),
    Stranger(
        "the same, and nothing tells the host of the other one",
        TWICE.but(attachments=(attachment(A, host=H1), attachment(B), attachment(C, host=H3))),
        "P17.unexplained",
        "P0.not-understood",
    ),
    Stranger(
        "a hung attach was given up, and another server of its host has the volume",
        ANEW_THERE,
        "C2.nothing-left-blind",
        "C2.nothing-left-blind",
    ),
    Stranger(
        "the same, and it is the same server",
        ANEW_THERE.but(attachments=(attachment(B, host=H1),), servers=(server(X, B),)),
        "C2.nothing-left-blind",
        "C2.nothing-left-blind",
    ),
    Stranger(
        "the same, and the backend is seen",
        ANEW_THERE.but(backend=(access(H1, sessions=1),)),
        "C1.nothing-left",
        "C2.nothing-left-blind",
    ),
    Stranger(
        "the same on another host",
        ANEW_THERE.but(
            attachments=(attachment(B, instance_id=Y, host=H2),),
            servers=(server(X), server(Y, B, host=H2)),
        ),
        "UC5.leaked-beside-others",
        "UC5.leaked-beside-others",
    ),
    Stranger(
        "the same on a host that Cinder does not tell",
        ANEW_THERE.but(attachments=(attachment(B, instance_id=Y),)),
        "P31.leak-unseen",
        "P31.leak-unseen",
    ),
)

# -- two rows, rows in error, rows of the old way --------------------------------------------------
TWO_OF_ONE = ATTACHED.but(
    attachments=(attachment(A, host=H1), attachment(B, host=H1)), attachment_id=B
)
OF_ROWS = (
    Stranger(
        "two attaches of one server at once made two rows, cinder 1833736",
        TWO_OF_ONE,
        "P36.second-row",
        "P36.second-row",
    ),
    Stranger(
        "the same, seen from the row that Nova names",
        TWO_OF_ONE.but(attachment_id=A),
        "P28.other-left-over",
        "P28.other-left-over",
    ),
    Stranger(
        "the same, and Nova has a block device for each, nova 1937375",
        TWO_OF_ONE.but(servers=(server(X, A, B),)),
        "H2.attached",
        "H2.attached",
    ),
    Stranger(
        "the same, and Nova names neither",
        TWO_OF_ONE.but(servers=(server(X),)),
        "P23.no-device",
        "P23.no-device",
    ),
    Stranger(
        "an attach was given back by hand while the guest was getting the disk",
        UC2.but(status="in-use"),
        "P37.half-done",
        "P13.broke-off",
    ),
    Stranger(
        "the status was reset to detaching while the guest was getting the disk",
        UC2.but(status="detaching"),
        "P37.half-done",
        "P13.broke-off",
    ),
    Stranger(
        "the same, and nobody is let in",
        UC2.but(status="detaching", backend=()),
        "P13.broke-off",
        "P13.broke-off",
    ),
    Stranger(
        "a detach failed on a driver that was not initialised, and Nova names the row",
        UC4.but(attachments=(attachment(A, "error_detaching"),)),
        "P38.failed-and-named",
        "P38.failed-and-named",
    ),
    Stranger(
        "the same, and the status went back to in-use",
        UC4.but(status="in-use", attachments=(attachment(A, "error_detaching"),)),
        "P38.failed-and-named",
        "P38.failed-and-named",
    ),
    Stranger(
        "the same, and the volume is available",
        UC4.but(status="available", attachments=(attachment(A, "error_detaching"),)),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "a detach of an attachment of the old way came to nothing",
        UC4.but(servers=(server(X, None),)),
        "P35.wish-the-old-way",
        "P35.wish-the-old-way",
    ),
    Stranger(
        "the same beside another row",
        UC4.but(
            multiattach=True,
            attachments=TWO_ROWS,
            servers=(server(X, None), server(Y, B, host=H2)),
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "an attachment of the old way whose volume was reset",
        UC4.but(status="available", servers=(server(X, None),)),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
)

# -- a person wrote the status, and more than one record is left -----------------------------------
RESET_TWICE = LEFT.but(status="available")
"""Two rows of a server that was migrated, and the volume was reset to available."""
LEFT_ALONE = ATTACHED.but(status="available", servers=(server(X),), backend=())
OF_RESETS = (
    Stranger(
        "a volume with two rows of a server was reset, and its guest runs",
        RESET_TWICE.but(backend=(access(H1), access(H2))),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and Nova names the row of another host",
        RESET_TWICE.but(servers=(server(X, B, host=H1),), backend=(access(H1), access(H2))),
        "P6.guest-holds",
        "P6.guest-holds",
    ),
    Stranger(
        "the same, and both hosts are in session",
        RESET_TWICE.but(backend=(access(H1, sessions=1), access(H2, sessions=1))),
        "P15.two-writers",
        "P6.guest-holds",
    ),
    Stranger(
        "a detach was stuck, Nova let go, and the volume was reset: nobody is let in",
        LEFT_ALONE,
        "P39.row-left",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the same, and its server is deleted",
        LEFT_ALONE.but(servers=(), gone=(X,)),
        "P39.row-left",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the same, beside another server's row",
        LEFT_ALONE.but(attachments=TWO_ROWS, servers=(server(X), server(Y, host=H2))),
        "P39.row-left",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the same, and its host is let in",
        LEFT_ALONE.but(backend=(access(H1),)),
        "P27.let-in-beside-a-row",
        "P27.let-in-beside-a-row",
    ),
    Stranger(
        "the row of an attach that never finished",
        LEFT_ALONE.but(attachments=(attachment(A, "attaching"),)),
        "UC1.row-left",
        "P27.let-in-beside-a-row",
    ),
    *(
        Stranger(
            f"Nova let go of it, and the status was reset to {status}",
            LEFT_ALONE.but(status=status),
            "P23.no-device",
            "P23.no-device",
        )
        for status in ("reserved", "attaching")
    ),
    Stranger(
        "the same, and a detach was heard",
        LEFT_ALONE.but(status="reserved", operation=DETACH),
        "P23.no-device",
        "P23.no-device",
    ),
)

# -- a reserve that makes no row: of an old client, or of nobody who is known ----------------------
CLEARED = UC1_LEGACY.but(first_clean_at=OPENED_AT)
"""A look found nothing left of the attach; then some client of the old way reserved the volume."""
OF_BARE_RESERVES = (
    Stranger(
        "an attach of the old way never finished",
        UC1_LEGACY,
        "UC1.bare-reserve",
        "UC1.bare-reserve",
        acts=True,
    ),
    Stranger(
        "another client reserves the volume after the look at an attach found nothing left",
        CLEARED,
        "B3.other-attachment",
        "B3.other-attachment",
    ),
    Stranger(
        "the same, and its host is let in",
        CLEARED.but(backend=(access(H3),)),
        "B3.other-attachment",
        "B3.other-attachment",
    ),
    Stranger(
        "the same, and the reserve is our own",
        CLEARED.but(intents=(intent(StepKind.CINDER_RESERVE),)),
        "UC5.held",
        "UC5.held",
        acts=True,
    ),
)

STRANGERS_OF_THE_FIELD: tuple[Stranger, ...] = (
    *OF_RESCUE, *OF_METAL_HOSTS, *OF_TRANSFER, *OF_SEVERAL, *OF_MOVES, *OF_ROWS,
    *OF_RESETS, *OF_BARE_RESERVES,
)  # fmt: skip
