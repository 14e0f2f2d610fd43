"""One case as its record has it: the last look, what it means, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consumer.status.words import ago
from handlers.case import Case
from handlers.recovery.explanation import About, Explanation, explain

if TYPE_CHECKING:
    from consumer.ledger import CaseRecord


def last_look(record: CaseRecord) -> Mapping[str, Any]:
    """Return the last look at the case that its history has; empty where there is none."""
    looks = (
        line.detail["evidence"]
        for line in reversed(record.history)
        if line.detail and line.detail.get("evidence")
    )
    found: Mapping[str, Any] = next(looks, {})
    return found


def explanation(record: CaseRecord, look: Mapping[str, Any] | None = None) -> Explanation:
    """Return what the last look at a case means."""
    case = record.case
    about = About(case.case_id, case.state, case.fingerprint)
    return explain(last_look(record) if look is None else look, about)


def in_short(case: Case, now: datetime) -> str:
    """Return since when there is the case, and what became of it, in one line."""
    opened = ago(case.opened_at, now)
    begun = f"opened {opened}, {case.attempts} attempt{'s' if case.attempts != 1 else ''}"
    more = [begun]
    if case.approved_by:
        what = f", who ordered {case.approved_action.value}" if case.approved_action else ""
        more.append(f"approved by {case.approved_by} {ago(case.approved_at, now)}{what}")
    if case.mended_at:
        more.append(f"mended {ago(case.mended_at, now)}")
    if case.conclusion:
        more.append(f"closed as {case.conclusion.value} {ago(case.closed_at, now)}")
    return ", ".join(more)
