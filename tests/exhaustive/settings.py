"""The small worlds that are searched, each with its bounds.

One volume, two servers on two hosts. A bound says how often a thing may still happen: ``user``
operations, ``faults`` of the backend, of cinder-api, a compute or a guest, ``own`` calls that hang,
``crashes`` of ours, ``resets`` of the status by an operator. Server X goes first: what is the same
with X and Y in each other's place is searched once.
"""

from __future__ import annotations

import dataclasses

from handlers.judgement.policy import Mode
from tests.exhaustive.attempts import DETACHING, POLICY
from tests.exhaustive.search import Setting
from tests.exhaustive.world import ATTACHED, ATTACHING, INIT, Budget, Late, Row, Server, World

X, Y = Server("X", "h1"), Server("Y", "h2")
Y_BESIDE = Server("Y", "h1")
FREE = World("available", (), (), (X, Y))
HELD = World(
    "in-use", (Row("A", ATTACHED, "X", "h1"),), ("h1",), (X._replace(device="A", guest="h1"), Y),
    rows_made=1, operations=1,
)  # fmt: skip
BOTH = HELD._replace(
    rows=(Row("A", ATTACHED, "X", "h1"), Row("B", ATTACHED, "Y", "h2")), access=("h1", "h2"),
    servers=(X._replace(device="A", guest="h1"), Y._replace(device="B", guest="h2")),
    rows_made=2, operations=2, multiattach=True,
)  # fmt: skip


def bounded(world: World, *wishes: str, **budget: int) -> World:
    """Return the world with these bounds; a sweep comes when all is quiet."""
    return world._replace(wishes=wishes, budget=Budget(**({"sweeps": 1} | budget)))


def blind(world: World) -> World:
    """Return the same world on a backend that cannot be seen."""
    return world._replace(blind=True)


def beside(world: World) -> World:
    """Return the same world with both servers on one host."""
    servers = (world.servers[0], world.servers[1]._replace(host="h1"))
    return world._replace(servers=servers)


ATTACH = bounded(FREE, "attach", user=1, faults=2, own=1)
DETACH = bounded(HELD, "detach", user=1, faults=2, own=1)
AGAIN = bounded(HELD, "detach", "attach", user=2, faults=1)
GHOST = FREE._replace(access=("h1",))
UNFINISHED = HELD._replace(
    status="attaching", rows=(Row("A", ATTACHING, "X", "h1"),), servers=(X, Y)
)
UNTOLD = HELD._replace(status="attaching", rows=(Row("A", ATTACHING, "X", "h1"),))
LET_GO = HELD._replace(status="detaching", access=(), servers=(X, Y))
WISHED = HELD._replace(status="detaching")


def stuck(**bounds: int) -> tuple[Setting, ...]:
    """Return the worlds in which something is stuck; a sweep finds it while users go on."""
    return tuple(
        Setting(
            f"stuck: {name}",
            bounded(world, *wishes, **(bounds | more)),
            early=True,
        )
        for name, world, wishes, more in _STUCK
    )


_CRASH = {"crashes": 1, "own": 0}
_ALL = ("attach", "detach", "delete", "migrate")
_NOT_AGAIN = ("detach", "delete", "migrate")
_STUCK: tuple[tuple[str, World, tuple[str, ...], dict[str, int]], ...] = (
    ("a ghost", GHOST, _ALL, {}),
    ("an attach that Nova gave up", UNFINISHED, _ALL, {}),
    ("an attach that Cinder was not told of", UNTOLD, _ALL, {}),
    ("a detach that Cinder was not told of", LET_GO, _ALL, {}),
    ("a detach that Nova did not do", WISHED, _NOT_AGAIN, {}),
    ("a ghost, blind", blind(GHOST), _ALL, {}),
    ("an attach that Nova gave up, blind", blind(UNFINISHED), _ALL, {}),
    (
        "a detach that Cinder was not told of, blind",
        blind(LET_GO._replace(access=("h1",))),
        _ALL,
        {},
    ),
    ("a ghost, and a crash", GHOST, ("attach",), _CRASH),
    ("an attach that Nova gave up, and a crash", UNFINISHED, ("attach",), _CRASH),
    ("a detach that Nova did not do, and a crash", WISHED, ("delete",), _CRASH),
)

FIRST_TRY_LATE = HELD._replace(late=(Late(INIT, "h1", "A", ours=False),))

