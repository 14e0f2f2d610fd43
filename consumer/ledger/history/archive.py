"""Moves finished cases to the archive, and deletes them later, in small steps.

Ids of volumes, messages and requests are scattered. In a table with millions of rows each write
would touch pages that are in no cache. So cases that are worked on are in other tables than those
that only people read: accept, claim and finish use small tables (docs/decisions/0012). Invariants:

1. Only a finished case is moved or deleted: it was closed before the cutoff, has no message after
   the cutoff, and has no announcement that is not sent. Any other case stays, however old.
2. A case moves as a whole, in one transaction, with its messages, history, intents and
   announcements, and comes back as a whole. Each row is in one place. A message that arrived again
   while its case was in the archive is another row, and stays where it was stored.
3. Each chosen case is checked again under the lock of its volume, which every transaction holds
   that changes a case. Rows that another transaction has locked are skipped, so that several
   replicas may do this at once.
4. No fence falls when the row of a volume is deleted: the floor is raised first (``lock_free``).
5. The connector of a host is never deleted.

After a case was archived, a repeated message is not recognised, and an end or error is not matched
with the case. So a message that has had no case for that long is useless and is deleted. A
quarantined body is deleted when a person has decided on it and it has not arrived again since, and
a decision of a person when a service has logged it, a word for a host when its time is over, and
a fence when it is over. The claims row of a volume is deleted when none of its cases can be worked
on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.body_state import BodyState
from consumer.ledger.database.engine import Database, database_now
from consumer.ledger.database.locks import GATE, fence_floor, raise_fence_floor, take_turn
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import (
    ARCHIVE_OF,
    archived_cases,
    archived_notifications,
    cases,
    claims,
    decisions,
    fences,
    history,
    intents,
    notifications,
    off_words,
    off_words_counted,
    outbox,
    quarantine,
)
from consumer.ledger.errors import NoSuchCaseError
from handlers.case import CaseState

Tables = Mapping[sa.Table, sa.Table]
"""For each table of a case the one to use: itself, or its archive."""

WORKED_ON: Tables = {table: table for table in ARCHIVE_OF}


@dataclasses.dataclass(frozen=True, slots=True)
class Aged:
    """What is old enough: of this cloud, from before the cutoff, at most ``limit`` at once."""

    cloud: str
    cutoff: datetime
    limit: int


def finished(aged: Aged, tables: Tables) -> sa.Select[Any]:
    """Select the finished cases, without unsent announcements or messages since the cutoff.

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
            case.c.opened_at < aged.cutoff,  # implied by closed_at; so that the index is used
            case.c.closed_at < aged.cutoff,
            ~unsent,
            ~recent,
        )
        .order_by(case.c.opened_at)
        .limit(aged.limit)
    )


def lock_finished(connection: sa.Connection, aged: Aged) -> tuple[list[str], list[str]]:
    """Return finished cases and their volumes, which stay locked until the transaction ends.

    Volumes that another transaction has locked are skipped.
    """
    # Without locks, as it reads many rows: what is chosen is locked and read again below.
    chosen: list[Row] = list(connection.execute(finished(aged, WORKED_ON)))
    locked = lock_free(connection, aged.cloud, {row.volume_id for row in chosen})
    of_locked = [row.case_id for row in chosen if row.volume_id in locked]
    if not of_locked:
        return [], locked
    # A replay, or a late message, may have come before the lock.
    still_finished = finished(aged, WORKED_ON).where(cases.c.case_id.in_(of_locked))
    return list(connection.execute(still_finished).scalars()), locked


def remove(connection: sa.Connection, case_ids: Collection[str], tables: Tables) -> int:
    """Remove the cases with all their rows; return the number of their messages."""
    removed = {}
    for kind in reversed(ARCHIVE_OF):  # rows that refer to a case are removed before it
        deletion = tables[kind].delete().where(tables[kind].c.case_id.in_(case_ids))
        removed[kind] = connection.execute(deletion).rowcount
    return removed[notifications]


