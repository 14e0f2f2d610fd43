"""Signs of what is in motion, unseen or held: where each holds, and facts on which it does not."""

from __future__ import annotations

from typing import Any

from handlers.case import StepKind, StepResult
from handlers.judgement.facts import Predicate
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    LEFT,
    OVERWRITTEN,
    RESIZED,
    ROLLED,
    SHELVED,
    UC1,
    UC2,
    UC4,
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
    attachment,
    intent,
    server,
)
from tests.unit.handlers.recovery.stuck import DETACH

Sign = Predicate | str
"""A fact, or the id of a rule, which stands for all that the rule asks for."""
Changes = tuple[dict[str, Any], ...]

FORCED = intent(StepKind.BACKEND_FORCE_DETACH)
TWO_SERVERS = (server(X, A), server(Y, B, host=H2))
TWO_ROWS = (attachment(A), attachment(B, instance_id=Y))

HOLDS_BUT_HELD: tuple[tuple[Sign, Picture, Changes], ...] = (
    (
        "P1.volume-error",
        UC1.but(status="error_extending"),
        ({"status": "available"}, {"status": "in-use"}),
    ),
    (
        "B1.volume-busy",
        UC1.but(migration="completing"),
        ({"migration": None}, {"migration": "success"}, {"migration": "error"}),
    ),
    (
        "B2.server-busy",
        BESIDE.but(servers=(server(X), server(Y, B, task_state="migrating"))),
        ({"servers": (server(X), server(Y, B))}, {"servers": (), "unseen": (X, Y)}),
    ),
    (
        "B3.other-attachment",
        ATTACHED.but(
            status="attaching",
            attachments=(attachment(A), attachment(B, "attaching", Y)),
            servers=TWO_SERVERS,
        ),
        (
            {"status": "in-use"},
            {"attachments": (attachment(A),)},
            {"attachments": (attachment(A, "attaching"), attachment(B, "attaching", Y))},
            {"servers": (server(X), server(Y, B, host=H2))},
            {"status": "detaching"},
        ),
    ),
    (
        "B3.other-attachment",
        UC5.but(status="detaching", attachments=(attachment(B, instance_id=Y),)),
        ({"attachments": ()}, {"status": "in-use"}, {"attachment_id": None, "instance_id": None}),
    ),
    (
        "B3.other-attachment",
        UC5.but(status="attaching"),
        (
            {"intents": (intent(StepKind.CINDER_RESERVE),)},
            {"attachment_id": None},
            {"status": "available"},
        ),
    ),
    (
        "B4.compute-down",
        UC1.but(servers=(server(compute_up=False),)),
        (
            {"servers": (server(),)},
            {"servers": (server(compute_up=None, host=None),)},
            {"servers": (), "gone": (X,)},
            {"status": "available", "attachments": (), "backend": ()},
            {"status": "available", "attachments": (), "backend": BLIND},
        ),
    ),
    (
        "B5.nova-detaching",
        UC4.but(attempts=3, intents=(intent(StepKind.NOVA_DETACH, attempt=1),)),
        (
            {"attempts": 4},
            {"status": "in-use"},
            {"intents": ()},
            {"intents": (intent(StepKind.NOVA_DETACH, StepResult.REFUSED),)},
            {"intents": (intent(StepKind.NOVA_DETACH, StepResult.WITHHELD),)},
            {"intents": (intent(StepKind.NOVA_DETACH, StepResult.TRANSIENT),)},
            {"intents": (intent(StepKind.NOVA_DETACH, attachment_id=B),)},
            {"intents": (intent(StepKind.CINDER_ROLL_DETACHING),)},
        ),
    ),
    (
        "B6.detach-asked-since",
        UC4.but(operation=Operation.ATTACH),
        (
            {"operation": DETACH},
            {"status": "in-use"},
            {"attachments": (attachment(A, "attaching"),)},
            {"servers": (server(X),)},
        ),
    ),
    (
        "P4.no-instance",
        UC1.but(attachments=(attachment(A, "attaching", None),)),
        (
            {"attachments": (attachment(A, "attaching"),)},
            {"attachments": (), "status": "available", "instance_id": None, "backend": ()},
            {"attachments": (), "status": "available", "instance_id": None, "backend": BLIND},
        ),
    ),
    (
        "H1.shelved",
        SHELVED,
        (
            {"status": "attaching"},
            {"status": "detaching"},
            {"status": "available"},
            {"attachments": (attachment(A, "attaching"),)},
            {"servers": (server(X, vm_state="shelved_offloaded"),)},
            {"servers": (server(X, A, vm_state="active"),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        "H4.kept-for-a-revert",
        RESIZED,
        (
            {"status": "detaching"},
            {"servers": (server(X, B, host=H2),)},
            {"servers": (server(X, host=H2, vm_state="resized"),)},
            {"attachments": (attachment(B, host=H2), attachment(A, "attaching"))},
            {"attachments": (attachment(B, host=H2), attachment(A, "reserved", info=True))},
            {"attachments": (attachment(A, "reserved"),)},
            {"attachments": (attachment(B, "attaching"), attachment(A, "reserved"))},
            {"backend": (access(H2, sessions=1), access("a-stranger"))},
        ),
    ),
    (
        "H2.attached",
        ATTACHED,
        (
            {"status": "detaching"},
            {"status": "available"},
            {"attachments": (attachment(A, "attaching"),)},
            {"servers": (server(X),)},
            {"servers": (server(X, B),)},
            {"backend": ()},
            {"attachments": (attachment(A), attachment(B)), "host": H2},
            {"attachments": (attachment(A), attachment(B)), "known": ()},
            {"attachments": (attachment(A), attachment(B, "reserved"))},
        ),
    ),
    (
        "H3.attached-the-old-way",
        ATTACHED.but(servers=(server(X, None),)),
        (
            {"servers": (server(X),)},
            {"servers": (server(X, None, None),)},
            {"servers": (server(X, A, None),)},
            {"status": "available"},
            {"attachments": (attachment(A, "attaching"),)},
            {"attachments": TWO_ROWS},
        ),
    ),
    (
        "UC4.rolled",
        ROLLED,
        (
            {"attachments": (attachment(A), attachment(B))},
            {"status": "detaching"},
            {"servers": (server(X),)},
            {"operation": Operation.ATTACH},
            {"attachments": ()},
        ),
    ),
    (
        "P2.names-the-wrong-row",
        LEFT.but(attachment_id=B, attachments=(attachment(A, host=H2), attachment(B, host=H1))),
        (
            {"attachments": (attachment(A, host=H1), attachment(B, host=H2))},
            {"attachments": (attachment(B),)},
            {"attachments": (attachment(A, "reserved"), attachment(B))},
            {"servers": (server(X, host=H2),)},
        ),
    ),
    (
        "P2.names-the-wrong-row",
        UC2.but(attachments=(attachment(A, "attaching"), attachment(B))),
        ({"attachments": (attachment(A, "attaching"),)}, {"servers": (server(X, B),)}),
    ),
    (
        "P9.unfinished-sibling",
        ATTACHED.but(attachments=(attachment(A), attachment(B, "reserved"))),
        (
            {"attachments": (attachment(A), attachment(B, "reserved", Y))},
            {"attachments": (attachment(A), attachment(B))},
            {"status": "reserved"},
        ),
    ),
    (
        "P8.access-lost",
        ATTACHED.but(backend=()),
        (
            {"backend": UNSEEN},
            {"backend": BLIND},
            {"backend": (access(H2),), "known": (H2,)},
            {"backend": (access(H2),), "hosts_known": False},
            {"status": "detaching"},
            {"attachments": (attachment(A, "attaching"),)},
            {"servers": (server(X, A, vm_state="stopped"),)},
            {"servers": (server(X, A, compute_up=False),)},
            {"servers": (server(X),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        "UC2.attached",
        UC2,
        (
            {"status": "in-use"},
            {"status": "reserved"},
            {"attachments": (attachment(A, "reserved"),)},
            {"servers": (server(X),)},
            {"backend": UNSEEN},
            {"attachments": (attachment(A, "attaching"), attachment(B, "reserved"))},
        ),
    ),
    (
        "UC4.wish-on-record",
        UC4,
        (
            {"status": "in-use"},
            {"attachments": (attachment(A, "error_detaching"),)},
            {"servers": (server(X),)},
            {"operation": Operation.ATTACH},
            {"attachments": TWO_ROWS},
            {"servers": (server(X, A, vm_state="shelved_offloaded"),)},
            {"servers": (server(X, A, launched=False),)},
        ),
    ),
    (
        "UC4.overwritten",
        OVERWRITTEN,
        (
            {"status": "detaching"},
            {"attachments": (attachment(A, "attached"),)},
            {"attachments": (attachment(A, "attaching"), attachment(B, "reserved"))},
            {"servers": (server(X),)},
            {"servers": (server(X, A, launched=False),)},
            {"servers": (server(X, A, vm_state="shelved_offloaded"),)},
            {"operation": Operation.ATTACH},
            {"attachment_id": None},
            {"attachment_id": B},
            {"end_seen": True},
            {"backend": (access(H1),)},
            {"backend": (access(H2),)},
            {"backend": BLIND},
            {"backend": UNSEEN},
        ),
    ),
    (
        "P10.whose-wish",
        UC4.but(attachments=TWO_ROWS, servers=TWO_SERVERS),
        (
            {"attachments": (attachment(A),)},
            {"status": "in-use"},
            {"attachments": (attachment(A, "attaching"), attachment(B, instance_id=Y))},
            {"servers": (server(X), server(Y, B, host=H2))},
        ),
    ),
)
