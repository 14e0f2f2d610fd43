"""From verdict to steps: the order is the safety, and each step says what must hold before it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from drivers.base import Capabilities
from handlers.case import StepKind, StepResult
from handlers.judgement.approval import fingerprint
from handlers.judgement.plan import UNHELD, Condition, Step, make_plan
from handlers.judgement.rule import ACTING, Verdict
from tests.unit.handlers.judgement.acting_pictures import (
    BESIDE,
    GHOST,
    GHOST_HELD,
    HELD,
    LEFT,
    ROLLED,
    STRAY,
    UC1,
    UC1_LEGACY,
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
    SEEING,
    THROUGH_CINDER,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    holding,
    intent,
    server,
)

FORCE, DELETE = StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_DELETE_ATTACHMENT
BY_FORCE = StepKind.CINDER_FORCE_DETACH
RESERVE, UNRESERVE = StepKind.CINDER_RESERVE, StepKind.CINDER_UNRESERVE
BLIND_UC5 = UC5.but(backend=BLIND, released_unasked=True)
ACTING_PICTURES: tuple[tuple[Picture, Capabilities], ...] = (
    *((p, SEEING) for p in (UC1, UC1_RESERVED, UC1_LEGACY, UC2, UC3, UC4, ROLLED, UC5, HELD)),
    *((p, SEEING) for p in (BESIDE, STRAY, LEFT, UC3.but(attachments=()), GHOST, GHOST_HELD)),
    *((p.but(backend=BLIND), THROUGH_CINDER) for p in (UC1, UC1_RESERVED, UC2, UC3, UC4, HELD)),
    (BLIND_UC5, THROUGH_CINDER),
    (UC1_LEGACY.but(backend=BLIND), THROUGH_CINDER),
)


def plan_of(picture: Picture, capabilities: Capabilities = SEEING) -> tuple[Step, ...]:
    """Return the plan for a picture."""
    return make_plan(picture.diagnosis, capabilities)


def kinds(picture: Picture, capabilities: Capabilities = SEEING) -> list[StepKind]:
    """Return the kinds of the plan's steps, in order."""
    return [step.kind for step in plan_of(picture, capabilities)]


# -- what each verdict asks for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (UC1, [FORCE, DELETE]),
        (UC1_RESERVED, [FORCE, DELETE]),
        (UC1_LEGACY, [FORCE, UNRESERVE]),
        (UC2, [StepKind.CINDER_COMPLETE]),
        (UC3, [FORCE, DELETE]),
        (UC3.but(attachments=()), [FORCE, StepKind.CINDER_FORCE_DETACH]),
        (UC4, [StepKind.CINDER_ROLL_DETACHING, StepKind.NOVA_DETACH]),
        (ROLLED, [StepKind.NOVA_DETACH]),
        (UC5, [RESERVE, FORCE, UNRESERVE]),
        (HELD, [FORCE, UNRESERVE]),
        (HELD.but(backend=()), [UNRESERVE]),
        (BESIDE, [FORCE]),
        (STRAY, [FORCE, DELETE]),
        (LEFT, [FORCE, DELETE]),
    ],
    ids=[
        "UC1", "UC1 reserved", "UC1 without a row", "UC2", "UC3", "UC3 without a row", "UC4",
        "UC4 rolled", "UC5", "UC5 held", "UC5 held and clean", "UC5 beside others", "stray row",
        "left on the source",
    ],
)  # fmt: skip
def test_the_steps_of_each_acting_verdict(picture: Picture, expected: list[StepKind]) -> None:
    """A verdict on a backend that can be seen -> these steps in this order."""
    assert kinds(picture) == expected


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (UC1, [DELETE]),
        (UC1.but(attachments=(attachment(A, "attaching", info=False),)), [BY_FORCE]),
        (UC3.but(attachments=(attachment(A, info=False),)), [BY_FORCE]),
        (UC1_RESERVED, [BY_FORCE]),
        (UC1.but(status="reserved", attachments=(attachment(A, "error_attaching"),)), [BY_FORCE]),
        (UC1_RESERVED.but(known=()), [DELETE]),
        (UC3, [DELETE]),
        (UC3.but(attachments=()), [FORCE, BY_FORCE]),
        (STRAY.but(attachments=(attachment(B), attachment(A, "attaching", info=False))), [DELETE]),
        (UC5.but(released_unasked=True), [RESERVE, FORCE, UNRESERVE]),
        (HELD, [FORCE, UNRESERVE]),
        (HELD.but(intents=(intent(RESERVE), intent(FORCE))), [UNRESERVE]),
    ],
    ids=[
        "Cinder's delete terminates", "the connector may not be stored", "a legacy attachment",
        "Cinder's delete would skip a reserved row", "and one in error",
        "no connector was ever seen: the guard's business", "UC3", "UC3 without a row",
        "attaching beside another row: the connector came first", "UC5", "held",
        "held, and the driver has reported its release",
    ],
)  # fmt: skip
def test_through_cinder_the_delete_alone_is_trusted_only_where_it_ends_the_connection(
    picture: Picture, expected: list[StepKind]
) -> None:
    """A blind driver that acts through Cinder -> os-force_detach where the delete would skip it."""
    assert kinds(picture.but(backend=BLIND), THROUGH_CINDER) == expected


