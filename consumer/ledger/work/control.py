"""What a person decides: pause and resume, approve a plan, send a parked case round again."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import one_case
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.locks import lock_volumes
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases, pauses
from consumer.ledger.errors import WrongStateError
from consumer.ledger.work.history import HistoryKind, note
from handlers.case import CaseState, PausedError

_PRESENT = (
    sa.select(pauses.c.paused_at, pauses.c.paused_by, pauses.c.reason)
    .where(pauses.c.cloud == sa.bindparam("cloud"), pauses.c.resumed_at.is_(None))
    .order_by(pauses.c.pause_id)
)
PAUSED = sa.exists(_PRESENT.with_only_columns(pauses.c.pause_id).order_by(None))
_IS_PAUSED = Prepared(_PRESENT)


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Nothing outside is written since then."""

    paused_at: datetime
    actor: str
    reason: str


def pause(connection: sa.Connection, cloud: str, actor: str, reason: str) -> None:
    """Pause; where it is paused already, by whomever, that pause stays."""
    if paused(connection, cloud) is None:
        now = database_now(connection)
        row = {"cloud": cloud, "paused_at": now, "paused_by": actor, "reason": reason}
        connection.execute(pauses.insert(), row)


def resume(connection: sa.Connection, cloud: str, actor: str) -> None:
    """End every pause; without one, do nothing."""
    now = database_now(connection)
    present = pauses.update().where(pauses.c.cloud == cloud, pauses.c.resumed_at.is_(None))
    connection.execute(present.values(resumed_at=now, resumed_by=actor))


def paused(connection: sa.Connection, cloud: str) -> Pause | None:
    """Return the pause that holds now."""
    if not _IS_PAUSED.finds(connection, {"cloud": cloud}):
        return None
    row = connection.execute(_PRESENT, {"cloud": cloud}).first()
    return None if row is None else Pause(row.paused_at, row.paused_by, row.reason)


def check_not_paused(connection: sa.Connection, cloud: str) -> None:
    """Raise PausedError, with who and why, while detachd is paused."""
    if (present := paused(connection, cloud)) is not None:
        raise PausedError(
            f"paused by {present.actor} at {present.paused_at:%Y-%m-%d %H:%M:%S} UTC: "
            f"{present.reason}; `detachd resume` ends it"
        )


def approve(connection: sa.Connection, cloud: str, case_id: str, actor: str, reason: str) -> str:
    """Say yes to the plan that the case has now; it is due at once. Return the full case id.

    Raises NoSuchCaseError, WrongStateError.
    """
    row = _locked(connection, cloud, case_id, CaseState.AWAITING_APPROVAL, HistoryKind.APPROVED)
    if row.fingerprint is None:
        raise WrongStateError(f"case {row.case_id} has no plan that could be approved")
    now = database_now(connection)
    approval = {
        "approved_by": actor, "approved_fingerprint": row.fingerprint, "approved_at": now,
    }  # fmt: skip
    _send_round(connection, row, now, approval)
    detail = {"fingerprint": row.fingerprint}
    note(
        connection, row.case_id, HistoryKind.APPROVED, actor, now,
        state=CaseState.DUE.value, reason=reason, detail=detail,
    )  # fmt: skip
    return str(row.case_id)


def rearm(connection: sa.Connection, cloud: str, case_id: str, actor: str, reason: str) -> str:
    """Send a parked case round again, due at once. Return the full case id.

    Raises NoSuchCaseError, WrongStateError.
    """
    row = _locked(connection, cloud, case_id, CaseState.PARKED, HistoryKind.REARMED)
    now = database_now(connection)
    _send_round(connection, row, now, {})
    note(
        connection, row.case_id, HistoryKind.REARMED, actor, now,
        state=CaseState.DUE.value, reason=reason,
    )  # fmt: skip
    return str(row.case_id)


def _locked(
    connection: sa.Connection, cloud: str, case_id: str, state: CaseState, to_be: HistoryKind
) -> Row:
    """Return the case with its volume locked, if it is in the state that is needed."""
    found = one_case(connection, cloud, case_id)
    lock_volumes(connection, cloud, [found.volume_id])
    row = one_case(connection, cloud, found.case_id)
    if row.state != state.value:
        raise WrongStateError(
            f"case {row.case_id} is {row.state}; only what is {state.value} can be {to_be.value}"
        )
    return row


def _send_round(connection: sa.Connection, row: Row, now: datetime, also: dict[str, Any]) -> None:
    due = {
        "state": CaseState.DUE.value,
        "next_attempt_at": now,
        "signal_seq": row.signal_seq + 1,  # an attempt that runs now knows nothing of this
        "crashes": 0,
        "updated_at": now,
    }
    statement = cases.update().where(cases.c.case_id == row.case_id)
    connection.execute(statement.values(due | also))
