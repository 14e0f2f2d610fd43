"""Two hosts on one volume, lost access and offloaded servers: situations, and strangers alike."""

from __future__ import annotations

from drivers.base import Connection, Connector
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    ENDED,
    GHOST,
    LEFT,
    MIGRATING,
    SHELVED,
    UC1,
    UC3,
    UC5,
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

BOTH = (access(H1, sessions=1), access(H2, sessions=1))
IDLE = (access(H1), access(H2))
ELSEWHERE = server(Y, "dead", host=H2)
TWO_ROWS = (attachment(A, host=H1), attachment(B, instance_id=Y, host=H2))
TWO_SERVERS = (server(X, A), server(Y, B, host=H2))

TWO = ATTACHED.but(backend=BOTH)
SHARED = ATTACHED.but(multiattach=True, attachments=TWO_ROWS, servers=TWO_SERVERS, backend=BOTH)
SHUT_OUT = SHARED.but(backend=(BOTH[1],))
PORTALS = Connector(host=H1, initiator="iqn.2026-01.test:compute-1", wwpns=("w1", "w2"))
OFFLOADED = {"vm_state": "shelved_offloaded", "host": None, "compute_up": None}
KEPT = SHELVED.but(status="in-use", attachments=(attachment(A, host=H1),))

TWO_WRITERS: tuple[tuple[str, Picture], ...] = (
    ("after a reset the volume was attached to B while A's guest writes on", TWO),
    (
        "seen from the attachment that the reset dropped",
        TWO.but(
            attachments=(attachment(B, instance_id=Y),),
            servers=(server(X, A), server(Y, B, host=H2)),
        ),
    ),
    ("the second host's connector was never seen", TWO.but(known=(H1,))),
    ("the second session is a stranger's", TWO.but(backend=(BOTH[0], access("x", sessions=1)))),
    ("the driver cannot tell whose session is whose", TWO.but(hosts_known=False)),
    (
        "the first host's entry was taken, and its session stays",
        TWO.but(backend=(Connection(BOTH[0].name, access=False, sessions=1), BOTH[1])),
    ),
    ("two servers' rows on a volume for one", SHARED.but(multiattach=False)),
    (
        "the same on a backend that shows no sessions, and both guests run",
        SHARED.but(multiattach=False, backend=IDLE),
    ),
    (
        "a guest runs on the host that is let in, a stranger has the session",
        ATTACHED.but(backend=(access(H1), access("x", sessions=1))),
    ),
    ("the volume is in error besides", TWO.but(status="error")),
    ("Nova does not answer besides", TWO.but(servers=(), unseen=(X,))),
    ("this Nova never had the server", TWO.but(servers=(), stranger=(X,))),
    ("one of the servers is at another task", TWO.but(servers=(server(X, A, task_state="x"),))),
    (
        "one of the servers migrates, and a third host has it too",
        MIGRATING.but(backend=(*BOTH, access(H3, sessions=1))),
    ),
    (
        "a multiattach volume, and a third host whom no row explains",
        SHARED.but(backend=(*BOTH, access(H3, sessions=1))),
    ),
    (
        "the same, and a shelved server's reservation explains no session",
        SHARED.but(
            attachments=(TWO_ROWS[0], attachment(B, "reserved", Y)),
            servers=(server(X, A), server(Y, B, **OFFLOADED)),
        ),
    ),
    (
        "a multiattach volume whose driver cannot tell hosts has a session too many",
        SHARED.but(hosts_known=False, backend=(*BOTH, access(H3, sessions=1))),
    ),
    ("the volume is available", UC5.but(backend=BOTH)),
    ("nobody is known to have it", GHOST.but(backend=BOTH)),
    ("a detach is under way", UC3.but(backend=BOTH)),
    ("an attach is under way", UC1.but(backend=BOTH)),
    ("the source of a live migration is still in session", LEFT.but(backend=BOTH)),
    (
        "the same, seen from the row that is right",
        LEFT.but(backend=BOTH, attachment_id=B, host=H2),
    ),
    (
        "one guest twice on a multiattach volume: its server left the host that is in session",
        LEFT.but(backend=BOTH, multiattach=True),
    ),
    (
        "the same, seen from the row that is right",
        LEFT.but(backend=BOTH, multiattach=True, attachment_id=B, host=H2),
    ),
    *(
        (
            f"the same on a backend that shows no sessions, and one guest is {state}",
            SHARED.but(
                multiattach=False,
                backend=IDLE,
                servers=(server(X, A), server(Y, B, host=H2, vm_state=state)),
            ),
        )
        for state in ("paused", "rescued", "resized", "error")
    ),
    (
        "a backup is made, and the two hosts are those of two servers",
        SHARED.but(multiattach=False, status="backing-up"),
    ),
    (
        "a backup is made, and there are two hosts more than the guest's",
        TWO.but(status="backing-up", backend=(*BOTH, access(H3, sessions=1))),
    ),
    (
        "one of two servers migrates: that does not explain the other one",
        SHARED.but(
            multiattach=False,
            servers=(server(X, A, task_state="migrating"), TWO_SERVERS[1]),
        ),
    ),
    (
        "two servers migrate at once, on a volume for one",
        SHARED.but(
            multiattach=False,
            servers=(
                server(X, A, task_state="migrating"),
                server(Y, B, host=H2, task_state="migrating"),
            ),
            backend=(*BOTH, access(H3, sessions=1)),
        ),
    ),
    (
        "a third host has it after an evacuation",
        LEFT.but(backend=(*BOTH, access(H3, sessions=1)), computes=((H1, False),)),
    ),
)

