"""From dataclasses to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from drivers.base import Connector
from handlers.case import (
    Approval,
    Case,
    CaseState,
    Conclusion,
    Intent,
    LateCalls,
    StepKind,
    StepResult,
    Trigger,
)
from handlers.correlation.matching import KnownCase, Signal
from handlers.notification import Notification, Operation, Phase, RowSeen, Source
from handlers.recovery.summary import grounds

Row = sa.Row[Any]
Values = dict[str, Any]


def notification_values(notification: Notification) -> Values:
    """Return what a notification's row holds of the dataclass itself."""
    return {
        "message_id": notification.message_id,
        "source": notification.source.value,
        "event_type": notification.event_type,
        "publisher_id": notification.publisher_id,
        "operation": notification.operation.value if notification.operation else None,
        "phase": notification.phase.value,
        "volume_id": notification.volume_id,
        "instance_id": notification.instance_id,
        "attachment_id": notification.attachment_id,
        "request_id": notification.request_id,
        "own_request_id": notification.own_request_id,
        "host": notification.host,
        "backend": notification.backend,
        "volume_status": notification.volume_status,
        "project_id": notification.project_id,
        "user_id": notification.user_id,
        "fault": notification.fault,
        "attachment_rows": [_row_values(row) for row in notification.rows],
        "published_at": notification.published_at,
    }


def notification(row: Row) -> Notification:
    """Read a notification back, equal to what was accepted."""
    return Notification(
        message_id=row.message_id,
        source=Source(row.source),
        event_type=row.event_type,
        publisher_id=row.publisher_id,
        operation=Operation(row.operation) if row.operation else None,
        phase=Phase(row.phase),
        volume_id=row.volume_id,
        instance_id=row.instance_id,
        attachment_id=row.attachment_id,
        request_id=row.request_id,
        own_request_id=row.own_request_id,
        host=row.host,
        backend=row.backend,
        volume_status=row.volume_status,
        project_id=row.project_id,
        user_id=row.user_id,
        fault=row.fault,
        rows=tuple(_row_seen(values) for values in row.attachment_rows),
        published_at=row.published_at,
    )


def signal(row: Row) -> Signal:
    """Read back what of a notification decides whose it is."""
    return Signal(
        message_id=row.message_id,
        source=Source(row.source),
        operation=Operation(row.operation) if row.operation else None,
        phase=Phase(row.phase),
        volume_id=row.volume_id,
        attachment_id=row.attachment_id,
        instance_id=row.instance_id,
        request_ids=tuple(dict.fromkeys(r for r in (row.request_id, row.own_request_id) if r)),
    )


def known_values(case: KnownCase, now: datetime) -> Values:
    """Return the columns of a case that a notification may change."""
    return {
        "attachment_id": case.attachment_id,
        "instance_id": case.instance_id,
        "host": case.host,
        "backend": case.backend,
        "connector": case.connector.to_mapping() if case.connector else None,
        "request_ids": list(case.request_ids),
        "triggered_by": case.trigger.value,
        "state": case.state.value,
        "next_attempt_at": case.next_attempt_at,
        "signal_seq": case.signal_seq,
        "starts": case.starts,
        "nova_started": case.nova_started,
        "nova_ended": case.nova_ended,
        "end_seen": case.end_seen,
        "released_unasked": case.released_unasked,
        "conclusion": case.conclusion.value if case.conclusion else None,
        "updated_at": now,
        "closed_at": None if case.open else now,
    }


def opened_values(case: KnownCase, cloud: str, now: datetime) -> Values:
    """Return the whole row of a case that is opened now."""
    return known_values(case, now) | {
        "case_id": case.case_id,
        "cloud": cloud,
        "volume_id": case.volume_id,
        "operation": case.operation.value,
        "opened_at": case.opened_at,
        "attempts": 0,
        "failures": 0,
        "mended_attempt": 0,
        "crashes": 0,
    }


def known_case(row: Row, *, claimed: bool) -> KnownCase:
    """Read what the correlation has to know of a case."""
    return KnownCase(
        case_id=row.case_id,
        volume_id=row.volume_id,
        operation=Operation(row.operation),
        attachment_id=row.attachment_id,
        instance_id=row.instance_id,
        host=row.host,
        backend=row.backend,
        connector=connector(row.connector),
        request_ids=tuple(row.request_ids),
        trigger=Trigger(row.triggered_by),
        state=CaseState(row.state),
        opened_at=row.opened_at,
        next_attempt_at=row.next_attempt_at,
        signal_seq=row.signal_seq,
        starts=row.starts,
        nova_started=bool(row.nova_started),
        nova_ended=bool(row.nova_ended),
        end_seen=row.end_seen,
        released_unasked=row.released_unasked,
        claimed=claimed,
        conclusion=Conclusion(row.conclusion) if row.conclusion else None,
    )


def whole_case(row: Row, intents: Sequence[Row], late: LateCalls) -> Case:
    """Read a case as recovery gets it; ``intents`` are its own, oldest first.

    ``late`` is what may still act on its volume.

    To recovery a case that was at rest and sent round again is as old as that replay: what it asks
    its age for (has a late call had its time?) is about the present round.
    """
    return Case(
        case_id=row.case_id,
        cloud=row.cloud,
        volume_id=row.volume_id,
        operation=Operation(row.operation),
        attachment_id=row.attachment_id,
        instance_id=row.instance_id,
        host=row.host,
        backend=row.backend,
        trigger=Trigger(row.triggered_by),
        state=CaseState(row.state),
        opened_at=row.rearmed_at or row.opened_at,
        attempts=row.attempts,
        failures=row.failures,
        signal_seq=row.signal_seq,
        end_seen=row.end_seen,
        released_unasked=row.released_unasked,
        mended_at=row.mended_at,
        first_clean_at=row.first_clean_at,
        connector=connector(row.connector),
        request_ids=tuple(row.request_ids),
        intents=tuple(_intent(intent) for intent in intents),
        approval=_approval(row),
        mended_attempt=row.mended_attempt,
        crashes=row.crashes,
        late=late,
    )


def connector(values: Any) -> Connector | None:
    """Read a connector's column."""
    return None if values is None else Connector.from_mapping(values)


def _intent(row: Row) -> Intent:
    return Intent(
        kind=StepKind(row.kind),
        result=StepResult(row.result),
        request_id=row.request_id,
        attempt=row.attempt,
        attachment_id=row.target.get("attachment_id"),
        intended_at=row.intended_at,
        grounds=grounds(row.evidence),
    )


def _approval(row: Row) -> Approval | None:
    if row.approved_by is None:
        return None
    return Approval(row.approved_by, row.approved_fingerprint)


def _row_values(row: RowSeen) -> Values:
    return {
        "attachment_id": row.attachment_id,
        "status": row.status,
        "instance_id": row.instance_id,
        "host": row.host,
        "connector": row.connector.to_mapping() if row.connector else None,
    }


def _row_seen(values: Values) -> RowSeen:
    return RowSeen(
        attachment_id=values["attachment_id"],
        status=values["status"],
        instance_id=values["instance_id"],
        host=values["host"],
        connector=connector(values["connector"]),
    )
