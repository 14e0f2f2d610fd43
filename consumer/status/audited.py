"""The decisions and the writes of a case, for ``detachd audit export``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consumer.ledger import CaseRecord, HistoryKind, HistoryRecord, IntentRecord

OF_WRITES = (HistoryKind.INTENDED, HistoryKind.RESULT)
"""Lines of history that the writes themselves tell better."""


def lines(record: CaseRecord) -> Iterator[dict[str, Any]]:
    """Yield the decisions and writes of a case, in the order of their times."""
    made = [
        *(_decision(record, line) for line in record.history if line.kind not in OF_WRITES),
        *(_write(record, intent) for intent in record.intents),
    ]
    # By time, and not all decisions first: what a write was decided by stands right before it.
    yield from sorted(made, key=lambda line: line["at"])


def _about(record: CaseRecord) -> dict[str, Any]:
    case = record.case
    names = ("cloud", "case_id", "volume_id", "attachment_id", "instance_id", "backend")
    return {name: getattr(case, name) for name in names}


def _decision(record: CaseRecord, line: HistoryRecord) -> dict[str, Any]:
    # A copy, as the evidence is taken out of it below.
    detail = dict(line.detail or {})
    return {
        "at": line.recorded_at,
        "what": line.kind,
        **_about(record),
        "actor": line.actor,
        "state": line.state,
        "rule": line.rule,
        "verdict": line.verdict,
        "reason": line.reason,
        "evidence": detail.pop("evidence", None),
        "detail": detail,
    }


def _write(record: CaseRecord, intent: IntentRecord) -> dict[str, Any]:
    return {
        "at": intent.intended_at,
        "what": "write",
        **_about(record),
        "actor": _actor(record, intent),
        "step": intent.kind,
        "request_id": intent.request_id,
        "attempt": intent.attempt,
        "target": dict(intent.target),
        "result": intent.result,
        "result_at": intent.result_at,
        "detail": intent.detail,
        "approved_by": _approved_by(record, intent),
        "evidence_before": dict(intent.evidence),
        "evidence_after": _evidence_after(record, intent),
    }


def _actor(record: CaseRecord, intent: IntentRecord) -> str | None:
    """Return the service that made the write, by the line of history with its request id."""
    own = (
        line.actor
        for line in record.history
        if line.kind is HistoryKind.INTENDED
        and (line.detail or {}).get("request_id") == intent.request_id
    )
    return next(own, None)


def _approved_by(record: CaseRecord, intent: IntentRecord) -> str | None:
    """Return the person whose approval came last before the write."""
    approvals = [
        line.actor
        for line in record.history
        if line.kind is HistoryKind.APPROVED and line.recorded_at <= intent.intended_at
    ]
    # An earlier one was for another plan.
    return approvals[-1] if approvals else None


def _evidence_after(record: CaseRecord, intent: IntentRecord) -> Any:
    """Return the evidence of the first look that was concluded after the write."""
    later = (
        line.detail.get("evidence")
        for line in record.history
        if line.kind is HistoryKind.CONCLUDED
        and line.detail
        # By the database's clock on both sides.
        and line.recorded_at >= intent.intended_at
    )
    return next(later, None)