def test_through_cinder_and_seeing_the_probe_looks_in_between() -> None:
    """A driver that acts through Cinder and sees -> two calls, as for any that sees."""
    seeing = dataclasses.replace(THROUGH_CINDER, sees_connections=True)
    assert kinds(UC1_RESERVED, seeing) == [FORCE, DELETE]


def test_os_force_detach_names_the_attachment_that_is_there_and_no_other() -> None:
    """With a row -> its id; the row is gone -> none, whatever the case remembers."""
    (with_attachment,) = plan_of(UC1_RESERVED.but(backend=BLIND), THROUGH_CINDER)
    assert with_attachment.attachment.attachment_id == A
    assert with_attachment.attachment.connector is not None
    assert {*UNHELD, Condition.QUIET, Condition.CLEAN} == with_attachment.conditions
    without = plan_of(UC3.but(attachments=(), backend=BLIND), THROUGH_CINDER)[-1]
    assert without.kind is BY_FORCE
    assert without.attachment.attachment_id is None


@pytest.mark.parametrize("verdict", [v for v in Verdict if v not in ACTING])
def test_a_verdict_that_does_not_act_has_no_steps(verdict: Verdict) -> None:
    """Any other verdict -> an empty plan."""
    diagnosis = dataclasses.replace(UC1.diagnosis, verdict=verdict)
    assert make_plan(diagnosis, SEEING) == ()


def test_the_last_step_expects_what_a_driver_through_cinder_leaves() -> None:
    """os-terminate_connection ends as os-unreserve does -> in-use with rows, available without."""

    def statuses(picture: Picture, capabilities: Capabilities) -> set[str]:
        return set(plan_of(picture.but(backend=BLIND), capabilities)[-1].statuses)

    no_info = UC1.but(attachments=(attachment(A, "attaching", info=False),))
    seeing = dataclasses.replace(THROUGH_CINDER, sees_connections=True)
    assert set(plan_of(no_info, seeing)[-1].statuses) == {"attaching", "in-use"}
    assert statuses(no_info, THROUGH_CINDER) == {"attaching"}
    assert statuses(no_info, SEEING) == {"attaching"}
    assert statuses(UC1_RESERVED, THROUGH_CINDER) == {"reserved"}
    assert statuses(UC1_LEGACY, THROUGH_CINDER) == {"attaching", "available"}
    assert statuses(HELD, THROUGH_CINDER) == {"attaching", "available"}
    assert statuses(HELD, SEEING) == {"attaching"}


def test_without_a_connector_the_driver_is_not_called() -> None:
    """Nobody knows the host's connector, the backend is clean -> only Cinder is asked."""
    assert kinds(UC1.but(known=(), backend=())) == [DELETE]


def test_a_shared_host_s_connection_is_not_ended() -> None:
    """Another server is on the same host -> Cinder drops the row, the driver is not called."""
    same_host = STRAY.but(
        attachments=(attachment(B, instance_id=Y), attachment(A, "attaching")), host=H1
    ).but(servers=(server(X), server(Y, B, host=H1)), backend=(access(H1, sessions=1),))
    assert same_host.diagnosis.rule == "S1.stray-row"
    assert kinds(same_host) == [DELETE]


# -- the two orders --------------------------------------------------------------------------------

LETS_GO_IN_CINDER = {DELETE, UNRESERVE, StepKind.CINDER_FORCE_DETACH}


