"""What is finished long ago is forgotten, a little at a time, with all that belongs to it.

- A case that is closed, was closed before the cutoff, has no message that came after it and no
  announcement that is still to be sent: with its messages, history, intents and announcements.
  A case in any other state is never forgotten, however old.
- A message that was kept without a case, and came before the cutoff.
- A quarantined body on which a person decided before the cutoff, and which did not come again.
- The claims row of a volume of which no case is left.

So every message is known, and its repetition recognised, for at least as long as retention lasts,
counted from its receipt. Connectors of hosts are never forgotten.

Any number of replicas may do this at once: what another holds is passed over, and what was chosen
is looked at again under the volume's lock, which whoever changes a case holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumer.ledger.engine import Database, database_now
from consumer.ledger.locks import GATE, fence_floor, raise_fence_floor
from consumer.ledger.quarantine import HELD
from consumer.ledger.records import Row
from consumer.ledger.tables import (
    cases,
    claims,
    history,
    intents,
    notifications,
    outbox,
    quarantine,
)
from handlers.casefile import CaseState

OF_A_CASE = (notifications, history, intents, outbox)


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """How much one batch has forgotten. ``full``: there may be more."""

    cases: int = 0
    notifications: int = 0
    bodies: int = 0
    full: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Aged:
    """What may be forgotten: of this cloud, from before the cutoff, so many at a time."""

    cloud: str
    cutoff: datetime
    limit: int


def prune(database: Database, cloud: str, retention_seconds: float, limit: int) -> Pruned:
    """Forget up to ``limit`` of each kind, in three short transactions."""
    now = database.read(database_now)
    aged = Aged(cloud, now - timedelta(seconds=retention_seconds), limit)
    done, told = database.write(lambda c: _prune_cases(c, aged))
    orphans = database.write(lambda c: _prune_orphans(c, aged))
    bodies = database.write(lambda c: _prune_bodies(c, aged))
    return Pruned(done, told + orphans, bodies, full=limit in (done, orphans, bodies))


# --- cases --------------------------------------------------------------------------------------


def _prune_cases(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Return how many cases were forgotten, and how many messages with them."""
    chosen = _finished(connection, aged)
    locked = _lock(connection, aged, {row.volume_id for row in chosen})
    of_locked = [row.case_id for row in chosen if row.volume_id in locked]
    gone = [row.case_id for row in _finished(connection, aged, of_locked)]
    if not gone:
        return 0, 0
    told, *_ = [
        connection.execute(table.delete().where(table.c.case_id.in_(gone))).rowcount
        for table in OF_A_CASE
    ]
    connection.execute(cases.delete().where(cases.c.case_id.in_(gone)))
    _forget_volumes(connection, aged, locked)
    return len(gone), told


def _finished(connection: sa.Connection, aged: Aged, among: list[str] | None = None) -> list[Row]:
    """Return the cases that may be forgotten, those opened first before the others."""
    unsent = sa.exists().where(outbox.c.case_id == cases.c.case_id, outbox.c.due_at.is_not(None))
    recent = sa.exists().where(
        notifications.c.case_id == cases.c.case_id, notifications.c.received_at >= aged.cutoff
    )
    statement = (
        sa.select(cases.c.case_id, cases.c.volume_id)
        .where(
            cases.c.cloud == aged.cloud,
            cases.c.state == CaseState.CLOSED.value,
            cases.c.opened_at < aged.cutoff,  # as it was closed later: so that the index narrows
            cases.c.closed_at < aged.cutoff,
            ~unsent,
            ~recent,
        )
        .order_by(cases.c.opened_at)
        .limit(aged.limit)
    )
    if among is not None:
        statement = statement.where(cases.c.case_id.in_(among))
    return list(connection.execute(statement)) if among != [] else []


# --- volumes ------------------------------------------------------------------------------------


def _lock(connection: sa.Connection, aged: Aged, volumes: Collection[str]) -> list[str]:
    """Lock those of the volumes that nobody else has locked, until the transaction ends.

    First the fence floor is raised above their fences, so that these never fall when a volume that
    was forgotten is met again. In this order, as it is the one in which messages are taken in.
    """
    wanted = sa.and_(claims.c.cloud == aged.cloud, claims.c.volume_id.in_(sorted(volumes)))
    highest = connection.execute(sa.select(sa.func.max(claims.c.fence)).where(wanted)).scalar() or 0
    if highest > fence_floor(connection, aged.cloud):
        raise_fence_floor(connection, aged.cloud, highest)
    rows = sa.select(claims.c.volume_id).where(wanted).order_by(claims.c.volume_id)
    return list(connection.execute(rows.with_for_update(skip_locked=True)).scalars())


def _forget_volumes(connection: sa.Connection, aged: Aged, locked: Collection[str]) -> None:
    """Remove the claims rows of which no case is left."""
    of_volume = sa.exists().where(
        cases.c.cloud == claims.c.cloud, cases.c.volume_id == claims.c.volume_id
    )
    bare = claims.delete().where(
        claims.c.cloud == aged.cloud,
        claims.c.volume_id.in_(sorted(locked)),
        claims.c.volume_id != GATE,
        claims.c.owner.is_(None),
        ~of_volume,
    )
    connection.execute(bare)


# --- what belongs to no case --------------------------------------------------------------------


def _prune_orphans(connection: sa.Connection, aged: Aged) -> int:
    """Forget messages that were kept for a start which never came; return how many."""
    kept = notifications.c.case_id.is_(None)
    old = sa.select(notifications.c.message_id, notifications.c.volume_id).where(
        notifications.c.cloud == aged.cloud, kept, notifications.c.received_at < aged.cutoff
    )
    chosen = connection.execute(old.limit(aged.limit)).all()
    if not chosen:
        return 0
    locked = _lock(connection, aged, {row.volume_id for row in chosen if row.volume_id})
    ids = [row.message_id for row in chosen]
    gone = notifications.delete().where(notifications.c.message_id.in_(ids), kept)
    number = connection.execute(gone).rowcount
    _forget_volumes(connection, aged, locked)
    return number


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
    gone = quarantine.delete().where(quarantine.c.quarantine_id.in_(ids), over)
    return connection.execute(gone).rowcount
