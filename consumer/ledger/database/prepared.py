"""Statements whose text and order of values are worked out once for each database.

Whenever SQLAlchemy executes a statement it looks it up anew, which takes ten times as long as what
SQLite does with it, and under the lock that all threads share; a storm of cases is bound by that.
Here the lookup is the first run's. What returns rows to be read stays with SQLAlchemy: their values
have to be converted on the way out as well.

One statement is spelled differently by the three databases: the INSERT of what may be there.
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
    """An INSERT, an UPDATE, or a SELECT that is only asked whether it finds anything.

    Its values are given by name with each run; in an INSERT those that are not are NULL.
    """

    def __init__(
        self,
        statement: sa.Insert | sa.Update | sa.Select[Any],
        columns: Collection[str] | None = None,
    ) -> None:
        self._statement = statement
        self._columns = columns
        # Weak, so that a database which has been closed is not kept.
        self._compiled = weakref.WeakKeyDictionary[sa.Dialect, _Compiled]()

    @classmethod
    def insert(cls, table: sa.Table) -> Self:
        """Prepare an INSERT of whole rows, but for a number that the database gives."""
        columns = [c.name for c in table.columns if c is not table.autoincrement_column]
        return cls(table.insert().inline(), columns)

    def run(self, connection: sa.Connection, *rows: Row) -> int:
        """Run it, once for each of one or more ``rows``; return how many rows it met.

        Raises what ``Connection.execute`` does; KeyError for a value that is missing or unknown.
        """
        compiled = self._on(connection.dialect)
        given = [compiled.values(row) for row in rows]
        one_or_many = given[0] if len(given) == 1 else given
        return connection.exec_driver_sql(compiled.text, one_or_many).rowcount

    def finds(self, connection: sa.Connection, values: Row) -> bool:
        """Run a SELECT and tell whether it finds a row. Raises as ``run`` does."""
        compiled = self._on(connection.dialect)
        found = connection.exec_driver_sql(compiled.text, compiled.values(values))
        return found.first() is not None

    def _on(self, dialect: sa.Dialect) -> _Compiled:
        if (compiled := self._compiled.get(dialect)) is None:
            compiled = self._compiled[dialect] = _Compiled(self._statement, self._columns, dialect)
        return compiled


class _Compiled:
    """A statement as one database is told it."""

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
        """Return the values as this database's driver wants them."""
        if not row.keys() <= self._names:
            raise KeyError(*(row.keys() - self._names))
        complete = {**self._defaults, **row}
        for name, convert in self._converted:
            complete[name] = convert(complete[name])
        ordered = tuple([complete[name] for name in self._order])
        return ordered if self._positional else dict(zip(self._order, ordered, strict=True))


def _conversion(bind: sa.BindParameter[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


# Takes the INSERT's pseudo-row of new values and the table; gives the columns' values.
Update = Callable[[Any, sa.Table], Mapping[str, Any]]


@functools.cache
def insert_absent(dialect: str, table: sa.Table, keys: tuple[str, ...]) -> sa.Insert:
    """Return an INSERT that does nothing where a row of these keys is there already."""
    if dialect == "mariadb":
        # INSERT IGNORE would also let through what does not fit a column, cut to fit.
        return mysql.insert(table).on_duplicate_key_update({keys[0]: table.c[keys[0]]})
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing(index_elements=keys)
    return postgresql.insert(table).on_conflict_do_nothing(index_elements=keys)


@functools.cache
def insert_or_update(
    dialect: str, table: sa.Table, keys: tuple[str, ...], update: Update
) -> sa.Insert:
    """Return an INSERT that makes these changes where a row of these keys is there already."""
    if dialect == "mariadb":
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update(dict(update(insert.inserted, table)))
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        return lite.on_conflict_do_update(index_elements=keys, set_=update(lite.excluded, table))
    post = postgresql.insert(table)
    return post.on_conflict_do_update(index_elements=keys, set_=update(post.excluded, table))