ALIKE: tuple[tuple[str, Picture, str], ...] = (
    ("a multiattach volume's two servers", SHARED, "H2.attached"),
    (
        "the same, and nothing was learned of one host",
        SHARED.but(known=(H1,)),
        "H2.attached",
    ),
    ("the same, and the driver cannot tell hosts", SHARED.but(hosts_known=False), "H2.attached"),
    (
        "a multiattach volume's server is moved, both hosts have sessions",
        SHARED.but(
            attachments=(*TWO_ROWS, attachment("c", "attaching")),
            servers=(server(X, A, task_state="migrating"), TWO_SERVERS[1]),
            backend=(*BOTH, access(H3, sessions=1)),
        ),
        "B2.server-busy",
    ),
    ("a live migration is under way", MIGRATING.but(backend=BOTH), "B2.server-busy"),
    (
        "an evacuation is under way: two rows of one server at a task",
        MIGRATING.but(servers=(server(X, A, task_state="rebuilding"),), backend=BOTH),
        "B2.server-busy",
    ),
    (
        "two rows of a server of which Nova does not tell",
        MIGRATING.but(servers=(), unseen=(X,), backend=BOTH),
        "X2.nova-unknown",
    ),
    (
        "the dead host of an evacuation is still in session: its row is waited for",
        LEFT.but(backend=BOTH, computes=((H1, False),)),
        "B7.source-down",
    ),
    (
        "the same, seen from the row that is right: not healthy either",
        LEFT.but(backend=BOTH, computes=((H1, False),), attachment_id=B, host=H2),
        "B7.source-down",
    ),
    (
        "the same, and Nova has no such compute any more",
        LEFT.but(backend=BOTH, computes=(), attachment_id=B, host=H2),
        "B7.source-down",
    ),
    ("a backup has it mapped too", TWO.but(status="backing-up"), "B1.volume-busy"),
    ("an image is made of it", TWO.but(status="uploading"), "B1.volume-busy"),
    ("the volume is being migrated", TWO.but(migration="migrating"), "B1.volume-busy"),
    (
        "several initiator names of one host",
        ATTACHED.but(connector=PORTALS, backend=(BOTH[0], *(
            Connection(name, sessions=2) for name in ("w1", "w2")
        ))),
        "H2.attached",
    ),
    (
        "several portals of one host",
        ATTACHED.but(backend=(access(H1, sessions=4),)),
        "H2.attached",
    ),
    (
        "a second host is let in and nobody uses it",
        ATTACHED.but(backend=(BOTH[0], access(H2))),
        "P17.unexplained",
    ),
    (
        "the other session outlived a guest that Nova says was ended there",
        ENDED.but(backend=(BOTH[0],)),
        "S3.deleted-with-server",
    ),
    (
        "the dead host of an evacuation is still in session, an attachment of the old way",
        ATTACHED.but(
            attachments=(attachment(A, host=H1),), servers=(server(X, None, host=H2),),
            backend=BOTH,
            computes=((H1, False),),
        ),
        "B7.source-down",
    ),
    (
        "a multiattach volume, the dead host of an evacuation is still in session",
        LEFT.but(
            backend=BOTH, multiattach=True, computes=((H1, False),), attachment_id=B, host=H2
        ),
        "B7.source-down",
    ),
    (
        "the same, and another server has it on a third host, as it may",
        LEFT.but(
            attachments=(attachment(A, host=H1), attachment(B, host=H2), attachment("c",
                instance_id=Y, host=H3)),
            servers=(server(X, B, host=H2), server(Y, "c", host=H3)),
            backend=(*BOTH, access(H3, sessions=1)), multiattach=True,
            computes=((H1, False),), attachment_id="c", instance_id=Y, host=H3,
        ),
        "B7.source-down",
    ),
    (
        "a shelved server's reservation beside a dead host that is still in session",
        LEFT.but(
            attachments=(attachment(A, instance_id=Y, host=H1), attachment(B, instance_id=Y,
                host=H2),
                  attachment("c", "reserved")),
            servers=(server(Y, B, host=H2), server(X, "c", **OFFLOADED)),
            backend=BOTH, multiattach=True, computes=((H1, False),),
            attachment_id="c", host=None,
        ),
        "B7.source-down",
    ),
    # -- access that was lost
    (
        "the second attach made the driver drop the first host's access",
        SHARED.but(backend=(BOTH[1],)),
        "P8.access-lost",
    ),
    (
        "the same, seen from the second",
        SHARED.but(backend=(BOTH[1],), attachment_id=B, instance_id=Y, host=H2),
        "P8.access-lost",
    ),
    (
        "the same, seen from a third attachment that failed and was cleaned up",
        SHARED.but(backend=(BOTH[1],), attachment_id="c", instance_id="z", host=H3),
        "P8.access-lost",
    ),
    (
        "the same, seen from a shelved server's reservation",
        SHARED.but(
            attachments=(*TWO_ROWS, attachment("c", "reserved", "z")),
            servers=(*TWO_SERVERS, server("z", "c", **OFFLOADED)),
            backend=(BOTH[1],),
            attachment_id="c", instance_id="z", host=None,
        ),
        "P8.access-lost",
    ),
    (
        "its own host is not let in, a stranger is",
        ATTACHED.but(backend=(access("stranger"),)),
        "P8.access-lost",
    ),
    (
        "an attachment of the old way, and nobody is let in",
        ATTACHED.but(servers=(server(X, None),), backend=()),
        "P8.access-lost",
    ),
    (
        "nothing was learned of its host: somebody let in may be it",
        ATTACHED.but(backend=(access("stranger"),), known=()),
        "H2.attached",
    ),
    (
        "the driver cannot tell hosts: somebody let in may be it",
        ATTACHED.but(backend=(access("stranger"),), hosts_known=False),
        "H2.attached",
    ),
    ("the backend cannot be seen", ATTACHED.but(backend=BLIND), "H2.attached"),
    ("the backend did not answer", ATTACHED.but(backend=UNSEEN), "H2.attached"),
    (
        "the guest does not run",
        ATTACHED.but(backend=(), servers=(server(X, A, vm_state="stopped"),)),
        "H2.attached",
    ),
    (
        "the same, and another host is let in",
        ATTACHED.but(backend=(access(H2),), servers=(server(X, A, vm_state="stopped"),)),
        "P17.unexplained",
    ),
    *(
        (
            f"a guest that is {state} is not let in",
            ATTACHED.but(servers=(server(X, A, vm_state=state),), backend=(access("stranger"),)),
            "P8.access-lost",
        )
        for state in ("paused", "resized")
    ),
    *(
        (
            f"two hosts are let in, and one server is {state}: it has no guest",
            SHARED.but(
                multiattach=False, backend=IDLE,
                servers=(server(X, A), server(Y, B, host=H2, vm_state=state)),
            ),
            "H2.attached",
        )
        for state in ("stopped", "suspended")
    ),
    (
        "its host's entry was taken, and only its session stays",
        ATTACHED.but(backend=(Connection(BOTH[0].name, access=False, sessions=1),)),
        "P8.access-lost",
    ),
    (
        "an attachment of the old way was migrated: its row stayed on the host before",
        ATTACHED.but(
            attachments=(attachment(A, info=False, host=H1),),
            servers=(server(X, None, host=H2),), backend=(BOTH[1],)
        ),
        "H3.attached-the-old-way",
    ),
    (
        "the same, and the host before is let in instead of the guest's",
        ATTACHED.but(
            attachments=(attachment(A, info=False, host=H1),),
            servers=(server(X, None, host=H2),), backend=(access(H1),)
        ),
        "P8.access-lost",
    ),
    (
        "the row is on one host, and the guest that has it on another, which is not let in",
        ATTACHED.but(
            attachments=(attachment(A, host=H1),), servers=(server(X, A, host=H2),),
            backend=(access(H1),), computes=((H1, True),),
        ),
        "P8.access-lost",
    ),
    # -- a server that is offloaded has no guest
    ("an offloaded server's row is on a host with a live session", KEPT.but(
        backend=(BOTH[0],)), "P16.shelved-and-let-in"),
    ("an offloaded server's row is on a host", KEPT, "P16.shelved-and-let-in"),
    ("the same on a backend that cannot be seen", KEPT.but(backend=BLIND),
     "P16.shelved-and-let-in"),
    (
        "its host before is let in for a shelved server's reservation",
        SHELVED.but(backend=(access(H1),)),
        "P16.shelved-and-let-in",
    ),
    (
        "somebody is let in for the only row, a shelved server's",
        SHELVED.but(host=None, backend=(access("stranger"),)),
        "P16.shelved-and-let-in",
    ),
    (
        "the same, of a driver that cannot tell whom",
        SHELVED.but(hosts_known=False, backend=(access("stranger"),)),
        "P16.shelved-and-let-in",
    ),
    (
        "another server of a multiattach volume is attached, one is shelved",
        SHARED.but(
            attachments=(TWO_ROWS[0], attachment(B, "reserved", Y)),
            servers=(server(X, A), server(Y, B, **OFFLOADED)),
            backend=(BOTH[0],), attachment_id=B, instance_id=Y, host=None,
        ),
        "H1.shelved",
    ),
    (
        "an offloaded server's row of the old way is on a host",
        KEPT.but(servers=(server(X, None, **OFFLOADED),), backend=(BOTH[0],)),
        "P6.guest-holds",
    ),
    # -- a server that this Nova is not known to have had
    (
        "another region's server is attaching, its host is let in and shows no session",
        UC1.but(servers=(), stranger=(X,)),
        "X2.nova-unknown",
    ),
    (
        "the same on a backend that cannot be seen",
        UC1.but(servers=(), stranger=(X,), backend=BLIND),
        "X2.nova-unknown",
    ),
    (
        "a bare-metal node has it attached",
        ATTACHED.but(servers=(), stranger=(X,), operation=Operation.DETACH),
        "X2.nova-unknown",
    ),
    (
        "a detach of another region's server",
        UC3.but(servers=(), stranger=(X,), backend=()),
        "X2.nova-unknown",
    ),
    (
        "the host of a node that this Nova never had is still let in",
        UC5.but(servers=(), stranger=(X,)),
        "X2.nova-unknown",
    ),
    (
        "another server of the volume is one that this Nova never had",
        BESIDE.but(servers=(server(X),), stranger=(Y,)),
        "X2.nova-unknown",
    ),
    (
        "a node's volume is free, and the probe proves that nobody is let in",
        UC5.but(servers=(), stranger=(X,), backend=()),
        "C1.nothing-left",
    ),
    (
        "a node's volume is free by Cinder's own end of the detach, and nobody can see",
        UC5.but(
            servers=(), stranger=(X,), backend=BLIND, operation=Operation.DETACH, end_seen=True
        ),
        "C2.nothing-left-blind",
    ),
    (
        "the same, and no end is on record: a status that was reset",
        UC5.but(servers=(), stranger=(X,), backend=BLIND, operation=Operation.DETACH),
        "X2.nova-unknown",
    ),
    (
        "the same, and another server of the case's could not be asked for",
        UC5.but(servers=(), stranger=(X,), unseen=(Y,), backend=()),
        "X2.nova-unknown",
    ),
)  # fmt: skip

