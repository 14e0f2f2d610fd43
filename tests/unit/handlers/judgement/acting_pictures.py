"""The pictures on which a rule acts, and the healthy ones that look like them."""

from __future__ import annotations

from handlers.case import StepKind
from handlers.judgement.policy import LateAttach
from handlers.notification import Operation
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
    intent,
    server,
)

DETACH = Operation.DETACH

UC1 = Picture(status="attaching", attachments=(attachment(A, "attaching"),), backend=(access(H1),))
UC1_RESERVED = UC1.but(status="reserved", attachments=(attachment(A, "reserved"),))
DELETED_IN_BUILDING = UC1_RESERVED.but(
    servers=(), gone=(X,), backend=BLIND, host=None, starts=0, never_built=(X,)
)
"""No compute ever had its server, so that no host was ever let in for its row."""
UC1_LEGACY = Picture(status="attaching", attachment_id=None)
UC2 = UC1.but(servers=(server(X, A),), backend=(access(H1, sessions=1),))
COMPLETED = UC2.but(
    status="in-use",
    attachments=(attachment(A),),
    intents=(intent(StepKind.CINDER_COMPLETE),),
    late_attach=LateAttach.DETACH,
    attempts=2,
)
UC2_LATE = UC2.but(end_seen=True)
UC3 = Picture(status="detaching", attachments=(attachment(A),), operation=DETACH)
UC4 = Picture(
    status="detaching",
    attachments=(attachment(A),),
    servers=(server(X, A),),
    backend=(access(H1, sessions=1),),
    operation=DETACH,
)
RESIZED = Picture(
    status="in-use",
    attachments=(attachment(B, host=H2), attachment(A, "reserved")),
    servers=(server(X, B, host=H2, vm_state="resized"),),
    backend=(access(H2, sessions=1),),
)
"""Resized to another cell and not confirmed: Nova keeps A for a revert."""
FAILED_DETACH = UC3.but(
    status="in-use", attachments=(attachment(A, "error_detaching"),), backend=(access(H1),)
)
LET_GO_IN_USE = UC3.but(status="in-use", attachments=(attachment(A, host=H1),))
"""A detach that Cinder's status does not tell of, and Nova has let go."""
HOST_LET_GO = UC3.but(
    attachments=(attachment(A, instance_id=None, host=H2),), instance_id=None, servers=(), host=H2
)
"""A client that is no server asked for the detach, and the backend lets nobody in."""
WISH_NAMED = UC4.but(
    multiattach=True,
    attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H2)),
    servers=(server(X, A), server(Y, B, host=H2)),
    backend=(access(H1), access(H2, sessions=1)),
)
"""Two servers have it, and the messages name the one whose detach is on record."""
ROLLED = UC4.but(status="in-use", intents=(intent(StepKind.CINDER_ROLL_DETACHING),), attempts=2)
OVERWRITTEN = UC4.but(status="attaching", attachments=(attachment(A, "attaching"),), backend=())
ROW_IN_ERROR = UC3.but(status="available", attachments=(attachment(A, "error_detaching"),))
ROW_LEFT = UC1.but(status="available", backend=())
"""An attach was stuck, and a person reset the status alone."""
UC5 = Picture(backend=(access(H1),))
HELD = UC5.but(status="attaching", intents=(intent(StepKind.CINDER_RESERVE),), attempts=2)
GHOST = UC5.but(attachment_id=None, instance_id=None, servers=(), holding=holding())
GHOST_HELD = GHOST.but(status="attaching", intents=HELD.case.intents, attempts=2)
BESIDE = Picture(
    status="in-use",
    multiattach=True,
    attachments=(attachment(B, instance_id=Y),),
    servers=(server(X), server(Y, B, host=H2)),
    backend=(access(H1), access(H2, sessions=1)),
)
STRAY = Picture(
    status="attaching",
    attachments=(attachment(B), attachment(A, "attaching")),
    servers=(server(X, B),),
    host=H2,
    backend=(access(H1, sessions=1), access(H2)),
)
LEFT = Picture(
    status="in-use",
    attachments=(attachment(A, host=H1), attachment(B, host=H2)),
    servers=(server(X, B, host=H2),),
    backend=(access(H1), access(H2, sessions=1)),
    computes=((H1, True),),
    operation=DETACH,
)
ONE_DELETED = Picture(
    status="in-use",
    multiattach=True,
    attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H2)),
    servers=(server(Y, B, host=H2),),
    gone=(X,),
    ended=((X, H1),),
    backend=(access(H1), access(H2, sessions=1)),
    operation=DETACH,
)
ONE_LET_GO = ONE_DELETED.but(
    status="detaching", gone=(), ended=(), servers=(server(X), server(Y, B, host=H2))
)
MOVED_BACK = Picture(
    status="in-use",
    attachments=(attachment(B, host=H1),),
    servers=(server(X, B, host=H1),),
    host=H2,
    backend=(access(H1, sessions=1), access(H2)),
    elsewhere=(holding(host=H2),),
    operation=DETACH,
)
"""A live migration was given up, and the destination is still let in."""
ATTACHED = Picture(
    status="in-use",
    attachments=(attachment(A),),
    servers=(server(X, A),),
    backend=(access(H1, sessions=1),),
)
SHELVED = Picture(
    status="reserved",
    attachments=(attachment(A, "reserved"),),
    servers=(server(X, A, vm_state="shelved_offloaded", host=None, compute_up=None),),
    operation=DETACH,
)
LEFT_BESIDE = ATTACHED.but(
    multiattach=True,
    attachments=(attachment(A), attachment(B, instance_id=Y)),
    gone=(Y,),
    backend=(access(H1, sessions=1),),
)
"""Its own attachment is right; that of a deleted server is left beside it."""
GUEST_LEFT = Picture(
    servers=(), gone=(X,), deleted_by=((X, ("req-1",)),), backend=BLIND, operation=DETACH
).but(end_seen=True)
"""nova-api deleted the server and its attachment, and no compute ended the guest."""
MIGRATING = ATTACHED.but(
    attachments=(attachment(B), attachment(A)),
    servers=(server(X, A, task_state="migrating"),),
    host=H2,
    backend=(access(H1, sessions=1), access(H2)),
)
DELETED = Picture(
    status="in-use", attachments=(attachment(A),), servers=(), gone=(X,), operation=DETACH
)
ENDED = DELETED.but(
    attachments=(attachment(A, host=H1),), ended=((X, H1),), backend=(access(H1, sessions=1),)
)
