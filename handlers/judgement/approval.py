"""What a person says yes to: the fingerprint of a plan and of the evidence it rests on. Pure.

1. An approval serves the plan that was shown, on the evidence that was shown, and no other.
2. A change of anything that a person judges by makes another fingerprint: rule and steps; Cinder's
   status, rows and service; Nova's servers, block devices, guests and computes; hosts with access
   or sessions on the backend; and what could not be seen.
3. Age, order and the words of an error make none. So the same situation has the same fingerprint
   at every look and in every replica.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from drivers.base import Connection
from drivers.control_plane import Swap
from handlers.case import Case, StepKind
from handlers.judgement import off
from handlers.judgement.evidence import (
    Absent,
    BackendEvidence,
    Blind,
    Fact,
    HoldersEvidence,
    Holding,
    ProtocolEvidence,
    ServerEvidence,
    SwapEvidence,
    Unknown,
)
from handlers.judgement.plan import Step
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation

BEGINS = frozenset({StepKind.CINDER_RESERVE, StepKind.CINDER_ROLL_DETACHING})
"""The first steps of plans that are carried on after a crash without a second approval."""

NO_GROUNDS = frozenset({"powered_off", "read_only"})
"""No plan rests on these: a guest that is off, or only reads, has the volume as any other."""
Answer = ServerEvidence | BackendEvidence | HoldersEvidence | SwapEvidence | ProtocolEvidence | None


def fingerprint(diagnosis: Diagnosis, steps: tuple[Step, ...]) -> str:
    """Return a digest of what a person approves: rule, steps and the evidence they rest on."""
    s = diagnosis.situation
    approved: Mapping[str, Any] = {
        "rule": diagnosis.rule,
        "steps": [_step(step) for step in steps],  # their order counts
        "evidence": _unordered(_evidence(s)) if s else None,
    }
    return hashlib.sha256(json.dumps(approved, sort_keys=True).encode()).hexdigest()


def begun_since_approved(case: Case) -> bool:
    """Tell whether the approved plan was begun: its reserve or its roll is on record since."""
    if case.approved_at is None:
        return False
    since = case.approved_at
    begun = (intent for intent in case.intents if intent.kind in BEGINS)
    return any(i.intended_at is not None and i.intended_at >= since for i in begun)


def carried_out_since_approved(case: Case) -> bool:
    """Tell whether the approved plan was carried out: the case was mended since."""
    if case.approved_at is None or case.mended_at is None:
        return False
    return case.mended_at >= case.approved_at


def _step(step: Step) -> list[Any]:
    connector = step.attachment.connector
    return [step.kind.value, step.target(), connector.to_json() if connector else None]


def _evidence(s: Situation) -> dict[str, Any]:
    return {
        "volume": s.volume.ref,
        "migration_status": s.volume.migration_status,
        "service_up": s.volume.service_up,
        "status": s.status,
        "attachments": s.volume.attachments,
        "servers": {i: _answer(answer) for i, answer in s.servers.items()},
        "deleted": {"ended_on": s.ended_on, "by": s.deleted_by, "never_built": s.never_built},
        "computes": s.computes,
        "holding": _holding(s.holding) if s.holding else None,
        "elsewhere": [_holding(holding) for holding in s.elsewhere],
        **_swaps(s),
        "pools": _answer(s.pools),
        "backend": _answer(s.backend),
        "nameless": bool(s.nameless),
        **_ended_of_others(s),
        **({"off": sorted(off.counts(s))} if s.off else {}),
    }


def _swaps(s: Situation) -> dict[str, Any]:
    """Return what Nova says of swaps, as approvals of earlier versions have it."""
    if not isinstance(s.swapping, Fact):
        return {"swapping": _answer(s.swapping)}
    under_way = {"swapping": {"fact": s.swapping.value is Swap.UNDER_WAY}}
    return under_way | ({"swap_failed": True} if s.swapping.value is Swap.FAILED else {})


def _ended_of_others(s: Situation) -> dict[str, Any]:
    """Return where the guests of other deleted servers were ended, if any."""
    ended = {i: host for i, host in s.guests_ended.items() if i != s.instance_id}
    return {"ended": ended} if ended else {}


def _holding(holding: Holding) -> dict[str, Any]:
    holders = _answer(holding.holders)
    return {"host": holding.host, "compute_up": holding.compute_up, "holders": holders}


def _answer(answer: Answer) -> dict[str, Any] | None:
    """Return an answer without the words of its control or error: they differ each time."""
    match answer:
        case Fact(value):
            return {"fact": getattr(value, "connections", value)}
        case Absent():
            return {"absent": True}
        case Blind(driver):
            return {"blind": driver}
        case Unknown():
            return {"unknown": type(answer).__name__}
        case None:
            return None


def _unordered(value: Any) -> Any:
    """Return plain JSON values in which the order of a list does not count."""
    if isinstance(value, Connection):
        return _unordered(value.to_mapping())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: _unordered(getattr(value, name)) for name in names if name not in NO_GROUNDS}
    if isinstance(value, Mapping):
        return {key: _unordered(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return sorted((_unordered(item) for item in value), key=_as_json)
    return value


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
