"""The outbox: announcements that are to be published.

Invariants:

1. An announcement is written in the same transaction as its cause: neither exists without the
   other. ``announce`` is only called within such a transaction.
2. It gets its message_id then and keeps it, so that a receiver recognises a repetition.
3. It is pending while ``due_at`` is set. Of the pending announcements of a case only the oldest can
   be leased, so they are sent in their order.
4. A publisher leases it by a compare-and-swap that moves ``due_at`` to the end of the lease
   (``_SWAP``): no other publisher gets it meanwhile, and it is due again if the publisher dies.
5. An announcement that was confirmed, or is unrouted, is not pending. A failure that is recorded
   later does not make it pending again; for one that is unrouted a person can (``resend``).
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
from consumer.ledger.decisions.decisions import DecisionKind, Word, decide
from handlers.case import Announcement, Priority

# Earlier than any announcement.
BEFORE_ALL = datetime(1970, 1, 2, tzinfo=UTC)


def _heads() -> sa.Select[Any]:
    # Of a case only the first that is not sent: "end" must not overtake "start".
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
        # In the order of the index: by outbox_id SQLite would read all rows of the outbox.
        .order_by(outbox.c.due_at, outbox.c.outbox_id)
        .limit(sa.bindparam("most", type_=sa.Integer()))
    )


# Made once: making a statement costs more than running it on SQLite.
_HEADS = _heads()
_ANNOUNCED = Prepared.insert(outbox)
_SWAP = Prepared(
    outbox.update()
    # By attempts and due_at: whatever another publisher did with it changes one of them.
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
    """One announcement to publish. ``attempts``: how often it was leased, this time included."""

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
    """Write announcements into the outbox, in their order, due at once."""
    rows = [
        {
            # Here and not when it is sent: each sending has the same one.
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
    """Lease the oldest due announcements, at most one for each case."""
    now = database_now(connection)
    until = now + timedelta(seconds=lease_seconds)
    found = connection.execute(_HEADS, {"cloud": cloud, "now": now, "most": limit}).all()
    leased = (row for row in found if _swap(connection, row, owner=owner, until=until))
    return tuple(
        dataclasses.replace(_OUTGOING.read(row), attempts=row.attempts + 1) for row in leased
    )


def mark_sent(connection: sa.Connection, ids: Collection[int]) -> None:
    """Mark these as sent: the broker confirmed them."""
    _done(connection, ids, "sent_at")


def mark_unrouted(connection: sa.Connection, ids: Collection[int]) -> None:
    """Mark these as unrouted: no queue was bound for them. They are not sent again."""
    _done(connection, ids, "unrouted_at")


def mark_failed(
    connection: sa.Connection, outbox_id: int, error: str, delay_seconds: float
) -> None:
    """Record a failure and the time of the next try; no effect on one that is not pending."""
    due_at = database_now(connection) + timedelta(seconds=delay_seconds)
    pending = outbox.update().where(outbox.c.outbox_id == outbox_id, outbox.c.due_at.is_not(None))
    connection.execute(pending.values(due_at=due_at, taken_by=None, last_error=error))


def pending(connection: sa.Connection, cloud: str) -> tuple[int, float]:
    """Return how many are not sent, and the age in seconds of the oldest (0.0 if none)."""
    statement = sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(
        outbox.c.cloud == cloud,
        outbox.c.due_at > BEFORE_ALL,  # means: not NULL, in a form that uses the index
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


def _done(connection: sa.Connection, ids: Collection[int], column: str) -> None:
    if ids:
        values = {"sent_at": None, "unrouted_at": None, column: database_now(connection)}
        connection.execute(_DONE, {"done_ids": sorted(ids), **values})


def unrouted(
    connection: sa.Connection, cloud: str, since: datetime | None, limit: int
) -> tuple[Outgoing, ...]:
    """Return announcements that reached no queue, the oldest first."""
    statement = (
        sa.select(outbox)
        .where(_unrouted(cloud, since))
        .order_by(outbox.c.created_at, outbox.c.outbox_id)
        .limit(limit)
    )
    return tuple(_OUTGOING.read(row) for row in connection.execute(statement))


def resend(
    connection: sa.Connection,
    cloud: str,
    message_ids: Collection[str] | None,
    since: datetime | None,
    word: Word,
) -> int:
    """Make these unrouted announcements, or all of them, due again; return how many there were.

    They keep their message_id, and those of one case are sent in their order.
    """
    which = _unrouted(cloud, since)
    if message_ids is not None:
        # In addition to unrouted: one that was sent is never sent again by a person's slip.
        which = sa.and_(which, outbox.c.message_id.in_(message_ids))
    now = database_now(connection)
    again = {"due_at": now, "unrouted_at": None, "taken_by": None, "last_error": None}
    number = connection.execute(outbox.update().where(which).values(**again)).rowcount
    if number:
        detail = {"number": number}
        decide(connection, cloud, DecisionKind.RESENT, word, now, detail=detail)
    return number


def _unrouted(cloud: str, since: datetime | None) -> sa.ColumnElement[bool]:
    of = outbox.c
    conditions = [of.cloud == cloud, of.unrouted_at.is_not(None), of.due_at.is_(None)]
    if since is not None:
        conditions.append(of.created_at >= since)
    return sa.and_(*conditions)
