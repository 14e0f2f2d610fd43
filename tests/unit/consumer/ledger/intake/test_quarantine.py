"""What could not be read, on each database."""

from __future__ import annotations

import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database.tables import quarantine


def rows(ledger: Ledger) -> list[sa.Row[tuple[object, ...]]]:
    """Return the quarantine, oldest first."""
    with ledger._database.engine.begin() as connection:
        return list(connection.execute(quarantine.select().order_by(quarantine.c.quarantine_id)))


def test_recorded(ledger: Ledger) -> None:
    """A body that does not parse -> where from, hash, size, reason and excerpt are kept."""
    ledger.quarantine("nova", "notifications.error", "a" * 64, 17, "not JSON", "{oops")
    (row,) = rows(ledger)
    assert (row.bus, row.routing_key, row.body_sha256) == ("nova", "notifications.error", "a" * 64)
    assert (row.size, row.reason, row.excerpt, row.times) == (17, "not JSON", "{oops", 1)


def test_again(ledger: Ledger) -> None:
    """The same body again -> counted, with both times; another body -> a row of its own."""
    for _ in range(3):
        ledger.quarantine("nova", "notifications.error", "a" * 64, 17, "not JSON", "{oops")
    ledger.quarantine("nova", "notifications.error", "b" * 64, 1, "not JSON", "{")
    first, second = rows(ledger)
    assert (first.times, second.times) == (3, 1)
    assert first.first_at <= first.last_at


def test_anything_can_be_recorded(ledger: Ledger) -> None:
    """A routing key and a text that no database likes -> recorded all the same."""
    ledger.quarantine("nova", "k\0\ud800" * 100, "c" * 64, 2**31 - 1, "r\0\ud800", "e\0\ud800")
    (row,) = rows(ledger)
    assert len(row.routing_key) == 255
    assert (row.reason, row.excerpt) == ("r\ufffd?", "e\ufffd?")
