"""Announcements on their way to the bus, on each database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from consumer.ledger import Ledger, Outgoing
from handlers.case import CaseState, Priority
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    at_once,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
)


def take(ledger: Ledger, owner: str = "p1", limit: int = 10) -> tuple[Outgoing, ...]:
    """Take up to ten announcements."""
    return ledger.outbox_lease(owner, limit=limit, lease_seconds=60)


def announced(ledger: Ledger, *names: str, volume_id: str = "vol-1") -> str:
    """Announce these of a new case, in one outcome; return the case's id."""
    case_id = due_case(ledger, volume_id=volume_id, request_id=f"req-{volume_id}")
    told = tuple(announcement(name, volume=volume_id) for name in names)
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED, announcements=told))
    return case_id


def test_taken(ledger: Ledger) -> None:
    """An announcement is taken -> all of it, and nobody else gets it meanwhile."""
    case_id = announced(ledger, "start")
    (out,) = take(ledger)
    assert (out.case_id, out.event_type) == (case_id, "volume.force_detach.start")
    assert (out.priority, out.payload, out.attempts) == (Priority.INFO, {"volume": "vol-1"}, 1)
    assert take(ledger) == take(ledger, "p2") == ()


def test_order_within_a_case(ledger: Ledger) -> None:
    """Three of one case -> one at a time, the next only when the earlier one is settled."""
    announced(ledger, "start", "error", "parked")
    seen = []
    for settle in (ledger.outbox_sent, ledger.outbox_unrouted, ledger.outbox_sent):
        (out,) = take(ledger)
        assert take(ledger, "p2") == ()
        seen.append(out.event_type.rpartition(".")[2])
        settle([out.outbox_id])
    assert seen == ["start", "error", "parked"]
    assert take(ledger) == ()


def test_cases_do_not_wait_for_each_other(ledger: Ledger) -> None:
    """Announcements of two cases -> the oldest of each, in the order of their writing."""
    announced(ledger, "start", "end", volume_id="vol-1")
    announced(ledger, "start", volume_id="vol-2")
    assert [o.payload["volume"] for o in take(ledger)] == ["vol-1", "vol-2"]


def test_failed(ledger: Ledger) -> None:
    """Sending fails -> due again after the delay, the later ones of its case wait for it."""
    announced(ledger, "start", "end")
    (out,) = take(ledger)
    ledger.outbox_failed(out.outbox_id, "broker\0 gone", 3600.0)
    assert take(ledger) == ()
    (row, _) = ledger.case(out.case_id).outbox
    assert (row.attempts, row.last_error, row.sent_at) == (1, "broker\ufffd gone", None)
    ledger.outbox_failed(out.outbox_id, "broker gone", 0.0)
    (again,) = take(ledger)
    assert (again.message_id, again.attempts) == (out.message_id, 2)


def test_publisher_died(ledger: Ledger) -> None:
    """A publisher died with an announcement in hand -> another gets it, under its message_id."""
    announced(ledger, "start")
    (first,) = take(ledger)
    expire_leases(ledger)
    (again,) = take(ledger, "p2")
    assert again.message_id == first.message_id


def test_sent_after_all(ledger: Ledger) -> None:
    """A publisher's failure is told after another has sent it -> it is not sent again."""
    announced(ledger, "start")
    (out,) = take(ledger)
    ledger.outbox_sent([out.outbox_id])
    ledger.outbox_failed(out.outbox_id, "too late", 0.0)
    ledger.outbox_unrouted([out.outbox_id])
    assert take(ledger) == ()
    (row,) = ledger.case(out.case_id).outbox
    assert row.sent_at is not None
    assert (row.last_error, row.unrouted_at) == (None, None)


def test_unrouted(ledger: Ledger) -> None:
    """Nobody is bound -> marked, and not sent for ever."""
    announced(ledger, "start")
    (out,) = take(ledger)
    ledger.outbox_unrouted([out.outbox_id])
    assert take(ledger) == ()
    (row,) = ledger.case(out.case_id).outbox
    assert (row.sent_at, row.unrouted_at is not None) == (None, True)


def test_pending(ledger: Ledger) -> None:
    """None, two, one taken, all sent -> counted until they are settled, with the oldest's age."""
    assert ledger.outbox_pending() == (0, 0.0)
    announced(ledger, "start", "end")
    count, age = ledger.outbox_pending()
    assert count == 2
    assert 0.0 <= age < 60.0
    (out,) = take(ledger)
    assert ledger.outbox_pending()[0] == 2
    ledger.outbox_sent([out.outbox_id])
    ledger.outbox_sent([o.outbox_id for o in take(ledger)])
    assert ledger.outbox_pending() == (0, 0.0)
    ledger.outbox_sent([])


def test_two_publishers(ledger: Ledger, second: Ledger) -> None:
    """Two publishers at once -> each announcement exactly once, in order within its case."""
    volumes = [f"vol-{number}" for number in range(12)]
    accept(ledger, *(attach_error(volume_id=v, request_id=f"req-{v}") for v in volumes))
    make_due(ledger)
    told = tuple(announcement(name) for name in ("start", "error", "parked"))
    for claim in ledger.claim("w1", limit=12, lease_seconds=60, deadlines=True):
        ledger.finish(claim, outcome(CaseState.PARKED, announcements=told))

    def publish(mine: Ledger, owner: str) -> list[Outgoing]:
        sent = []
        while mine.outbox_pending()[0]:
            for out in take(mine, owner, limit=3):
                sent.append(out)
                mine.outbox_sent([out.outbox_id])
        return sent

    one, two = at_once(lambda: publish(ledger, "p1"), lambda: publish(second, "p2"))
    assert isinstance(one, list)
    assert isinstance(two, list)
    by_id = [out.outbox_id for out in itertools.chain(one, two)]
    assert len(by_id) == len(set(by_id)) == 36
    for mine in (one, two):
        for case_id in {out.case_id for out in mine}:
            own = [out.outbox_id for out in mine if out.case_id == case_id]
            assert own == sorted(own)


def test_unrouted_ones_are_sent_again_on_a_person_s_word(ledger: Ledger) -> None:
    """Two unrouted of one case -> listed; resent in their order, under their ids; then none is."""
    announced(ledger, "start", "end")
    (first,) = take(ledger)
    ledger.outbox_unrouted([first.outbox_id])
    (second,) = take(ledger)
    ledger.outbox_unrouted([second.outbox_id])
    listed = ledger.unrouted(since=None, limit=10)
    assert [one.message_id for one in listed] == [first.message_id, second.message_id]
    assert ledger.unrouted(since=datetime(2199, 1, 1, tzinfo=UTC), limit=10) == ()
    assert ledger.resend({"no such id"}, "alice", "back") == 0
    assert ledger.resend(None, "alice", "back") == 2
    assert ledger.unrouted(since=None, limit=10) == ()
    (again,) = take(ledger)
    assert again.message_id == first.message_id
    ledger.outbox_sent([again.outbox_id])
    assert [one.message_id for one in take(ledger)] == [second.message_id]
    (decision,) = ledger.take_decisions()
    assert (decision.actor, decision.detail) == ("alice", {"number": 2})


def test_sent_one_is_not_sent_again(ledger: Ledger) -> None:
    """Confirmed, and asked for by its id -> nothing."""
    announced(ledger, "start")
    (out,) = take(ledger)
    ledger.outbox_sent([out.outbox_id])
    assert ledger.resend({out.message_id}, "alice", "again") == 0
    assert ledger.outbox_pending() == (0, 0.0)