@pytest.mark.parametrize(("picture", "capabilities"), ACTING_PICTURES)
def test_the_backend_comes_before_cinder_and_the_flip_is_last(
    picture: Picture, capabilities: Capabilities
) -> None:
    """Any acting verdict -> what frees the volume in Cinder is last, and asks for clean."""
    assert picture.diagnosis.verdict in ACTING
    steps = plan_of(picture, capabilities)
    flips = [n for n, step in enumerate(steps) if step.kind in LETS_GO_IN_CINDER]
    assert flips in ([], [len(steps) - 1])
    for n in flips:
        assert Condition.CLEAN in steps[n].conditions
        assert Condition.LET_GO in steps[n].conditions


@pytest.mark.parametrize(("picture", "capabilities"), ACTING_PICTURES)
def test_each_step_says_what_must_hold(picture: Picture, capabilities: Capabilities) -> None:
    """Any step -> let go and quiet before the backend is touched, named before Nova is asked."""
    for step in plan_of(picture, capabilities):
        match step.kind:
            case StepKind.BACKEND_FORCE_DETACH:
                assert {Condition.LET_GO, Condition.QUIET} <= step.conditions
                assert step.attachment.connector is not None
            case StepKind.NOVA_DETACH | StepKind.CINDER_ROLL_DETACHING | StepKind.CINDER_COMPLETE:
                assert Condition.NAMED in step.conditions
            case _:
                assert Condition.LET_GO in step.conditions


def test_a_step_names_one_attachment_and_its_connector() -> None:
    """A plan -> every step is about the subject's own row, instance and host."""
    for step in plan_of(UC1):
        assert step.target() == {
            "volume_id": "volume-1", "attachment_id": A, "instance_id": X, "host": H1,
            "initiator": "iqn.2026-01.test:compute-1",
        }  # fmt: skip
    nameless = UC1.but(known=(), backend=(), attachment_id=None)
    assert json.loads(json.dumps(plan_of(nameless)[0].target()))["attachment_id"] == A
    assert {step.target()["attachment_id"] for step in plan_of(UC5)} == {A}


# -- the fingerprint -------------------------------------------------------------------------------


def mark(picture: Picture) -> str:
    """Return the fingerprint of a picture's plan."""
    return fingerprint(picture.diagnosis, plan_of(picture))


def test_the_fingerprint_is_of_what_a_person_says_yes_to() -> None:
    """The same plan later -> the same; another host, row, status, step or access -> another."""
    assert mark(UC1) == mark(UC1.but(attempts=7))
    others = [
        UC1.but(host=H2), UC1_RESERVED, UC3, UC5, UC1.but(attachments=(attachment(A, "reserved"),)),
        UC1.but(known=(), backend=()), UC1.but(backend=()),
    ]  # fmt: skip
    assert len({mark(UC1), *map(mark, others)}) == len(others) + 1


def test_without_a_volume_there_is_no_plan() -> None:
    """Cinder showed no volume -> no steps, and still a fingerprint."""
    nothing = dataclasses.replace(UC1.diagnosis, situation=None)
    assert make_plan(nothing, SEEING) == ()
    assert fingerprint(nothing, ()) != fingerprint(UC1.diagnosis, ())


def test_a_ghost_s_plan_names_its_host_and_nobody_else() -> None:
    """Nobody's connection -> kept, ended, given back: of that one host's connector, no row."""
    assert kinds(GHOST) == [RESERVE, FORCE, UNRESERVE]
    assert kinds(GHOST_HELD) == [FORCE, UNRESERVE]
    assert kinds(GHOST_HELD.but(backend=())) == [UNRESERVE]
    for step in plan_of(GHOST):
        assert step.target() == {
            "volume_id": "volume-1", "attachment_id": None, "instance_id": None, "host": H1,
            "initiator": "iqn.2026-01.test:compute-1",
        }  # fmt: skip
    moved = GHOST.but(host=H2, backend=(access(H2),), holding=holding(host=H2))
    assert mark(moved) != mark(GHOST)


def test_a_withheld_step_is_no_trace_of_an_action() -> None:
    """A reserve that was not made -> the volume is not held by us."""
    withheld = HELD.but(intents=(intent(RESERVE, StepResult.WITHHELD),))
    assert withheld.diagnosis.verdict is Verdict.IN_FLIGHT
