"""Who works on a ledger, by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from consumer.ledger import Ledger, Replica
from consumer.ledger.database.tables import replicas

ONE = Replica("one:1:aa", "one", 1, "0.1.0")
TWO = Replica("two:2:bb", "two", 2, "0.1.0")


def aged(ledger: Ledger, owner: str, seconds: float) -> None:
    """Pretend that a replica was last heard of so long ago."""
    seen = next(r for r in ledger.replicas() if r.replica.owner == owner)
    then = seen.heartbeat_at - timedelta(seconds=seconds)
    with ledger._database.engine.begin() as connection:
        connection.execute(
            sa.update(replicas).where(replicas.c.owner == owner).values(heartbeat_at=then)
        )


def test_two_that_beat_are_alive(ledger: Ledger) -> None:
    """Two replicas beat, one of them twice -> two rows, both alive, the start kept."""
    ledger.beat(ONE)
    started_at = ledger.replicas()[0].started_at
    ledger.beat(TWO)
    ledger.beat(ONE)
    seen = {r.replica: r for r in ledger.replicas()}
    assert set(seen) == {ONE, TWO}
    assert all(r.alive for r in seen.values())
    assert seen[ONE].started_at == started_at
    assert seen[ONE].heartbeat_at >= started_at


def test_silent_replica_is_not_alive(ledger: Ledger) -> None:
    """No heartbeat for two minutes -> listed, last, and not alive; the next one revives it."""
    ledger.beat(ONE)
    ledger.beat(TWO)
    aged(ledger, ONE.owner, 120)
    assert [(r.replica, r.alive) for r in ledger.replicas()] == [(TWO, True), (ONE, False)]
    ledger.beat(ONE)
    assert all(r.alive for r in ledger.replicas())


def test_old_row_is_pruned(ledger: Ledger) -> None:
    """Nobody heard of a replica for eight days -> another's heartbeat removes it."""
    ledger.beat(ONE)
    aged(ledger, ONE.owner, 8 * 86_400)
    ledger.beat(TWO)
    assert [r.replica for r in ledger.replicas()] == [TWO]


def test_good_order_leaves_no_row(ledger: Ledger) -> None:
    """A replica that ends in good order -> gone at once, the other stays."""
    ledger.beat(ONE)
    ledger.beat(TWO)
    ledger.leave(ONE.owner)
    assert [r.replica for r in ledger.replicas()] == [TWO]
