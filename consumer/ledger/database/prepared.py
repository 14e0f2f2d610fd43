"""Statements that are compiled once for each database.

At each execution SQLAlchemy looks up the compiled statement. That takes ten times as long as SQLite
needs for it, under the lock that all threads share, and limits the speed in a storm of cases. Here
only the first run does it. Statements that return rows are left to SQLAlchemy, which also converts
their values.

At the end: INSERT for a row that may exist, which the three databases write differently.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, Any]


class Prepared:
    """An INSERT, an UPDATE, or a SELECT for which only the existence of a row matters.

    Each run gets its values by name. In an INSERT a missing value is NULL.
    """

    def __init__(
        self,
        statement: sa.Insert | sa.Update | sa.Select[Any],
        columns: Collection[str] | None = None,
    ) -> None:
        self._statement = statement
        self._columns = columns
        # Weak references, so that a closed database is not kept in memory.
        self._compiled = weakref.WeakKeyDictionary[sa.Dialect, _Compiled]()

    @classmethod
    def insert(cls, table: sa.Table) -> Self:
        """Prepare an INSERT of complete rows, without a number that the database generates."""
        # inline: without it SQLAlchemy adds RETURNING for the new number, which nobody reads here.
        columns = [c.name for c in table.columns if c is not table.autoincrement_column]
        return cls(table.insert().inline(), columns)

    def run(self, connection: sa.Connection, *rows: Row) -> int:
        """Run it once for each of ``rows``; return the number of affected rows.

        Raises what ``Connection.execute`` raises; KeyError for a missing or unknown value.
        """
        compiled = self._on(connection.dialect)
        given = [compiled.values(row) for row in rows]
        # A list makes it an executemany, which takes another path in each driver.
        one_or_many = given[0] if len(given) == 1 else given
        return connection.exec_driver_sql(compiled.text, one_or_many).rowcount

    def finds(self, connection: sa.Connection, values: Row) -> bool:
        """Run a SELECT and tell whether it finds a row. Raises what ``run`` raises."""
        compiled = self._on(connection.dialect)
        found = connection.exec_driver_sql(compiled.text, compiled.values(values))
        # first() also closes the result, so that the connection is free for the next statement.
        return found.first() is not None

    def _on(self, dialect: sa.Dialect) -> _Compiled:
        if (compiled := self._compiled.get(dialect)) is None:
            compiled = self._compiled[dialect] = _Compiled(self._statement, self._columns, dialect)
        return compiled


class _Compiled:
    """A statement compiled for one database."""

    __slots__ = ("_converted", "_defaults", "_names", "_order", "_positional", "text")

    def __init__(
        self, statement: sa.ClauseElement, columns: Collection[str] | None, dialect: sa.Dialect
    ) -> None:
        keys = None if columns is None else list(columns)
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=keys))
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self.text = str(compiled)
        self._names = frozenset(binds)
        self._defaults = dict.fromkeys(columns or ()) | {
            name: bind.value for name, bind in binds.items() if not bind.required
        }
        self._positional = compiled.positional
        order = compiled.positiontup if compiled.positional else list(binds)
        self._order = tuple(order or ())
        found = [(name, _conversion(binds[name], dialect)) for name in binds]
        self._converted = [(name, convert) for name, convert in found if convert is not None]

    def values(self, row: Row) -> Any:
        """Return the values in the form that the driver of this database needs."""
        # A misspelt name would otherwise be dropped without a word, as missing values are NULL.
        if not row.keys() <= self._names:
            raise KeyError(*(row.keys() - self._names))
        complete = {**self._defaults, **row}
        for name, convert in self._converted:
            complete[name] = convert(complete[name])
        # A list in between: faster than a generator, and this runs for each row of a storm.
        ordered = tuple([complete[name] for name in self._order])
        return ordered if self._positional else dict(zip(self._order, ordered, strict=True))


def _conversion(bind: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    # What SQLAlchemy itself would call for each value (sqlalchemy/engine/default.py).
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


# From the new row of the INSERT, and the table, to the new values of the columns.
Update = Callable[[Any, sa.Table], Mapping[str, Any]]


@functools.cache
def insert_absent(dialect: str, table: sa.Table, keys: tuple[str, ...]) -> sa.Insert:
    """Return an INSERT that does nothing if a row with these keys exists."""
    if dialect == "mariadb":
        # Not INSERT IGNORE: it would also cut values that are too long for a column.
        return mysql.insert(table).on_duplicate_key_update({keys[0]: table.c[keys[0]]})
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing(index_elements=keys)
    return postgresql.insert(table).on_conflict_do_nothing(index_elements=keys)


@functools.cache
def insert_or_update(
    dialect: str, table: sa.Table, keys: tuple[str, ...], update: Update
) -> sa.Insert:
    """Return an INSERT that makes these changes if a row with these keys exists."""
    if dialect == "mariadb":
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update(dict(update(insert.inserted, table)))
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        return lite.on_conflict_do_update(index_elements=keys, set_=update(lite.excluded, table))
    post = postgresql.insert(table)
    return post.on_conflict_do_update(index_elements=keys, set_=update(post.excluded, table))