QUICK = (
    *stuck(user=1, own=1)[:-3],
    Setting("an attach", bounded(FREE, "attach", "forget", user=1, faults=2)),
    Setting("a detach", bounded(HELD, "detach", user=1, faults=2)),
    Setting("an attach, blind", blind(bounded(FREE, "attach", user=1, faults=2))),
    Setting("a detach, blind", blind(bounded(HELD, "detach", user=1, faults=1, own=1))),
    Setting("a call of ours hangs", bounded(FREE, "attach", "forget", user=1, faults=1, own=1)),
    Setting("deleted", bounded(HELD, "delete", user=1, faults=2)),
    Setting("moved", bounded(HELD, "migrate", user=1, faults=2)),
    Setting("a status reset by hand", bounded(HELD, "attach", user=1, resets=1)),
    Setting("a crash of ours", bounded(FREE, "attach", user=1, faults=1, crashes=1)),
    Setting("two attachments", bounded(BOTH, "delete", user=1, faults=1)),
    Setting("no connector is known", bounded(FREE, "attach", user=1, faults=2), known=()),
    Setting(
        "a detach beside an access that is left",
        bounded(HELD._replace(access=("h1", "h2")), "detach", user=1, faults=1),
    ),
    Setting(
        "a driver that cannot tell hosts",
        bounded(FREE, "attach", user=1, faults=2)._replace(lacks="names"),
    ),
    Setting(
        "a driver that cannot revoke",
        bounded(FREE, "attach", user=1, faults=2)._replace(lacks="revoking"),
    ),
    Setting(
        "a driver that sees no sessions",
        bounded(FREE, "attach", "forget", user=1, faults=2)._replace(lacks="sessions"),
        dataclasses.replace(POLICY, trust_blind=False),
    ),
    Setting(
        "observe",
        bounded(FREE, "attach", user=1, faults=1),
        dataclasses.replace(POLICY, mode=Mode.OBSERVE),
    ),
    Setting(
        "approve",
        bounded(FREE, "attach", user=1, faults=1),
        dataclasses.replace(POLICY, mode=Mode.APPROVE),
    ),
    Setting(
        "a person orders a detach",
        bounded(FREE, "attach", user=1, faults=2),
        dataclasses.replace(POLICY, mode=Mode.APPROVE),
        orders=True,
    ),
    Setting(
        "blind and not trusted",
        blind(bounded(FREE, "attach", user=1, faults=1)),
        dataclasses.replace(POLICY, trust_blind=False),
    ),
)
"""The bounded form: what every run of the tests searches, and where safeguards are taken away."""

WORD = dataclasses.replace(POLICY, trust_off_word=True)
"""A person's word that a host is powered off counts."""

DEAD = (
    Setting("a host dies in a detach", bounded(HELD, "detach", user=1, deaths=1, words=1), WORD),
    Setting("a host dies in an attach", bounded(FREE, "attach", user=1, deaths=1, words=1), WORD),
    Setting(
        "a host dies, and its server is deleted",
        bounded(HELD, "delete", user=1, faults=1, deaths=1, words=1),
        WORD,
    ),
    Setting(
        "a host dies, its server is deleted, and sessions are not seen",
        bounded(HELD, "delete", user=1, faults=1, deaths=1, words=1)._replace(lacks="sessions"),
        dataclasses.replace(WORD, trust_blind=False),
    ),
)
"""Hosts that go down and come back, and what a person says of them, rightly or wrongly."""

MENDED = (
    Setting(
        "attached again while Nova is at our detach",
        bounded(WISHED, "attach", user=1),
        early=True,
    ),
    Setting(
        "an unreserve of a dead process arrives while a release hangs",
        bounded(FREE, "attach", user=1, faults=2, own=1, crashes=1),
    ),
    Setting(
        "a detach of Nova's that is slower than two looks, and then breaks off",
        bounded(HELD, "detach", user=1, faults=1),
        slow=True,
    ),
)
"""What was once a counterexample; searched by every run too, ten seconds each."""

FULL = (
    Setting(
        "a host dies while a detach is stuck",
        bounded(WISHED, "delete", user=1, deaths=1, words=1),
        WORD,
        early=True,
    ),
    Setting(
        "two hosts die",
        bounded(BOTH, "delete", "detach", user=2, deaths=2, words=2),
        WORD,
    ),
    Setting(
        "detached while its first try is late",
        bounded(FIRST_TRY_LATE, "detach", user=1, faults=1),
        early=True,
    ),
    Setting(
        "deleted while its detach is stuck", bounded(WISHED, "delete", user=1, faults=2), early=True
    ),
    *stuck(user=1, own=1)[-3:],
    *(
        dataclasses.replace(setting, name=f"{setting.name}, and a fault")
        for setting in stuck(user=1, faults=1)
    ),
    Setting("an attach, and a call of ours hangs", ATTACH),
    Setting("a detach, and a call of ours hangs", DETACH),
    Setting("an attach, blind, and a call of ours hangs", blind(ATTACH)),
    Setting("a detach, blind, and two faults", blind(DETACH)),
    Setting("attached again", AGAIN),
    Setting("attached again on the same host", beside(AGAIN)),
    Setting("attached again, blind", blind(AGAIN)),
    Setting("detached and deleted", bounded(HELD, "detach", "delete", user=2, faults=2)),
    Setting("moved and detached", bounded(HELD, "migrate", "detach", user=2, faults=1, own=1)),
    Setting("reset and attached", bounded(HELD, "attach", "detach", user=2, resets=1)),
    Setting("two attachments, two operations", bounded(BOTH, "detach", "delete", user=2, faults=1)),
    Setting("a crash in an attach", bounded(FREE, "attach", user=1, faults=2, crashes=1)),
    Setting("a crash in a detach", bounded(HELD, "detach", "attach", user=2, faults=1, crashes=1)),
    Setting("a slow Nova, an attach", bounded(FREE, "attach", user=1, faults=1, own=1), slow=True),
    Setting("late attaches are detached", ATTACH, policy=DETACHING),
    Setting(
        "a person orders a detach, and a call of ours hangs",
        ATTACH,
        dataclasses.replace(POLICY, mode=Mode.APPROVE),
        orders=True,
    ),
)
"""What `make exhaustive` searches beside them."""

ONCE_MORE = Setting(
    "attached again while our detach is on its way",
    bounded(WISHED, "detach", "attach", user=2),
    early=True,
)
MOVED_BACK = Setting(
    "moved back to the host that is being released",
    bounded(HELD, "migrate", "migrate", user=2, faults=2),
)
FORGOTTEN = Setting(
    "a guest that Nova forgot, on a backend that cannot be seen",
    blind(bounded(FREE, "attach", "forget", user=1, faults=1)),
)
