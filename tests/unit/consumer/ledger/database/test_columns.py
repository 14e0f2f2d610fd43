"""The column types that the three databases have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database.tables import FreeText, JsonText, Moment

TABLE = sa.Table(
    "column_types",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("moment", Moment),
    sa.Column("json", JsonText),
    sa.Column("words", FreeText),
    mariadb_charset="utf8mb4",
)


def stored(ledger: Ledger, **values: Any) -> Any:
    """Store one row and read it back."""
    with ledger._database.engine.begin() as connection:
        TABLE.create(connection)
        connection.execute(TABLE.insert(), {"number": 1} | values)
        return connection.execute(TABLE.select()).one()


def test_moment(ledger: Ledger) -> None:
    """A time in another zone, to the microsecond -> the same moment, in UTC."""
    moment = datetime(2026, 11, 22, 23, 59, 59, 999999, timezone(timedelta(hours=-7)))
    read = stored(ledger, moment=moment).moment
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_naive_moment(ledger: Ledger) -> None:
    """A time without a zone -> refused: nobody knows when that was."""
    with pytest.raises(sa.exc.StatementError, match="without a zone"):
        stored(ledger, moment=datetime(2026, 11, 22))  # noqa: DTZ001 - what is tested


def test_moments_are_ordered(ledger: Ledger) -> None:
    """Times a microsecond apart -> compared rightly by the database."""
    moment = datetime(2026, 11, 22, 12, 0, 0, 0, UTC)
    with ledger._database.engine.begin() as connection:
        TABLE.create(connection)
        later = moment + timedelta(microseconds=1)
        rows = [{"number": 1, "moment": moment}, {"number": 2, "moment": later}]
        connection.execute(TABLE.insert(), rows)
        found = connection.execute(TABLE.select().where(TABLE.c.moment > moment))
        assert [row.number for row in found] == [2]


@pytest.mark.parametrize(
    "value",
    [None, {}, [], {"a": [1, 2.5, None, True, "größer \N{SNOWMAN} \N{GRINNING FACE}"]}, "", 0],
)
def test_json(ledger: Ledger, value: Any) -> None:
    """Any JSON value -> the same, read back."""
    assert stored(ledger, json=value).json == value


def test_json_odd_text(ledger: Ledger) -> None:
    """NUL and half a surrogate pair inside JSON -> NUL is kept, the half is replaced."""
    assert stored(ledger, json={"a\0": "b\ud800"}).json == {"a\0": "b?"}


def test_not_json(ledger: Ledger) -> None:
    """What is no JSON value -> refused."""
    with pytest.raises(sa.exc.StatementError, match="not JSON serializable"):
        stored(ledger, json={"a": object()})


def test_words(ledger: Ledger) -> None:
    """A text of 100,000 characters with NUL and half a pair -> stored whole, those replaced."""
    text = "\N{SNOWMAN}\0\ud800" + "x" * 100_000
    assert stored(ledger, words=text).words == "\N{SNOWMAN}\ufffd?" + "x" * 100_000
