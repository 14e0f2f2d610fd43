"""Exports that nobody claims: the rule that decides each, and single facts that matter."""

from __future__ import annotations

from typing import Any

from drivers.base import Connection
from handlers.judgement.evidence import Holding, Unknown
from tests.unit.handlers.judgement.acting_pictures import GHOST, GHOST_HELD
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
    connector,
    holding,
    server,
)

GHOSTS: tuple[tuple[str, Picture, str], ...] = (
    # -- acted on
    ("exported to a compute host, and neither Cinder nor Nova knows of it", GHOST, "UC5.ghost"),
    (
        "the same, by a message that named the attachment",
        GHOST.but(attachment_id=A, host=None, connector=connector(H1)),
        "UC5.ghost",
    ),
    (
        "the same, with a session: a guard's business",
        GHOST.but(backend=(access(H1, sessions=1),)),
        "UC5.ghost",
    ),
    ("the same, our reserve keeps others out", GHOST_HELD, "UC5.held"),
    ("the same, the connection has gone", GHOST_HELD.but(backend=()), "UC5.held"),
    # -- somebody else is at work, or cannot be seen
    (
        "the compute of the only host that is let in is down: its guests may be running",
        GHOST.but(holding=holding(up=False)),
        "B4.compute-down",
    ),
    (
        "it went down while our reserve keeps others out",
        GHOST_HELD.but(holding=holding(up=False)),
        "B4.compute-down",
    ),
    ("a backup has a ghost's volume mapped", GHOST.but(status="backing-up"), "B1.volume-busy"),
    (
        "Nova did not say, or not surely, who may be using it on the only host",
        GHOST.but(holding=Holding(H1, None, Unknown("Nova: half a list"))),
        "X2.nova-unknown",
    ),
    # -- for a person
    (
        "exported to a host that is no compute: a backup's, an image's",
        GHOST.but(holding=holding(up=None)),
        "P4.no-instance",
    ),
    (
        "exported to a host whose connector was never seen",
        GHOST.but(known=(), host=None, holding=None),
        "P4.no-instance",
    ),
    (
        "exported to a host, and to somebody else",
        GHOST.but(backend=(access(H1), access(H2)), holding=None),
        "P4.no-instance",
    ),
    (
        "exported to somebody, and the driver cannot say whom",
        GHOST.but(hosts_known=False, holding=None),
        "P4.no-instance",
    ),
    (
        "reset by hand while the guest writes on",
        GHOST.but(backend=(access(H1, sessions=1),), holding=holding(X)),
        "P6.guest-holds",
    ),
    (
        "reset by hand, attached the old way, which no session tells of",
        GHOST.but(holding=holding(X)),
        "P6.guest-holds",
    ),
    (
        "its server is being migrated to the host, or was evacuated off it",
        GHOST.but(holding=holding(Y)),
        "P6.guest-holds",
    ),
    (
        "a server got hold of it while our reserve keeps others out",
        GHOST_HELD.but(holding=holding(X)),
        "P6.guest-holds",
    ),
)  # fmt: skip

GHOST_BUT: dict[str, dict[str, Any]] = {
            "a server may be using it there": {"holding": holding(X)},
            "Nova was not asked": {"holding": None},
            "Nova did not say": {"holding": Holding(H1, None, Unknown("Nova: no answer"))},
            "Nova did not say who, only that the compute is up": {
                "holding": Holding(H1, True, Unknown("Nova: half a list"))
            },
            "the compute is down": {"holding": holding(up=False)},
            "the host is no compute": {"holding": holding(up=None)},
            "Nova was asked of another host": {"holding": holding(host=H2)},
            "the host let in is another": {"backend": (access(H2),)},
            "somebody else is let in too": {"backend": (access(H1), access("stranger"))},
            "another host that is known is let in too": {"backend": (access(H1), access(H2))},
            "somebody else holds a session without access": {
                "backend": (access(H1), Connection("stranger", access=False, sessions=1))
            },
            "the driver cannot say whose connection it is": {"hosts_known": False},
            "the host's connector was never seen": {"known": ()},
            "nobody is let in": {"backend": ()},
            "the backend cannot be seen": {"backend": BLIND},
            "a new row of a server": {"attachments": (attachment(B, "reserved"),),
                "status": "reserved"},
            "a row of nobody's": {"attachments": (attachment(B, "attaching", None),),
                "status": "attaching"},
            "the row of a ghost that was attached anew": {
                "attachments": (attachment(B),), "status": "in-use", "servers": (server(X, B),)
            },
            "a row in error": {"attachments": (attachment(B, "error_attaching", None),)},
            "somebody reserved it": {"status": "attaching"},
            "it is in use without a row": {"status": "in-use"},
            "a detach without a row": {"status": "detaching"},
            "a server that is known to be meant did not answer": {
                "instance_id": X, "unseen": (X,)
            },
            "a server that is known to be meant has it": {
                "instance_id": X, "servers": (server(X, None),)
            },
}  # fmt: skip
