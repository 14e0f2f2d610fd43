"""Taking notifications in: one transaction a batch, unique by message_id, one bad row alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import exc

from consumer.ledger.database.engine import Database, cause, database_now
from consumer.ledger.database.locks import lock_volumes, pass_gate
from consumer.ledger.database.tables import notifications
from consumer.ledger.intake.arrival import Accepted, Arrival
from consumer.ledger.intake.changes import write_changes
from consumer.ledger.intake.known import read_known, volumes_of_requests
from handlers.case import CaseState
from handlers.correlation.correlated import Changes
from handlers.correlation.correlation import correlate
from handlers.correlation.ids import new_case_id
from handlers.correlation.matching import Signal, Timing
from handlers.notification import Notification

REASON_LENGTH = 500

_STORED = sa.select(notifications.c.message_id).where(
    notifications.c.message_id.in_(sa.bindparam("ids", expanding=True))
)


def accept(database: Database, cloud: str, timing: Timing, arrivals: Sequence[Arrival]) -> Accepted:
    """Store a batch in one transaction; where a row is refused, bisect until that row is alone."""
    if not arrivals:
        return Accepted()
    try:
        return database.write(lambda connection: _store(connection, cloud, timing, arrivals))
    except (exc.StatementError, ValueError, TypeError, OverflowError) as error:
        if not of_the_data(error):
            raise
        if len(arrivals) == 1:
            return Accepted(rejected=((arrivals[0], cause(error)[:REASON_LENGTH]),))
    half = len(arrivals) // 2
    first = accept(database, cloud, timing, arrivals[:half])
    return first + accept(database, cloud, timing, arrivals[half:])


def of_the_data(error: Exception) -> bool:
    """Tell whether the database refused the row, and would again, rather than failed."""
    return isinstance(error, exc.DataError | exc.IntegrityError) or not isinstance(
        error, exc.DBAPIError
    )


def _store(
    connection: sa.Connection, cloud: str, timing: Timing, arrivals: Sequence[Arrival]
) -> Accepted:
    batch = [arrival.notification for arrival in arrivals]
    claimed = _lock(connection, cloud, batch)
    fresh = _fresh(connection, arrivals)
    if not fresh:
        return Accepted(duplicates=len(arrivals))
    now = database_now(connection)
    changes = _correlated(connection, cloud, timing, fresh, claimed=claimed, now=now)
    write_changes(connection, changes, fresh, cloud=cloud, now=now)
    return Accepted(
        stored=len(fresh),
        duplicates=len(arrivals) - len(fresh),
        opened=len(changes.opened),
        closed=sum(move.after is CaseState.CLOSED for move in changes.moves),
    )


def _lock(
    connection: sa.Connection, cloud: str, batch: Sequence[Notification]
) -> Mapping[str, str | None]:
    """Lock what the batch may be about; return the case in hand of each volume, if any."""
    requests = {r for n in batch if n.volume_id is None for r in Signal.of(n).request_ids}
    pass_gate(connection, cloud, alone=bool(requests))
    volumes = {n.volume_id for n in batch if n.volume_id is not None}
    if requests:
        volumes |= volumes_of_requests(connection, cloud, requests)
    return lock_volumes(connection, cloud, volumes)


def _fresh(connection: sa.Connection, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    by_id: dict[str, Arrival] = {}
    for arrival in arrivals:
        by_id.setdefault(arrival.notification.message_id, arrival)
    stored = set(connection.execute(_STORED, {"ids": list(by_id)}).scalars())
    return [arrival for message_id, arrival in by_id.items() if message_id not in stored]


def _correlated(
    connection: sa.Connection,
    cloud: str,
    timing: Timing,
    fresh: Sequence[Arrival],
    *,
    claimed: Mapping[str, str | None],
    now: datetime,
) -> Changes:
    batch = [arrival.notification for arrival in fresh]
    since = now - timedelta(seconds=timing.memory_seconds)
    known = read_known(connection, cloud, batch, claimed=claimed, since=since)
    return correlate(known, batch, timing=timing, now=now, new_id=new_case_id)
