"""Signs of what was let go: where each holds, and single facts on which it does not."""

from __future__ import annotations

from handlers.case import StepKind
from handlers.judgement import facts
from handlers.judgement.evidence import Fact, Holding, Unknown
from tests.unit.handlers.judgement.acting_pictures import (
    BESIDE,
    DELETED,
    GHOST,
    GHOST_HELD,
    HELD,
    LEFT,
    STRAY,
    UC1,
    UC1_LEGACY,
    UC3,
    UC5,
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
    holding,
    intent,
    row,
    server,
)
from tests.unit.handlers.judgement.signs_held import FORCED, TWO_ROWS, Changes, Sign
from tests.unit.handlers.recovery.stuck import DETACH

HOLDS_BUT_LET_GO: tuple[tuple[Sign, Picture, Changes], ...] = (
    (
        facts.let_go,
        UC1,
        (
            {"servers": (server(X, None),)},
            {"servers": (), "unseen": (X,)},
            {"rows": (row(A, "attaching", None),)},
        ),
    ),
    (
        facts.host_uses_nothing,
        GHOST,
        (
            {"holding": None},
            {"holding": holding(X)},
            {"holding": holding(up=False)},
            {"holding": holding(up=None)},
            {"holding": Holding(H1, True, Unknown("Nova: half a list"))},
            {"holding": Holding(H1, False, Fact(()))},
            {"holding": holding(host=H2)},
            {"instance_id": X},
            {"rows": (row(B, "reserved", None),)},
        ),
    ),
    (
        "UC5.ghost",
        GHOST,
        (
            {"status": "attaching"},
            {"status": "in-use"},
            {"backend": ()},
            {"backend": (access(H2),)},
            {"backend": (access(H1), access(H2))},
            {"backend": BLIND},
            {"backend": UNSEEN},
            {"hosts_known": False},
            {"known": ()},
            {"holding": holding(X)},
            {"rows": (row(B, "error_attaching", None),)},
        ),
    ),
    (
        "UC5.held",
        GHOST_HELD,
        (
            {"intents": ()},
            {"status": "available"},
            {"holding": None},
            {"holding": holding(X)},
            {"holding": holding(up=False)},
            {"rows": (row(B, "attaching", None),)},
        ),
    ),
    (
        "UC1.unfinished",
        UC1,
        (
            {"status": "available"},
            {"status": "in-use"},
            {"status": "detaching"},
            {"rows": (row(A),)},
            {"rows": ()},
            {"rows": (row(A, "attaching"), row(B, "reserved"))},
            {"servers": (server(X, A),)},
            {"status": "in-use", "intents": (intent(StepKind.CINDER_RESERVE),)},
            {"status": "backing-up", "intents": (FORCED,)},
        ),
    ),
    (
        "UC1.bare-reserve",
        UC1_LEGACY,
        (
            {"status": "available"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X, None),)},
            {"attachment_id": A},
            {"operation": DETACH},
        ),
    ),
    (
        "UC5.held",
        HELD,
        (
            {"status": "available"},
            {"rows": (row(B, "reserved"),)},
            {"servers": (server(X, None),)},
            {"intents": ()},
        ),
    ),
    (
        "P5.server-deleted",
        UC1.but(servers=(), gone=(X,), end_seen=True),
        (
            {"end_seen": False},
            {"operation": DETACH},
            {"rows": ()},
            {"servers": (server(X),), "gone": ()},
        ),
    ),
    (
        "P5.server-deleted",
        UC1.but(servers=(), gone=(X,), backend=BLIND),
        ({"rows": (row(A, "reserved"),)}, {"backend": ()}),
    ),
    (
        "P5.server-deleted",
        UC3.but(servers=(), gone=(X,), backend=(access(H1),)),
        ({"backend": ()}, {"rows": ()}, {"servers": (server(),), "gone": ()}),
    ),
    (
        "S3.deleted-with-server",
        DELETED,
        (
            {"status": "detaching"},
            {"rows": (row(A, "attaching"),)},
            {"rows": (row(A), row(B, instance_id=Y))},
            {"servers": (server(),), "gone": ()},
            {"backend": (access(H1),)},
            {"backend": BLIND},
        ),
    ),
    (
        "UC3.released-in-nova",
        UC3,
        (
            {"status": "in-use"},
            {"rows": TWO_ROWS},
            {"servers": (server(X, A),)},
            {"servers": (), "unseen": (X,)},
        ),
    ),
    (
        "UC5.leaked",
        UC5,
        (
            {"status": "reserved"},
            {"rows": (row(B, "error_attaching"),)},
            {"servers": (server(X, None),)},
            {"backend": ()},
            {"backend": (access(H2),)},
            {"released_unasked": True, "backend": ()},
        ),
    ),
    (
        "UC5.leaked",
        UC5.but(backend=BLIND, released_unasked=True),
        ({"released_unasked": False}, {"backend": UNSEEN}, {"intents": (FORCED,)}),
    ),
    (
        "UC5.leaked-beside-others",
        BESIDE,
        (
            {"rows": (row(A), row(B, instance_id=Y))},
            {"status": "attaching"},
            {"servers": (server(X, None), server(Y, B, host=H2))},
            {"backend": (access(H2),)},
            {"servers": (server(X), server(Y, B, host=H1))},
            {"servers": (server(X), server(Y, host=H2))},
            {"rows": ()},
        ),
    ),
    (
        "S1.stray-row",
        STRAY,
        (
            {"status": "detaching"},
            {"rows": (row(B), row(A))},
            {"servers": (server(X, A, B),)},
            {"servers": (server(X, B, None),)},
            {"rows": (row(A, "attaching"),)},
            {"rows": (row(B, "attaching"), row(A, "attaching"))},
            {"servers": (server(X),)},
            {"rows": (row(B, instance_id=Y), row(A, "attaching")), "servers": (server(Y, B),),
             "gone": (X,)},
        ),
    ),
    (
        "S2.left-on-source",
        LEFT,
        (
            {"status": "attaching"},
            {"rows": (row(A, "attaching"), row(B))},
            {"servers": (server(X, A, B, host=H2),)},
            {"servers": (server(X, B, host=None),)},
            {"servers": (server(X, B, host=H1),)},
            {"servers": (server(X, B, None, host=H2),)},
            {"rows": (row(A), row(B, "attaching"))},
            {"rows": (row(A), row(B), row("c"))},
            {"rows": (row(A),)},
            {"known": ()},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        "C1.nothing-left",
        Picture(),
        (
            {"rows": (row(A, "error_attaching"),)},
            {"servers": (server(X, None),)},
            {"status": "in-use"},
            {"status": "detaching"},
            {"backend": (access("stranger"),)},
            {"backend": UNSEEN},
            {"backend": BLIND},
        ),
    ),
    (
        "C2.nothing-left-blind",
        Picture(backend=BLIND),
        (
            {"rows": (row(A, "error_attaching"),)},
            {"servers": (server(X, None),)},
            {"status": "in-use"},
            {"released_unasked": True},
            {"backend": ()},
            {"backend": UNSEEN},
        ),
    ),
)  # fmt: skip
