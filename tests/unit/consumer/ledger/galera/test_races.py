"""The exclusive transactions at once through different nodes, whose row locks are their own."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import Claim, Ledger, Replay, Replayed
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.locks import insert_volumes
from consumer.ledger.database.tables import cases, claims, notifications
from handlers.case import CaseState, ClaimLostError, StepKind
from handlers.notification import Phase, Source
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    arrival,
    at_once,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
    told,
)

LEASE = 60.0


def rows(ledger: Ledger, statement: sa.Select[Any]) -> list[sa.Row[Any]]:
    """Read with everything that any node has committed."""
    return ledger._database.read(lambda c: list(c.execute(statement)))


def known_volume(ledger: Ledger, volume: str) -> None:
    """Make the row of a volume, as an earlier case has: to insert it would exclude by itself."""
    ledger._database.write(lambda c: insert_volumes(c, "default", [volume]))


def claimed(ledger: Ledger, owner: str, limit: int = 1) -> tuple[Claim, ...]:
    return ledger.claim(owner, limit=limit, lease_seconds=LEASE, deadlines=True)


@pytest.mark.parametrize("turn", range(3))
def test_two_errors_of_one_volume(through: list[Ledger], turn: int) -> None:
    """Each node takes in an error of the same attach, at once -> one case, not three."""
    for number in range(6):
        volume = f"vol-{turn}-{number}"
        known_volume(through[0], volume)
        at_once(
            *(lambda one=one, v=volume: accept(one, attach_error(volume_id=v)) for one in through)
        )
        found = rows(through[0], sa.select(cases.c.case_id).where(cases.c.volume_id == volume))
        assert len(found) == 1, volume


def test_start_and_end_at_once(through: list[Ledger]) -> None:
    """A start comes in through one node and its end through another -> the case is closed."""
    for number in range(60):
        own = {"volume_id": f"vol-{number}", "attachment_id": f"att-{number}", "instance_id": "i"}
        start, end = told(**own), told(phase=Phase.END, **own)
        known_volume(through[2], own["volume_id"])
        at_once(partial(accept, through[0], start), partial(accept, through[1], end))
    kept = rows(through[2], sa.select(notifications.c.volume_id, notifications.c.case_id))
    assert not [row for row in kept if row.case_id is None]


def test_error_without_a_volume_beside_the_error_with_one(through: list[Ledger]) -> None:
    """Nova's error names only the request, and its case opens through another node -> it is filed.

    So it is too if it comes a moment before.
    """
    for number in range(60):
        request = f"req-{number}"
        with_one = attach_error(volume_id=f"vol-{number}", request_id=request)
        without = told(
            None, Phase.ERROR, volume_id=None, request_id=request, source=Source.NOVA_LEGACY
        )
        at_once(partial(accept, through[0], with_one), partial(accept, through[1], without))
    kept = rows(through[2], sa.select(notifications.c.request_id, notifications.c.case_id))
    assert not [row for row in kept if row.case_id is None]


def test_claims(through: list[Ledger]) -> None:
    """Three nodes claim the same cases again and again -> no volume is with two; no fence twice."""
    for number in range(12):
        due_case(through[0], volume_id=f"vol-{number}", request_id=f"req-{number}")
    got: list[tuple[str, int]] = []
    end = time.monotonic() + 8

    def work(one: Ledger, owner: str) -> None:
        while time.monotonic() < end:
            for claim in claimed(one, owner, limit=2):
                got.append((claim.case.volume_id, claim.fence))
                one.release(claim)

    at_once(*(lambda one=one, n=n: work(one, f"w{n}") for n, one in enumerate(through)))
    assert len(got) > 100
    assert max(Counter(got).values()) == 1
    fences = {row.volume_id: row.fence for row in rows(through[0], sa.select(claims))}
    assert all(fences[volume] == n for volume, n in Counter(v for v, _ in got).items())


def test_lapsed_owner_and_its_successor(through: list[Ledger]) -> None:
    """A lease ran out; its owner writes an intent, another node claims -> one of the two."""
    won: Counter[str] = Counter()
    for number in range(40):
        case_id = due_case(through[0], volume_id=f"vol-{number}", request_id=f"req-{number}")
        old = claim_one(through[0], "old")
        recent = number % 2 == 1
        lapse(through[0], old, seconds=-1 if recent else -7)

        def intend(old: Claim = old) -> str:
            try:
                through[0].casefile(old).intend(
                    next(iter(StepKind)), request_id=str(uuid.uuid4()), target={},
                    evidence={}, lease_seconds=1.0, announcement=None,
                )  # fmt: skip
            except ClaimLostError:
                return "lost"
            return "intended"

        did, new = at_once(intend, lambda: claimed(through[1], "new"))
        assert not (did == "intended" and new), case_id
        assert not (recent and new), "by the clock of another node it may hold still"
        won[str(did)] += 1
        expire_leases(through[0])
        for claim in (*claimed(through[2], "last"),):
            through[2].finish(claim, outcome(CaseState.CLOSED))


def lapse(ledger: Ledger, claim: Claim, seconds: float) -> None:
    """Let the lease of a claim end so many seconds from now."""
    own = claims.update().where(claims.c.volume_id == claim.case.volume_id)
    with ledger._database.engine.begin() as connection:
        ends = database_now(connection) + timedelta(seconds=seconds)
        connection.execute(own.values(lease_expires_at=ends))


def test_signal_beside_a_finish(through: list[Ledger]) -> None:
    """A signal comes in through one node while another closes the case -> the case is left due."""
    for number in range(40):
        own = {"volume_id": f"vol-{number}", "request_id": f"req-{number}"}
        case_id = due_case(through[0], **own)
        claim = claim_one(through[0])
        at_once(
            partial(through[0].finish, claim, outcome(CaseState.CLOSED)),
            partial(accept, through[1], attach_error(**own)),
        )
        of_volume = [c for c in through[2].cases(limit=200) if c.volume_id == own["volume_id"]]
        assert any(case.open for case in of_volume), case_id
        for again in claimed(through[2], "tidy"):
            through[2].finish(again, outcome(CaseState.CLOSED))


def test_sweep_turn(through: list[Ledger]) -> None:
    """Every node asks for the turn to sweep, again and again -> one gets it each time."""
    for _ in range(150):
        got = at_once(*(lambda one=one: one.sweeps.begin("r", 3600.0) for one in through))
        assert sum(turn is not None for turn in got) == 1
        through[0]._database.write(
            lambda c: c.exec_driver_sql("UPDATE sweeps SET next_at = '2020-01-01'")
        )


def test_outbox(through: list[Ledger]) -> None:
    """Announcements written and published through any node -> each once, in order in its case."""
    for number in range(5):
        due_case(through[0], volume_id=f"vol-{number}", request_id=f"req-{number}")
    node = itertools.cycle(through)
    for turn in range(6):
        make_due(through[0])
        for claim in claimed(next(node), "w", limit=5):
            said = [announcement("end", turn=turn, part=part) for part in range(3)]
            next(node).finish(
                claim, outcome(CaseState.SETTLING, delay_seconds=0.0, announcements=said)
            )
    sent: list[tuple[str, int, int]] = []

    def publish(one: Ledger, owner: str) -> None:
        while one.outbox_pending()[0]:
            for out in one.outbox_lease(owner, limit=3, lease_seconds=LEASE):
                sent.append((out.case_id, out.payload["turn"], out.payload["part"]))
                one.outbox_sent([out.outbox_id])

    at_once(*(lambda one=one, n=n: publish(one, f"p{n}") for n, one in enumerate(through)))
    assert len(sent) == 90
    for case_id in {case for case, _, _ in sent}:
        of_case = [(turn, part) for case, turn, part in sent if case == case_id]
        assert of_case == [(turn, part) for turn in range(6) for part in range(3)]


def test_replays(through: list[Ledger]) -> None:
    """A person's replay is delivered through every node at once -> it counts once."""
    case_id = due_case(through[0])
    for number in range(20):
        sent = Replay(f"delivery-{number}", "0" * 64, "replay", "alice", "again")
        done: list[Replayed] = at_once(*(partial(one.replay, sent, case_id) for one in through))
        assert sum(not each.repeated for each in done) == 1


