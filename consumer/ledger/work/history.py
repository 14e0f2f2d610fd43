"""What a case's history says, and who writes each line of it."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import history

_LINE = Prepared.insert(history)


class HistoryKind(enum.Enum):
    """What happened to the case."""

    OPENED = "opened"
    MOVED = "moved"
    CLOSED = "closed"
    INTENDED = "intended"
    RESULT = "result"
    CONCLUDED = "concluded"
    HANDED_BACK = "handed-back"
    APPROVED = "approved"
    REARMED = "rearmed"


def note(
    connection: sa.Connection,
    case_id: str,
    kind: HistoryKind,
    actor: str,
    now: datetime,
    **columns: Any,
) -> None:
    """Write one line of a case's history."""
    line = {"case_id": case_id, "kind": kind.value, "actor": actor, "recorded_at": now}
    _LINE.run(connection, line | columns)
