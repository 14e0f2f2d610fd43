"""Signs of what is in motion, unseen or held: where each holds, and facts on which it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from handlers.case import StepKind, StepResult
from handlers.judgement import facts
from handlers.judgement.situation import Situation
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    LEFT,
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
    intent,
    row,
    server,
)
from tests.unit.handlers.recovery.stuck import DETACH

Sign = Callable[[Situation], bool]
Changes = tuple[dict[str, Any], ...]

FORCED = intent(StepKind.BACKEND_FORCE_DETACH)
TWO_SERVERS = (server(X, A), server(Y, B, host=H2))
TWO_ROWS = (row(A), row(B, instance_id=Y))

HOLDS_BUT_HELD: tuple[tuple[Sign, Picture, Changes], ...] = (
    (
        facts.volume_in_error,
        UC1.but(status="error_extending"),
        ({"status": "available"}, {"status": "in-use"}),
    ),
    (
        facts.volume_busy,
        UC1.but(migration="completing"),
        ({"migration": None}, {"migration": "success"}, {"migration": "error"}),
    ),
    (
        facts.server_busy,
        BESIDE.but(servers=(server(X), server(Y, B, task_state="migrating"))),
        ({"servers": (server(X), server(Y, B))}, {"servers": (), "unseen": (X, Y)}),
    ),
    (
        facts.other_attachment_in_the_making,
        ATTACHED.but(
            status="attaching", rows=(row(A), row(B, "attaching", Y)), servers=TWO_SERVERS
        ),
        (
            {"status": "in-use"},
            {"rows": (row(A),)},
            {"rows": (row(A, "attaching"), row(B, "attaching", Y))},
            {"servers": (server(X), server(Y, B, host=H2))},
            {"status": "detaching"},
        ),
    ),
    (
        facts.other_attachment_in_the_making,
        UC5.but(status="detaching", rows=(row(B, instance_id=Y),)),
        ({"rows": ()}, {"status": "in-use"}, {"attachment_id": None, "instance_id": None}),
    ),
    (
        facts.other_attachment_in_the_making,
        UC5.but(status="attaching"),
        (
            {"intents": (intent(StepKind.CINDER_RESERVE),)},
            {"attachment_id": None},
            {"status": "available"},
        ),
    ),
    (
        facts.compute_not_up,
        UC1.but(servers=(server(compute_up=False),)),
        (
            {"servers": (server(),)},
            {"servers": (server(compute_up=None, host=None),)},
            {"servers": (), "gone": (X,)},
            {"status": "available", "rows": (), "backend": ()},
            {"status": "available", "rows": (), "backend": BLIND},
        ),
    ),
    (
        facts.nova_detach_accepted,
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
        facts.detach_of_another_case,
        UC4.but(operation=Operation.ATTACH),
        (
            {"operation": DETACH},
            {"status": "in-use"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X),)},
        ),
    ),
    (
        facts.instance_unnamed,
        UC1.but(rows=(row(A, "attaching", None),)),
        (
            {"rows": (row(A, "attaching"),)},
            {"rows": (), "status": "available", "instance_id": None, "backend": ()},
            {"rows": (), "status": "available", "instance_id": None, "backend": BLIND},
        ),
    ),
    (
        facts.shelved_reservation,
        SHELVED,
        (
            {"status": "attaching"},
            {"status": "detaching"},
            {"status": "available"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X, vm_state="shelved_offloaded"),)},
            {"servers": (server(X, A, vm_state="active"),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        facts.attached_and_named,
        ATTACHED,
        (
            {"status": "detaching"},
            {"status": "available"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X),)},
            {"servers": (server(X, B),)},
            {"backend": ()},
            {"rows": (row(A), row(B)), "host": H2},
            {"rows": (row(A), row(B)), "known": ()},
            {"rows": (row(A), row(B, "reserved"))},
        ),
    ),
    (
        facts.attached_the_old_way,
        ATTACHED.but(servers=(server(X, None),)),
        (
            {"servers": (server(X),)},
            {"servers": (server(X, None, None),)},
            {"servers": (server(X, A, None),)},
            {"status": "available"},
            {"rows": (row(A, "attaching"),)},
            {"rows": TWO_ROWS},
        ),
    ),
    (
        facts.rolled_for_detach,
        ROLLED,
        (
            {"rows": (row(A), row(B))},
            {"status": "detaching"},
            {"servers": (server(X),)},
            {"operation": Operation.ATTACH},
            {"rows": ()},
        ),
    ),
    (
        facts.named_by_the_wrong_row,
        LEFT.but(attachment_id=B, rows=(row(A, host=H2), row(B, host=H1))),
        (
            {"rows": (row(A, host=H1), row(B, host=H2))},
            {"rows": (row(B),)},
            {"rows": (row(A, "reserved"), row(B))},
            {"servers": (server(X, host=H2),)},
        ),
    ),
    (
        facts.named_by_the_wrong_row,
        UC2.but(rows=(row(A, "attaching"), row(B))),
        ({"rows": (row(A, "attaching"),)}, {"servers": (server(X, B),)}),
    ),
    (
        facts.unfinished_sibling,
        ATTACHED.but(rows=(row(A), row(B, "reserved"))),
        (
            {"rows": (row(A), row(B, "reserved", Y))},
            {"rows": (row(A), row(B))},
            {"status": "reserved"},
        ),
    ),
    (
        facts.access_lost,
        ATTACHED.but(backend=()),
        (
            {"backend": UNSEEN},
            {"backend": BLIND},
            {"backend": (access(H2),), "known": (H2,)},
            {"backend": (access(H2),), "hosts_told": False},
            {"status": "detaching"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X, A, vm_state="stopped"),)},
            {"servers": (server(X, A, compute_up=False),)},
            {"servers": (server(X),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        facts.attaching_and_named,
        UC2,
        (
            {"status": "in-use"},
            {"status": "reserved"},
            {"rows": (row(A, "reserved"),)},
            {"servers": (server(X),)},
            {"backend": UNSEEN},
            {"rows": (row(A, "attaching"), row(B, "reserved"))},
        ),
    ),
    (
        facts.detaching_and_named,
        UC4,
        (
            {"status": "in-use"},
            {"rows": (row(A, "error_detaching"),)},
            {"servers": (server(X),)},
            {"operation": Operation.ATTACH},
            {"rows": TWO_ROWS},
            {"servers": (server(X, A, vm_state="shelved_offloaded"),)},
            {"servers": (server(X, A, launched=False),)},
        ),
    ),
    (
        facts.whose_wish,
        UC4.but(rows=TWO_ROWS, servers=TWO_SERVERS),
        (
            {"rows": (row(A),)},
            {"status": "in-use"},
            {"rows": (row(A, "attaching"), row(B, instance_id=Y))},
            {"servers": (server(X), server(Y, B, host=H2))},
        ),
    ),
)
