"""The circuit breakers in the ledger: one for each backend, for all replicas together.

1. Each release that ends without an answer, or could not be made, counts; one that was done closes
   the breaker. A refusal says nothing of the backend: it is about the volume.
2. A row is changed only if nobody has since it was read (``turn``). So one replica alone tries the
   one release that a half-open breaker lets pass.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import breakers
from consumer.ledger.work.allowances import COLLIDED_SECONDS
from handlers.brakes import Breaker, BreakerLimits, Held, Scope
from handlers.case import StepKind, StepResult
from handlers.intents import REACHES_BACKEND

KEYS = ("cloud", "backend")
FAILED = frozenset({StepResult.INDETERMINATE, StepResult.TRANSIENT})


def hold(connection: sa.Connection, cloud: str, backend: str, limits: BreakerLimits) -> Held | None:
    """Return why nothing is released on this backend now, None if a release may be made."""
    row = _read(connection, cloud, backend) if limits.failures else None
    if row is None:
        return None
    seconds = _breaker(row).held_seconds(database_now(connection), limits)
    return Held(Scope.BREAKER, backend, seconds) if seconds > 0 else None


def try_one(
    connection: sa.Connection, cloud: str, backend: str, limits: BreakerLimits
) -> Held | None:
    """Record, where the breaker is half open, that the release about to be made is the one tried.

    Returns what holds it where another replica has taken that place at the same moment.
    """
    row = _read(connection, cloud, backend) if limits.failures else None
    if row is None or row.opened_at is None:
        return None
    trying = _breaker(row).probing(database_now(connection), limits)
    written = _write(connection, row, trying)
    return None if written else Held(Scope.BREAKER, backend, COLLIDED_SECONDS)


def count(
    connection: sa.Connection,
    cloud: str,
    backend: str,
    step: tuple[StepKind, StepResult],
    limits: BreakerLimits,
) -> None:
    """Take in how a step ended. Where another replica counts at the same moment, one is lost."""
    kind, result = step
    if not limits.failures or kind not in REACHES_BACKEND:
        return
    if result is StepResult.DONE:
        _close(connection, cloud, backend)
    elif result in FAILED:
        blank = {"cloud": cloud, "backend": backend, "failures": 0, "opens": 0, "turn": 0}
        # Only now: a backend that never fails has no row.
        connection.execute(insert_absent(connection.dialect.name, breakers, KEYS), blank)
        row = _read(connection, cloud, backend)
        if row is not None:
            _write(connection, row, _breaker(row).failed(database_now(connection), limits))


def open_breakers(connection: sa.Connection, cloud: str) -> dict[str, Breaker]:
    """Return the breakers that are not closed, by backend."""
    found = sa.select(breakers).where(breakers.c.cloud == cloud, breakers.c.opened_at.is_not(None))
    return {row.backend: _breaker(row) for row in connection.execute(found)}


def _read(connection: sa.Connection, cloud: str, backend: str) -> Row | None:
    one = sa.select(breakers).where(breakers.c.cloud == cloud, breakers.c.backend == backend)
    return connection.execute(one.with_for_update()).first()


def _breaker(row: Row) -> Breaker:
    return Breaker(row.failures, row.opens, row.opened_at, row.probe_until)


def _write(connection: sa.Connection, row: Row, breaker: Breaker) -> bool:
    """Write it unless somebody has changed the row since; tell whether it was written."""
    values: dict[str, Any] = {
        "failures": breaker.failures, "opens": breaker.opens, "opened_at": breaker.opened_at,
        "probe_until": breaker.probe_until, "turn": row.turn + 1,
    }  # fmt: skip
    unchanged = breakers.update().where(
        breakers.c.cloud == row.cloud,
        breakers.c.backend == row.backend,
        breakers.c.turn == row.turn,
    )
    return connection.execute(unchanged.values(values)).rowcount == 1


def _close(connection: sa.Connection, cloud: str, backend: str) -> None:
    # Without a failure the row is as it should be: most releases write nothing here.
    counted = breakers.update().where(
        breakers.c.cloud == cloud, breakers.c.backend == backend, breakers.c.failures > 0
    )
    closed = {"failures": 0, "opens": 0, "opened_at": None, "probe_until": None}
    connection.execute(counted.values(turn=breakers.c.turn + 1, **closed))
