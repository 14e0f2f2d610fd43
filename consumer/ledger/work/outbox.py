"""Announcements on their way to the bus.

What holds at every moment:

1. An announcement is written in the transaction of what it tells of: neither is there without the
   other. ``announce`` only ever runs within one.
2. Its message_id is given then and stays, so that who hears it twice can tell.
3. It is pending while it has a time at which it is due. Of the pending ones of a case only the
   oldest is handed out, so they are sent in their order.
4. Who takes it moves that time to the end of a lease, by a compare-and-swap (``_SWAP``): nobody
   else gets it meanwhile, and it comes back by itself if its publisher dies.
5. What was confirmed, or has nobody to hear it, is pending no more, and a failure that is noted
   later does not revive it.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import Row, Stored
from consumer.ledger.database.tables import outbox
from handlers.case import Announcement, Priority

BEFORE_ALL = datetime(1970, 1, 2, tzinfo=UTC)


def _heads() -> sa.Select[Any]:
    earlier = outbox.alias()
    blocked = sa.exists().where(
        earlier.c.case_id == outbox.c.case_id,
        earlier.c.due_at.is_not(None),
        earlier.c.outbox_id < outbox.c.outbox_id,
    )
    return (
        sa.select(outbox)
        .where(
            outbox.c.cloud == sa.bindparam("cloud"),
            outbox.c.due_at <= sa.bindparam("now"),
            ~blocked,
        )
        # In the order of the index: by outbox_id SQLite would walk all that was ever announced.
        .order_by(outbox.c.due_at, outbox.c.outbox_id)
        .limit(sa.bindparam("most", type_=sa.Integer()))
    )


# Made once: making a statement costs more than running it on SQLite.
_HEADS = _heads()
_ANNOUNCED = Prepared.insert(outbox)
_SWAP = Prepared(
    outbox.update()
    .where(*(outbox.c[n] == sa.bindparam(f"swap_{n}") for n in ("outbox_id", "attempts", "due_at")))
    .values({name: sa.bindparam(name) for name in ("due_at", "taken_by", "attempts")})
)
_DONE = (
    outbox.update()
    .where(
        outbox.c.outbox_id.in_(sa.bindparam("done_ids", expanding=True)),
        outbox.c.due_at.is_not(None),
    )
    .values(
        due_at=None, taken_by=None,
        sent_at=sa.bindparam("sent_at"), unrouted_at=sa.bindparam("unrouted_at"),
    )
)  # fmt: skip


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


_OUTGOING = Stored(Outgoing, outbox)


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
        _ANNOUNCED.run(connection, *rows)


def lease(
    connection: sa.Connection, cloud: str, owner: str, *, limit: int, lease_seconds: float
) -> tuple[Outgoing, ...]:
    """Take the oldest due announcements, at most one a case; nobody else gets them meanwhile."""
    now = database_now(connection)
    until = now + timedelta(seconds=lease_seconds)
    found = connection.execute(_HEADS, {"cloud": cloud, "now": now, "most": limit}).all()
    return tuple(_leased(row) for row in found if _swap(connection, row, owner=owner, until=until))


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
        outbox.c.cloud == cloud,
        outbox.c.due_at > BEFORE_ALL,  # that it is not NULL, said so that the index is used
    )
    count, oldest_at = connection.execute(statement).one()
    if oldest_at is None:
        return 0, 0.0
    return count, max(0.0, (database_now(connection) - oldest_at).total_seconds())


def _swap(connection: sa.Connection, row: Row, *, owner: str, until: datetime) -> bool:
    values = {
        "due_at": until,
        "taken_by": owner,
        "attempts": row.attempts + 1,
        "swap_outbox_id": row.outbox_id,
        "swap_attempts": row.attempts,
        "swap_due_at": row.due_at,
    }
    return _SWAP.run(connection, values) == 1


def _leased(row: Row) -> Outgoing:
    return dataclasses.replace(_OUTGOING.read(row), attempts=row.attempts + 1)


def _done(connection: sa.Connection, ids: Collection[int], column: str) -> None:
    if ids:
        values = {"sent_at": None, "unrouted_at": None, column: database_now(connection)}
        connection.execute(_DONE, {"done_ids": sorted(ids), **values})
