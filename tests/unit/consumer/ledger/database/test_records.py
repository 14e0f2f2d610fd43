"""Dataclasses as rows: what is told of a field once, in its type, is all that storing it takes."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database import cases as kept
from consumer.ledger.database.records import CASES, Shape, Stored
from consumer.ledger.database.tables import JsonText, Moment, cases
from drivers.base import Connector
from handlers.case import Case, CaseState, ReasonKind, Shown, Trigger
from tests.unit.consumer.ledger.making import CONNECTOR, NOW, known

HINTS = typing.get_type_hints(Case)
OWN = [field for field in dataclasses.fields(Case) if not field.metadata.get("gathered")]
STAMPED = {"updated_at", "closed_at"}
KINDS: dict[Any, Any] = {
    str: "a word",
    int: 7,
    bool: True,
    Connector: CONNECTOR,
    tuple[str, ...]: ("req-1", "req-2"),
    tuple[ReasonKind, ...]: (ReasonKind.GUARD, ReasonKind.DANGER),
    tuple[Shown, ...]: (Shown("att-1", "inst-1", "compute-1", True), Shown("att-2")),
}


def some(hint: Any) -> Any:
    """Return a value of this type that is no default."""
    kind = next(a for a in typing.get_args(hint) if a is not types.NoneType) \
        if isinstance(hint, types.UnionType) else hint  # fmt: skip
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return list(kind)[-1]
    return KINDS.get(kind, NOW + timedelta(microseconds=1))


FULL = dataclasses.replace(
    Case(**{f.name: some(HINTS[f.name]) for f in OWN}), case_id="full", cloud="default"
)
BARE = known(case_id="bare", request_ids=())


def test_a_case_s_columns_are_its_fields() -> None:
    """A field without a column, or a column without a field -> seen here."""
    renamed = {"trigger": "triggered_by"}
    assert [c.name for c in cases.columns if c.name not in CASES.names] == []
    assert set(CASES.names) == {renamed.get(field.name, field.name) for field in OWN}


@pytest.mark.parametrize("case", [FULL, BARE], ids=["every field", "no field that may be none"])
def test_case_comes_back(ledger: Ledger, case: Case) -> None:
    """A case is written -> the same is read, but for when it was written."""
    ledger._database.write(lambda c: kept.add(c, [case], NOW))
    (read,) = ledger.cases()
    closed_at = None if case.open else NOW
    assert read == dataclasses.replace(case, updated_at=NOW, closed_at=closed_at)
    assert ledger.case(case.case_id).case == read


def test_part_of_a_field_that_is_newer_than_the_row() -> None:
    """A release before wrote a row that a start showed, without a part -> that part's default."""
    values = CASES.values(dataclasses.replace(BARE, shown=(Shown("att-1"),)))
    for row in values["shown"]:
        del row["unasked"]
    assert CASES.of(values[name] for name in CASES.names).shown == (Shown("att-1"),)


def test_only_what_differs_is_written(ledger: Ledger) -> None:
    """One field is changed, and another by somebody else -> both changes hold."""
    for field in [f.name for f in OWN if f.name not in {"case_id", *STAMPED}]:
        before = dataclasses.replace(BARE, case_id=field)
        after = dataclasses.replace(before, **{field: some(HINTS[field])})
        other = "reason" if field != "reason" else "rule"
        read = ledger._database.write(lambda c, w=(before, after, other): changed(c, *w))
        assert getattr(read, field) == some(HINTS[field]) != getattr(before, field), field
        assert getattr(read, other) == "meanwhile"


def changed(connection: sa.Connection, before: Case, after: Case, other: str) -> Case:
    """Write a case, another word in it, and the change; return what is there then."""
    kept.add(connection, [before], NOW)
    own = cases.c.case_id == before.case_id
    connection.execute(cases.update().where(own).values({other: "meanwhile"}))
    kept.rewrite(connection, [(before, after)], NOW)
    return CASES.read(connection.execute(cases.select().where(own)).one())


def test_null_of_an_older_row(ledger: Ledger) -> None:
    """NULL in a column that the row is older than -> the field's default."""

    def write(connection: sa.Connection) -> Case:
        kept.add(connection, [BARE], NOW)
        connection.execute(cases.update().values(nova_started=None, nova_ended=None))
        return CASES.read(connection.execute(cases.select()).one())

    read = ledger._database.write(write)
    assert (read.nova_started, read.nova_ended) == (False, False)


class Colour(enum.Enum):
    """A closed set."""

    RED = "red"


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    """What JSON holds."""

    colour: Colour | None
    connector: Connector


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    """What a row holds."""

    number: int
    at: Any
    inners: tuple[Inner, ...]
    added: bool = False


@pytest.mark.parametrize("colour", [None, Colour.RED])
def test_what_holds_others(ledger: Ledger, colour: Colour | None) -> None:
    """Dataclasses within a dataclass, in one column of JSON -> read back as they were."""
    table = sa.Table(
        "outers",
        sa.MetaData(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("happened_at", Moment),
        sa.Column("inners", JsonText),
        sa.Column("added", sa.Boolean),
    )
    outer = Outer(1, NOW, (Inner(colour, CONNECTOR), Inner(None, Connector())), added=True)
    stored = Stored(Outer, table, {"at": "happened_at"})
    with ledger._database.engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), stored.values(outer))
        assert stored.read(connection.execute(table.select()).one()) == outer


def test_column_that_is_missing() -> None:
    """A field without its column -> refused when the program starts, not when a row is read."""
    with pytest.raises(KeyError, match="number"):
        Stored(Outer, cases)


def test_nothing_differs() -> None:
    """Two that are equal, in parts that are not the same objects -> nothing to write."""
    shape: Shape[Case] = Shape(Case)
    twin = dataclasses.replace(FULL, request_ids=(*FULL.request_ids,))
    assert shape.differing(FULL, twin) == {}
    assert shape.differing(FULL, dataclasses.replace(FULL, trigger=Trigger.END)) == {
        "trigger": "end"
    }
    assert FULL.state is CaseState.CLOSED