def test_same_message_through_every_node(through: list[Ledger]) -> None:
    """The same batch through every node at once -> each message once, and none is refused."""
    for number in range(25):
        batch = [
            arrival(attach_error(volume_id=f"vol-{number}", request_id=f"req-{number}")),
            arrival(told(None, Phase.SIGNAL, volume_id=None, instance_id=f"i-{number}")),
        ]
        done: list[Any] = at_once(*(partial(one.accept, batch) for one in through))
        assert [one.rejected for one in done] == [(), (), ()]
        assert sum(one.stored for one in done) == 2


def test_read_through_a_node_that_lags(through: list[Ledger]) -> None:
    """A node applies nothing for a second, another commits a pause -> the read waits for it."""
    for lagging in (through[1], through[2]):
        with lagging._database.engine.connect() as held:
            held.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
            through[0].pause("alice", "r")
            free = threading.Timer(1.0, lambda c=held: c.exec_driver_sql("UNLOCK TABLES"))
            free.start()
            assert lagging.paused() is not None
            free.join()
        through[0].resume("alice")


def test_read_after_write_through_another_node(through: list[Ledger]) -> None:
    """What one node committed -> the next read through any other shows it."""
    for number in range(200):
        through[number % 3].pause("alice", "r")
        assert through[(number + 1) % 3].paused() is not None
        through[(number + 2) % 3].resume("alice")
        assert through[number % 3].paused() is None
