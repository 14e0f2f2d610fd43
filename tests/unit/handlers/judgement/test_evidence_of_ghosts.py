"""A look at a volume that nobody claims: when its only host is asked about, and what is told."""

from __future__ import annotations

import pytest

from drivers.base import Capabilities, Connection, Observation
from drivers.errors import OutsideError, TransientError
from handlers.judgement.evidence import Fact, Holding
from tests.unit.handlers.judgement.acting_pictures import GHOST, GHOST_HELD
from tests.unit.handlers.judgement.pictures import (
    H1,
    H2,
    Picture,
    X,
    Y,
    access,
    attachment,
    connector,
    holding,
    server,
)
from tests.unit.handlers.judgement.test_evidence import KINDS, Outside, answered, look


def look_at_ghost(picture: Picture, *let_in: Connection) -> Outside:
    """Look at a volume that these are let in to, and say what was asked."""
    outside = Outside(picture)
    outside.observation = Observation(let_in, "the daemon answered")
    outside.saw = look(outside)
    return outside


@pytest.mark.parametrize("holders", [(), (X,), (X, Y)])
def test_of_a_ghost_its_only_host_is_asked(holders: tuple[str, ...]) -> None:
    """Free, exported to one host, no instance known -> is it a compute, and who has it there."""
    asked = look_at_ghost(GHOST.but(holding=holding(*holders)), access(H1))
    assert asked.saw.holding == Holding(H1, True, Fact(holders))
    assert asked.asked[-4:] == [
        ("retry", "nova", "compute_up"), ("compute_up", H1),
        ("retry", "nova", "holders"), ("holders", H1),
    ]  # fmt: skip


def test_host_of_a_message_s_own_connector_is_asked() -> None:
    """The attachment's own connector was seen -> that host is asked, whatever the case's is."""
    named = GHOST.but(connector=connector(H2), holding=holding(host=H2))
    assert look_at_ghost(named, access(H2)).saw.holding == Holding(H2, True, Fact(()))


@pytest.mark.parametrize("up", [False, None])
def test_host_without_a_compute_that_is_up_is_not_asked_further(up: bool | None) -> None:
    """Down, or no compute at all -> nobody there could tell who has it."""
    asked = look_at_ghost(GHOST.but(holding=holding(up=up)), access(H1))
    assert asked.saw.holding == Holding(H1, up, None)
    assert "holders" not in {question[0] for question in asked.asked}


@pytest.mark.parametrize("method", ["compute_up", "holders"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_an_answer_about_a_ghost_is_unknown(kind: type[OutsideError], method: str) -> None:
    """Nova does not say whether the compute is up, or who has it -> unknown, never "nobody"."""
    outside = Outside(GHOST)
    outside.observation = Observation((access(H1),), "the daemon answered")
    outside.raises[method] = kind("no route to nova")
    assert look(outside).holding == Holding(H1, None, answered(kind)("Nova: no route to nova"))


def test_ghost_that_is_kept_by_our_reserve_is_asked_about_till_the_end() -> None:
    """Our reserve keeps it, the connection is there or gone -> asked; not our reserve: not."""
    assert look_at_ghost(GHOST_HELD, access(H1)).saw.holding == holding()
    assert look_at_ghost(GHOST_HELD).saw.holding == holding()
    assert look_at_ghost(GHOST_HELD.but(intents=()), access(H1)).saw.holding is None


@pytest.mark.parametrize(
    ("picture", "let_in"),
    [
        (GHOST, ()),
        (GHOST, (access(H1), access(H2))),
        (GHOST, (access(H1), access("stranger"))),
        (GHOST, (access(H2),)),
        (GHOST.but(host=None), (access(H1),)),
        (GHOST.but(known=()), (access(H1),)),
        (GHOST.but(status="in-use"), (access(H1),)),
        (GHOST.but(status="backing-up"), (access(H1),)),
        (GHOST.but(attachments=(attachment("b", "reserved", None),)), (access(H1),)),
        (GHOST.but(instance_id=X, servers=(server(X),)), (access(H1),)),
    ],
)
def test_other_volumes_cost_no_question(picture: Picture, let_in: tuple[Connection, ...]) -> None:
    """Clean, several hosts, one unheard-of, a row, an instance, in use -> Nova is not asked."""
    asked = look_at_ghost(picture, *let_in)
    assert asked.saw.holding is None
    assert {"compute_up", "holders"} & {question[0] for question in asked.asked} == set()


def test_ghost_on_a_backend_that_does_not_tell_hosts_is_not_asked_about() -> None:
    """Whose connection it is nobody can say, or it was not seen -> no question."""
    outside = Outside(GHOST)
    outside.observation = Observation((access(H1),), "the daemon answered")
    outside.capabilities = Capabilities(sees_connections=True)  # type: ignore[misc]
    assert look(outside).holding is None
    outside.capabilities = Capabilities(sees_connections=True, sees_hosts=True)  # type: ignore[misc]
    outside.raises["observe"] = TransientError("no answer")
    assert look(outside).holding is None
