"""What is finished long ago is forgotten, a little at a time, with all that belongs to it.

- A case that is closed, was closed before the cutoff, has no message that came after it and no
  announcement that is still to be sent: with its messages, history, intents and announcements,
  from the archive, and from where it was worked on if it has not come to the archive.
  A case in any other state is never forgotten, however old.
- A message that was kept without a case, and came before the cutoff.
- A quarantined body on which a person decided before the cutoff, and which did not come again.
- The claims row of a volume of which no case is left that could be worked on.

Connectors of hosts are never forgotten.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import sqlalchemy as sa

from consumer.ledger.database.archive_tables import ARCHIVE_OF
from consumer.ledger.database.engine import Database, database_now
from consumer.ledger.database.tables import quarantine
from consumer.ledger.history.aging import (
    WORKED_ON,
    Aged,
    finished,
    forget_orphans,
    forget_volumes,
    hold_finished,
    remove,
)
from consumer.ledger.intake.quarantine import HELD


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
    done, told = database.write(lambda c: _prune_cases(c, aged))
    archived, told_archived = database.write(lambda c: _prune_archived(c, aged))
    orphans = database.write(lambda c: forget_orphans(c, aged))
    bodies = database.write(lambda c: _prune_bodies(c, aged))
    return Pruned(
        done + archived,
        told + told_archived + orphans,
        bodies,
        full=limit in (done, archived, orphans, bodies),
    )


def _prune_cases(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Return how many cases were forgotten, and how many messages with them."""
    gone, locked = hold_finished(connection, aged)
    if not gone:
        return 0, 0
    told = remove(connection, gone, WORKED_ON)
    forget_volumes(connection, aged.cloud, locked)
    return len(gone), told


def _prune_archived(connection: sa.Connection, aged: Aged) -> tuple[int, int]:
    """Return the same of the archive. Nobody changes what is there: its own rows are the locks."""
    old = finished(aged, ARCHIVE_OF).with_for_update(skip_locked=True)
    gone = list(connection.execute(old).scalars())
    return (len(gone), remove(connection, gone, ARCHIVE_OF)) if gone else (0, 0)


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
