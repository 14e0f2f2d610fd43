"""The end of an attempt: state, history and announcements in one transaction, fenced by the claim.

1. If a signal arrived during the attempt, the attempt has not judged it. Then the case is due at
   once, with any outcome; one that a person has stays with the person meanwhile.
2. What was done and seen is kept in any case (``mended_at``, failures, history) and announced. With
   a newer signal the state of the outcome is not stored, and an announcement of that state is not
   published (``Announcement.reached``).
3. What a person was told of a case stays until there is news of it (``Outcome.held``): only history
   has the looks in between.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note, rewrite
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import CASES
from consumer.ledger.database.tables import cases, history
from consumer.ledger.work.claims import Claim, free_volume
from consumer.ledger.work.dismissing import unacknowledged, unapproved
from consumer.ledger.work.outbox import announce
from handlers.case import FOR_A_PERSON, Case, CaseState, Outcome, ReasonKind

# Made once: making a statement costs more than running it on SQLite.
_CASE = sa.select(cases).where(cases.c.case_id == sa.bindparam("case_id"))


def finish(connection: sa.Connection, claim: Claim, outcome: Outcome) -> bool:
    """Write the outcome of an attempt and end the claim. Raises ClaimLostError.

    Returns whether the case has the state of the outcome.
    """
    # First, because it locks the volume's row: a signal that arrives later waits for this
    # transaction. A signal that arrived before is in the case that is read next.
    free_volume(connection, claim)
    now = database_now(connection)
    case_id = claim.case.case_id
    # Read anew, and not the case of the claim: a signal may have changed other columns meanwhile.
    before = CASES.read(connection.execute(_CASE, {"case_id": case_id}).one())
    newer = before.signal_seq != claim.case.signal_seq
    after = _left_due(before, outcome, now) if newer else _reached(before, outcome, now)
    if ends_acknowledgement(before, outcome):
        after = unacknowledged(after)
        note(
            connection, case_id, HistoryKind.ACKNOWLEDGEMENT_ENDED, claim.owner, now,
            fence=claim.fence, state=after.state.value, rule=outcome.rule, reason=outcome.reason,
        )  # fmt: skip
    rewrite(connection, [(before, after)], now)
    note(
        connection, case_id, HistoryKind.CONCLUDED, claim.owner, now,
        fence=claim.fence, state=after.state.value, rule=outcome.rule, verdict=outcome.verdict,
        reason=outcome.reason, detail=_detail(outcome, newer=newer),
    )  # fmt: skip
    # What the newer signal made untrue is not told: the case has not reached that state.
    announcements = [a for a in outcome.announcements if not (newer and a.reached is outcome.state)]
    announce(connection, claim.case.cloud, case_id, announcements, now)
    return not newer


def finished(connection: sa.Connection, claim: Claim) -> bool | None:
    """Return what ``finish`` returned for this claim; None if it was not finished."""
    concluded = sa.select(history.c.detail).where(
        history.c.case_id == claim.case.case_id,
        history.c.fence == claim.fence,
        history.c.kind == HistoryKind.CONCLUDED.value,
    )
    row = connection.execute(concluded).first()
    return None if row is None else not row.detail["newer_signal"]


def _reached(case: Case, outcome: Outcome, now: datetime) -> Case:
    delay = None if outcome.state is CaseState.CLOSED else outcome.delay_seconds
    if outcome.state is CaseState.AWAITING_APPROVAL and not outcome.held:
        case = unapproved(case)  # a person is asked again, so it serves nothing more
    return dataclasses.replace(
        case,
        state=outcome.state,
        conclusion=outcome.conclusion,
        next_attempt_at=None if delay is None else now + timedelta(seconds=delay),
        **_found(case, outcome, now),
    )


def ends_acknowledgement(case: Case, outcome: Outcome) -> bool:
    """Tell whether the look shows what the person who acknowledged the case did not know of.

    Danger does, and so does another rule: not that of a look which shows nothing else to decide.
    """
    if case.acknowledged_until is None:
        return False
    danger = outcome.reason_kind is ReasonKind.DANGER
    over = outcome.state is CaseState.CLOSED
    told = outcome.state in FOR_A_PERSON and not outcome.held
    return danger or over or (told and outcome.rule != case.acknowledged_rule)


def _left_due(case: Case, outcome: Outcome, now: datetime) -> Case:
    return dataclasses.replace(
        case,
        state=case.state if outcome.held else CaseState.DUE,
        conclusion=None,
        next_attempt_at=now,
        **_found(case, outcome, now),
    )


def _found(case: Case, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return the fields that are set with and without a newer signal."""
    return _decided(case, outcome) | {
        # The look that closes a case changes nothing, so use case and verification stay.
        "use_case": outcome.use_case or case.use_case,
        "verified_by": outcome.verified_by or case.verified_by,
        "crashes": 0,
        "failures": case.failures + outcome.failed,
        "mended_at": now if outcome.mended else case.mended_at,
        "mended_attempt": case.attempts if outcome.mended else case.mended_attempt,
        # A look that is not clean begins the count anew: two clean looks count only without another
        # one between.
        "first_clean_at": (case.first_clean_at or now) if outcome.clean else None,
        "attachment_id": case.attachment_id or outcome.attachment_id,
        "instance_id": case.instance_id or outcome.instance_id,
        "backend": outcome.backend or case.backend,
        "volume_seen": case.volume_seen or outcome.volume_seen,
    }


def _decided(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Return what the look says of the case; what a person was told stays until there is news.

    A reason of a kind that was not told yet is news.
    """
    said = case if outcome.held else outcome
    kinds = () if outcome.reason_kind is None else (outcome.reason_kind,)
    news = tuple(kind for kind in kinds if kind not in case.told)
    return {
        "rule": said.rule,
        "verdict": said.verdict,
        "reason": outcome.reason if news else said.reason,
        "told": (*case.told, *news) if outcome.held else kinds,
        "fingerprint": said.fingerprint,
    }


def _detail(outcome: Outcome, *, newer: bool) -> dict[str, Any]:
    return {
        "evidence": dict(outcome.evidence),
        "fingerprint": outcome.fingerprint,
        "wanted_state": outcome.state.value,
        "conclusion": outcome.conclusion.value if outcome.conclusion else None,
        "use_case": outcome.use_case.value if outcome.use_case else None,
        "verified_by": outcome.verified_by.value if outcome.verified_by else None,
        "failed": outcome.failed,
        "mended": outcome.mended,
        "clean": outcome.clean,
        "newer_signal": newer,
    }
