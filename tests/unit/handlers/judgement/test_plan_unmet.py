"""Read once more before a step: it is made only while what it was planned on still holds."""

from __future__ import annotations

import dataclasses

import pytest

from handlers.judgement.evidence import Holding, Unknown
from handlers.judgement.plan import make_plan, unmet
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    GHOST,
    GHOST_HELD,
    HELD,
    LEFT,
    ROLLED,
    STRAY,
    UC1,
    UC2,
    UC3,
    UC4,
    UC5,
)
from tests.unit.handlers.judgement.pictures import (
    H1,
    H2,
    THROUGH_CINDER,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    access,
    attachment,
    holding,
    intent,
    server,
)
from tests.unit.handlers.judgement.test_plan import (
    ACTING_PICTURES,
    BLIND_UC5,
    FORCE,
    RESERVE,
    plan_of,
)


def objection(planned: Picture, now: Picture, place: int = 0) -> str | None:
    """Return why the step of the plan at that place must not be made now."""
    return unmet(plan_of(planned)[place], planned.diagnosis, now.diagnosis)


@pytest.mark.parametrize(
    "picture", [UC1, UC2, UC3, UC4, UC5, HELD, BESIDE, STRAY, LEFT, ROLLED, GHOST]
)
def test_nothing_changed_and_the_first_step_is_made(picture: Picture) -> None:
    """The same evidence again -> no objection."""
    assert objection(picture, picture) is None


def test_another_attachment_of_the_same_is_not_what_was_planned() -> None:
    """No message says which row goes, and Nova names the other one now -> the call is not made."""
    untold = LEFT.but(attachment_id=None, host=None, computes=((H1, True), (H2, True)))
    moved_back = untold.but(
        servers=(server(X, A, host=H1),), backend=(access(H1, sessions=1), access(H2))
    )
    assert moved_back.diagnosis.verdict is untold.diagnosis.verdict
    assert objection(untold, moved_back) == "the case is about another attachment now"


