"""A person pauses detachd, or what it does to one backend, and resumes it.

1. While a pause lasts, no intent is written for what it covers, and so no call is made.
2. A pause of all and one of each backend may last at once. None of them changes another.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import pauses
from consumer.ledger.decisions.decisions import DecisionKind, Word, decide
from handlers.case import PausedError

_ALL = (
    sa.select(pauses.c.paused_at, pauses.c.paused_by, pauses.c.reason, pauses.c.backend)
    .where(pauses.c.cloud == sa.bindparam("cloud"), pauses.c.resumed_at.is_(None))
    .order_by(pauses.c.pause_id)
)
_PRESENT = _ALL.where(
    sa.or_(pauses.c.backend.is_(None), pauses.c.backend == sa.bindparam("paused_backend"))
)
# Part of the statement that writes an intent: a pause between a question and a write would be
# overlooked.
PAUSED = sa.exists(_PRESENT.with_only_columns(pauses.c.pause_id).order_by(None))
_IS_PAUSED = Prepared(_PRESENT)
_ANY_IS_PAUSED = Prepared(_ALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A pause: no new intent is written for ``backend``, or for any if it is None."""

    paused_at: datetime
    actor: str
    reason: str
    backend: str | None

    @property
    def words(self) -> str:
        """What is paused, by whom, and why."""
        what = f"backend {self.backend}" if self.backend else "detachd"
        return f"{what} is paused by {self.actor}: {self.reason}"

    @property
    def resume(self) -> str:
        """The command that ends it."""
        return "detachd resume" + (f" --backend {self.backend}" if self.backend else "")


def pause(connection: sa.Connection, cloud: str, word: Word, backend: str | None) -> None:
    """Pause one backend, or all; an earlier pause of the same that still lasts stays as it is."""
    if _own(pauses_now(connection, cloud), backend) is None:
        now = database_now(connection)
        row = {"cloud": cloud, "paused_at": now, "paused_by": word.actor, "reason": word.reason}
        connection.execute(pauses.insert(), row | {"backend": backend})
        decide(connection, cloud, DecisionKind.PAUSED, word, now, detail=_about(backend))


def resume(connection: sa.Connection, cloud: str, word: Word, backend: str | None) -> None:
    """End the pause of one backend, or that of all; without it, do nothing. Others go on."""
    now = database_now(connection)
    present = pauses.update().where(
        pauses.c.cloud == cloud,
        pauses.c.resumed_at.is_(None),
        pauses.c.backend.is_(None) if backend is None else pauses.c.backend == backend,
    )
    if connection.execute(present.values(resumed_at=now, resumed_by=word.actor)).rowcount:
        decide(connection, cloud, DecisionKind.RESUMED, word, now, detail=_about(backend))


def _about(backend: str | None) -> dict[str, str]:
    return {"backend": backend} if backend else {}


def pauses_now(connection: sa.Connection, cloud: str) -> tuple[Pause, ...]:
    """Return the pauses that last, the oldest first."""
    # Prepared, as this is asked each second and before each write; the rows are read only if there
    # are any.
    if not _ANY_IS_PAUSED.finds(connection, {"cloud": cloud}):
        return ()
    rows = connection.execute(_ALL, {"cloud": cloud})
    return tuple(Pause(row.paused_at, row.paused_by, row.reason, row.backend) for row in rows)


def paused(connection: sa.Connection, cloud: str, backend: str | None = None) -> Pause | None:
    """Return the pause of all, else that of this backend, else None."""
    if not _IS_PAUSED.finds(connection, {"cloud": cloud, "paused_backend": backend}):
        return None
    present = pauses_now(connection, cloud)
    # The pause of all first: it has to be ended first.
    return _own(present, None) or _own(present, backend)


def _own(present: tuple[Pause, ...], backend: str | None) -> Pause | None:
    return next((pause for pause in present if pause.backend == backend), None)


def check_not_paused(connection: sa.Connection, cloud: str, backend: str | None) -> None:
    """Raise PausedError with actor and reason while detachd, or this backend, is paused."""
    if (present := paused(connection, cloud, backend)) is not None:
        raise PausedError(
            f"paused by {present.actor} at {present.paused_at:%Y-%m-%d %H:%M:%S} UTC: "
            f"{present.reason}; `{present.resume}` ends it"
        )
