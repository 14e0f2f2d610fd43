"""Near-misses: for each rule that acts its picture, and single facts on which it must not."""

from __future__ import annotations

from typing import Any

from handlers.case import StepKind, StepResult
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    BESIDE,
    COMPLETED,
    DELETED,
    DETACH,
    FAILED_DETACH,
    GHOST,
    HELD,
    HOST_LET_GO,
    LEFT,
    LET_GO_IN_USE,
    MOVED_BACK,
    ONE_DELETED,
    ONE_LET_GO,
    OVERWRITTEN,
    ROLLED,
    ROW_IN_ERROR,
    ROW_LEFT,
    STRAY,
    UC1,
    UC1_LEGACY,
    UC2,
    UC3,
    UC4,
    UC5,
    WISH_NAMED,
)
from tests.unit.handlers.judgement.completed_pictures import COMPLETED_BUT
from tests.unit.handlers.judgement.ghost_pictures import GHOST_BUT
from tests.unit.handlers.judgement.left_pictures import LEFT_UNTOLD_BUT
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
    beside,
    holding,
    intent,
    server,
)

SEES_TO_IT: dict[str, dict[str, Any]] = {
    "the volume is in error": {"status": "error"},
    "a backup runs": {"status": "backing-up"},
    "the volume migrates": {"migration": "migrating"},
    "the backend did not answer": {"backend": UNSEEN},
}
BASES: dict[str, tuple[Picture, dict[str, dict[str, Any]]]] = {
    "UC1.unfinished": (
        UC1,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "a task runs": {"servers": (server(X, task_state="rebooting"),)},
            "Nova's block device names the row": {"servers": (server(X, A),), "backend": ()},
            "Nova's block device names nothing": {"servers": (server(X, None),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "the compute is not known to be up": {"servers": (server(X, compute_up=None),)},
            "the row is attached": {"status": "in-use", "attachments": (attachment(A),)},
            "the row is no server's": {"attachments": (attachment(A, "attaching", None),)},
            "another server's row is in the making too": {
                "attachments": (attachment(A, "attaching"), attachment(B, "attaching", Y)),
                "servers": (server(X), server(Y, B)),
            },
        },
    ),
    "UC1.bare-reserve": (
        UC1_LEGACY,
        {
            "the attach is known to have had a row": {"attachment_id": A},
            "the case is about a detach": {"operation": DETACH},
            "no instance is known": {"instance_id": None, "servers": ()},
            "Nova has a block device": {"servers": (server(X, None),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
        },
    ),
    "UC2.attached": (
        UC2,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "a task runs": {"servers": (server(X, A, task_state="migrating"),)},
            "the backend lets nobody in": {"backend": ()},
            "the backend lets in another host only": {"backend": (access(H2),)},
            "the block device names another row": {"servers": (server(X, B),)},
            "a second row of the server": {"attachments": (attachment(A, "attaching"),
                attachment(B))},
            "the compute is down": {"servers": (server(X, A, compute_up=False),)},
            "the server never ran": {"servers": (server(X, A, launched=False),)},
            "the server is in error": {"servers": (server(X, A, vm_state="error"),)},
            "the server is shelved": {
                "servers": (server(X, A, vm_state="shelved_offloaded", host=None),)
            },
            "the row is only reserved": {"attachments": (attachment(A, "reserved"),)},
        },
    ),
    "UC2.completed": (COMPLETED, COMPLETED_BUT),
    "UC3.released-in-nova": (
        UC3,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "the server is gone, its host is still let in": {
                "servers": (), "gone": (X,), "backend": (access(H1),)
            },
            "the server is gone, the backend cannot be seen": {
                "servers": (), "gone": (X,), "backend": BLIND
            },
            "the server is gone, the row is in error, and its host is still let in": {
                "attachments": (attachment(A, "error_detaching"),), "servers": (), "gone": (X,),
                "backend": (access(H1),),
            },
            "a task runs": {"servers": (server(X, task_state="deleting"),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "the compute is not known to be up": {"servers": (server(X, compute_up=None),)},
            "a block device that names nothing": {"servers": (server(X, None),)},
            "another server has it too": {
                "attachments": (attachment(A), attachment(B, instance_id=Y)),
                "servers": (server(X), server(Y, B, host=H2)),
            },
            "no instance is known, and its host is let in": {
                "attachments": (attachment(A, instance_id=None),), "instance_id": None,
                "servers": (), "backend": (access(H1),)
            },
        },
    ),
    "UC4.wish-on-record": (
        UC4,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "a task runs": {"servers": (server(X, A, task_state="migrating"),)},
            "the compute is down": {"servers": (server(X, A, compute_up=False),)},
            "another server has it too, and no message names the row": {
                "attachments": (attachment(A), attachment(B, instance_id=Y)),
                "servers": (server(X, A), server(Y, B, host=H2)),
                "attachment_id": None,
            },
            "a second row of the server": {"attachments": (attachment(A), attachment(B))},
            "the case is about an attach": {"operation": Operation.ATTACH},
            "the status went back to in-use": {"status": "in-use"},
            "Nova has just accepted it": {"intents": (intent(StepKind.NOVA_DETACH),)},
            "the row is in error": {"attachments": (attachment(A, "error_detaching"),)},
            "the server is in error": {"servers": (server(X, A, vm_state="error"),)},
        },
    ),
    "UC4.wish-beside-others": (
        WISH_NAMED,
        {
            "no message names the row": {"attachment_id": None},
            "another detach is known of": {"beside": (beside(B),)},
            "another detach is known of, of whichever": {"beside": (beside(None),)},
            "the end of this detach was heard": {"end_seen": True},
            "the case is about an attach": {"operation": Operation.ATTACH},
            "the status went back to in-use": {"status": "in-use"},
            "Nova has just accepted it": {"intents": (intent(StepKind.NOVA_DETACH),)},
            "both servers are on one host": {
                "attachments": (attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
                "servers": (server(X, A), server(Y, B)), "backend": (access(H1, sessions=1),),
            },
            "the other server's host is not known": {
                "servers": (server(X, A),), "unseen": (Y,),
            },
            "nothing names the other row": {"servers": (server(X, A), server(Y, host=H2))},
            "the other row is being made": {
                "attachments": (attachment(A), attachment(B, "attaching", instance_id=Y, host=H2))
            },
            "the other server is deleted": {"servers": (server(X, A),), "gone": (Y,)},
            "the other row is no server's": {
                "attachments": (attachment(A), attachment(B, instance_id=None, host=H2))
            },
            "its server has a second row: a live migration": {
                "attachments": (attachment(A, host=H1), attachment(B, host=H2)),
                "servers": (server(X, A, B),),
            },
            "a stranger is let in": {
                "backend": (access(H1), access(H2), access("stranger", sessions=1))
            },
            "a task runs on the other server": {
                "servers": (server(X, A), server(Y, B, host=H2, task_state="migrating"))
            },
            "the compute is down": {
                "servers": (server(X, A, compute_up=False), server(Y, B, host=H2))
            },
            "Nova refuses a detach from a suspended server": {
                "servers": (server(X, A, vm_state="suspended"), server(Y, B, host=H2))
            },
        },
    ),
    "UC3.failed-detach": (
        FAILED_DETACH,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "this Nova never had the server": {"servers": (), "stranger": (X,)},
            "Nova names the row": {"servers": (server(X, A),)},
            "a block device that names nothing": {"servers": (server(X, None),)},
            "the server is gone, and its host is still let in": {"servers": (), "gone": (X,)},
            "the server is gone, and nobody can see the backend": {
                "servers": (), "gone": (X,), "backend": BLIND
            },
            "the row is attached": {"attachments": (attachment(A),)},
            "the volume is free for others": {"status": "available"},
            "a task runs": {"servers": (server(X, task_state="deleting"),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "the row is no server's": {
                "attachments": (attachment(A, "error_detaching", instance_id=None),)
            },
            "another server has it too": {
                "attachments": (attachment(A, "error_detaching"), attachment(B, instance_id=Y)),
                "servers": (server(X), server(Y, B, host=H2)),
            },
        },
    ),
    "UC3.let-go-in-use": (
        LET_GO_IN_USE,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "this Nova never had the server": {"servers": (), "stranger": (X,)},
            "Nova names the row": {"servers": (server(X, A),)},
            "a block device that names nothing": {"servers": (server(X, None),)},
            "its host is still let in": {"backend": (access(H1),)},
            "another host is let in": {"backend": (access(H2),)},
            "nobody can see the backend": {"backend": BLIND},
            "nobody told of a detach": {"operation": Operation.ATTACH},
            "the detach was of another row": {"attachment_id": B},
            "its end was heard": {"end_seen": True},
            "a task runs": {"servers": (server(X, task_state="shelving"),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "its server has a second row": {
                "attachments": (attachment(A, host=H1), attachment(B, "reserved"))
            },
        },
    ),
    "UC3.host-let-go": (
        HOST_LET_GO,
        {
            "its host is let in": {"backend": (access(H2),)},
            "another host is let in": {"backend": (access(H1),)},
            "a stranger is let in": {"backend": (access("stranger"),)},
            "the driver cannot tell hosts": {"backend": (access(H2),), "hosts_known": False},
            "nobody can see the backend": {"backend": BLIND},
            "nobody asked for a detach": {"status": "in-use"},
            "it is being attached": {"status": "attaching"},
            "the volume is up for grabs": {"status": "available"},
            "the case is about an attach": {"operation": Operation.ATTACH},
            "no message names the row": {"attachment_id": None},
            "the messages name another row": {"attachment_id": B},
            "the end of the detach was heard: it was attached anew": {"end_seen": True},
            "another row is there": {
                "attachments": (
                    attachment(A, instance_id=None, host=H2), attachment(B, instance_id=Y)
                ),
                "servers": (server(Y, B),),
            },
            "the row is a server's that Nova never had": {
                "attachments": (attachment(A, host=H2),), "stranger": (X,)
            },
        },
    ),
    "UC4.overwritten": (
        OVERWRITTEN,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "a task runs": {"servers": (server(X, A, task_state="migrating"),)},
            "the compute is down": {"servers": (server(X, A, compute_up=False),)},
            "another server has it too": {
                "attachments": (attachment(A, "attaching"), attachment(B, "attaching", Y)),
                "servers": (server(X, A), server(Y, B)),
            },
            "another host is let in": {"backend": (access(H2),)},
            "the case is about an attach": {"operation": Operation.ATTACH},
            "it was attached anew meanwhile": {
                "attachments": (attachment(B, "attaching"),), "servers": (server(X, B),)
            },
            "the server is in error": {"servers": (server(X, A, vm_state="error"),)},
        },
    ),
    "UC3.row-in-error": (
        ROW_IN_ERROR,
        {
            "its host is let in": {"backend": (access(H1),)},
            "a stranger is let in": {"backend": (access("stranger"),)},
            "nobody can see the backend": {"backend": BLIND},
            "the backend gave no answer": {"backend": UNSEEN},
            "Nova names the row": {"servers": (server(X, A),)},
            "Nova has a block device of another row": {"servers": (server(X, "dead"),)},
            "Nova does not answer": {"servers": (), "unseen": (X,)},
            "this Nova never had the server": {"servers": (), "stranger": (X,)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "another row is there": {
                "attachments": (attachment(A, "error_detaching"), attachment(B, "reserved", Y)),
                "servers": (server(X), server(Y)),
            },
            "the row is attached": {"attachments": (attachment(A),)},
        },
    ),
    "UC1.row-left": (
        ROW_LEFT,
        {
            "its host is let in": {"backend": (access(H1),)},
            "a stranger is let in": {"backend": (access("stranger"),)},
            "nobody can see the backend": {"backend": BLIND},
            "Nova names the row": {"servers": (server(X, A),)},
            "Nova has a block device that names nothing": {"servers": (server(X, None),)},
            "Nova does not answer": {"servers": (), "unseen": (X,)},
            "this Nova never had the server": {"servers": (), "stranger": (X,)},
            "a task runs": {"servers": (server(X, task_state="rebuilding"),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "the row is attached": {"attachments": (attachment(A),)},
            "the row is no server's": {"attachments": (attachment(A, "attaching", None),)},
            "another row is there": {
                "attachments": (attachment(A, "attaching"), attachment(B, "reserved", Y)),
                "servers": (server(X), server(Y)),
            },
        },
    ),
    "UC4.rolled": (
        ROLLED,
        {
            "nothing was rolled": {"intents": ()},
            "another server of its host has it since": {
                "attachments": (attachment(A), attachment(B, instance_id=Y)),
                "servers": (server(X, A), server(Y, B)),
            },
            "the roll was refused": {
                "intents": (intent(StepKind.CINDER_ROLL_DETACHING, StepResult.REFUSED),)
            },
            "the roll was withheld": {
                "intents": (intent(StepKind.CINDER_ROLL_DETACHING, StepResult.WITHHELD),)
            },
            "what was rolled was another attachment": {
                "intents": (intent(StepKind.CINDER_ROLL_DETACHING, attachment_id=B),)
            },
            "Nova took the wish, its guest refused": {
                "intents": (
                    intent(StepKind.CINDER_ROLL_DETACHING), intent(StepKind.NOVA_DETACH)
                )
            },
            "the case is about an attach": {"operation": Operation.ATTACH},
            "Nova refuses a detach from a suspended server": {
                "servers": (server(X, A, vm_state="suspended"),)
            },
            "the compute is down": {"servers": (server(X, A, compute_up=False),)},
            "it was attached anew meanwhile": {"attachments": (attachment(B),),
                "servers": (server(X, B),)},
            "the same, and the case never knew its row": {
                "attachments": (attachment(B),), "servers": (server(X, B),), "attachment_id": None
            },
            "a task runs": {"servers": (server(X, A, task_state="migrating"),)},
        },
    ),
    "UC5.leaked": (
        UC5,
        {
            "Nova did not answer": {"servers": (), "unseen": (X,)},
            "a task runs": {"servers": (server(X, task_state="spawning"),)},
            "a block device that names nothing: an attach begins": {"servers": (server(X, None),)},
            "a block device names a dead row": {"servers": (server(X, A),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
            "somebody reserved it": {"status": "attaching"},
            "a new row": {"status": "reserved", "attachments": (attachment(B, "reserved"),)},
            "the host let in is another": {"backend": (access(H2),)},
            "nobody is let in": {"backend": ()},
            "the backend cannot be seen and nothing speaks of a leak": {"backend": BLIND},
            "no instance is known": {"instance_id": None, "servers": ()},
            "a backup's mapping on the same host": {"status": "backing-up"},
        },
    ),
    "UC5.ghost": (GHOST, GHOST_BUT),
    "UC5.held": (
        HELD,
        {
            "the reserve is somebody else's": {"intents": ()},
            "our reserve was refused": {
                "intents": (intent(StepKind.CINDER_RESERVE, StepResult.REFUSED),)
            },
            "our reserve surely did nothing": {
                "intents": (intent(StepKind.CINDER_RESERVE, StepResult.TRANSIENT),)
            },
            "our reserve was withheld": {
                "intents": (intent(StepKind.CINDER_RESERVE, StepResult.WITHHELD),)
            },
            "ours was given back, this is another": {
                "intents": (intent(StepKind.CINDER_RESERVE), intent(StepKind.CINDER_UNRESERVE))
            },
            "a row appeared": {"attachments": (attachment(B, "attaching"),), "servers": (server(X,
                B),)},
            "a block device appeared": {"servers": (server(X, None),)},
            "the compute is down": {"servers": (server(X, compute_up=False),)},
        },
    ),
    "UC5.leaked-beside-others": (
        BESIDE,
        {
            "the other server is on the same host": {
                "servers": (server(X), server(Y, B, host=H1))
            },
            "nobody knows where the other server is": {"servers": (server(X),), "gone": (Y,)},
            "nothing names the other row": {"servers": (server(X), server(Y, host=H2))},
            "the other row is no server's": {"attachments": (attachment(B, instance_id=None),)},
            "another attach is under way": {"status": "attaching"},
            "a detach is under way": {"status": "detaching"},
            "the subject's server has a block device": {
                "servers": (server(X, A), server(Y, B, host=H2))
            },
            "a task runs on the other server": {
                "servers": (server(X), server(Y, B, host=H2, task_state="migrating"))
            },
            "nobody knows whether the compute is up": {
                "servers": (server(X, compute_up=None), server(Y, B, host=H2))
            },
        },
    ),
    "S4.deleted-beside-others": (
        ONE_DELETED,
        {
            "nothing says that the guest ended": {"ended": ()},
            "it ended on another host": {"ended": ((X, H2),)},
            "Nova never had the server": {"gone": (), "stranger": (X,)},
            "Nova did not answer": {"gone": (), "unseen": (X,)},
            "nothing names the other row": {"servers": (server(Y, host=H2),)},
            "the other row is not attached": {
                "attachments": (
                    attachment(A, host=H1), attachment(B, "attaching", instance_id=Y, host=H2)
                )
            },
            "its host is in session: a third server may be": {
                "backend": (access(H1, sessions=1), access(H2, sessions=1))
            },
            "the other server is on the same host": {"servers": (server(Y, B, host=H1),)},
            "the other server lost its access": {"backend": (access(H1),)},
            "a detach is under way, of whichever": {"status": "detaching"},
            "both servers are deleted and no message says which": {
                "servers": (), "gone": (X, Y), "attachment_id": None, "instance_id": None
            },
            "a task runs on the other server": {
                "servers": (server(Y, B, host=H2, task_state="migrating"),)
            },
        },
    ),
    "S5.let-go-beside-others": (
        ONE_LET_GO,
        {
            "its server still has it, and another detach is known of": {
                "servers": (server(X, A), server(Y, B, host=H2)), "beside": (beside(B),)
            },
            "a block device names nothing": {
                "servers": (server(X, None), server(Y, B, host=H2))
            },
            "nothing names the other row": {"servers": (server(X), server(Y, host=H2))},
            "the other server is on the same host": {
                "servers": (server(X), server(Y, B, host=H1))
            },
            "no message says which": {"attachment_id": None, "instance_id": None},
            "the case is about an attach": {"operation": Operation.ATTACH},
            "the compute is down": {
                "servers": (server(X, compute_up=False), server(Y, B, host=H2))
            },
            "the other server lost its access": {"backend": (access(H1),)},
            "Nova did not answer": {"servers": (server(Y, B, host=H2),), "unseen": (X,)},
        },
    ),
    "UC5.left-by-migration": (
        MOVED_BACK,
        {
            "Nova was not asked of that host": {"asked": False, "elsewhere": ()},
            "Nova was asked of another host": {"asked": False, "elsewhere": (holding(host=H3),)},
            "a server may be using it there": {"elsewhere": (holding(Y, host=H2),)},
            "its compute is down": {"elsewhere": (holding(host=H2, up=False),)},
            "it is no compute": {"elsewhere": (holding(host=H2, up=None),)},
            "the server is on that host": {"servers": (server(X, B, host=H2),)},
            "the server's host is not known": {"servers": (server(X, B, host=None),)},
            "its host is not known": {"host": H3, "known": (H1,)},
            "a stranger is let in besides": {
                "backend": (access(H1), access(H2), access("stranger"))
            },
            "the driver cannot tell hosts": {"hosts_known": False},
            "the row is there": {
                "attachments": (attachment(A, host=H2), attachment(B, host=H1)),
            },
            "a block device that names nothing": {"servers": (server(X, B, None, host=H1),)},
            "the migration still runs": {"servers": (server(X, B, task_state="migrating"),)},
            "nothing names the other row": {"servers": (server(X),)},
            "a detach is under way": {"status": "detaching"},
            "the compute of the server is down": {"servers": (server(X, B, compute_up=False),)},
        },
    ),
    "S1.stray-row": (
        STRAY,
        {
            "the migration still runs": {"servers": (server(X, B, task_state="migrating"),)},
            "the block device names the stray row": {"servers": (server(X, A),)},
            "a block device that names nothing": {"servers": (server(X, B, None),)},
            "nothing names the good row": {"servers": (server(X),)},
            "the good row is unfinished too": {"attachments": (attachment(B, "attaching"),
                attachment(A, "attaching"))},
            "the server is gone": {"servers": (), "gone": (X,)},
            "a detach is under way": {"status": "detaching"},
            "the compute is down": {"servers": (server(X, B, compute_up=False),)},
            "its server may be resized back": {
                "attachments": (attachment(B), attachment(A, "reserved")),
                "servers": (server(X, B, vm_state="resized"),),
            },
        },
    ),
    "S3.deleted-with-server": (
        DELETED,
        {
            "the server is there": {"servers": (server(X, A),), "gone": ()},
            "Nova did not answer": {"gone": (), "unseen": (X,)},
            "its host is still let in": {"backend": (access(H1),)},
            "the guest was ended on another host": {
                "backend": (access(H1),), "ended": ((X, H2),)
            },
            "the same by Cinder's own record of the host": {
                "backend": BLIND, "ended": ((X, H1),), "attachments": (attachment(A, host=H2),)
            },
            "another server's guest was ended": {"backend": BLIND, "ended": ((Y, H1),)},
            "a stranger is let in": {"backend": (access("stranger"),)},
            "the backend cannot be seen": {"backend": BLIND},
            "another server has it too": {
                "attachments": (attachment(A), attachment(B, instance_id=Y)),
                "servers": (server(Y, B, host=H2),)
            },
            "the row is no server's": {"attachments": (attachment(A, instance_id=None),)},
        },
    ),
    "S2.left-on-source": (
        LEFT,
        {
            "the migration still runs": {
                "servers": (server(X, B, host=H2, task_state="migrating"),)
            },
            "the server is still on the source": {"servers": (server(X, B, host=H1),)},
            "the block device names the source's row": {"servers": (server(X, A, host=H2),)},
            "the host of the row is not known": {"host": H3, "known": ()},
            "the destination's row is unfinished": {"attachments": (attachment(A), attachment(B,
                "attaching"))},
            "nothing is named": {"servers": (server(X, host=H2),)},
            "a block device that names nothing": {"servers": (server(X, B, None, host=H2),)},
            "a detach is under way": {"status": "detaching"},
            "the source's compute is down: an evacuation": {"computes": ((H1, False),)},
            "the source's compute is not known": {"computes": ()},
            "another server's row is not accounted for": {
                "attachments": (attachment(A), attachment(B), attachment("c", instance_id=Y)),
                "gone": (Y,)
            },
        }
        | LEFT_UNTOLD_BUT,
    ),
}  # fmt: skip