UNMET = {
    "a task began": (UC1, UC1.but(servers=(server(X, task_state="rebooting"),)), 0),
    "Nova went away": (UC1, UC1.but(servers=(), unseen=(X,)), 0),
    "the compute went down": (UC4, UC4.but(servers=(server(X, A, compute_up=False),)), 0),
    "rolled back, then the compute went down": (
        ROLLED, ROLLED.but(servers=(server(X, A, compute_up=False),)), 0,
    ),
    "a block device appeared": (UC1, UC1.but(servers=(server(X, A),)), 0),
    "one appeared that names nothing": (UC5, UC5.but(servers=(server(X, None),)), 0),
    "the status moved on": (UC1, UC1.but(status="in-use"), 0),
    "the row was completed": (UC1, UC1.but(attachments=(attachment(A),)), 0),
    "a row appeared": (UC5, UC5.but(attachments=(attachment(B, "reserved"),)), 0),
    "the row is another": (UC3, UC3.but(attachments=(attachment(B),)), 0),
    "the backend lets the host in again": (UC1, UC1, 1),
    "the backend cannot be seen any more": (UC1, UC1.but(backend=UNSEEN), 0),
    "the host logged in": (UC5, UC5.but(backend=(access(H1, sessions=1),)), 0),
    "the host logged in while it was held": (HELD, HELD.but(backend=(access(H1, sessions=2),)), 0),
    "a stranger is let in while Nova was to be asked": (
        UC4, UC4.but(backend=(access(H1, sessions=1), access("stranger"))), 0,
    ),
    "a server got hold of the ghost": (GHOST, GHOST.but(holding=holding(X)), 0),
    "one did while it was held": (GHOST, GHOST_HELD.but(holding=holding(X)), 1),
    "one did when its connection had gone": (
        GHOST, GHOST_HELD.but(backend=(), holding=holding(X)), 2,
    ),
    "Nova cannot be asked of its host any more": (
        GHOST, GHOST_HELD.but(holding=Holding(H1, None, Unknown("Nova: no answer"))), 1,
    ),
    "its host's compute went down": (GHOST, GHOST_HELD.but(holding=holding(up=False)), 1),
    "the ghost was attached anew": (
        GHOST, GHOST.but(status="in-use", attachments=(attachment(B),), holding=None), 0,
    ),
    "the ghost is being attached anew": (
        GHOST, GHOST.but(status="reserved", attachments=(attachment(B, "reserved"),),
            holding=None), 0,
    ),
    "the ghost is held, and not by us": (GHOST, GHOST_HELD.but(intents=()), 1),
    "the ghost's host logged in": (GHOST, GHOST_HELD.but(backend=(access(H1, sessions=1),)), 1),
    "a second host is let in to the ghost": (
        GHOST, GHOST.but(backend=(access(H1), access(H2)), holding=None), 0,
    ),
    "a backup of the ghost began": (GHOST, GHOST.but(status="backing-up", holding=None), 0),
    "the volume moved to another backend": (UC5, UC5.but(place="b@other"), 0),
    "the volume was failed over": (BLIND_UC5, BLIND_UC5.but(replication="failing-over"), 0),
    "others came to share its target": (UC1, UC1.but(shared_targets=True), 0),
    "a backup began": (UC5, UC5.but(status="backing-up"), 0),
    "the wish was taken back": (UC4, UC4.but(status="in-use"), 0),
    "the reserve is not ours": (HELD, HELD.but(intents=()), 0),
    "the source's server came back": (LEFT, LEFT.but(servers=(server(X, B, host=H1),)), 0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("planned", "now", "place"),
    list(UNMET.values()),
    ids=list(UNMET),
)
def test_what_changed_since_the_plan_keeps_the_step_from_being_made(
    planned: Picture, now: Picture, place: int
) -> None:
    """One fact changed between plan and call -> the reason in words, and no call."""
    assert objection(planned, now, place)


def test_cinder_cannot_be_read_again_and_the_step_is_not_made() -> None:
    """Cinder stopped answering -> no call."""
    nothing = dataclasses.replace(UC1.diagnosis, situation=None, reason="Cinder: no answer")
    words = unmet(plan_of(UC1)[0], UC1.diagnosis, nothing)
    assert words is not None
    assert "Cinder: no answer" in words


@pytest.mark.parametrize(
    ("planned", "now"),
    [
        (UC1, UC1.but(servers=(server(X, A),))),
        (UC1, UC1.but(servers=(server(X, None),))),
        (UC1, UC1.but(servers=(), unseen=(X,))),
        (UC1, UC1.but(backend=(access(H1, sessions=1),))),
        (UC1, UC1.but(backend=UNSEEN)),
        (UC2, UC2.but(servers=(server(X),))),
        (HELD, HELD.but(intents=())),
        (GHOST, GHOST.but(holding=holding(X))),
        (GHOST, GHOST.but(holding=None)),
        (UC4, UC4.but(backend=(access(H1, sessions=1), access("stranger")))),
    ],
    ids=[
        "named",
        "unnamed",
        "not seen",
        "a session",
        "backend not seen",
        "not named",
        "not held",
        "a ghost is held",
        "a ghost's host was not asked",
        "a stranger",
    ],
)
def test_each_condition_counts_though_the_table_agreed(planned: Picture, now: Picture) -> None:
    """The table says the same, a step's own condition is broken -> the step is not made."""
    agreed = dataclasses.replace(now.diagnosis, verdict=planned.diagnosis.verdict)
    words = unmet(plan_of(planned)[0], planned.diagnosis, agreed)
    assert words is not None
    assert words.startswith("a condition of the step does not hold any more: ")


def test_the_flip_waits_for_the_clean_backend_and_is_then_made() -> None:
    """After the force detach -> the delete is made only when the probe shows nobody."""
    words = objection(UC1, UC1, 1)
    assert (
        words
        == "a condition of the step does not hold any more: the backend is clean of the attachment"
    )
    assert objection(UC1, UC1.but(backend=()), 1) is None


def test_our_own_reserve_is_the_change_that_was_meant() -> None:
    """Reserved by us between the steps -> the force detach is made; by somebody else -> not."""
    assert objection(UC5, HELD, 1) is None
    assert objection(GHOST, GHOST_HELD, 1) is None
    assert objection(GHOST, GHOST_HELD.but(backend=()), 2) is None
    assert objection(UC5, HELD.but(intents=()), 1)


def test_the_reserve_is_given_back_where_the_driver_s_call_had_done_so_already() -> None:
    """Terminating through Cinder left available -> the unreserve changes nothing and is made."""
    steps = make_plan(BLIND_UC5.diagnosis, THROUGH_CINDER)
    after = BLIND_UC5.but(intents=(intent(RESERVE), intent(FORCE)))
    assert unmet(steps[2], BLIND_UC5.diagnosis, after.diagnosis) is None


def test_a_healthy_volume_is_never_what_a_plan_was_made_for() -> None:
    """Whatever was planned, the volume is attached and named now -> nothing is made."""
    for picture, capabilities in ACTING_PICTURES:
        if picture is ROLLED:
            continue
        for step in plan_of(picture, capabilities):
            assert unmet(step, picture.diagnosis, ATTACHED.diagnosis)
