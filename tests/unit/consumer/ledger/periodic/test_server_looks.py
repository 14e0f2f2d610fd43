"""Servers that are to be looked at: planned by what Nova tells, taken when due, never lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from consumer.ledger import Ledger
from consumer.ledger.database.tables import server_looks
from handlers.correlation.matching import Timing
from handlers.notification import Notification, Phase, Source
from tests.unit.consumer.ledger.making import accept, told


@pytest.fixture
def budgeted(ledger: Ledger, ledger_url: str) -> Iterator[Ledger]:
    """Return a ledger on the same tables with a budget of looks, ten minutes after a message."""
    timing = Timing(second_look_seconds=600)
    budgeted = Ledger(ledger_url, timing=timing, second_looks_per_minute=10)
    yield budgeted
    budgeted.close()


def gone(instance_id: str, event_type: str = "instance.delete.end") -> Notification:
    """Return Nova's word on a server."""
    return told(
        None, Phase.SIGNAL, event_type=event_type, source=Source.NOVA_VERSIONED, volume_id=None,
        instance_id=instance_id, request_id=f"req-{instance_id}",
    )  # fmt: skip


def pass_time(ledger: Ledger, seconds: float) -> None:
    """Let time go by for every server that was told of."""
    with ledger._database.engine.begin() as connection:
        for row in connection.execute(server_looks.select()).all():
            of = server_looks.update().where(server_looks.c.instance_id == row.instance_id)
            earlier = timedelta(seconds=seconds)
            connection.execute(
                of.values(due_at=row.due_at - earlier, told_at=row.told_at - earlier)
            )


def test_due_after_a_while(budgeted: Ledger) -> None:
    """A server is deleted -> it is due when its detaches are over, and once."""
    accept(budgeted, gone("s1"), gone("s1", "instance.shutdown.end"), gone("s2"))
    assert budgeted.server_looks.take(9) == {}
    pass_time(budgeted, 601)
    assert set(budgeted.server_looks.take(9)) == {"s1", "s2"}
    assert budgeted.server_looks.take(9) == {}
    assert budgeted.cases() == ()


def test_what_is_looked_at_is_forgotten_and_the_rest_is_due_again(budgeted: Ledger) -> None:
    """A process dies between taking and looking -> due again; what was looked at is not."""
    accept(budgeted, gone("s1"), gone("s2"))
    pass_time(budgeted, 601)
    budgeted.server_looks.take(9)
    budgeted.server_looks.looked_at(["s1"])
    pass_time(budgeted, 301)
    assert set(budgeted.server_looks.take(9)) == {"s2"}


def test_the_oldest_first_and_no_more_than_asked_for(budgeted: Ledger) -> None:
    """More are due than may be looked at -> the oldest."""
    accept(budgeted, gone("s1"))
    pass_time(budgeted, 10)
    accept(budgeted, gone("s2"))
    pass_time(budgeted, 601)
    assert set(budgeted.server_looks.take(1)) == {"s1"}


def test_a_day_later_it_is_left_to_the_sweep(budgeted: Ledger) -> None:
    """Nobody got to it within a day -> forgotten; what was told of since is not."""
    accept(budgeted, gone("s1"))
    pass_time(budgeted, 2 * 86_400)
    accept(budgeted, gone("s2"))
    pass_time(budgeted, 601)
    assert set(budgeted.server_looks.take(9)) == {"s2"}
    assert budgeted.server_looks.take(9) == {}
    with budgeted._database.engine.begin() as connection:
        rows = connection.execute(server_looks.select()).all()
    assert [row.instance_id for row in rows] == ["s2"]


def test_without_a_budget_nothing_is_planned(ledger: Ledger) -> None:
    """No look is allowed -> no row that nobody would take."""
    accept(ledger, gone("s1"))
    pass_time(ledger, 601)
    assert ledger.server_looks.take(9) == {}