OPEN: tuple[tuple[str, Picture, str], ...] = (
    ("a server was deleted while its compute was down, its guest runs on",
     UC5.but(servers=(), gone=(X,), backend=(Connection(BOTH[0].name, access=False, sessions=1),)),
     "P18.open-to-others"),
    ("a leak with a session, and the compute of its host is down",
     UC5.but(servers=(server(X, compute_up=False),), backend=(BOTH[0],)), "P18.open-to-others"),
    ("the same, and nobody knows the server",
     UC5.but(servers=(), stranger=(X,), backend=(BOTH[0],)), "P18.open-to-others"),
    ("the same, and Nova does not answer",
     UC5.but(servers=(), unseen=(X,), backend=(BOTH[0],)), "P18.open-to-others"),
    ("the same, and its server is at a task",
     UC5.but(servers=(server(X, task_state="deleting"),), backend=(BOTH[0],)),
     "P18.open-to-others"),
    ("a stranger is in session on a volume that is free",
     UC5.but(backend=(access("stranger", sessions=1),)), "P18.open-to-others"),
    ("the driver cannot tell whose session it is",
     UC5.but(hosts_known=False, backend=(BOTH[0],)), "P18.open-to-others"),
    ("a reset by hand while the guest writes, and its compute is down",
     ATTACHED.but(status="available", servers=(server(X, A, compute_up=False),)),
     "P18.open-to-others"),
    ("nobody is known to have it, and the compute of the host in session is down",
     GHOST.but(backend=(BOTH[0],), holding=holding(up=False)), "P18.open-to-others"),
    ("a leak is up for transfer", UC5.but(status="awaiting-transfer"), "P19.given-away"),
    ("the same with a session",
     UC5.but(status="awaiting-transfer", backend=(BOTH[0],)), "P18.open-to-others"),
    # -- alike
    ("a transfer of a volume that nobody is let in to",
     UC5.but(status="awaiting-transfer", backend=()), "C1.nothing-left"),
    ("the same, and nobody can see the backend",
     UC5.but(status="awaiting-transfer", backend=BLIND), "C2.nothing-left-blind"),
    ("a volume that is up for transfer by hand, and attached",
     ATTACHED.but(status="awaiting-transfer", backend=BLIND), "P6.guest-holds"),
    ("the volume is free and is being migrated: Cinder's own session",
     UC5.but(migration="migrating", backend=(BOTH[0],)), "B1.volume-busy"),
    ("a leak without a session, and its compute is down",
     UC5.but(servers=(server(X, compute_up=False),)), "B4.compute-down"),
    ("a session on a volume that is reserved for its own row",
     UC1.but(status="reserved", backend=(BOTH[0],)), "UC1.unfinished"),
    # -- somebody beside the subject uses it without a row
    ("a leak, and another server of that host has the volume by Nova's records",
     UC5.but(elsewhere=(holding(Y),)), "P20.another-user"),
    ("an attach that never finished, and a server of another host may be using it",
     UC1.but(backend=(access(H1), access(H2)), elsewhere=(holding(Y, host=H2),)),
     "P20.another-user"),
    ("the other server's block device names a row that is gone",
     BESIDE.but(servers=(server(X), server(Y, B, "dead", host=H2))), "P20.another-user"),
)  # fmt: skip

WRITERS = (*((words, picture, "P15.two-writers") for words, picture in TWO_WRITERS), *ALIKE, *OPEN)
