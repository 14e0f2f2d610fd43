"""Situations in words, and the rule that decides each: in flight, unseen, for a person, over."""

from __future__ import annotations

from handlers.case import CaseState, StepKind, StepResult
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    DETACH,
    GUEST_LEFT,
    HOST_LET_GO,
    LEFT,
    LEFT_BESIDE,
    MIGRATING,
    ONE_LET_GO,
    ROW_IN_ERROR,
    SHELVED,
    UC1,
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
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    beside,
    intent,
    server,
)

NOT_FOR_US: tuple[tuple[str, Picture, str], ...] = (
    # -- somebody else is at work
    ("a live migration is under way", MIGRATING, "B2.server-busy"),
    (
        "an unshelve is under way",
        SHELVED.but(
            status="attaching",
            attachments=(attachment(A, "attaching"),),
            servers=(server(X, A, vm_state="shelved_offloaded", task_state="spawning"),),
        ),
        "B2.server-busy",
    ),
    ("a backup has the volume mapped", UC5.but(status="backing-up"), "B1.volume-busy"),
    ("a migration of the volume", ATTACHED.but(migration="migrating"), "B1.volume-busy"),
    ("the target of a migration", UC5.but(migration="target:volume-2"), "B1.volume-busy"),
    ("a retype", ATTACHED.but(status="retyping"), "B1.volume-busy"),
    (
        "the subject is gone, another attachment is being made",
        UC5.but(status="attaching", attachments=(attachment(B, "attaching"),), servers=(server(X,
            B),)),
        "B3.other-attachment",
    ),
    (
        "the subject is gone, somebody else reserved the volume without a row",
        UC5.but(status="attaching"),
        "B3.other-attachment",
    ),
    (
        "the subject is right, another server's attach is under way",
        ATTACHED.but(
            status="attaching",
            attachments=(attachment(A), attachment(B, "attaching", Y)),
            servers=(server(X, A), server(Y, B, host=H2)),
        ),
        "B3.other-attachment",
    ),
    (
        "an unfinished row while another server's detach is under way",
        BESIDE.but(status="detaching", attachments=(attachment(A, "attaching"), attachment(B,
            instance_id=Y))),
        "B3.other-attachment",
    ),
    (
        "compute died after the wish to detach: its guest may be running",
        UC4.but(servers=(server(X, A, compute_up=False),)),
        "B4.compute-down",
    ),
    (
        "Nova does not say whether the compute is up",
        UC4.but(servers=(server(X, A, compute_up=None),)),
        "B4.compute-down",
    ),
    (
        "Nova accepted our detach in the attempt before this one",
        UC4.but(attempts=2, intents=(intent(StepKind.NOVA_DETACH),)),
        "B5.nova-detaching",
    ),
    (
        "Nova's answer to our detach was lost, and the volume is detaching",
        UC4.but(intents=(intent(StepKind.NOVA_DETACH, StepResult.INDETERMINATE),)),
        "B5.nova-detaching",
    ),
    (
        "Nova accepted our detach many attempts ago and it came to nothing",
        UC4.but(attempts=4, intents=(intent(StepKind.NOVA_DETACH),)),
        "UC4.wish-on-record",
    ),
    (
        "the end of the attach was lost, and a detach was asked for since",
        UC4.but(operation=Operation.ATTACH),
        "B6.detach-asked-since",
    ),
    # -- not seen
    ("Nova is down", UC1.but(servers=(), unseen=(X,)), "X2.nova-unknown"),
    (
        "Nova does not answer for another server of the volume",
        BESIDE.but(servers=(server(X),), unseen=(Y,)),
        "X2.nova-unknown",
    ),
    ("the backend does not answer", UC1.but(backend=UNSEEN), "X3.backend-unknown"),
    # -- for a person
    ("Cinder gave it an error status", UC1.but(status="error"), "P1.volume-error"),
    ("the volume is in maintenance", UC3.but(status="maintenance"), "P1.volume-error"),
    (
        "after a failed migration the block device names the destination, the guest is elsewhere",
        Picture(
            status="attaching",
            attachments=(attachment(B), attachment(A, "attaching")),
            servers=(server(X, A),),
            host=H2,
            backend=(access(H1, sessions=1), access(H2)),
        ),
        "P2.names-the-wrong-row",
    ),
    (
        "the same, and the destination's row had been completed",
        MIGRATING.but(servers=(server(X, A),)),
        "P2.names-the-wrong-row",
    ),
    (
        "two rows of the server and an attach, no message says of which",
        LEFT.but(attachment_id=None, operation=Operation.ATTACH),
        "P3.ambiguous",
    ),
    (
        "two rows of the server and a detach, Nova names neither",
        LEFT.but(attachment_id=None, servers=(server(X, host=H2),)),
        "P3.ambiguous",
    ),
    (
        "nobody says whose attachment it is",
        UC1.but(attachments=(attachment(A, "attaching", None),), instance_id=None, servers=()),
        "P4.no-instance",
    ),
    (
        "a row that is no server's, though a message named one",
        UC1.but(attachments=(attachment(A, "attaching", None),)),
        "P4.no-instance",
    ),
    (
        "the server is deleted, its row attached",
        UC3.but(servers=(), gone=(X,), backend=(access(H1),)),
        "P5.server-deleted",
    ),
    (
        "the server is deleted, its volume in-use and exported",
        UC3.but(status="in-use", servers=(), gone=(X,), backend=(access(H1),)),
        "P5.server-deleted",
    ),
    (
        "the server is deleted, it had been attached and was put back to attaching",
        UC1.but(servers=(), gone=(X,), end_seen=True),
        "P5.server-deleted",
    ),
    (
        "the server is deleted, the backend cannot be seen, the attach had come far",
        UC1.but(servers=(), gone=(X,), backend=BLIND),
        "P5.server-deleted",
    ),
    (
        "an admin reset the status alone: the guest has it",
        ATTACHED.but(status="available"),
        "P6.guest-holds",
    ),
    (
        "an admin reset status and rows: the guest has it",
        ATTACHED.but(status="available", attachments=()),
        "P6.guest-holds",
    ),
    (
        "a ghost block device: compute was killed while Cinder deleted the row",
        Picture(servers=(server(X, A),), operation=DETACH),
        "P6.guest-holds",
    ),
    (
        "a ghost block device that names no attachment",
        Picture(servers=(server(X, None),), attachment_id=None),
        "P6.guest-holds",
    ),
    (
        "a block device names a dead row while another row of the server is attached",
        ATTACHED.but(servers=(server(X, B),)),
        "P6.guest-holds",
    ),
    (
        "the backend lets in a host that nobody knows",
        UC5.but(backend=(access("stranger"),)),
        "P7.foreign-connection",
    ),
    (
        "the connector of the leaked host was never seen",
        UC5.but(known=()),
        "P7.foreign-connection",
    ),
    (
        "a failed second attach made the driver drop everybody's access",
        ATTACHED.but(backend=()),
        "P8.access-lost",
    ),
    (
        "the same, seen from the attachment that failed",
        BESIDE.but(backend=()),
        "P8.access-lost",
    ),
    (
        "a failed shelving left a second row, its guest is gone",
        ATTACHED.but(attachments=(attachment(A), attachment(B, "reserved")), operation=DETACH),
        "P9.unfinished-sibling",
    ),
    (
        "the same, and Cinder listed both rows without saying which of them goes",
        ATTACHED.but(attachments=(attachment(A), attachment(B, "reserved")), operation=DETACH,
            attachment_id=None),
        "P9.unfinished-sibling",
    ),
    (
        "multiattach: detaching, and of which server nobody says",
        UC4.but(
            attachments=(attachment(A), attachment(B, instance_id=Y)), servers=(server(X, A),
                server(Y, B, host=H2)), attachment_id=None
        ),
        "P10.whose-wish",
    ),
    (
        "multiattach: detaching, the messages name one, and another detach is known of",
        WISH_NAMED.but(beside=(beside(B),)),
        "P10.whose-wish",
    ),
    (
        "multiattach: detaching, the messages name one, and both servers are on one host",
        WISH_NAMED.but(
            attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
            servers=(server(X, A), server(Y, B)),
            backend=(access(H1, sessions=1),),
        ),
        "P29.wish-on-a-shared-host",
    ),
    (
        "multiattach: Nova accepted our detach of the one that the messages name",
        WISH_NAMED.but(attempts=2, intents=(intent(StepKind.NOVA_DETACH),)),
        "B5.nova-detaching",
    ),
    (
        "a row of no server, its detach asked for, and somebody is let in",
        HOST_LET_GO.but(backend=(access(H2),)),
        "P4.no-instance",
    ),
    (
        "an attach on a server that never ran",
        UC2.but(servers=(server(X, A, vm_state="error", launched=False),)),
        "P12.no-guest-to-ask",
    ),
    (
        "an unshelve that failed half-way",
        UC2.but(servers=(server(X, A, vm_state="shelved_offloaded", host=None, compute_up=None),)),
        "P12.no-guest-to-ask",
    ),
    (
        "compute was killed before the backend was asked: a block device, and no connection",
        UC2.but(backend=()),
        "P13.broke-off",
    ),
    (
        "a shelved server's detach, half done",
        SHELVED.but(status="detaching", attachments=(attachment(A, info=False),)),
        "P12.no-guest-to-ask",
    ),
    *(
        (
            f"the wish to detach is on record, and the server is {state}",
            UC4.but(servers=(server(X, A, vm_state=state),)),
            "P21.nova-refuses" if state in ("rescued", "suspended") else "UC4.wish-on-record",
        )
        for state in (
            "rescued", "suspended",
            "active", "paused", "stopped", "resized", "shelved", "soft-delete",
        )
    ),
    (
        "a reserved row beside a block device without id, and nobody is let in",
        Picture(
            status="reserved", attachments=(attachment(A, "reserved"),), servers=(server(X, None),)
        ),
        "P22.record-alone",
    ),
    *(
        (
            f"the same, but {words}",
            Picture(
                status="reserved", attachments=(attachment(A, "reserved"),),
                servers=(server(X, None),),
            ).but(**change),
            "P6.guest-holds",
        )
        for words, change in (
            ("its host is let in", {"backend": (access(H1),)}),
            ("the backend cannot be seen", {"backend": BLIND}),
            ("the row is attached", {"attachments": (attachment(A),)}),
            ("the volume is available", {"status": "available", "attachments": ()}),
        )
    ),
    (
        "the wish to detach is on record, the server is in error",
        UC4.but(servers=(server(X, A, vm_state="error"),)),
        "P12.no-guest-to-ask",
    ),
    (
        "evacuated: the old host's compute is down, its row was left behind",
        LEFT.but(computes=((H1, False),)),
        "B7.source-down",
    ),
    (
        "the server was deleted while its compute was down, and nobody can see the backend",
        GUEST_LEFT,
        "P25.guest-not-ended",
    ),
    (
        "the same, and another server has got the volume since",
        GUEST_LEFT.but(
            status="in-use", attachments=(attachment(B, instance_id=Y, host=H2),),
            servers=(server(Y, B, host=H2),),
        ),
        "P25.guest-not-ended",
    ),
    (
        "Nova has let go of one of two servers of one host",
        ONE_LET_GO.but(servers=(server(X), server(Y, B, host=H1)), backend=(access(H1),)),
        "P26.let-go-on-a-shared-host",
    ),
    (
        "the same, and nobody can see the backend",
        ONE_LET_GO.but(servers=(server(X), server(Y, B, host=H1)), backend=BLIND),
        "P26.let-go-on-a-shared-host",
    ),
    *(
        (
            f"a detach left its row in error on a free volume, and {words}",
            ROW_IN_ERROR.but(**change),
            "P27.let-in-beside-a-row",
        )
        for words, change in (
            ("its host is let in", {"backend": (access(H1),)}),
            ("a stranger is let in", {"backend": (access("stranger"),)}),
            ("nobody can see the backend", {"backend": BLIND}),
        )
    ),
    (
        "this server is right, the other one's row is left and nobody is at work on it",
        LEFT_BESIDE,
        "P28.other-left-over",
    ),
    *(
        (f"the same, and {words}", LEFT_BESIDE.but(beside=(other,)), rule)
        for words, other, rule in (
            ("a case of its own is at work", beside(B), "B8.other-unexplained"),
            ("a case that names none is at work", beside(None), "B8.other-unexplained"),
            ("a person has its case", beside(B, state=CaseState.PARKED), "P28.other-left-over"),
            ("a case of a third is at work", beside("c"), "P28.other-left-over"),
        )
    ),
    (
        "this server is right, the other one's row is being made",
        LEFT_BESIDE.but(
            attachments=(attachment(A), attachment(B, "reserved", instance_id=Y)),
            servers=(server(X, A), server(Y, host=H2)), gone=(), backend=(access(H1),),
        ),
        "B8.other-unexplained",
    ),
    # -- nothing left
    (
        "a server was deleted well, and nobody can see the backend",
        GUEST_LEFT.but(ended=((X, H1),)),
        "C2.nothing-left-blind",
    ),
    (
        "a detach ended well, its server was deleted since, and nobody can see the backend",
        GUEST_LEFT.but(deleted_by=((X, ("req-9",)),)),
        "C2.nothing-left-blind",
    ),
    (
        "a server was deleted while its compute was down, and the backend is clean",
        GUEST_LEFT.but(backend=()),
        "C1.nothing-left",
    ),
    ("available, no row, no device, nobody on the backend", Picture(), "C1.nothing-left"),
    (
        "the same, and no instance is known",
        Picture(instance_id=None, servers=()),
        "C1.nothing-left",
    ),
    (
        "the subject is gone, others are attached as they should be",
        BESIDE.but(backend=(access(H2, sessions=1),)),
        "C1.nothing-left",
    ),
    (
        "the subject is gone, the volume is a shelved server's",
        SHELVED.but(attachment_id=B),
        "C1.nothing-left",
    ),
    ("the backend cannot be seen, nothing speaks of a leak", Picture(backend=BLIND),
     "C2.nothing-left-blind"),
    (
        "the backend cannot be seen, the driver reported its release",
        UC5.but(
            backend=BLIND,
            released_unasked=True,
            intents=(intent(StepKind.BACKEND_FORCE_DETACH),),
        ),
        "C2.nothing-left-blind",
    ),
)  # fmt: skip
