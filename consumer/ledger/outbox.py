"""Announcements on their way to the bus: in order within a case, each under one message_id.

A row is pending while it has a time at which it is due. Whoever takes it moves that time to the end
of the lease, so that it comes back by itself if its publisher dies. Only the oldest pending row of
a case is ever handed out.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.engine import database_now
from consumer.ledger.records import Row
from consumer.ledger.tables import outbox
from handlers.casefile import Announcement, Priority


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """One announcement to publish. ``attempts`` counts the times it was taken, this included."""

    outbox_id: int
    message_id: str
    case_id: str
    event_type: str
    priority: Priority
    payload: dict[str, Any]
    created_at: datetime
    attempts: int


def announce(
    connection: sa.Connection,
    cloud: str,
    case_id: str,
    announcements: Iterable[Announcement],
    now: datetime,
) -> None:
    """Put announcements into the outbox, in their order, due at once."""
    rows = [
        {
            "message_id": str(uuid.uuid4()),
            "cloud": cloud,
            "case_id": case_id,
            "event_type": announcement.event_type,
            "priority": announcement.priority.value,
            "payload": dict(announcement.payload),
            "created_at": now,
            "due_at": now,
            "attempts": 0,
        }
        for announcement in announcements
    ]
    if rows:
        connection.execute(outbox.insert(), rows)


def take(
    connection: sa.Connection, cloud: str, owner: str, *, limit: int, lease_seconds: float
) -> tuple[Outgoing, ...]:
    """Take the oldest due announcements, at most one a case; nobody else gets them meanwhile."""
    now = database_now(connection)
    until = now + timedelta(seconds=lease_seconds)
    found = connection.execute(_heads(cloud, now).limit(limit)).all()
    return tuple(
        _outgoing(row) for row in found if _swap(connection, row, owner=owner, until=until)
    )


def mark_sent(connection: sa.Connection, ids: Collection[int]) -> None:
    """Note that the broker confirmed these."""
    _done(connection, ids, "sent_at")


def mark_unrouted(connection: sa.Connection, ids: Collection[int]) -> None:
    """Note that nobody was bound for these: they are not sent again."""
    _done(connection, ids, "unrouted_at")


def mark_failed(
    connection: sa.Connection, outbox_id: int, error: str, delay_seconds: float
) -> None:
    """Note a failure and when to try again; without effect on one that was sent after all."""
    due_at = database_now(connection) + timedelta(seconds=delay_seconds)
    pending = outbox.update().where(outbox.c.outbox_id == outbox_id, outbox.c.due_at.is_not(None))
    connection.execute(pending.values(due_at=due_at, taken_by=None, last_error=error))


def pending(connection: sa.Connection, cloud: str) -> tuple[int, float]:
    """Return how many are not sent, and the age in seconds of the oldest (0.0 if none)."""
    statement = sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(
        outbox.c.cloud == cloud, outbox.c.due_at.is_not(None)
    )
    count, oldest_at = connection.execute(statement).one()
    if oldest_at is None:
        return 0, 0.0
    return count, max(0.0, (database_now(connection) - oldest_at).total_seconds())


def _heads(cloud: str, now: datetime) -> sa.Select[Any]:
    earlier = outbox.alias()
    blocked = sa.exists().where(
        earlier.c.case_id == outbox.c.case_id,
        earlier.c.due_at.is_not(None),
        earlier.c.outbox_id < outbox.c.outbox_id,
    )
    return (
        sa.select(outbox)
        .where(outbox.c.cloud == cloud, outbox.c.due_at <= now, ~blocked)
        .order_by(outbox.c.outbox_id)
    )


def _swap(connection: sa.Connection, row: Row, *, owner: str, until: datetime) -> bool:
    swap = outbox.update().where(
        outbox.c.outbox_id == row.outbox_id,
        outbox.c.attempts == row.attempts,
        outbox.c.due_at == row.due_at,
    )
    values = {"due_at": until, "taken_by": owner, "attempts": row.attempts + 1}
    return connection.execute(swap.values(values)).rowcount == 1


def _outgoing(row: Row) -> Outgoing:
    return Outgoing(
        outbox_id=row.outbox_id,
        message_id=row.message_id,
        case_id=row.case_id,
        event_type=row.event_type,
        priority=Priority(row.priority),
        payload=row.payload,
        created_at=row.created_at,
        attempts=row.attempts + 1,
    )


def _done(connection: sa.Connection, ids: Collection[int], column: str) -> None:
    if ids:
        moment = database_now(connection)
        done = outbox.update().where(
            outbox.c.outbox_id.in_(sorted(ids)), outbox.c.due_at.is_not(None)
        )
        connection.execute(done.values({"due_at": None, "taken_by": None, column: moment}))
