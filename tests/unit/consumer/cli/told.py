"""Cases as the ledger would hold them, made of the pictures of the judgement: fixed ids and times.

The ids have the length of real ones, so that the lines of the goldens are those of a real cloud.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

from consumer.ledger import CaseRecord, HistoryKind, HistoryRecord, IntentRecord, OutboxRecord
from drivers.base import Capabilities
from handlers.case import Action, CaseState, Priority, StepKind, StepResult
from handlers.judgement.approval import fingerprint
from handlers.judgement.guards import Means, objections
from handlers.judgement.plan import make_plan, ordered
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.rule import ACTING
from handlers.recovery.summary import Instead, Judged, summarise
from tests.unit.handlers.judgement.pictures import NOW, OPENED_AT, SEEING, Picture

REAL = {
    "volume-1": "5f1c0a52-98f4-4f2e-9d63-0a5b1c7de911",
    "attachment-a": "0c9d4b1e-55aa-4a57-b6a0-6f40e20f3a11",
    "attachment-b": "b71e02c4-1d6f-4c5e-8a8f-27b3f0c9d422",
    "instance-x": "4711d3a8-0b52-4e0f-9c1a-95b0f7e6c311",
    "instance-y": "9e2a60f7-77c3-4f83-8f3b-1d2c4b5a6e22",
    "case-1": "7c1f0a92b3f14c55a1b2c3d4e5f60718",
}
LOOKED_AT = NOW - timedelta(minutes=2)


def real(value: Any) -> Any:
    """Return plain values with ids of the length that a real cloud has."""
    text = json.dumps(value)
    for short, one in REAL.items():
        text = text.replace(short, one)
    return json.loads(text)


def look(
    picture: Picture,
    mode: Mode = Mode.APPROVE,
    able: Capabilities = SEEING,
    policy: BackendPolicy | None = None,
) -> dict[str, Any]:
    """Return the look that history would hold of this picture, in this mode."""
    diagnosis, judged, policy = picture.diagnosis, None, policy or BackendPolicy(mode=mode)
    steps = make_plan(diagnosis, able) if diagnosis.verdict in ACTING else ()
    if steps:
        mark = fingerprint(diagnosis, steps)
        means = Means(able, policy, LOOKED_AT, mark)
        held, instead = objections(picture.situation, steps, means), _instead(picture, means)
        judged = Judged(mark, held, instead)
    asked = dict.fromkeys(("cinder", "nova", "backend"), LOOKED_AT)
    if "blind" in summarise(picture.evidence, diagnosis)["backend"]:
        del asked["backend"]
    made = summarise(picture.evidence, diagnosis, steps, judged=judged, asked_at=asked)
    found: dict[str, Any] = real(made)
    return found


def _instead(picture: Picture, means: Means) -> tuple[Instead, ...]:
    """Return what a person may order instead, with a service token at hand."""
    found = []
    for action in Action:
        if steps := ordered(picture.diagnosis, means.capabilities, action):
            mark = fingerprint(picture.diagnosis, steps)
            able = dataclasses.replace(means, fingerprint=mark, service_token=True)
            held = objections(picture.situation, steps, able)
            found.append(Instead(action, steps, Judged(mark, held)))
    return tuple(found)


def record(picture: Picture, state: CaseState, seen: dict[str, Any], **fields: Any) -> CaseRecord:
    """Return the case of a picture with this look as its last one."""
    case = picture.case
    known = {
        name: real(getattr(case, name))
        for name in ("case_id", "volume_id", "attachment_id", "instance_id")
    }
    mark = (seen.get("guards") or {}).get("fingerprint")
    case = dataclasses.replace(
        case,
        **known,
        **{"state": state, "fingerprint": mark, "reason": seen.get("reason")} | fields,
    )
    concluded = HistoryRecord(
        LOOKED_AT, HistoryKind.CONCLUDED, "worker:1", state, seen.get("rule"), seen.get("verdict"),
        seen.get("reason"), {"evidence": seen},
    )  # fmt: skip
    opened = HistoryRecord(
        OPENED_AT, HistoryKind.OPENED, "listener", CaseState.WAITING, None, None, None, None
    )
    return CaseRecord(case, None, None, (), (opened, concluded), (), ())


def acted(kept: CaseRecord) -> CaseRecord:
    """Return the same case with a write and two announcements, one of which nobody heard."""
    write = IntentRecord(
        StepKind.BACKEND_FORCE_DETACH, "req-1", 1, {"attachment_id": REAL["attachment-a"]}, {},
        LOOKED_AT, StepResult.DONE, None, LOOKED_AT + timedelta(seconds=3),
    )  # fmt: skip
    start = OutboxRecord(
        "m-1", "volume.force_detach.start", Priority.INFO, {}, LOOKED_AT, 1,
        LOOKED_AT + timedelta(seconds=1), None, None,
    )  # fmt: skip
    end = OutboxRecord(
        "m-2", "volume.force_detach.end", Priority.INFO, {}, LOOKED_AT, 1, None,
        LOOKED_AT + timedelta(seconds=5), None,
    )  # fmt: skip
    return dataclasses.replace(kept, intents=(write,), outbox=(start, end))
