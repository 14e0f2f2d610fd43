"""Prepared statements do what SQLAlchemy's own execution does, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from consumer.ledger import Ledger
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import connectors, pauses
from tests.unit.consumer.ledger.making import NOW

KNOWN = Prepared.insert(connectors)
MOVED = Prepared(
    connectors.update()
    .where(connectors.c.host == sa.bindparam("known_host"), connectors.c.cloud == "c")
    .values(learned_at=sa.bindparam("learned_at"), attachment_id=None)
)
IS_KNOWN = Prepared(
    sa.select(connectors.c.host).where(connectors.c.host == sa.bindparam("known_host"))
)


def row(host: str, **columns: object) -> dict[str, object]:
    """Return a whole row, with JSON, text of another script and a time in another zone."""
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    values = {"cloud": "c", "host": host, "connector": {"host": "größer"}, "learned_at": east}
    return values | columns


def rows(ledger: Ledger) -> list[sa.Row[tuple[object, ...]]]:
    """Read back what there is, by SQLAlchemy's own way."""
    every = sa.select(connectors).order_by(connectors.c.host)
    return list(ledger._database.read(lambda c: c.execute(every).all()))


def test_written_as_sqlalchemy_writes(ledger: Ledger) -> None:
    """One row prepared, one executed -> the same is read back, to the microsecond and in UTC."""
    ledger._database.write(lambda c: KNOWN.run(c, row("a")))
    ledger._database.write(lambda c: c.execute(connectors.insert(), row("b")))
    first, second = rows(ledger)
    assert first[2:] == second[2:]
    assert (first.learned_at, first.connector) == (NOW, {"host": "größer"})


def test_many_rows(ledger: Ledger) -> None:
    """Several rows in one run -> all of them, in their order where the database numbers them."""
    paused = Prepared.insert(pauses)
    lines = [{"cloud": "c", "paused_at": NOW, "paused_by": str(n), "reason": ""} for n in range(5)]
    ledger._database.write(lambda c: paused.run(c, *lines))
    numbered = sa.select(pauses.c.paused_by).order_by(pauses.c.pause_id)
    found = ledger._database.read(lambda c: c.execute(numbered).scalars().all())
    assert found == ["0", "1", "2", "3", "4"]


def test_rows_met(ledger: Ledger) -> None:
    """An update that meets one row, or none -> told so, also where nothing changes by it."""
    later = {"known_host": "a", "learned_at": datetime(2026, 12, 1, tzinfo=UTC)}
    ledger._database.write(lambda c: KNOWN.run(c, row("a", attachment_id="att")))
    assert ledger._database.write(lambda c: MOVED.run(c, later)) == 1
    assert ledger._database.write(lambda c: MOVED.run(c, later)) == 1
    assert ledger._database.write(lambda c: MOVED.run(c, later | {"known_host": "b"})) == 0
    assert [(r.learned_at, r.attachment_id) for r in rows(ledger)] == [(later["learned_at"], None)]


def test_finds(ledger: Ledger) -> None:
    """A question whose row is there, and one whose row is not -> yes, no."""
    ledger._database.write(lambda c: KNOWN.run(c, row("a")))
    assert ledger._database.read(lambda c: IS_KNOWN.finds(c, {"known_host": "a"}))
    assert not ledger._database.read(lambda c: IS_KNOWN.finds(c, {"known_host": "b"}))


def test_refused_as_sqlalchemy_refuses(ledger: Ledger) -> None:
    """A row that breaks a key -> SQLAlchemy's own error, without the values in its text."""
    ledger._database.write(lambda c: KNOWN.run(c, row("a")))
    with pytest.raises(exc.IntegrityError) as refused:
        ledger._database.write(lambda c: KNOWN.run(c, row("a", attachment_id="not to be told")))
    assert "not to be told" not in str(refused.value)


@pytest.mark.parametrize("values", [{"known_host": "a"}, {"learned_at": NOW}])
def test_value_missing(ledger: Ledger, values: dict[str, object]) -> None:
    """A value of an update is not given -> KeyError, instead of NULL."""
    with pytest.raises(KeyError):
        ledger._database.write(lambda c: MOVED.run(c, values))


def test_value_unknown(ledger: Ledger) -> None:
    """A value that is no column's -> KeyError, instead of nothing."""
    with pytest.raises(KeyError, match="hots"):
        ledger._database.write(lambda c: KNOWN.run(c, row("a", hots="a")))
