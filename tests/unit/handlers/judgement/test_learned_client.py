"""A driver that ends single clients: only the learned one, where Nova's side is proven gone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from drivers.base import Capabilities, ClientInstance, Reach
from handlers.case import StepKind
from handlers.judgement.approval import fingerprint
from handlers.judgement.diagnosis import client_to_ask_of
from handlers.judgement.evidence import Fact, Unknown
from handlers.judgement.guards import Guard, Means, guard
from handlers.judgement.plan import make_plan, unmet
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.rule import ACTING
from tests.unit.handlers.judgement import acting_pictures as acting
from tests.unit.handlers.judgement.pictures import (
    H1,
    H2,
    NOW,
    A,
    B,
    Picture,
    Y,
    attachment,
    client,
    ip,
    server,
)

BY_CLIENT = Capabilities(
    sees_connections=True, sees_hosts=True, ends_sessions=True, by_learned_client=True
)
AUTO = BackendPolicy(mode=Mode.AUTO)
FORCE, DELETE = StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_DELETE_ATTACHMENT
RESERVE, UNRESERVE = StepKind.CINDER_RESERVE, StepKind.CINDER_UNRESERVE
LEARNED = ClientInstance(f"{ip(H1)}:0/1001", "client.1", 7, NOW)
OWN, LOCK = client(H1, 1, 7), client(H1, 1)
KNOWN = ((A, LEARNED),)
ENDED, GHOST, ONE_DELETED, UC1, UC3, UC5 = (
    picture.but(addressed=True)
    for picture in (
        acting.ENDED, acting.GHOST, acting.ONE_DELETED, acting.UC1, acting.UC3, acting.UC5,
    )
)  # fmt: skip
OUTLIVED = ENDED.but(backend=(OWN,), learned=KNOWN)
"""The server is deleted, its compute ended the guest, and its client writes on."""


def judged(
    picture: Picture, policy: BackendPolicy = AUTO, able: Capabilities = BY_CLIENT
) -> tuple[list[StepKind], Guard | None]:
    """Return the plan's steps, and the guard that keeps them from being made."""
    steps = make_plan(picture.diagnosis, able)
    means = Means(able, policy, NOW, fingerprint(picture.diagnosis, steps))
    found = guard(picture.situation, steps, means)
    return [step.kind for step in steps], found.guard if found else None


def test_the_learned_client_is_ended_and_then_the_row() -> None:
    """The guest was ended, the learned client is there -> it is ended, then Cinder's row."""
    assert judged(OUTLIVED) == ([FORCE, DELETE], None)
    force, delete = make_plan(OUTLIVED.diagnosis, BY_CLIENT)
    assert (force.attachment.learned, force.reach) == (LEARNED, Reach((), 0))
    assert delete.attachment.learned is None


def test_a_lock_that_it_left_is_ended_too() -> None:
    """An attach failed, the learned client was killed and left its lock -> the same plan."""
    assert judged(UC1.but(backend=(LOCK,), learned=KNOWN)) == ([FORCE, DELETE], None)


def test_nobody_there_needs_no_end() -> None:
    """Nobody has the volume -> Cinder's row alone, whoever was or was not learned."""
    assert judged(UC3) == ([DELETE], None)
    assert judged(UC3.but(learned=KNOWN)) == ([DELETE], None)


def test_a_free_volume_is_kept_from_others_meanwhile() -> None:
    """Available, the row is gone, its learned client's lock is left -> reserved, ended, freed."""
    leaked = UC5.but(backend=(LOCK,), learned=KNOWN)
    assert judged(leaked) == ([RESERVE, FORCE, UNRESERVE], None)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (OUTLIVED.but(learned=()), Guard.NEVER_LEARNED),
        (OUTLIVED.but(learned=((B, LEARNED),)), Guard.NEVER_LEARNED),
        (UC1.but(backend=(LOCK,)), Guard.NEVER_LEARNED),
        (UC5.but(backend=(LOCK,)), Guard.NEVER_LEARNED),
        (GHOST.but(backend=(LOCK,), learned=KNOWN), Guard.NEVER_LEARNED),
        (OUTLIVED.but(backend=(client(H1, 2, 7),)), Guard.ANOTHER_CLIENT),
        (OUTLIVED.but(backend=(client(H1, 1, 8),)), Guard.ANOTHER_CLIENT),
        (OUTLIVED.but(backend=(OWN, client(H1, 2, 8))), Guard.ANOTHER_CLIENT),
        (OUTLIVED.but(backend=(OWN,), reach=Fact(Reach(("volumes/b",), 0))), Guard.REACHES_OTHERS),
        (OUTLIVED.but(reach=Fact(Reach((), 9, whole_host=True))), Guard.REACHES_OTHERS),
        (OUTLIVED.but(reach=Unknown("no answer")), Guard.REACH_UNKNOWN),
        (OUTLIVED.but(ended=()), None),
    ],
)
def test_what_is_not_the_learned_client_alone_is_left(picture: Picture, why: Guard | None) -> None:
    """No learned client, another one, or one that has more -> a person or later, and never an end.

    Where nothing says that the guest ended, the table itself does not act.
    """
    if why is None:
        assert picture.diagnosis.verdict not in ACTING
    else:
        assert judged(picture)[1] is why


