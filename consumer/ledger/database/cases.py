"""Cases and their history, among those that are worked on or in the archive.

1. Each question is one statement for both places, because a case may be moved between two
   statements.
2. A transaction writes a case only after it has read it under its volume's lock (``locks``).
3. It writes only the columns that it changed.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import CASES, Row, Values
from consumer.ledger.database.tables import ARCHIVE_OF, cases, history
from consumer.ledger.errors import NoSuchCaseError
from handlers.case import Case

SHORTEST_PREFIX = 4

Narrow = Callable[[sa.Table], sa.ColumnElement[bool]]

_ADDED = Prepared.insert(cases)
_LINE = Prepared.insert(history)


@dataclasses.dataclass(frozen=True, slots=True)
class FoundCase:
    """A case, and whether it is in the archive."""

    case: Case
    archived: bool


def add(connection: sa.Connection, opened: Iterable[Case], now: datetime) -> None:
    """Write new cases."""
    if rows := [CASES.values(case) | _stamps(case, now) for case in opened]:
        _ADDED.run(connection, *rows)


def rewrite(connection: sa.Connection, changed: Iterable[tuple[Case, Case]], now: datetime) -> None:
    """Write the columns that differ between each case as read and as changed.

    ``updated_at`` and ``closed_at`` are set accordingly.
    """
    # A statement for each set of columns, so that a storm of like changes is one round trip.
    alike: dict[tuple[str, ...], list[Values]] = {}
    for before, after in changed:
        row = CASES.differing(before, after) | _stamps(after, now)
        alike.setdefault(tuple(row), []).append(row | {"rewritten": after.case_id})
    for names, rows in alike.items():
        _rewriting(names).run(connection, *rows)


@functools.cache  # few in all: a transition changes always the same columns
def _rewriting(names: tuple[str, ...]) -> Prepared:
    own = cases.c.case_id == sa.bindparam("rewritten")
    return Prepared(cases.update().where(own).values({n: sa.bindparam(n) for n in names}))


def _stamps(case: Case, now: datetime) -> Values:
    return {"updated_at": now, "closed_at": None if case.open else now}


def of_case(connection: sa.Connection, case_id: str, table: sa.Table, *order: str) -> list[Row]:
    """Return the rows of a case in one of the tables, in this order."""
    both = _both(table, lambda t: t.c.case_id == case_id)
    return list(connection.execute(both.order_by(*order)))


def newest_cases(
    connection: sa.Connection, narrow: Narrow, limit: int, *, few: bool = False
) -> tuple[Case, ...]:
    """Return the cases that were opened last, at most ``limit``.

    ``few``: the condition selects few cases, so that the index of the time should not be used.
    """
    newest = [
        # Each part has its own limit, so that neither place is read to its end.
        sa.select(table).where(narrow(table)).order_by(*_age(table, few=few)).limit(limit)
        for table in (cases, ARCHIVE_OF[cases])
    ]
    both = sa.union_all(*(sa.select(part.subquery()) for part in newest))
    of = both.selected_columns
    merged = both.order_by(of.opened_at.desc(), of.case_id.desc()).limit(limit)
    return tuple(CASES.read(row) for row in connection.execute(merged))


def number_of(connection: sa.Connection, narrow: Narrow, most: int) -> int:
    """Return how many cases there are, at most about twice ``most``: counting takes time."""
    counted = (
        sa.select(sa.literal(1).label("one")).select_from(table).where(narrow(table)).limit(most)
        for table in (cases, ARCHIVE_OF[cases])
    )
    both = sa.union_all(*(sa.select(part.subquery()) for part in counted)).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(both)).scalar_one()


def one_case(connection: sa.Connection, cloud: str, case_id: str) -> FoundCase:
    """Return a case, by its id or the beginning of it. Raises NoSuchCaseError."""
    case_id = case_id.lower()
    # First as a whole id, by the primary key: that is what detachd itself asks for.
    if found := _cases(connection, cloud, lambda t: t.c.case_id == case_id):
        return found[0]
    if len(case_id) < SHORTEST_PREFIX:
        raise NoSuchCaseError(
            f"there is no case {case_id}; give at least {SHORTEST_PREFIX} characters"
        )
    found = _cases(connection, cloud, lambda t: begins(t.c.case_id, case_id))
    if len(found) != 1:
        raise NoSuchCaseError(
            f"several cases begin with {case_id}; give more of the id"
            if found
            else f"there is no case {case_id}; `detachd case list` shows them"
        )
    return found[0]


def _cases(connection: sa.Connection, cloud: str, narrow: Narrow) -> list[FoundCase]:
    both = _both(cases, lambda t: sa.and_(t.c.cloud == cloud, narrow(t)))
    # Two are enough to see that an id is not unique.
    return [FoundCase(CASES.read(row), row.archived) for row in connection.execute(both.limit(2))]


def _both(table: sa.Table, narrow: Narrow) -> sa.CompoundSelect[Any]:
    archived = ARCHIVE_OF[table]
    return sa.union_all(
        sa.select(table, sa.false().label("archived")).where(narrow(table)),
        sa.select(archived, sa.true().label("archived")).where(narrow(archived)),
    )


def _age(table: sa.Table, *, few: bool) -> tuple[sa.ColumnElement[Any], ...]:
    opened_at = table.c.opened_at
    # An expression, so that SQLite walks the index of the volume and not that of opened_at.
    by_time = sa.func.coalesce(opened_at, opened_at) if few else opened_at
    return by_time.desc(), table.c.case_id.desc()


def begins(column: sa.Column[Any], case_id: str) -> sa.ColumnElement[bool]:
    """Return the condition that an id in hexadecimal begins so."""
    # So that an index is used: "g" comes after every character of an id.
    among = sa.and_(column >= case_id, column < f"{case_id}g")
    return sa.and_(among, column.startswith(case_id, autoescape=True))


class HistoryKind(enum.Enum):
    """What happened to the case."""

    OPENED = "opened"
    MOVED = "moved"
    CLOSED = "closed"
    INTENDED = "intended"
    RESULT = "result"
    CONCLUDED = "concluded"
    HANDED_BACK = "handed-back"
    APPROVED = "approved"
    REARMED = "rearmed"
    DISMISSED = "dismissed"
    ACKNOWLEDGED = "acknowledged"
    ACKNOWLEDGEMENT_ENDED = "acknowledgement-ended"
    NOTED = "noted"
    RETURNED_LATE = "returned-late"


def note(
    connection: sa.Connection,
    case_id: str,
    kind: HistoryKind,
    actor: str,
    now: datetime,
    **columns: Any,
) -> None:
    """Write one line into the history of a case."""
    line = {"case_id": case_id, "kind": kind.value, "actor": actor, "recorded_at": now}
    _LINE.run(connection, line | columns)
