"""Lets all SQLite ledgers of one test process share the statements that SQLAlchemy has compiled.

An engine remembers what it has compiled, and each test has a ledger with an engine of its own: the
quick tests spent a sixth of their time on compiling the same statements again. A compiled statement
depends on the dialect and its options, which are the same for every SQLite engine of a process.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_COMPILED: dict[Any, Any] = {}


class SharedDialect(SQLiteDialect_pysqlite):
    """The dialect as it is; all instances are one key of the cache."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


def use() -> None:
    """Make it so for every engine for SQLite that this process creates from now on."""
    sa.dialects.registry.register("sqlite", __name__, SharedDialect.__name__)
    sa.event.listen(sa.engine.Engine, "engine_connect", _share)


def _share(connection: sa.Connection) -> None:
    if isinstance(connection.dialect, SharedDialect):
        connection.execution_options(compiled_cache=_COMPILED)
