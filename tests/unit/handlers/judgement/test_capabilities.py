"""What a driver can do shapes what is done: each capability, on the whole judgement."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.base import Capabilities
from handlers.case import StepKind
from handlers.judgement.approval import fingerprint
from handlers.judgement.guards import PARKS, Guard, Means, guard
from handlers.judgement.plan import make_plan, unmet
from handlers.judgement.policy import BackendPolicy, Mode
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    HELD,
    STRAY,
    UC1,
    UC1_RESERVED,
    UC2,
    UC3,
    UC4,
    UC5,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    NOW,
    SEEING,
    THROUGH_CINDER,
    Picture,
    access,
)

FORCE, DELETE = StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_DELETE_ATTACHMENT
AUTO = BackendPolicy(mode=Mode.AUTO)
EVERY_HOST = dataclasses.replace(SEEING, accepts_no_connector=True)
ALLOWED = BackendPolicy(mode=Mode.AUTO, allow_no_connector=True)
EYES_ONLY = dataclasses.replace(SEEING, revokes_access=False, ends_sessions=False)
NAMELESS = dataclasses.replace(SEEING, sees_hosts=False)
UNHEARD_OF = UC1.but(known=())
"""The connector of the attachment's host was never seen; one idle connection is all there is."""


def judged(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy = AUTO
) -> tuple[list[StepKind], Guard | None]:
    """Return the plan's steps, and the guard that keeps them from being made."""
    picture = picture.but(hosts_known=capabilities.sees_hosts)
    steps = make_plan(picture.diagnosis, capabilities)
    means = Means(capabilities, policy, NOW, fingerprint(picture.diagnosis, steps))
    found = guard(picture.situation, steps, means)
    return [step.kind for step in steps], found.guard if found else None


# -- sees_hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [UC1, UC1_RESERVED, UC1.but(known=())])
def test_somebody_without_a_name_parks_a_release(picture: Picture) -> None:
    """Somebody is let in, the driver cannot tell whom -> for a person, who may know."""
    _, found = judged(picture.but(backend=(access(H1),)), NAMELESS)
    assert found in (Guard.NAMELESS_CONNECTION, Guard.NO_CONNECTOR)
    assert found in PARKS


@pytest.mark.parametrize("picture", [UC1, UC1_RESERVED, UC3])
def test_nobody_is_proof_without_names_too(picture: Picture) -> None:
    """The probe names nobody -> released as on any other backend that is seen."""
    assert judged(picture.but(backend=()), NAMELESS) == ([FORCE, DELETE], None)


@pytest.mark.parametrize("picture", [UC5, HELD, BESIDE, STRAY], ids=["UC5", "held", "beside", "S1"])
def test_nobody_is_cut_on_a_connection_without_a_name(picture: Picture) -> None:
    """Where the host is known by its connection alone -> not acted on, or a guard parks it."""
    steps, found = judged(picture, NAMELESS)
    assert steps == [] or found in PARKS


def test_nameless_session_is_enough_to_roll_forward() -> None:
    """UC2 with one connection of whomever -> Cinder is told; with none it is not understood."""
    assert judged(UC2, NAMELESS) == ([StepKind.CINDER_COMPLETE], None)
    assert judged(UC2.but(backend=()), NAMELESS)[0] == []


def test_nova_s_detach_needs_no_name() -> None:
    """UC4 with as many connections as rows -> asked of Nova; with one more -> parked."""
    asked = [StepKind.CINDER_ROLL_DETACHING, StepKind.NOVA_DETACH]
    assert judged(UC4, NAMELESS) == (asked, None)
    more = UC4.but(backend=(access(H1, sessions=1), access(H2)))
    assert judged(more, NAMELESS) == (asked, Guard.FOREIGN_CONNECTION)


def test_healthy_attachment_is_healthy_without_names() -> None:
    """Attached, and the driver cannot tell by whom -> nothing to do."""
    assert ATTACHED.but(hosts_known=False).diagnosis.rule == ATTACHED.diagnosis.rule


def test_nameless_session_that_appears_stops_the_call() -> None:
    """Nobody at the plan, a session of nobody knows whom before the call -> it is not made."""
    planned = UC1.but(backend=(), hosts_known=False)
    step = make_plan(planned.diagnosis, NAMELESS)[0]
    now = planned.but(backend=(access(H1, sessions=1),))
    assert unmet(step, planned.diagnosis, planned.diagnosis) is None
    assert "no live session" in str(unmet(step, planned.diagnosis, now.diagnosis))


