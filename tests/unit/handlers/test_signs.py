"""Single signs, where the table cannot reach them: a rule above would decide first.

Each sign must be right by itself too, because the order of the table may change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from handlers import signs
from handlers.casefile import StepKind, StepResult
from handlers.notification import Operation
from handlers.situation import Situation, situate
from tests.unit.handlers.acting_pictures import (
    ATTACHED,
    BESIDE,
    DETACH,
    HELD,
    LEFT,
    ROLLED,
    SHELVED,
    STRAY,
    UC1,
    UC1_LEGACY,
    UC2,
    UC3,
    UC4,
    UC5,
)
from tests.unit.handlers.pictures import (
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

Sign = Callable[[Situation], bool]
Changes = tuple[dict[str, Any], ...]

FORCED = intent(StepKind.BACKEND_FORCE_DETACH)
TWO_SERVERS = (server(X, A), server(Y, B, host=H2))
TWO_ROWS = (row(A), row(B, instance_id=Y))

HOLDS_BUT: tuple[tuple[Sign, Picture, Changes], ...] = (
    (
        signs.volume_in_error,
        UC1.but(status="error_extending"),
        ({"status": "available"}, {"status": "in-use"}),
    ),
    (
        signs.volume_busy,
        UC1.but(migration="completing"),
        ({"migration": None}, {"migration": "success"}, {"migration": "error"}),
    ),
    (
        signs.server_busy,
        BESIDE.but(servers=(server(X), server(Y, B, task_state="migrating"))),
        ({"servers": (server(X), server(Y, B))}, {"servers": (), "unseen": (X, Y)}),
    ),
    (
        signs.other_attachment_in_the_making,
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
        signs.other_attachment_in_the_making,
        UC5.but(status="detaching", rows=(row(B, instance_id=Y),)),
        ({"rows": ()}, {"status": "in-use"}, {"attachment_id": None, "instance_id": None}),
    ),
    (
        signs.other_attachment_in_the_making,
        UC5.but(status="attaching"),
        (
            {"intents": (intent(StepKind.CINDER_RESERVE),)},
            {"attachment_id": None},
            {"status": "available"},
        ),
    ),
    (
        signs.compute_not_up,
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
        signs.nova_detach_accepted,
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
        signs.detach_of_another_case,
        UC4.but(operation=Operation.ATTACH),
        (
            {"operation": DETACH},
            {"status": "in-use"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X),)},
        ),
    ),
    (
        signs.instance_unnamed,
        UC1.but(rows=(row(A, "attaching", None),)),
        (
            {"rows": (row(A, "attaching"),)},
            {"rows": (), "status": "available", "instance_id": None, "backend": ()},
            {"rows": (), "status": "available", "instance_id": None, "backend": BLIND},
        ),
    ),
    (
        signs.shelved_reservation,
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
        signs.attached_and_named,
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
        signs.attached_the_old_way,
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
        signs.rolled_for_detach,
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
        signs.named_by_the_wrong_row,
        LEFT.but(attachment_id=B, host=H1),
        (
            {"host": H2},
            {"rows": (row(B),)},
            {"rows": (row(A, "reserved"), row(B))},
            {"servers": (server(X, host=H2),)},
        ),
    ),
    (
        signs.named_by_the_wrong_row,
        UC2.but(rows=(row(A, "attaching"), row(B))),
        ({"rows": (row(A, "attaching"),)}, {"servers": (server(X, B),)}),
    ),
    (
        signs.unfinished_sibling,
        ATTACHED.but(rows=(row(A), row(B, "reserved"))),
        (
            {"rows": (row(A), row(B, "reserved", Y))},
            {"rows": (row(A), row(B))},
            {"status": "reserved"},
        ),
    ),
    (
        signs.access_lost,
        ATTACHED.but(backend=()),
        (
            {"backend": UNSEEN},
            {"backend": BLIND},
            {"backend": (access(H2),)},
            {"status": "detaching"},
            {"rows": (row(A, "attaching"),)},
            {"servers": (server(X, A, vm_state="stopped"),)},
            {"servers": (server(X, A, compute_up=False),)},
            {"servers": (server(X),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        signs.attaching_and_named,
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
        signs.detaching_and_named,
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
        signs.whose_wish,
        UC4.but(rows=TWO_ROWS, servers=TWO_SERVERS),
        (
            {"rows": (row(A),)},
            {"status": "in-use"},
            {"rows": (row(A, "attaching"), row(B, instance_id=Y))},
            {"servers": (server(X), server(Y, B, host=H2))},
        ),
    ),
    (
        signs.let_go,
        UC1,
        (
            {"servers": (server(X, None),)},
            {"servers": (), "unseen": (X,)},
            {"rows": (row(A, "attaching", None),)},
        ),
    ),
    (
        signs.unfinished_attach,
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
        signs.bare_reserve,
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
        signs.held_by_us,
        HELD,
        (
            {"status": "available"},
            {"rows": (row(B, "reserved"),)},
            {"servers": (server(X, None),)},
            {"intents": ()},
        ),
    ),
    (
        signs.guest_may_outlive,
        UC1.but(servers=(), gone=(X,), end_seen=True),
        (
            {"end_seen": False},
            {"operation": DETACH},
            {"rows": ()},
            {"servers": (server(X),), "gone": ()},
        ),
    ),
    (
        signs.guest_may_outlive,
        UC1.but(servers=(), gone=(X,), backend=BLIND),
        ({"rows": (row(A, "reserved"),)}, {"backend": ()}),
    ),
    (
        signs.detached_in_nova,
        UC3,
        (
            {"status": "in-use"},
            {"rows": TWO_ROWS},
            {"servers": (server(X, A),)},
            {"servers": (), "gone": (X,)},
        ),
    ),
    (
        signs.leaked,
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
        signs.leaked,
        UC5.but(backend=BLIND, released_unasked=True),
        ({"released_unasked": False}, {"backend": UNSEEN}, {"intents": (FORCED,)}),
    ),
    (
        signs.leaked_beside_others,
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
        signs.stray_row,
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
        signs.left_on_source,
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
        signs.nothing_left,
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
        signs.nothing_left_blind,
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


def seen(picture: Picture) -> Situation:
    """Return the situation, without asking the table."""
    return situate(picture.case, picture.volume, picture.evidence)


@pytest.mark.parametrize(
    ("sign", "picture"),
    [(sign, picture) for sign, picture, _ in HOLDS_BUT],
    ids=[sign.__name__ for sign, _, _ in HOLDS_BUT],
)
def test_the_sign_holds(sign: Sign, picture: Picture) -> None:
    """The whole picture -> yes."""
    assert sign(seen(picture))


@pytest.mark.parametrize(
    ("sign", "picture"),
    [
        pytest.param(sign, picture.but(**change), id=f"{sign.__name__} but {sorted(change)}")
        for sign, picture, changes in HOLDS_BUT
        for change in changes
    ],
)
def test_the_sign_does_not_hold_without_each_of_its_facts(sign: Sign, picture: Picture) -> None:
    """One fact changed -> no."""
    assert not sign(seen(picture))


@pytest.mark.parametrize(
    ("results", "held"),
    [
        ("", False),
        ("reserve:done", True),
        ("reserve:intended", True),
        ("reserve:indeterminate", True),
        ("reserve:refused", False),
        ("reserve:transient", False),
        ("reserve:withheld", False),
        ("reserve:done unreserve:done", False),
        ("reserve:done unreserve:indeterminate", True),
        ("reserve:done unreserve:intended", True),
        ("reserve:done unreserve:refused", True),
        ("reserve:done unreserve:done reserve:done", True),
        ("reserve:indeterminate reserve:done unreserve:done", True),
    ],
)
def test_the_reserve_is_ours_as_far_as_our_own_writes_tell(results: str, held: bool) -> None:
    """Our reserves and unreserves in order -> whether a bare reserve is taken for ours."""
    made = tuple(
        intent(StepKind(f"cinder.{kind}"), StepResult(result))
        for kind, _, result in (step.partition(":") for step in results.split())
    )
    assert signs.held_by_us(seen(HELD.but(intents=made))) is held
