"""What is over goes to the archive, and in the end is forgotten, a little at a time.

Ids of volumes, messages and requests are scattered, so that each row written in a table of millions
touches pages that are in no cache. So what is worked on is kept apart from what only people look
at: taking in, claiming, finishing and everything that they rest on see small tables
(docs/decisions/0012). What holds at every moment:

1. Only a case that is over leaves: closed, closed before the cutoff, without a message that came
   after it, and without an announcement that is still to be sent. Any other stays, however old.
2. A case goes whole, in one transaction, with its messages, history, intents and announcements, and
   comes back whole. Each row is in one place. A message that came again while its case was in the
   archive is another row, and stays where it was filed then.
3. What was chosen is looked at again under its volume's lock, which whoever changes a case holds.
   What another transaction holds is passed over, so any number of replicas may do this at once.
4. No fence falls because a volume is forgotten: the floor is raised first (``lock_free``).
5. A connector of a host is never forgotten.

Once a case is in the archive, no message is known for its repetition, no end or error taken for its
own. Hence a message that was kept without a case for as long is of no use any more, and is
forgotten. A quarantined body is forgotten once a person has decided on it and it has not come again
since; the claims row of a volume, once no case is left that could be worked on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import Database, database_now
from consumer.ledger.database.locks import GATE, fence_floor, raise_fence_floor
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import (
    ARCHIVE_OF,
    HELD,
    archived_cases,
    archived_notifications,
    cases,
    claims,
    history,
    intents,
    notifications,
    outbox,
    quarantine,
)
from consumer.ledger.errors import NoSuchCaseError
from handlers.case import CaseState

Tables = Mapping[sa.Table, sa.Table]
"""Which tables are meant: those that are worked on, or those of the archive."""

WORKED_ON: Tables = {table: table for table in ARCHIVE_OF}


@dataclasses.dataclass(frozen=True, slots=True)
class Aged:
    """What is old enough: of this cloud, from before the cutoff, so many at a time."""

    cloud: str
    cutoff: datetime
    limit: int


def finished(aged: Aged, tables: Tables) -> sa.Select[Any]:
    """Select the cases that are over, with nothing to send and nothing heard since the cutoff.

    Those opened first come first.
    """
    case, message, out = tables[cases], tables[notifications], tables[outbox]
    unsent = sa.exists().where(out.c.case_id == case.c.case_id, out.c.due_at.is_not(None))
    recent = sa.exists().where(
        message.c.case_id == case.c.case_id, message.c.received_at >= aged.cutoff
    )  # fmt: skip
    return (
        sa.select(case.c.case_id, case.c.volume_id)
        .where(
            case.c.cloud == aged.cloud,
            case.c.state == CaseState.CLOSED.value,
            case.c.opened_at < aged.cutoff,  # as it was closed later: so that the index narrows
            case.c.closed_at < aged.cutoff,
            ~unsent,
            ~recent,
        )
        .order_by(case.c.opened_at)
        .limit(aged.limit)
    )


def lock_finished(connection: sa.Connection, aged: Aged) -> tuple[list[str], list[str]]:
    """Return cases that are worked on no more, and their volumes, locked until the end.

    What another transaction has locked is passed over.
    """
    chosen: list[Row] = list(connection.execute(finished(aged, WORKED_ON)))
    locked = lock_free(connection, aged.cloud, {row.volume_id for row in chosen})
    of_locked = [row.case_id for row in chosen if row.volume_id in locked]
    if not of_locked:
        return [], locked
    still_finished = finished(aged, WORKED_ON).where(cases.c.case_id.in_(of_locked))
    return list(connection.execute(still_finished).scalars()), locked


def remove(connection: sa.Connection, case_ids: Collection[str], tables: Tables) -> int:
    """Remove the cases with all that belongs to them; return how many messages that were."""
    removed = {}
    for kind in reversed(ARCHIVE_OF):  # rows that refer to a case are removed before it
        deletion = tables[kind].delete().where(tables[kind].c.case_id.in_(case_ids))
        removed[kind] = connection.execute(deletion).rowcount
    return removed[notifications]


def lock_free(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> list[str]:
    """Lock those of the volumes that nobody else has locked, until the transaction ends.

    First the fence floor is raised above their fences, so that these never fall when a volume that
    was forgotten is met again. In this order, as it is the one in which messages are taken in.
    """
    wanted = sa.and_(claims.c.cloud == cloud, claims.c.volume_id.in_(sorted(volumes)))
    highest = connection.execute(sa.select(sa.func.max(claims.c.fence)).where(wanted)).scalar() or 0
    if highest > fence_floor(connection, cloud):
        raise_fence_floor(connection, cloud, highest)
    rows = sa.select(claims.c.volume_id).where(wanted).order_by(claims.c.volume_id)
    return list(connection.execute(rows.with_for_update(skip_locked=True)).scalars())


def forget_volumes(connection: sa.Connection, cloud: str, locked: Collection[str]) -> None:
    """Remove the claims rows of which no case is left that could be worked on."""
    of_volume = sa.exists().where(
        cases.c.cloud == claims.c.cloud, cases.c.volume_id == claims.c.volume_id
    )
    bare = claims.delete().where(
        claims.c.cloud == cloud,
        claims.c.volume_id.in_(sorted(locked)),
        claims.c.volume_id != GATE,
        claims.c.owner.is_(None),
        ~of_volume,
    )
    connection.execute(bare)


def forget_orphans(connection: sa.Connection, aged: Aged) -> int:
    """Forget messages that were kept for a start which never came; return how many."""
    without_case = notifications.c.case_id.is_(None)
    old = sa.select(notifications.c.message_id, notifications.c.volume_id).where(
        notifications.c.cloud == aged.cloud, without_case, notifications.c.received_at < aged.cutoff
    )
    chosen = connection.execute(old.limit(aged.limit)).all()
    if not chosen:
        return 0
    locked = lock_free(connection, aged.cloud, {row.volume_id for row in chosen if row.volume_id})
    ids = [row.message_id for row in chosen]
    deletion = notifications.delete().where(notifications.c.message_id.in_(ids), without_case)
    number = connection.execute(deletion).rowcount
    forget_volumes(connection, aged.cloud, locked)
    return number


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
        raise NoSuchCaseError(f"there is no case {case_id} any more: it was deleted just now")
    for table in ARCHIVE_OF:
        _copy(connection, ARCHIVE_OF[table], table, [case_id])
    remove(connection, [case_id], ARCHIVE_OF)


def _archive_cases(connection: sa.Connection, aged: Aged) -> int:
    """Return how many were moved."""
    over, locked = lock_finished(connection, aged)
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
        repeated = sa.exists().where(notifications.c.message_id == source.c.message_id)
        rows = rows.where(~repeated)
    ordered = rows.order_by(*source.primary_key.columns)
    connection.execute(target.insert().from_select(names, ordered))


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """How much one batch has forgotten. ``full``: there may be more."""

    cases: int = 0
    notifications: int = 0
    bodies: int = 0
    full: bool = False


def prune(database: Database, cloud: str, retention_seconds: float, limit: int) -> Pruned:
    """Forget up to ``limit`` of each kind, in four short transactions."""
    now = database.read(database_now)
    aged = Aged(cloud, now - timedelta(seconds=retention_seconds), limit)
    done, messages = database.write(lambda c: _prune_cases(c, aged))
    archived, archived_messages = database.write(lambda c: _prune_archived(c, aged))
    orphans = database.write(lambda c: forget_orphans(c, aged))
    bodies = database.write(lambda c: _prune_bodies(c, aged))
    return Pruned(
        done + archived,
        messages + archived_messages + orphans,
        bodies,
        full=limit in (done, archived, orphans, bodies),
    )


def _prune_cases(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Return how many cases were forgotten, and how many messages with them."""
    case_ids, locked = lock_finished(connection, aged)
    if not case_ids:
        return 0, 0
    messages = remove(connection, case_ids, WORKED_ON)
    forget_volumes(connection, aged.cloud, locked)
    return len(case_ids), messages


def _prune_archived(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Return the same of the archive. Nobody changes what is there: its own rows are the locks."""
    old = finished(aged, ARCHIVE_OF).with_for_update(skip_locked=True)
    case_ids = list(connection.execute(old).scalars())
    return (len(case_ids), remove(connection, case_ids, ARCHIVE_OF)) if case_ids else (0, 0)


def _prune_bodies(connection: sa.Connection, aged: Aged) -> int:
    """Forget quarantined bodies that were decided on; return how many."""
    over = sa.and_(
        quarantine.c.cloud == aged.cloud,
        quarantine.c.state != HELD,
        quarantine.c.last_at < aged.cutoff,
        quarantine.c.decided_at < aged.cutoff,
    )
    chosen = sa.select(quarantine.c.quarantine_id).where(over).limit(aged.limit)
    ids = connection.execute(chosen).scalars().all()
    if not ids:
        return 0
    deletion = quarantine.delete().where(quarantine.c.quarantine_id.in_(ids), over)
    return connection.execute(deletion).rowcount