def test_nameless_connection_beside_others_is_never_clean() -> None:
    """Other rows could explain it, and nobody knows -> the status is not flipped."""
    picture = STRAY.but(hosts_known=False, backend=(access(H1, sessions=1),))
    assert not picture.situation.clean
    assert STRAY.but(backend=(access(H1, sessions=1),)).situation.clean


# -- revokes_access --------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [UC1, UC1_RESERVED, UC5, HELD, BESIDE])
def test_who_cannot_keep_a_host_out_is_not_called(picture: Picture) -> None:
    """Somebody is let in, the driver cannot revoke -> parked; ending a session would not last."""
    assert judged(picture, SEEING)[1] is None
    assert judged(picture, EYES_ONLY)[1] is Guard.CANNOT_REVOKE
    assert Guard.CANNOT_REVOKE in PARKS


@pytest.mark.parametrize("picture", [UC1, UC1_RESERVED, UC3])
def test_eyes_alone_are_enough_on_a_clean_backend(picture: Picture) -> None:
    """The probe says that nobody is let in -> Cinder alone is asked, and the result is seen."""
    assert judged(picture.but(backend=()), EYES_ONLY) == ([DELETE], None)


def test_through_cinder_access_is_cinder_s_to_revoke() -> None:
    """The driver acts through Cinder -> what it cannot do by itself is no objection."""
    trusted = BackendPolicy(mode=Mode.AUTO, trust_blind=True)
    leaked = UC5.but(backend=BLIND, released_unasked=True)
    assert judged(leaked, THROUGH_CINDER, trusted)[1] is None


# -- ends_sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [(SEEING, Guard.SHARED_TARGETS), (dataclasses.replace(SEEING, ends_sessions=False), None)],
)
def test_shared_session_is_spared(capabilities: Capabilities, expected: Guard | None) -> None:
    """Other volumes may be behind the session -> parked exactly where the driver would end it."""
    assert judged(UC1.but(shared_targets=True), capabilities)[1] is expected


# -- accepts_no_connector --------------------------------------------------------------------------


def test_every_host_is_released_where_every_host_is_one() -> None:
    """No connector known, one idle connection, one row, and the operator's word -> the driver."""
    assert judged(UNHEARD_OF, EVERY_HOST, ALLOWED) == ([FORCE, DELETE], None)
    (step, _) = make_plan(UNHEARD_OF.diagnosis, EVERY_HOST)
    assert step.attachment.connector is None


@pytest.mark.parametrize(
    ("picture", "capabilities", "policy"),
    [
        (UNHEARD_OF, EVERY_HOST, AUTO),
        (UNHEARD_OF, SEEING, ALLOWED),
        (UNHEARD_OF.but(backend=(access(H1), access(H2))), EVERY_HOST, ALLOWED),
        (UNHEARD_OF.but(backend=(access(H1, sessions=1),)), EVERY_HOST, ALLOWED),
        (UC1.but(attachments=(), known=(), attachment_id=None), EVERY_HOST, ALLOWED),
    ],
    ids=["not allowed", "not declared", "two hosts", "a session", "no row"],
)
def test_every_host_is_not_released_otherwise(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy
) -> None:
    """One of the conditions is missing -> parked for want of a connector."""
    assert judged(picture, capabilities, policy)[1] is Guard.NO_CONNECTOR


def test_known_connector_is_always_named() -> None:
    """The connector is known -> it is what the driver is given, whatever it accepts."""
    for step in make_plan(UC1.diagnosis, EVERY_HOST):
        assert step.attachment.connector is not None


def test_second_host_that_appears_stops_the_call_for_every_host() -> None:
    """One host at the plan, two before the call -> it is not made."""
    step = make_plan(UNHEARD_OF.diagnosis, EVERY_HOST)[0]
    now = UNHEARD_OF.but(backend=(access(H1), access(H2)))
    assert unmet(step, UNHEARD_OF.diagnosis, UNHEARD_OF.diagnosis) is None
    assert "one connection alone" in str(unmet(step, UNHEARD_OF.diagnosis, now.diagnosis))
