"""What people decided, kept for the service, which logs each decision once.

1. A decision is written in the transaction that carries it out: neither is without the other.
2. It is logged once, by one service.
3. It is deleted after the retention, once it is logged; that about a case is in the case's history
   too.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import Stored
from consumer.ledger.database.tables import decisions
from handlers.case import Case


class DecisionKind(enum.Enum):
    """What was decided."""

    PAUSED = "paused"
    RESUMED = "resumed"
    APPROVED = "approved"
    CLOSED = "closed"
    ACKNOWLEDGED = "acknowledged"
    ACKNOWLEDGEMENT_ENDED = "acknowledgement-ended"
    NOTED = "noted"
    RESENT = "resent"
    ATTESTED = "attested"
    REVOKED = "revoked"
    LIFTED = "lifted"


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A person's word: who says it, and why."""

    actor: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """One decision of a person, about a case where ``case_id`` is set."""

    decided_at: datetime
    kind: DecisionKind
    actor: str
    reason: str
    case_id: str | None
    detail: Mapping[str, Any]


MOST_AT_ONCE = 100
_DECISION = Stored(Decision, decisions)
_ADDED = Prepared.insert(decisions)
_UNLOGGED = (
    sa.select(decisions)
    .where(decisions.c.cloud == sa.bindparam("cloud"), decisions.c.logged_at.is_(None))
    .order_by(decisions.c.decision_id)
    .limit(MOST_AT_ONCE)
)
_TAKEN = Prepared(
    decisions.update()
    .where(decisions.c.decision_id == sa.bindparam("taken_id"), decisions.c.logged_at.is_(None))
    .values(logged_at=sa.bindparam("taken_at"))
)


def decide(
    connection: sa.Connection,
    cloud: str,
    kind: DecisionKind,
    word: Word,
    now: datetime,
    *,
    case_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write a decision down, for the log of the service."""
    row = {
        "cloud": cloud, "decided_at": now, "kind": kind.value, "actor": word.actor,
        "reason": word.reason, "case_id": case_id, "detail": dict(detail or {}), "logged_at": None,
    }  # fmt: skip
    _ADDED.run(connection, row)


def record(  # noqa: PLR0917 - what happened, in the order in which it is read
    connection: sa.Connection,
    case: Case,
    kind: HistoryKind,
    decision: DecisionKind,
    word: Word,
    now: datetime,
    detail: Mapping[str, Any],
) -> None:
    """Write a decision about a case down, and into the history with the state that it has now."""
    note(
        connection, case.case_id, kind, word.actor, now,
        state=case.state.value, reason=word.reason, detail=detail,
    )  # fmt: skip
    decide(connection, case.cloud, decision, word, now, case_id=case.case_id, detail=detail)


def take_unlogged(connection: sa.Connection, cloud: str) -> tuple[Decision, ...]:
    """Return decisions that no service has logged yet, oldest first; no other gets them."""
    rows = connection.execute(_UNLOGGED, {"cloud": cloud}).all()
    if not rows:
        return ()
    now = database_now(connection)
    return tuple(
        _DECISION.read(row)
        for row in rows
        # Each by its own swap, so that of two replicas one logs it.
        if _TAKEN.run(connection, {"taken_id": row.decision_id, "taken_at": now}) == 1
    )
