"""Commands of a person: pause, resume, approve a plan."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note, one_case, rewrite
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.locks import lock_volumes
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import pauses
from consumer.ledger.errors import WrongStateError
from handlers.case import Case, CaseState, PausedError

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


def resume(connection: sa.Connection, cloud: str, actor: str) -> None:
    """End the pause; without one, do nothing."""
    now = database_now(connection)
    present = pauses.update().where(pauses.c.cloud == cloud, pauses.c.resumed_at.is_(None))
    connection.execute(present.values(resumed_at=now, resumed_by=actor))


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


def approve(connection: sa.Connection, cloud: str, case_id: str, actor: str, reason: str) -> str:
    """Approve the present plan of the case; it is due at once. Return the full case id.

    Raises NoSuchCaseError, WrongStateError.
    """
    case = _awaiting(connection, cloud, case_id)
    if case.fingerprint is None:
        raise WrongStateError(f"case {case.case_id} has no plan that could be approved")
    now = database_now(connection)
    approved = dataclasses.replace(
        case,
        state=CaseState.DUE,
        next_attempt_at=now,
        signal_seq=case.signal_seq + 1,  # so that a running attempt leaves the case due
        crashes=0,
        approved_by=actor,
        approved_fingerprint=case.fingerprint,
        approved_at=now,
    )
    rewrite(connection, [(case, approved)], now)
    note(
        connection, case.case_id, HistoryKind.APPROVED, actor, now,
        state=CaseState.DUE.value, reason=reason, detail={"fingerprint": case.fingerprint},
    )  # fmt: skip
    return case.case_id


def _awaiting(connection: sa.Connection, cloud: str, case_id: str) -> Case:
    """Return the case with its volume locked, if it awaits approval."""
    found = one_case(connection, cloud, case_id).case
    lock_volumes(connection, cloud, [found.volume_id])
    # Read again under the lock: a worker may have finished it meanwhile.
    case = one_case(connection, cloud, found.case_id).case
    if case.state is not CaseState.AWAITING_APPROVAL:
        raise WrongStateError(
            f"case {case.case_id} is {case.state.value}; only a case in state "
            f"{CaseState.AWAITING_APPROVAL.value} can be approved"
        )
    return case