def test_the_client_of_another_host_may_be_where_the_volume_moved() -> None:
    """The learned client is gone and one of another host is there -> no step may be made."""
    moved = OUTLIVED.but(backend=(client(H2, 2, 8),))
    steps, why = judged(moved) if moved.diagnosis.verdict in ACTING else ([], None)
    assert why is Guard.ANOTHER_CLIENT or not steps


def test_a_guest_that_may_use_the_disk_keeps_it() -> None:
    """Its server is there, forgot the block device, and the learned client writes -> a person."""
    forgot = UC3.but(attachments=(attachment(A, host=H1),), backend=(OWN,), learned=KNOWN)
    assert judged(forgot)[1] is Guard.LIVE_SESSION


def test_the_operator_may_allow_more_to_be_lost() -> None:
    """One other image, and one is allowed -> the plan is made, and names it."""
    allowed = OUTLIVED.but(reach=Fact(Reach(("volumes/b",), 1)))
    assert judged(allowed) == ([FORCE, DELETE], None)
    assert make_plan(allowed.diagnosis, BY_CLIENT)[0].target()["also_loses"] == ["volumes/b"]


def test_another_server_on_the_same_host_does_not_explain_the_learned_client() -> None:
    """Two servers of one host have it, one is deleted -> its client is seen apart; a person's."""
    beside = ONE_DELETED.but(
        attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
        servers=(server(Y, B),),
        backend=(OWN, client(H1, 2, 8)),
        learned=KNOWN,
    )
    assert judged(beside)[0] == []
    assert beside.situation.own == (OWN,)


def test_a_person_approves_the_client_and_what_it_loses() -> None:
    """Another client, or another volume that goes with it -> another plan to approve."""

    def mark(picture: Picture) -> str:
        return fingerprint(picture.diagnosis, make_plan(picture.diagnosis, BY_CLIENT))

    marks = {
        mark(OUTLIVED),
        mark(OUTLIVED.but(reach=Fact(Reach(("volumes/b",), 1)))),
        mark(OUTLIVED.but(reach=Fact(Reach(("volumes/c",), 1)))),
        mark(OUTLIVED.but(learned=((A, dataclasses.replace(LEARNED, address="192.0.2.1:0/9")),))),
    }
    assert len(marks) == 4
    later = dataclasses.replace(LEARNED, seen_at=NOW.replace(year=2027))
    assert mark(OUTLIVED.but(learned=((A, later),))) == mark(OUTLIVED), "seen again: the same"


def test_without_such_a_driver_nobody_is_asked_what_a_client_has() -> None:
    """No client was learned -> there is none to ask of; one was, and is there -> that one."""
    assert client_to_ask_of(ENDED.diagnosis) is None
    assert client_to_ask_of(OUTLIVED.diagnosis) == LEARNED
    assert client_to_ask_of(OUTLIVED.but(backend=()).diagnosis) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"backend": (client(H1, 2, 8),)}, "has the volume no more"),
        ({"backend": (OWN, client(H1, 2, 8))}, "another one has it too"),
        ({"reach": Fact(Reach(("volumes/b",), 1))}, "what else the client has open changed"),
        ({"reach": Unknown("no answer")}, "is not known any more"),
    ],
)
def test_it_is_asked_again_right_before_the_end(changes: dict[str, Any], why: str | None) -> None:
    """The client, or what else it has, is another than the plan's -> the call is not made."""
    force, _ = make_plan(OUTLIVED.diagnosis, BY_CLIENT)
    said = unmet(force, OUTLIVED.diagnosis, OUTLIVED.but(**changes).diagnosis)
    assert said is None if why is None else why in (said or "")
