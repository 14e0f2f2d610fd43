"""What is over is moved out of the way, whole, and back where a person sends it round again.

Ids of volumes, messages and requests are scattered, so that each row written in a table of millions
touches pages that are in no cache. So what is worked on is kept apart from what only people look
at: taking in, claiming, finishing and everything that they rest on see small tables, and the
guarantees are those of these.

Moved is a case that is closed, was closed before the cutoff, has no message that came after it and
no announcement that is still to be sent; any other stays, however old. With it go its messages,
history, intents and announcements. From then on no message is known for its repetition, no end or
error taken for its own. A message that was kept without a case is not of use any more by then, and
is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa

from consumer.ledger.database.archive_tables import (
    ARCHIVE_OF,
    archived_cases,
    archived_notifications,
)
from consumer.ledger.database.engine import Database, database_now
from consumer.ledger.database.tables import history, intents, notifications, outbox
from consumer.ledger.errors import NoSuchCaseError
from consumer.ledger.history.aging import (
    WORKED_ON,
    Aged,
    forget_orphans,
    forget_volumes,
    hold_finished,
    remove,
)

# Given anew on the way back, in their order: SQLite may have given these numbers to others since.
RENUMBERED = {history: "history_id", intents: "intent_id", outbox: "outbox_id"}


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """What one batch did: cases moved, messages without a case forgotten. ``full``: maybe more."""

    cases: int = 0
    forgotten: int = 0
    full: bool = False


def archive(database: Database, cloud: str, archive_seconds: float, limit: int) -> Archived:
    """Move up to ``limit`` cases and forget as many messages, in two short transactions."""
    now = database.read(database_now)
    aged = Aged(cloud, now - timedelta(seconds=archive_seconds), limit)
    moved = database.write(lambda c: _archive_cases(c, aged))
    forgotten = database.write(lambda c: forget_orphans(c, aged))
    return Archived(moved, forgotten, full=limit in (moved, forgotten))


def bring_back(connection: sa.Connection, case_id: str) -> None:
    """Move an archived case back, whole, to where it can be worked on.

    Its volume is locked. A message that came again meanwhile and was filed anew stays there: each
    is in one place. Raises NoSuchCaseError where it was forgotten in this moment.
    """
    own = sa.select(archived_cases.c.case_id).where(archived_cases.c.case_id == case_id)
    if connection.execute(own.with_for_update()).first() is None:
        raise NoSuchCaseError(f"there is no case {case_id} any more: it was just forgotten")
    for table in ARCHIVE_OF:
        _copy(connection, ARCHIVE_OF[table], table, [case_id])
    remove(connection, [case_id], ARCHIVE_OF)


def _archive_cases(connection: sa.Connection, aged: Aged) -> int:
    """Return how many were moved."""
    over, locked = hold_finished(connection, aged)
    if not over:
        return 0
    for table, archived in ARCHIVE_OF.items():
        _copy(connection, table, archived, over)
    remove(connection, over, WORKED_ON)
    forget_volumes(connection, aged.cloud, locked)
    return len(over)


def _copy(
    connection: sa.Connection, source: sa.Table, target: sa.Table, case_ids: Collection[str]
) -> None:
    """Copy what the cases have in one table into another, in the order of its key."""
    names = [c.name for c in source.columns if RENUMBERED.get(target) != c.name]
    rows = sa.select(*(source.c[name] for name in names)).where(source.c.case_id.in_(case_ids))
    if source is archived_notifications:
        again = sa.exists().where(notifications.c.message_id == source.c.message_id)
        rows = rows.where(~again)
    ordered = rows.order_by(*source.primary_key.columns)
    connection.execute(target.insert().from_select(names, ordered))
