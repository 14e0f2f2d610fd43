"""Cases wherever they are kept: among those that are worked on, or in the archive.

Each question is one statement for both, as a case may be moved between two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import ARCHIVE_OF, cases
from consumer.ledger.errors import NoSuchCaseError

SHORTEST_PREFIX = 4

Narrow = Callable[[sa.Table], sa.ColumnElement[bool]]


def of_case(connection: sa.Connection, case_id: str, table: sa.Table, *order: str) -> list[Row]:
    """Return what a case has in one of the tables, in this order."""
    both = _both(table, lambda t: t.c.case_id == case_id)
    return list(connection.execute(both.order_by(*order)))


def newest_cases(
    connection: sa.Connection, narrow: Narrow, limit: int, *, few: bool = False
) -> list[Row]:
    """Return the cases that were opened last, so many at most.

    ``few``: what is narrowed to is found by another index than that of the time, or by none.
    """
    newest = [
        sa.select(table).where(narrow(table)).order_by(*_age(table, few=few)).limit(limit)
        for table in (cases, ARCHIVE_OF[cases])
    ]
    both = sa.union_all(*(sa.select(part.subquery()) for part in newest))
    of = both.selected_columns
    merged = both.order_by(of.opened_at.desc(), of.case_id.desc()).limit(limit)
    return list(connection.execute(merged))


def one_case(connection: sa.Connection, cloud: str, case_id: str) -> Row:
    """Return the row of a case, by its id or the beginning of it; ``archived`` says where it is.

    Raises NoSuchCaseError.
    """
    case_id = case_id.lower()
    if found := _cases(connection, cloud, lambda t: t.c.case_id == case_id):
        return found[0]
    if len(case_id) < SHORTEST_PREFIX:
        raise NoSuchCaseError(f"there is no case {case_id}; give {SHORTEST_PREFIX} characters")
    found = _cases(connection, cloud, lambda t: _begins(t.c.case_id, case_id))
    if len(found) != 1:
        raise NoSuchCaseError(
            f"several cases begin with {case_id}" if found else f"there is no case {case_id}"
        )
    return found[0]


def _cases(connection: sa.Connection, cloud: str, narrow: Narrow) -> list[Row]:
    both = _both(cases, lambda t: sa.and_(t.c.cloud == cloud, narrow(t)))
    return list(connection.execute(both.limit(2)))


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


def _begins(column: sa.Column[Any], case_id: str) -> sa.ColumnElement[bool]:
    # By an index: "g" comes after all that an id may go on with.
    among = sa.and_(column >= case_id, column < f"{case_id}g")
    return sa.and_(among, column.startswith(case_id, autoescape=True))
