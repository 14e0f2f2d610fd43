"""Writes that were given up and whose threads still run: the ledger goes on saying so.

1. The end of such a call (``result_at``) moves on with the clock until its thread has returned, so
   that its late horizon cannot be over before (``consumer/ledger/work/late.py``).
2. No claim is needed for that: nothing is decided, and the time only grows. The result stays what
   it was; a fresh look shows what the call has done.
3. A call that has returned wakes the open cases of its volume, as a signal does.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.tables import cases, intents
from handlers.case import CaseState
from handlers.intents import UNANSWERED

_CASE_OF = (
    sa.select(cases.c.case_id, cases.c.cloud, cases.c.volume_id)
    .join(intents, intents.c.case_id == cases.c.case_id)
    .where(intents.c.request_id == sa.bindparam("request_id"))
)
_UNANSWERED = sorted(result.value for result in UNANSWERED)


def keep(connection: sa.Connection, request_ids: Collection[str]) -> int:
    """Record that these calls are still under way now; return how many are on record."""
    now = database_now(connection)
    under_way = intents.update().where(
        intents.c.request_id.in_(sorted(request_ids)), intents.c.result.in_(_UNANSWERED)
    )
    return connection.execute(under_way.values(result_at=now)).rowcount


def came_back(connection: sa.Connection, owner: str, request_id: str, how: str) -> str | None:
    """Record that a call which was given up has returned; return its case, None if it is gone.

    Its late horizon begins now.
    """
    keep(connection, [request_id])
    of = connection.execute(_CASE_OF, {"request_id": request_id}).first()
    if of is None:
        return None
    now = database_now(connection)
    note(
        connection, of.case_id, HistoryKind.RETURNED_LATE, owner, now,
        reason=how, detail={"request_id": request_id},
    )  # fmt: skip
    due = {"next_attempt_at": now, "updated_at": now, "signal_seq": cases.c.signal_seq + 1}
    looked_at = (
        cases.c.cloud == of.cloud,
        cases.c.volume_id == of.volume_id,
        cases.c.state.not_in([CaseState.CLOSED.value, CaseState.WAITING.value]),
    )
    connection.execute(cases.update().where(*looked_at).values(due))
    return str(of.case_id)
