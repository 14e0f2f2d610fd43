"""Situations in words, and the rule that decides each: what is stuck, and what is healthy."""

from __future__ import annotations

from handlers.case import StepKind, StepResult
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    DELETED,
    DETACH,
    FAILED_DETACH,
    HELD,
    HOST_LET_GO,
    LEFT,
    MOVED_BACK,
    ONE_DELETED,
    ONE_LET_GO,
    OVERWRITTEN,
    RESIZED,
    ROLLED,
    ROW_IN_ERROR,
    ROW_LEFT,
    SHELVED,
    STRAY,
    UC1,
    UC1_LEGACY,
    UC1_RESERVED,
    UC2,
    UC2_LATE,
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
    holding,
    intent,
    server,
)

ACTING_AND_HEALTHY: tuple[tuple[str, Picture, str], ...] = (
    # -- the five use cases
    ("attaching, the backend lets the host in, Nova holds nothing", UC1, "UC1.unfinished"),
    ("attaching, nothing on the backend or in Nova", UC1.but(backend=()), "UC1.unfinished"),
    ("the row is only reserved, the backend was asked", UC1_RESERVED, "UC1.unfinished"),
    (
        "a failed driver check left error_attaching on an available volume",
        UC1.but(status="available", attachments=(attachment(A, "error_attaching"),)),
        "UC1.unfinished",
    ),
    (
        "the server was deleted before its attach got anywhere",
        UC1_RESERVED.but(servers=(), gone=(X,)),
        "UC1.unfinished",
    ),
    (
        "our own terminate through Cinder left in-use, the row unfinished",
        UC1.but(status="in-use", backend=BLIND, intents=(intent(StepKind.BACKEND_FORCE_DETACH),)),
        "UC1.unfinished",
    ),
    ("reserved the old way, without a row", UC1_LEGACY, "UC1.bare-reserve"),
    ("attached in truth, Cinder was not told", UC2, "UC2.attached"),
    ("the same, and the backend cannot be seen", UC2.but(backend=BLIND), "UC2.attached"),
    ("the retry won, then the first try finished late", UC2_LATE, "UC2.late-first-try"),
    ("Nova let go, Cinder says detaching", UC3, "UC3.released-in-nova"),
    ("the same, and the row is gone too", UC3.but(attachments=()), "UC3.released-in-nova"),
    (
        "an old-style detach failed on the driver and left error_detaching",
        UC3.but(attachments=(attachment(A, "error_detaching"),)),
        "UC3.released-in-nova",
    ),
    ("the wish to detach is on record, Nova did not do it", UC4, "UC4.wish-on-record"),
    ("the same, the backend has let go already", UC4.but(backend=()), "UC4.wish-on-record"),
    ("the same, and a late first try made it attaching again", OVERWRITTEN, "UC4.overwritten"),
    (
        "two servers have it, and the messages name the one whose detach is on record",
        WISH_NAMED,
        "UC4.wish-beside-others",
    ),
    (
        "a detach left its row in error on a volume that is in-use, and nobody uses it",
        FAILED_DETACH,
        "UC3.failed-detach",
    ),
    ("the same, and nobody is let in", FAILED_DETACH.but(backend=()), "UC3.failed-detach"),
    (
        "a client that is no server asked for the detach, and nobody is let in",
        HOST_LET_GO,
        "UC3.host-let-go",
    ),
    (
        "a detach failed at its end, and only its row in error is left on a free volume",
        ROW_IN_ERROR,
        "UC3.row-in-error",
    ),
    ("an attach was stuck, and its volume was reset to available", ROW_LEFT, "UC1.row-left"),
    (
        "the same, and its row was only reserved",
        ROW_LEFT.but(attachments=(attachment(A, "reserved"),)),
        "UC1.row-left",
    ),
    ("the same, and its server is deleted", ROW_LEFT.but(servers=(), gone=(X,)), "UC1.row-left"),
    (
        "unshelving broke off, the server was deleted: its last host, of no message, is let in",
        UC1.but(
            host=None, servers=(), gone=(X,), ended=((X, H1),),
            attachments=(attachment(A, "attaching", info=False),),
        ),
        "UC1.unfinished",
    ),
    ("we rolled it back, and crashed before asking Nova", ROLLED, "UC4.rolled"),
    ("available, but the backend lets the host in", UC5, "UC5.leaked"),
    (
        "the server is deleted, its host is still let in",
        UC5.but(servers=(), gone=(X,)),
        "UC5.leaked",
    ),
    (
        "UC5's signature was seen and the backend cannot be",
        UC5.but(backend=BLIND, released_unasked=True),
        "UC5.leaked",
    ),
    ("our reserve keeps others out", HELD, "UC5.held"),
    (
        "our reserve never answered, and the volume is reserved",
        HELD.but(intents=(intent(StepKind.CINDER_RESERVE, StepResult.INDETERMINATE),)),
        "UC5.held",
    ),
    (
        "our unreserve was meant and not made: a crash",
        HELD.but(
            backend=(),
            intents=(
                intent(StepKind.CINDER_RESERVE),
                intent(StepKind.CINDER_UNRESERVE, StepResult.INTENDED),
            ),
        ),
        "UC5.held",
    ),
    ("a second server's attach leaked, the first is right", BESIDE, "UC5.leaked-beside-others"),
    ("one of two servers is deleted, its guest ended", ONE_DELETED, "S4.deleted-beside-others"),
    (
        "the same, and no message says which row",
        ONE_DELETED.but(attachment_id=None, instance_id=None, host=None),
        "S4.deleted-beside-others",
    ),
    (
        "one of two servers let go, Cinder was not told",
        ONE_LET_GO,
        "S5.let-go-beside-others",
    ),
    (
        "a live migration was given up, its destination is still let in",
        MOVED_BACK,
        "UC5.left-by-migration",
    ),
    (
        "a live migration went well, its source is still let in",
        MOVED_BACK.but(
            attachments=(attachment(B, host=H2),), servers=(server(X, B, host=H2),), host=H1,
            backend=(access(H1), access(H2, sessions=1)), elsewhere=(holding(host=H1),),
        ),
        "UC5.left-by-migration",
    ),
    (
        "the same, and nobody can say who is on its source",
        MOVED_BACK.but(elsewhere=(holding(host=H2, up=None),)),
        "P17.unexplained",
    ),
    # -- left-overs
    ("a live migration's destination timed out, then finished late", STRAY, "S1.stray-row"),
    (
        "the destination failed and left a reserved row",
        STRAY.but(
            status="in-use", attachments=(attachment(B), attachment(A, "reserved")),
            backend=(access(H1, sessions=1),)
        ),
        "S1.stray-row",
    ),
    (
        "multiattach: the second server's attach was not cleaned up",
        BESIDE.but(status="attaching", attachments=(attachment(B, instance_id=Y), attachment(A,
            "attaching"))),
        "S1.stray-row",
    ),
    ("the source's row outlived a live migration that went well", LEFT, "S2.left-on-source"),
    (
        "the same, and Cinder listed both rows without saying which of them goes",
        LEFT.but(attachment_id=None, host=None),
        "S2.left-on-source",
    ),
    (
        "the server was deleted while the backend failed, which has let go since",
        DELETED,
        "S3.deleted-with-server",
    ),
    (
        "the same while detaching",
        DELETED.but(status="detaching"),
        "UC3.released-in-nova",
    ),
    (
        "its host is still let in, and Nova says that it ended the guest there",
        DELETED.but(attachments=(attachment(A, host=H1),), backend=(access(H1),), ended=((X, H1),)),
        "S3.deleted-with-server",
    ),
    (
        "the same, and the backend cannot be seen",
        DELETED.but(attachments=(attachment(A, host=H1),), backend=BLIND, ended=((X, H1),)),
        "S3.deleted-with-server",
    ),
    (
        "the same while detaching, and only the messages tell the host",
        DELETED.but(status="detaching", backend=BLIND, ended=((X, H1),)),
        "UC3.released-in-nova",
    ),
    # -- healthy
    ("attached and named", ATTACHED, "H2.attached"),
    ("the backend could not be seen, all else agrees", ATTACHED.but(backend=UNSEEN), "H2.attached"),
    ("a guest refused, Nova rolled back", ATTACHED.but(operation=DETACH), "H2.attached"),
    (
        "we rolled back for Nova, and Nova refused",
        ROLLED.but(
            intents=(
                intent(StepKind.CINDER_ROLL_DETACHING),
                intent(StepKind.NOVA_DETACH, StepResult.REFUSED),
            )
        ),
        "H2.attached",
    ),
    (
        "a migrated server, seen from its new row, the source's left behind",
        LEFT.but(attachment_id=B, host=H2, beside=(beside(A),)),
        "B8.other-unexplained",
    ),
    (
        "another server of a multiattach volume is attached too",
        ATTACHED.but(
            multiattach=True,
            attachments=(attachment(A), attachment(B, instance_id=Y)),
            servers=(server(X, A), server(Y, B, host=H2)),
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "H2.attached",
    ),
    (
        "the user attached it anew to the same server, under a new row",
        ATTACHED.but(attachments=(attachment(B),), servers=(server(X, B),), attachment_id=None),
        "H2.attached",
    ),
    (
        "a legacy attachment, which Nova's record does not name",
        ATTACHED.but(servers=(server(X, None),)),
        "H3.attached-the-old-way",
    ),
    ("a shelved server's reservation", SHELVED, "H1.shelved"),
    ("the row that a resize to another cell keeps for a revert", RESIZED, "H4.kept-for-a-revert"),
    (
        "the same, and the case is about the row that is in use",
        RESIZED.but(attachment_id=B, host=H2),
        "H2.attached",
    ),
    (
        "the same on a backend that cannot be seen",
        RESIZED.but(backend=BLIND, operation=DETACH),
        "H4.kept-for-a-revert",
    ),
    (
        "the same, confirmed, and Nova could not delete the row that it had kept",
        RESIZED.but(servers=(server(X, B, host=H2),)),
        "S1.stray-row",
    ),
    (
        "attached while shelved and offloaded: in-use without a connector",
        SHELVED.but(status="in-use", attachments=(attachment(A, info=False),)),
        "H1.shelved",
    ),
)  # fmt: skip
