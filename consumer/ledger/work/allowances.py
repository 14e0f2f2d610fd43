"""The brakes in the ledger: how many plans were begun, for all replicas together.

1. A row for each backend, host and project, and one for the day, by the database's clock. All that
   a plan needs are taken in one transaction, or none.
2. A row is changed only if nobody has since it was read (``taken``). So two replicas never take the
   same token, on a cluster neither.
3. A row remembers when it held a plan back last, for `detachd status`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import allowances
from handlers.brakes import (
    Held,
    Limits,
    Scope,
    Spending,
    seconds_to_tomorrow,
    spent,
    wait_seconds,
)

KEYS = ("cloud", "scope", "name")
COLLIDED_SECONDS = 1.0
"""How long to wait where another replica took a token at the same moment."""


class CollidedError(Exception):
    """Another replica took a token at the same moment: the transaction must take none."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.words)
        self.held = held


@dataclasses.dataclass(frozen=True, slots=True)
class Brake:
    """A brake that has held a plan back; ``taken``: how many plans it let pass so far."""

    scope: Scope
    name: str
    held_at: datetime
    taken: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Allowance:
    """A row as it was read, and what limits it."""

    cloud: str
    scope: Scope
    row: Row
    limits: Limits

    def held(self, now: datetime) -> Held | None:
        """Return why it has no token, None if it has one."""
        name = self.row.name
        if self.scope is Scope.DAY:
            over = self.row.taken >= self.limits.per_day
            return Held(self.scope, name, seconds_to_tomorrow(now)) if over else None
        seconds = wait_seconds(self.row.full_at, now, self.limits.of(self.scope))
        return Held(self.scope, name, seconds) if seconds > 0 else None

    def take(self, connection: sa.Connection, now: datetime) -> bool:
        """Take a token unless somebody has changed the row since; tell whether it was taken."""
        values: dict[str, Any] = {"taken": self.row.taken + 1}
        if self.scope is not Scope.DAY:
            values["full_at"] = spent(self.row.full_at, now, self.limits.of(self.scope))
        # On a cluster a lock does not reach the other nodes; a changed row does.
        unchanged = self.own().where(allowances.c.taken == self.row.taken)
        return connection.execute(unchanged.values(values)).rowcount == 1

    def own(self) -> sa.Update:
        """Return an update of the row."""
        return allowances.update().where(*_key(self.cloud, self.scope, self.row.name))


def take(connection: sa.Connection, cloud: str, limits: Limits, spending: Spending) -> Held | None:
    """Take a token of each bucket and one of the day; return what has none, and take none then.

    Raises CollidedError, with which the transaction must be rolled back.
    """
    now = database_now(connection)
    # Sorted: two replicas that lock the same rows in the same order cannot deadlock.
    wanted = sorted(_wanted(limits, spending, now), key=lambda w: (w[0].value, w[1]))
    if not wanted:
        return None
    found = _allowances(connection, cloud, limits, wanted)
    for one in found:
        if (held := one.held(now)) is not None:
            # For display alone. It commits although no token is taken.
            connection.execute(one.own().values(held_at=now))
            return held
    for one in found:
        if not one.take(connection, now):
            raise CollidedError(Held(one.scope, one.row.name, COLLIDED_SECONDS))
    # Here, where a plan is begun anyway: no loop is needed for a few rows a day.
    _forget(connection, cloud, now)
    return None


def held_since(connection: sa.Connection, cloud: str, seconds: float) -> tuple[Brake, ...]:
    """Return the brakes that held a plan back in the last seconds, the latest first."""
    since = database_now(connection) - timedelta(seconds=seconds)
    recent = sa.select(allowances).where(allowances.c.cloud == cloud, allowances.c.held_at >= since)
    rows = connection.execute(recent.order_by(allowances.c.held_at.desc()))
    return tuple(Brake(Scope(r.scope), r.name, r.held_at, r.taken) for r in rows)


def _wanted(limits: Limits, spending: Spending, now: datetime) -> Iterator[tuple[Scope, str]]:
    for scope, name in spending.names().items():
        if limits.of(scope).limits:
            yield scope, name
    if limits.per_day > 0:
        yield Scope.DAY, f"{now:%Y-%m-%d}"


def _allowances(
    connection: sa.Connection, cloud: str, limits: Limits, wanted: Sequence[tuple[Scope, str]]
) -> list[_Allowance]:
    """Lock the rows, always in the same order; make those that there are not."""
    blank = [{"cloud": cloud, "scope": s.value, "name": name, "taken": 0} for s, name in wanted]
    connection.execute(insert_absent(connection.dialect.name, allowances, KEYS), blank)
    found: list[_Allowance] = []
    for scope, name in wanted:
        one = sa.select(allowances).where(*_key(cloud, scope, name)).with_for_update()
        if (row := connection.execute(one).first()) is None:  # forgotten at this moment
            raise CollidedError(Held(scope, name, COLLIDED_SECONDS))
        found.append(_Allowance(cloud, scope, row, limits))
    return found


def _forget(connection: sa.Connection, cloud: str, now: datetime) -> None:
    """Delete days that are over, and buckets that have been full for two days: as if never used."""
    ago = now - timedelta(days=2)
    over = sa.and_(allowances.c.scope == Scope.DAY.value, allowances.c.name < f"{ago:%Y-%m-%d}")
    full = sa.and_(
        allowances.c.full_at < ago,
        sa.or_(allowances.c.held_at.is_(None), allowances.c.held_at < ago),
    )
    connection.execute(allowances.delete().where(allowances.c.cloud == cloud, over | full))


def _key(cloud: str, scope: Scope, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        allowances.c.cloud == cloud,
        allowances.c.scope == scope.value,
        allowances.c.name == name,
    )
