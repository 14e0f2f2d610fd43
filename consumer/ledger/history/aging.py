"""What is over for long enough, and the locks under which it may be moved or forgotten.

Any number of replicas may do so at once: what another holds is passed over, and what was chosen is
looked at again under the volume's lock, which whoever changes a case holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.archive_tables import ARCHIVE_OF
from consumer.ledger.database.locks import GATE, fence_floor, raise_fence_floor
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases, claims, notifications, outbox
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
    case, told, out = tables[cases], tables[notifications], tables[outbox]
    unsent = sa.exists().where(out.c.case_id == case.c.case_id, out.c.due_at.is_not(None))
    recent = sa.exists().where(
        told.c.case_id == case.c.case_id, told.c.received_at >= aged.cutoff
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


def hold_finished(connection: sa.Connection, aged: Aged) -> tuple[list[str], list[str]]:
    """Return cases that are worked on no more, and their volumes, locked until the end.

    What another transaction has locked is passed over.
    """
    chosen: list[Row] = list(connection.execute(finished(aged, WORKED_ON)))
    locked = lock_free(connection, aged.cloud, {row.volume_id for row in chosen})
    of_locked = [row.case_id for row in chosen if row.volume_id in locked]
    if not of_locked:
        return [], locked
    still = finished(aged, WORKED_ON).where(cases.c.case_id.in_(of_locked))
    return list(connection.execute(still).scalars()), locked


def remove(connection: sa.Connection, gone: Collection[str], tables: Tables) -> int:
    """Remove the cases with all that belongs to them; return how many messages that were."""
    rows = {
        of: connection.execute(tables[of].delete().where(tables[of].c.case_id.in_(gone))).rowcount
        for of in reversed(ARCHIVE_OF)  # what refers to a case goes before it
    }
    return rows[notifications]


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
    kept = notifications.c.case_id.is_(None)
    old = sa.select(notifications.c.message_id, notifications.c.volume_id).where(
        notifications.c.cloud == aged.cloud, kept, notifications.c.received_at < aged.cutoff
    )
    chosen = connection.execute(old.limit(aged.limit)).all()
    if not chosen:
        return 0
    locked = lock_free(connection, aged.cloud, {row.volume_id for row in chosen if row.volume_id})
    ids = [row.message_id for row in chosen]
    gone = notifications.delete().where(notifications.c.message_id.in_(ids), kept)
    number = connection.execute(gone).rowcount
    forget_volumes(connection, aged.cloud, locked)
    return number
