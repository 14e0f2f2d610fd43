"""The end of an attempt: state, history and announcements in one transaction, fenced by the claim.

A signal that came while the attempt ran has not been judged: whatever the outcome, the case is then
left due, at once. What was done and seen is kept (``mended_at``, failures, history) and announced;
the state that it would have come to is not, and neither is an announcement named after that state
(``....parked``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases, history
from consumer.ledger.work.claims import Claim, release
from consumer.ledger.work.history import HistoryKind, note
from consumer.ledger.work.outbox import announce
from handlers.case import Announcement, CaseState, Outcome

# Made once: making a statement costs more than running it on SQLite.
_KEPT = (
    "signal_seq", "use_case", "verified_by", "failures", "mended_at", "mended_attempt",
    "first_clean_at", "attachment_id", "instance_id", "backend",
)  # fmt: skip
_CASE = sa.select(*(cases.c[name] for name in _KEPT)).where(
    cases.c.case_id == sa.bindparam("case_id")
)
_WRITTEN = (
    "rule", "verdict", "reason", "use_case", "verified_by", "fingerprint", "crashes", "failures",
    "mended_at", "mended_attempt", "first_clean_at", "attachment_id", "instance_id", "backend",
    "updated_at", "state", "conclusion", "next_attempt_at", "closed_at",
)  # fmt: skip
_CONCLUDED = Prepared(
    cases.update()
    .where(cases.c.case_id == sa.bindparam("finished_case_id"))
    .values({name: sa.bindparam(name) for name in _WRITTEN})
)


def finish(connection: sa.Connection, claim: Claim, outcome: Outcome) -> bool:
    """Write what an attempt came to and free the volume. Raises ClaimLostError.

    Returns whether the case came to the state that the outcome has.
    """
    release(connection, claim)
    now = database_now(connection)
    case_id = claim.case.case_id
    row = connection.execute(_CASE, {"case_id": case_id}).one()
    newer = row.signal_seq != claim.case.signal_seq
    values = _found(row, claim, outcome, now) | (_due(now) if newer else _reached(outcome, now))
    _CONCLUDED.run(connection, {"finished_case_id": case_id, **values})
    note(
        connection, case_id, HistoryKind.CONCLUDED, claim.owner, now,
        fence=claim.fence, state=values["state"], rule=outcome.rule, verdict=outcome.verdict,
        reason=outcome.reason, detail=_detail(outcome, newer=newer),
    )  # fmt: skip
    told = [a for a in outcome.announcements if not (newer and _names(a, outcome.state))]
    announce(connection, claim.case.cloud, case_id, told, now)
    return not newer


def finished(connection: sa.Connection, claim: Claim) -> bool | None:
    """Return what ``finish`` returned if this very claim has been finished already."""
    concluded = sa.select(history.c.detail).where(
        history.c.case_id == claim.case.case_id,
        history.c.fence == claim.fence,
        history.c.kind == HistoryKind.CONCLUDED.value,
    )
    row = connection.execute(concluded).first()
    return None if row is None else not row.detail["newer_signal"]


def _names(announcement: Announcement, state: CaseState) -> bool:
    return announcement.event_type.endswith(f".{state.value}")


def _found(row: Row, claim: Claim, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return what holds whether or not a newer signal came."""
    return {
        "rule": outcome.rule,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        # The look that closes a case acts on nothing: what was mended, and on whose word, stays.
        "use_case": outcome.use_case.value if outcome.use_case else row.use_case,
        "verified_by": outcome.verified_by.value if outcome.verified_by else row.verified_by,
        "fingerprint": outcome.fingerprint,
        "crashes": 0,
        "failures": row.failures + outcome.failed,
        "mended_at": now if outcome.mended else row.mended_at,
        "mended_attempt": claim.case.attempts if outcome.mended else row.mended_attempt,
        "first_clean_at": (row.first_clean_at or now) if outcome.clean else None,
        "attachment_id": row.attachment_id or outcome.attachment_id,
        "instance_id": row.instance_id or outcome.instance_id,
        "backend": outcome.backend or row.backend,
        "updated_at": now,
    }


def _reached(outcome: Outcome, now: datetime) -> dict[str, Any]:
    delay = outcome.delay_seconds
    closed = outcome.state is CaseState.CLOSED
    return {
        "state": outcome.state.value,
        "conclusion": outcome.conclusion.value if outcome.conclusion else None,
        "next_attempt_at": None if delay is None or closed else now + timedelta(seconds=delay),
        "closed_at": now if closed else None,
    }


def _due(now: datetime) -> dict[str, Any]:
    return {
        "state": CaseState.DUE.value,
        "conclusion": None,
        "next_attempt_at": now,
        "closed_at": None,
    }


def _detail(outcome: Outcome, *, newer: bool) -> dict[str, Any]:
    return {
        "evidence": dict(outcome.evidence),
        "wanted_state": outcome.state.value,
        "conclusion": outcome.conclusion.value if outcome.conclusion else None,
        "use_case": outcome.use_case.value if outcome.use_case else None,
        "verified_by": outcome.verified_by.value if outcome.verified_by else None,
        "failed": outcome.failed,
        "mended": outcome.mended,
        "clean": outcome.clean,
        "newer_signal": newer,
    }
