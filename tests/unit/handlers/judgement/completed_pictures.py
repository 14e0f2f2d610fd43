"""An attach that we completed: what the operator wants of it, and single facts that matter."""

from __future__ import annotations

from typing import Any

from handlers.case import StepKind, StepResult
from handlers.judgement.policy import LateAttach
from tests.unit.handlers.judgement.acting_pictures import COMPLETED
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H2,
    A,
    B,
    Picture,
    X,
    Y,
    attachment,
    intent,
    server,
)

COMPLETE, ROLL, NOVA = (
    intent(kind)
    for kind in (StepKind.CINDER_COMPLETE, StepKind.CINDER_ROLL_DETACHING, StepKind.NOVA_DETACH)
)
DETACHING = COMPLETED.but(status="detaching")

COMPLETED_ATTACHES: tuple[tuple[str, Picture, str], ...] = (
    ("completed by us, and the operator wants it detached", COMPLETED, "UC2.completed"),
    ("the same, on a backend that cannot be seen", COMPLETED.but(backend=BLIND), "UC2.completed"),
    (
        "the same, whether it was completed is not known",
        COMPLETED.but(intents=(intent(StepKind.CINDER_COMPLETE, StepResult.INTENDED),)),
        "UC2.completed",
    ),
    ("Nova is at our detach of it", DETACHING.but(intents=(COMPLETE, NOVA)), "B5.nova-detaching"),
    (
        "Nova accepted our detach of it long ago, and it came to nothing",
        DETACHING.but(intents=(COMPLETE, NOVA), attempts=5),
        "UC4.wish-on-record",
    ),
    (
        "that was rolled back, for Nova to be asked anew",
        COMPLETED.but(intents=(COMPLETE, NOVA, ROLL), attempts=5),
        "UC4.rolled",
    ),
    (
        "its guest refused: Nova has answered",
        COMPLETED.but(intents=(COMPLETE, NOVA)),
        "H2.attached",
    ),
    (
        "somebody else asked for the detach before we did",
        DETACHING.but(intents=(COMPLETE,)),
        "B6.detach-asked-since",
    ),
    (
        "our detach was not made, and somebody else asked for one",
        DETACHING.but(intents=(COMPLETE, intent(StepKind.NOVA_DETACH, StepResult.WITHHELD))),
        "B6.detach-asked-since",
    ),
    (
        "somebody else asks for the detach of an attach that we kept",
        DETACHING.but(intents=(COMPLETE,), late_attach=LateAttach.KEEP),
        "B6.detach-asked-since",
    ),
)

COMPLETED_BUT: dict[str, dict[str, Any]] = {
    "the operator wants it kept": {"late_attach": LateAttach.KEEP},
    "it is known to have ended well": {"end_seen": True},
    "nothing of ours is on record": {"intents": ()},
    "what we completed was another attachment": {
        "intents": (intent(StepKind.CINDER_COMPLETE, attachment_id=B),)
    },
    "our complete was refused": {
        "intents": (intent(StepKind.CINDER_COMPLETE, StepResult.REFUSED),)
    },
    "Nova did not answer": {"servers": (), "unseen": (X,)},
    "a task runs": {"servers": (server(X, A, task_state="migrating"),)},
    "a second row of the server": {"attachments": (attachment(A), attachment(B))},
    "another server has it too": {
        "attachments": (attachment(A), attachment(B, instance_id=Y)), "servers": (server(X, A),
            server(Y, B, host=H2))
    },
    "the block device names another row": {"servers": (server(X, B),)},
    "the compute is down": {"servers": (server(X, A, compute_up=False),)},
    "the server is in error": {"servers": (server(X, A, vm_state="error"),)},
    "the server never ran": {"servers": (server(X, A, launched=False),)},
}  # fmt: skip
