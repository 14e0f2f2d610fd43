"""A person closes a case, acknowledges it for a time, or writes a note on it.

1. Only a case that a person has (parked, or awaiting approval) is closed or acknowledged: every
   other one moves by itself.
2. No case is closed while a worker may be acting on it, or while what it wrote may still act or has
   to be given back.
3. What is closed is announced, with who closed it and why.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumer.ledger.database import galera
from consumer.ledger.database.cases import HistoryKind, note, of_case, one_case, rewrite
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.tables import claims, history, intents
from consumer.ledger.decisions.approving import locked_case
from consumer.ledger.decisions.decisions import DecisionKind, Word, decide, record
from consumer.ledger.errors import WrongStateError
from consumer.ledger.work.claims import intent
from consumer.ledger.work.outbox import announce
from handlers.announcement import dismissed
from handlers.case import FOR_A_PERSON, Case, CaseState, Conclusion, StepResult
from handlers.intents import holds_reserve


def close(connection: sa.Connection, cloud: str, case_id: str, word: Word) -> str:
    """Close a case that a person has; see ``Ledger.close_case``."""
    case = _of_a_person(connection, cloud, case_id, "closed")
    now = database_now(connection)
    _check_nobody_works(connection, case, now)
    _check_nothing_is_open(connection, case)
    closed = dataclasses.replace(
        unapproved(unacknowledged(case)),
        state=CaseState.CLOSED,
        conclusion=Conclusion.DISMISSED,
        next_attempt_at=None,
        # As for a signal: an attempt that began before cannot finish the case as if nobody had
        # closed it.
        signal_seq=case.signal_seq + 1,
    )
    rewrite(connection, [(case, closed)], now)
    note(
        connection, case.case_id, HistoryKind.DISMISSED, word.actor, now,
        state=CaseState.CLOSED.value, rule=case.rule, verdict=case.verdict, reason=word.reason,
    )  # fmt: skip
    told = dismissed(case, word.actor, word.reason, now)
    announce(connection, cloud, case.case_id, [told], now)
    decide(
        connection, cloud, DecisionKind.CLOSED, word, now,
        case_id=case.case_id, detail={"rule": case.rule},
    )  # fmt: skip
    return case.case_id


def acknowledge(
    connection: sa.Connection, cloud: str, case_id: str, until: datetime | float, word: Word
) -> tuple[str, datetime]:
    """Let a case be left out of gauges and alerts until then; see ``Ledger.acknowledge``."""
    case = _of_a_person(connection, cloud, case_id, "acknowledged")
    now = database_now(connection)
    ends_at = until if isinstance(until, datetime) else now + timedelta(seconds=until)
    if ends_at <= now:
        raise WrongStateError(f"{ends_at.isoformat(timespec='seconds')} is not in the future")
    known = dataclasses.replace(
        case,
        acknowledged_until=ends_at,
        acknowledged_by=word.actor,
        acknowledged_rule=case.rule,
    )
    rewrite(connection, [(case, known)], now)
    detail = {"until": ends_at.isoformat(timespec="seconds"), "rule": case.rule}
    record(connection, case, HistoryKind.ACKNOWLEDGED, DecisionKind.ACKNOWLEDGED, word, now, detail)
    return case.case_id, ends_at


def end_acknowledgement(connection: sa.Connection, cloud: str, case_id: str, word: Word) -> str:
    """Count a case again; see ``Ledger.end_acknowledgement``."""
    case = locked_case(connection, cloud, case_id)
    if case.acknowledged_until is None:
        raise WrongStateError(f"case {case.case_id} is not acknowledged")
    now = database_now(connection)
    rewrite(connection, [(case, unacknowledged(case))], now)
    record(
        connection, case, HistoryKind.ACKNOWLEDGEMENT_ENDED, DecisionKind.ACKNOWLEDGEMENT_ENDED,
        word, now, {},
    )  # fmt: skip
    return case.case_id


def write_note(connection: sa.Connection, cloud: str, case_id: str, word: Word) -> str:
    """Write a line into the history of a case; see ``Ledger.write_note``."""
    found = one_case(connection, cloud, case_id)
    if found.archived:
        raise WrongStateError(f"case {found.case.case_id} is in the archive")
    # Only to keep it from going to the archive at this moment.
    case = locked_case(connection, cloud, found.case.case_id)
    now = database_now(connection)
    record(connection, case, HistoryKind.NOTED, DecisionKind.NOTED, word, now, {})
    return case.case_id


def unacknowledged(case: Case) -> Case:
    """Return the case as one that counts."""
    return dataclasses.replace(
        case, acknowledged_until=None, acknowledged_by=None, acknowledged_rule=None
    )


def unapproved(case: Case) -> Case:
    """Return the case without its approval."""
    return dataclasses.replace(
        case,
        approved_by=None,
        approved_fingerprint=None,
        approved_at=None,
        approved_action=None,
    )


def _of_a_person(connection: sa.Connection, cloud: str, case_id: str, what: str) -> Case:
    """Return the case with its volume locked, if a person has it."""
    case = locked_case(connection, cloud, case_id)
    if case.state not in FOR_A_PERSON:
        states = " or ".join(state.value for state in FOR_A_PERSON)
        raise WrongStateError(
            f"case {case.case_id} is {case.state.value}; only a case in state {states} can be "
            f"{what}"
        )
    return case


def _check_nobody_works(connection: sa.Connection, case: Case, now: datetime) -> None:
    """Refuse while a worker has the case; take away a claim whose lease has ended."""
    mine = sa.and_(
        claims.c.cloud == case.cloud,
        claims.c.volume_id == case.volume_id,
        claims.c.case_id == case.case_id,
        claims.c.owner.is_not(None),
    )
    row = connection.execute(sa.select(claims).where(mine)).first()
    if row is None:
        return
    # By another node's clock the lease may still hold.
    if row.lease_expires_at > now - galera.slack(connection):
        raise WrongStateError(
            f"case {case.case_id} is being worked on by {row.owner}; close it when that has ended"
        )
    # Otherwise its worker could still finish the case as if nobody had closed it.
    freed = {"owner": None, "case_id": None, "lease_expires_at": None}
    connection.execute(claims.update().where(mine).values(**freed))


def _check_nothing_is_open(connection: sa.Connection, case: Case) -> None:
    """Refuse while a write of the case may still act unseen, or our reserve is to be given back."""
    # A crash leaves a call open that may have been made; only a later look tells what came of it.
    rows = of_case(connection, case.case_id, intents, "intent_id")
    looked = _fence_of_last_look(connection, case)
    # A look of a later attempt has shown what became of the calls of earlier ones.
    unseen = [r for r in rows if r.result == StepResult.INTENDED.value and r.fence >= looked]
    if unseen:
        raise WrongStateError(
            f"case {case.case_id} has a write without a result, {unseen[-1].kind} "
            f"({unseen[-1].request_id}): it may have been made, and no look has shown what came of "
            "it; replay the case first"
        )
    if holds_reserve(dataclasses.replace(case, intents=tuple(intent(row) for row in rows))):
        raise WrongStateError(
            f"case {case.case_id} keeps the volume reserved, so that nobody gets it while a host "
            "is let in; nobody would give it back: replay the case first"
        )


def _fence_of_last_look(connection: sa.Connection, case: Case) -> int:
    """Return the fence of the last attempt that came to a look; an internal error shows nothing."""
    lines = of_case(connection, case.case_id, history, "history_id")
    concluded = (line for line in lines if line.kind == HistoryKind.CONCLUDED.value)
    return max((line.fence for line in concluded if line.detail["evidence"]), default=0)
