"""The plan with a service token: where there is one, what it is, and what stands against it."""

from __future__ import annotations

import pytest

from handlers.case import Action, StepKind, StepResult
from handlers.judgement.approval import fingerprint
from handlers.judgement.guards import OF_AN_ORDER, Guard, Means, objections
from handlers.judgement.plan import Step, action_of, make_plan, ordered
from handlers.judgement.policy import BackendPolicy, Mode
from tests.unit.handlers.judgement.acting_pictures import UC2, UC3, UC4, UC5
from tests.unit.handlers.judgement.pictures import (
    H1,
    NOW,
    SEEING,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    access,
    intent,
    server,
)

DELETE = StepKind.CINDER_DELETE_ATTACHMENT
REFUSED = (intent(DELETE, StepResult.REFUSED),)
AFTER = UC3.but(intents=REFUSED)


def with_token(picture: Picture) -> tuple[Step, ...]:
    """Return the plan that a person may order."""
    return ordered(picture.diagnosis, SEEING, Action.SERVICE_TOKEN)


@pytest.mark.parametrize("result", [StepResult.REFUSED, StepResult.INDETERMINATE])
def test_it_is_the_same_plan_with_a_token_for_what_cinder_checks(result: StepResult) -> None:
    """Refused, or without an answer -> the same steps, a token with the last, another mark."""
    picture = UC3.but(backend=(access(H1),), intents=(intent(DELETE, result),))
    plain, told = make_plan(picture.diagnosis, SEEING), with_token(picture)
    assert [step.kind for step in told] == [step.kind for step in plain]
    assert [step.service_token for step in told] == [False, True]
    assert told[-1].target() == plain[-1].target() | {"service_token": True}
    assert fingerprint(picture.diagnosis, told) != fingerprint(picture.diagnosis, plain)
    assert (action_of(told), action_of(plain)) == (Action.SERVICE_TOKEN, None)


@pytest.mark.parametrize(
    "picture",
    [
        UC3,
        UC3.but(intents=(intent(DELETE, StepResult.REFUSED, attachment_id=B),)),
        UC3.but(intents=(*REFUSED, intent(DELETE, StepResult.DONE))),
        UC3.but(intents=(intent(DELETE, StepResult.WITHHELD),)),
        UC3.but(intents=(intent(StepKind.BACKEND_FORCE_DETACH, StepResult.REFUSED),)),
        UC3.but(intents=REFUSED, mended_attempt=1),
        UC2.but(intents=REFUSED),
        UC4.but(intents=REFUSED),
        UC5.but(intents=REFUSED),
    ],
    ids=[
        "nothing was refused", "another attachment", "done since", "never made",
        "the backend's call", "before it was recovered", "rolled forward", "Nova's own detach",
        "one connection ended",
    ],
)  # fmt: skip
def test_it_is_offered_for_a_release_that_cinder_refused_alone(picture: Picture) -> None:
    """No refusal of this very row since, or no release -> there is no such plan."""
    assert with_token(picture) == ()


def against(picture: Picture, steps: tuple[Step, ...], *, token: bool = True) -> set[Guard]:
    """Return which guards of an order stand against these steps now."""
    means = Means(SEEING, BackendPolicy(mode=Mode.AUTO), NOW, "mark", token)
    return {held.guard for held in objections(picture.situation, steps, means)} & OF_AN_ORDER


def test_a_side_that_is_proven_gone_lets_it_pass() -> None:
    """Nova let go, the host is listed, no session -> nothing; without a token, that it lacks."""
    steps = with_token(AFTER)
    assert against(AFTER, steps) == set()
    assert against(AFTER, steps, token=False) == {Guard.NO_SERVICE_TOKEN}


@pytest.mark.parametrize(
    "now",
    [
        AFTER.but(servers=(server(X, A),)),
        AFTER.but(servers=(server(X, None),)),
        AFTER.but(servers=(), unseen=(X,)),
        AFTER.but(servers=(), stranger=(X,)),
        AFTER.but(backend=(access(H1, sessions=1),)),
        AFTER.but(backend=UNSEEN),
    ],
    ids=[
        "Nova names it", "a device that names nothing", "Nova is silent", "a stranger's server",
        "a live session", "the backend is silent",
    ],
)  # fmt: skip
def test_a_guest_that_may_hold_the_disk_stands_against_it(now: Picture) -> None:
    """Held, or not known -> the order is not carried out; the plan without it is asked nothing."""
    steps = with_token(AFTER)
    assert against(now, steps) == {Guard.ORDERED_TOKEN}
    assert against(now, make_plan(AFTER.diagnosis, SEEING)) == set()
