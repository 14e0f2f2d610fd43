"""What people look at: cases, one case with everything that is known of it, counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import newest_cases, of_case, one_case
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import Row, notification, whole_case
from consumer.ledger.database.tables import cases, claims, history, intents, notifications, outbox
from consumer.ledger.work.history import HistoryKind
from handlers.case import (
    Case,
    CaseState,
    Conclusion,
    LateCalls,
    Priority,
    StepKind,
    StepResult,
    Trigger,
    UseCase,
    VerifiedBy,
)
from handlers.notification import Notification, Operation

# Messages of one batch were received at once.
TOLD_IN_ORDER = ("received_at", "published_at", "message_id")
OPEN_STATES = tuple(state for state in CaseState if state is not CaseState.CLOSED)


@dataclasses.dataclass(frozen=True, slots=True)
class CaseSummary:
    """One line of a list of cases. ``rule``, ``verdict``, ``reason``: of the last attempt."""

    case_id: str
    state: CaseState
    operation: Operation
    volume_id: str
    attachment_id: str | None
    instance_id: str | None
    host: str | None
    backend: str | None
    trigger: Trigger
    opened_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    next_attempt_at: datetime | None
    attempts: int
    rule: str | None
    verdict: str | None
    reason: str | None
    use_case: UseCase | None
    conclusion: Conclusion | None
    verified_by: VerifiedBy | None
    fingerprint: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class NotificationRecord:
    """A notification as it was stored."""

    notification: Notification
    received_at: datetime
    bus: str
    body_sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One line of a case's history."""

    recorded_at: datetime
    kind: HistoryKind
    actor: str
    state: CaseState | None
    rule: str | None
    verdict: str | None
    reason: str | None
    detail: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class IntentRecord:
    """One write outside, meant and done."""

    kind: StepKind
    request_id: str
    attempt: int
    target: Mapping[str, Any]
    evidence: Mapping[str, Any]
    intended_at: datetime
    result: StepResult
    detail: str | None
    result_at: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class OutboxRecord:
    """One announcement and how far it has come."""

    message_id: str
    event_type: str
    priority: Priority
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    sent_at: datetime | None
    unrouted_at: datetime | None
    last_error: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class CaseRecord:
    """Everything that the ledger holds of one case, each part oldest first."""

    summary: CaseSummary
    case: Case
    claimed_by: str | None
    lease_expires_at: datetime | None
    notifications: tuple[NotificationRecord, ...]
    history: tuple[HistoryRecord, ...]
    intents: tuple[IntentRecord, ...]
    outbox: tuple[OutboxRecord, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StateCount:
    """How many cases are in a state, and the age of the one opened first (0.0 if none)."""

    count: int
    oldest_age_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which cases to list; None does not narrow."""

    state: CaseState | None = None
    backend: str | None = None
    volume_id: str | None = None
    limit: int = 100


def list_cases(connection: sa.Connection, cloud: str, wanted: Filter) -> tuple[CaseSummary, ...]:
    """Return the cases, the newest first."""
    said = {
        "state": wanted.state.value if wanted.state else None,
        "backend": wanted.backend,
        "volume_id": wanted.volume_id,
    }

    def narrow(table: sa.Table) -> sa.ColumnElement[bool]:
        narrowed = [table.c[name] == value for name, value in said.items() if value is not None]
        return sa.and_(table.c.cloud == cloud, *narrowed)

    found = newest_cases(connection, narrow, wanted.limit, few=wanted.volume_id is not None)
    return tuple(_summary(row) for row in found)


def show_case(connection: sa.Connection, cloud: str, case_id: str) -> CaseRecord:
    """Return one case, by its id or the beginning of it. Raises NoSuchCaseError."""
    row = one_case(connection, cloud, case_id)
    intended = of_case(connection, row.case_id, intents, "intent_id")
    held = connection.execute(
        sa.select(claims).where(
            claims.c.cloud == cloud,
            claims.c.volume_id == row.volume_id,
            claims.c.case_id == row.case_id,
        )
    ).first()
    return CaseRecord(
        summary=_summary(row),
        case=whole_case(row, intended, LateCalls()),
        claimed_by=held.owner if held else None,
        lease_expires_at=held.lease_expires_at if held else None,
        notifications=tuple(
            NotificationRecord(notification(n), n.received_at, n.bus, n.body_sha256)
            for n in of_case(connection, row.case_id, notifications, *TOLD_IN_ORDER)
        ),
        history=tuple(_history(h) for h in of_case(connection, row.case_id, history, "history_id")),
        intents=tuple(_intent(i) for i in intended),
        outbox=tuple(_outbox(o) for o in of_case(connection, row.case_id, outbox, "outbox_id")),
    )


def count_cases(connection: sa.Connection, cloud: str) -> dict[CaseState, StateCount]:
    """Count the open cases of each state. Closed ones are left out: they are history."""
    now = database_now(connection)
    statement = (
        sa.select(cases.c.state, sa.func.count(), sa.func.min(cases.c.opened_at))
        .where(cases.c.cloud == cloud, cases.c.state.in_([s.value for s in OPEN_STATES]))
        .group_by(cases.c.state)
    )
    found = {
        CaseState(state): StateCount(count, max(0.0, (now - oldest_at).total_seconds()))
        for state, count, oldest_at in connection.execute(statement)
    }
    return {state: found.get(state, StateCount(0, 0.0)) for state in OPEN_STATES}


def _summary(row: Row) -> CaseSummary:
    return CaseSummary(
        case_id=row.case_id,
        state=CaseState(row.state),
        operation=Operation(row.operation),
        volume_id=row.volume_id,
        attachment_id=row.attachment_id,
        instance_id=row.instance_id,
        host=row.host,
        backend=row.backend,
        trigger=Trigger(row.triggered_by),
        opened_at=row.opened_at,
        updated_at=row.updated_at,
        closed_at=row.closed_at,
        next_attempt_at=row.next_attempt_at,
        attempts=row.attempts,
        rule=row.rule,
        verdict=row.verdict,
        reason=row.reason,
        use_case=UseCase(row.use_case) if row.use_case else None,
        conclusion=Conclusion(row.conclusion) if row.conclusion else None,
        verified_by=VerifiedBy(row.verified_by) if row.verified_by else None,
        fingerprint=row.fingerprint,
    )


def _history(row: Row) -> HistoryRecord:
    return HistoryRecord(
        recorded_at=row.recorded_at,
        kind=HistoryKind(row.kind),
        actor=row.actor,
        state=CaseState(row.state) if row.state else None,
        rule=row.rule,
        verdict=row.verdict,
        reason=row.reason,
        detail=row.detail,
    )


def _intent(row: Row) -> IntentRecord:
    return IntentRecord(
        kind=StepKind(row.kind),
        request_id=row.request_id,
        attempt=row.attempt,
        target=row.target,
        evidence=row.evidence,
        intended_at=row.intended_at,
        result=StepResult(row.result),
        detail=row.detail,
        result_at=row.result_at,
    )


def _outbox(row: Row) -> OutboxRecord:
    return OutboxRecord(
        message_id=row.message_id,
        event_type=row.event_type,
        priority=Priority(row.priority),
        payload=row.payload,
        created_at=row.created_at,
        attempts=row.attempts,
        sent_at=row.sent_at,
        unrouted_at=row.unrouted_at,
        last_error=row.last_error,
    )
