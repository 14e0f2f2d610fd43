"""What was left behind: for a person, and single facts where no message says which row goes."""

from __future__ import annotations

from typing import Any

from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import ATTACHED, ONE_DELETED, UC2
from tests.unit.handlers.judgement.pictures import (
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
    server,
)

LEFT_FOR_A_PERSON: tuple[tuple[str, Picture, str], ...] = (
    (
        "the root disk of a server whose shelving failed at another volume: its guest is gone",
        Picture(
            status="reserved", attachments=(attachment(A, "reserved"),), servers=(server(X, A),)
        ),
        "P13.broke-off",
    ),
    (
        "attached in Nova and on the backend, by a host whose connector was never seen",
        UC2.but(known=()),
        "P7.foreign-connection",
    ),
    (
        "reserved and named, and the host is let in all the same",
        UC2.but(status="reserved", attachments=(attachment(A, "reserved"),)),
        "P37.half-done",
    ),
    (
        "attached in Nova and by its row, and somebody set the status to attaching",
        ATTACHED.but(status="attaching"),
        "P14.status-alone",
    ),
    (
        "the same, to reserved",
        ATTACHED.but(status="reserved"),
        "P14.status-alone",
    ),
    (
        "in-use by a server that runs and has no block device for it",
        ATTACHED.but(servers=(server(X),)),
        "P23.no-device",
    ),
    (
        "two servers of one host, one is deleted and its guest ended, its row is left",
        ONE_DELETED.but(
            attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
            servers=(server(Y, B),),
            backend=(access(H1, sessions=1),),
        ),
        "P24.deleted-on-a-shared-host",
    ),
)

UNTOLD: dict[str, Any] = {"attachment_id": None, "host": None}
_CHANGES: dict[str, dict[str, Any]] = {
    "and the server is still on the source": {"servers": (server(X, B, host=H1),)},
    "and Nova names neither": {"servers": (server(X, host=H2),)},
    "and Nova names both": {"servers": (server(X, A, B, host=H2),)},
    "and Nova names the source's": {"servers": (server(X, A, host=H2),)},
    "and the host of the unnamed one is not known": {
        "attachments": (attachment(A), attachment(B, host=H2))
    },
    "and a third is not named": {
        "attachments": (attachment(A, host=H1), attachment(B, host=H2), attachment("c", host=H3))
    },
    "and one is another server's": {
        "attachments": (
            attachment(A, host=H1),
            attachment(B, host=H2),
            attachment("c", instance_id=Y),
        ),
        "servers": (server(X, B, host=H2), server(Y, host=H3)),
        "instance_id": None,
    },
    "and the destination's is unfinished": {
        "attachments": (attachment(A, host=H1), attachment(B, "attaching", host=H2))
    },
    "and the source's is unfinished": {
        "attachments": (attachment(A, "reserved", host=H1), attachment(B, host=H2))
    },
    "and the server is on no host": {"servers": (server(X, B, host=None),)},
    "and it is about an attach": {"operation": Operation.ATTACH},
    "and a detach is under way, of whichever": {"status": "detaching"},
}
LEFT_UNTOLD_BUT: dict[str, dict[str, Any]] = {
    f"no message says which row, {words}": UNTOLD | change for words, change in _CHANGES.items()
}
