"""The one statement that the three databases spell differently: INSERT of what may be there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

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
