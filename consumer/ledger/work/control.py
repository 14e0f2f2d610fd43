"""A person pauses detachd, and resumes it."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import pauses
from consumer.ledger.work.decisions import DecisionKind, Word, decide
from handlers.case import PausedError

_PRESENT = (
    sa.select(pauses.c.paused_at, pauses.c.paused_by, pauses.c.reason)
    .where(pauses.c.cloud == sa.bindparam("cloud"), pauses.c.resumed_at.is_(None))
    .order_by(pauses.c.pause_id)
)
PAUSED = sa.exists(_PRESENT.with_only_columns(pauses.c.pause_id).order_by(None))
_IS_PAUSED = Prepared(_PRESENT)


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A pause: no new intent is written."""

    paused_at: datetime
    actor: str
    reason: str


def pause(connection: sa.Connection, cloud: str, actor: str, reason: str) -> None:
    """Pause; an earlier pause that still lasts stays as it is."""
    if paused(connection, cloud) is None:
        now = database_now(connection)
        row = {"cloud": cloud, "paused_at": now, "paused_by": actor, "reason": reason}
        connection.execute(pauses.insert(), row)
        decide(connection, cloud, DecisionKind.PAUSED, Word(actor, reason), now)


def resume(connection: sa.Connection, cloud: str, actor: str, reason: str = "") -> None:
    """End the pause; without one, do nothing."""
    now = database_now(connection)
    present = pauses.update().where(pauses.c.cloud == cloud, pauses.c.resumed_at.is_(None))
    if connection.execute(present.values(resumed_at=now, resumed_by=actor)).rowcount:
        decide(connection, cloud, DecisionKind.RESUMED, Word(actor, reason), now)


def paused(connection: sa.Connection, cloud: str) -> Pause | None:
    """Return the present pause, or None."""
    if not _IS_PAUSED.finds(connection, {"cloud": cloud}):
        return None
    row = connection.execute(_PRESENT, {"cloud": cloud}).first()
    return None if row is None else Pause(row.paused_at, row.paused_by, row.reason)


def check_not_paused(connection: sa.Connection, cloud: str) -> None:
    """Raise PausedError with actor and reason while detachd is paused."""
    if (present := paused(connection, cloud)) is not None:
        raise PausedError(
            f"paused by {present.actor} at {present.paused_at:%Y-%m-%d %H:%M:%S} UTC: "
            f"{present.reason}; `detachd resume` ends it"
        )