def lock_free(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> list[str]:
    """Lock the volumes that no other transaction has locked, until the transaction ends.

    First the fence floor is raised to their fences, so that the fence of a volume never falls after
    its row was deleted. ``accept`` locks in the same order: the gate first.
    """
    wanted = sa.and_(claims.c.cloud == cloud, claims.c.volume_id.in_(sorted(volumes)))
    highest = connection.execute(sa.select(sa.func.max(claims.c.fence)).where(wanted)).scalar() or 0
    # Rarely: each time is a lock on the gate, for which every batch waits.
    if highest > fence_floor(connection, cloud):
        raise_fence_floor(connection, cloud, highest)
    rows = sa.select(claims.c.volume_id).where(wanted).order_by(claims.c.volume_id)
    locked = list(connection.execute(rows.with_for_update(skip_locked=True)).scalars())
    take_turn(connection, cloud, locked)
    return locked


def forget_volumes(connection: sa.Connection, cloud: str, locked: Collection[str]) -> None:
    """Remove the claims rows of volumes without a case that could be worked on."""
    of_volume = sa.exists().where(
        cases.c.cloud == claims.c.cloud, cases.c.volume_id == claims.c.volume_id
    )
    bare = claims.delete().where(
        claims.c.cloud == cloud,
        claims.c.volume_id.in_(sorted(locked)),
        # The row of the gate has the floor for all others.
        claims.c.volume_id != GATE,
        claims.c.owner.is_(None),
        ~of_volume,
    )
    connection.execute(bare)


def forget_orphans(connection: sa.Connection, aged: Aged) -> int:
    """Delete messages whose start never arrived; return their number."""
    # In the deletion once more: a start may have adopted the message since it was chosen.
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


# New numbers on the way back, in the same order: SQLite may have used the old ones again.
RENUMBERED = {history: "history_id", intents: "intent_id", outbox: "outbox_id"}


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """One batch: cases moved, messages without a case deleted. ``full``: there may be more."""

    cases: int = 0
    forgotten: int = 0
    full: bool = False


def archive(database: Database, cloud: str, archive_seconds: float, limit: int) -> Archived:
    """Move up to ``limit`` cases and delete as many messages, in two short transactions."""
    now = database.read(database_now)
    aged = Aged(cloud, now - timedelta(seconds=archive_seconds), limit)
    moved = database.write(lambda c: _archive_cases(c, aged))
    forgotten = database.write(lambda c: forget_orphans(c, aged))
    # A batch that was filled: the caller comes again soon.
    return Archived(moved, forgotten, full=limit in (moved, forgotten))


def bring_back(connection: sa.Connection, case_id: str) -> None:
    """Move an archived case back, so that it can be worked on.

    Its volume must be locked. A message that was stored again meanwhile is not moved, so that each
    message is in one place. Raises NoSuchCaseError if the case was deleted just now.
    """
    own = sa.select(archived_cases.c.case_id).where(archived_cases.c.case_id == case_id)
    # The row is the lock against pruning, which locks rows of the archive and not their volumes.
    if connection.execute(own.with_for_update()).first() is None:
        raise NoSuchCaseError(f"there is no case {case_id} any more: it was deleted just now")
    for table in ARCHIVE_OF:
        _copy(connection, ARCHIVE_OF[table], table, [case_id])
    remove(connection, [case_id], ARCHIVE_OF)


def _archive_cases(connection: sa.Connection, aged: Aged) -> int:
    """Move finished cases; return their number."""
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
    """Copy the rows of the cases from one table to another, in the order of its key."""
    names = [c.name for c in source.columns if RENUMBERED.get(target) != c.name]
    rows = sa.select(*(source.c[name] for name in names)).where(source.c.case_id.in_(case_ids))
    # Rule 2: the message arrived again meanwhile, and its new row stays where it is.
    if source is archived_notifications:
        repeated = sa.exists().where(notifications.c.message_id == source.c.message_id)
        rows = rows.where(~repeated)
    # In the order of the key: each page of the index is written once, and numbers given anew keep
    # their order.
    ordered = rows.order_by(*source.primary_key.columns)
    connection.execute(target.insert().from_select(names, ordered))


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """How much one batch has deleted. ``full``: there may be more."""

    cases: int = 0
    notifications: int = 0
    bodies: int = 0
    full: bool = False


def prune(database: Database, cloud: str, retention_seconds: float, limit: int) -> Pruned:
    """Delete up to ``limit`` of each kind, in five short transactions."""
    now = database.read(database_now)
    aged = Aged(cloud, now - timedelta(seconds=retention_seconds), limit)
    done, messages = database.write(lambda c: _prune_cases(c, aged))
    archived, archived_messages = database.write(lambda c: _prune_archived(c, aged))
    orphans = database.write(lambda c: forget_orphans(c, aged))
    bodies = database.write(lambda c: _prune_bodies(c, aged))
    decided = database.write(
        lambda c: _prune_decisions(c, aged) + _prune_words(c, aged) + _prune_fences(c, aged)
    )
    return Pruned(
        done + archived,
        messages + archived_messages + orphans,
        bodies,
        full=limit in (done, archived, orphans, bodies, decided),
    )


def _prune_decisions(connection: sa.Connection, aged: Aged) -> int:
    """Delete decisions that were made and logged before the cutoff; return their number."""
    of = decisions.c
    over = sa.and_(
        of.cloud == aged.cloud, of.logged_at < aged.cutoff, of.decided_at < aged.cutoff
    )  # fmt: skip
    return _delete(connection, of.decision_id, over, aged)


def _prune_words(connection: sa.Connection, aged: Aged) -> int:
    """Delete words for hosts that were over before the cutoff; return their number."""
    over = sa.and_(off_words.c.cloud == aged.cloud, off_words.c.until < aged.cutoff)
    return _delete(connection, off_words.c.word_id, over, aged, off_words_counted.c.word_id)


def _prune_fences(connection: sa.Connection, aged: Aged) -> int:
    """Delete fences that were over before the cutoff; return their number."""
    over = sa.and_(fences.c.cloud == aged.cloud, fences.c.ended_at < aged.cutoff)
    return _delete(connection, fences.c.fence_id, over, aged)


def _prune_bodies(connection: sa.Connection, aged: Aged) -> int:
    """Delete quarantined bodies with a decision; return their number."""
    of = quarantine.c
    over = sa.and_(
        of.cloud == aged.cloud,
        of.state != BodyState.HELD.value,
        of.last_at < aged.cutoff,
        of.decided_at < aged.cutoff,
    )
    return _delete(connection, of.quarantine_id, over, aged)


def _delete(
    connection: sa.Connection,
    key: sa.Column[Any],
    over: sa.ColumnElement[bool],
    aged: Aged,
    *referring: sa.Column[Any],
) -> int:
    """Delete some rows that are over, and those that refer to them first; return their number."""
    ids = list(connection.execute(sa.select(key).where(over).limit(aged.limit)).scalars())
    if not ids:
        return 0
    for column in referring:
        connection.execute(column.table.delete().where(column.in_(ids)))
    # ``over`` again: a body may have arrived anew since its number was read.
    return connection.execute(key.table.delete().where(key.in_(ids), over)).rowcount


def _prune_cases(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Delete finished cases; return the numbers of cases and of their messages."""
    case_ids, locked = lock_finished(connection, aged)
    if not case_ids:
        return 0, 0
    messages = remove(connection, case_ids, WORKED_ON)
    forget_volumes(connection, aged.cloud, locked)
    return len(case_ids), messages


def _prune_archived(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Do the same in the archive. Its rows are only moved or deleted, so they are the locks."""
    old = finished(aged, ARCHIVE_OF).with_for_update(skip_locked=True)
    case_ids = list(connection.execute(old).scalars())
    return (len(case_ids), remove(connection, case_ids, ARCHIVE_OF)) if case_ids else (0, 0)
