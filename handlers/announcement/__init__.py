"""Outcome -> payload: what subscribers of ``volume.force_detach.*`` receive.

The payload has Cinder's usual volume keys (cinder/volume/volume_utils.py
``_usage_from_volume``), so that a consumer of Cinder's own notifications finds its way, and ours
beside them. ``announcement.schema.json`` in this package describes it and is held to it by tests.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.resources
import json
from datetime import datetime
from typing import Any

from drivers.control_plane import Volume
from handlers.case import Announcement, Case, CaseState, Priority, VerifiedBy
from handlers.judgement import off
from handlers.judgement.rule import Diagnosis, Verdict


class Event(enum.Enum):
    """What we announce."""

    START = "volume.force_detach.start"
    END = "volume.force_detach.end"
    ERROR = "volume.force_detach.error"
    PARKED = "volume.force_detach.parked"
    DISMISSED = "volume.force_detach.dismissed"


PRIORITIES = {
    Event.START: Priority.INFO,
    Event.END: Priority.INFO,
    Event.ERROR: Priority.ERROR,
    Event.PARKED: Priority.ERROR,
    Event.DISMISSED: Priority.INFO,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """What an announcement says beside the case and its diagnosis.

    ``steps`` are the writes of this case that were made, oldest first; ``reason`` is for a person.
    ``decided_by`` is the person whose decision it tells.
    """

    event: Event
    now: datetime
    steps: tuple[str, ...]
    reason: str
    verified_by: VerifiedBy | None = None
    decided_by: str | None = None


def announce(case: Case, diagnosis: Diagnosis, details: Details) -> Announcement:
    """Build one announcement. Pure; the payload is plain JSON values without secrets."""
    s = diagnosis.situation
    payload = _volume_keys(case, s.volume if s else None) | {
        "force_detach": True,
        "case_id": case.case_id,
        "cloud": case.cloud,
        "operation": case.operation.value,
        "use_case": diagnosis.use_case.value if diagnosis.use_case else None,
        "verdict": diagnosis.verdict.value,
        "rule": diagnosis.rule,
        "reason": details.reason,
        # The case first: a look may have found another row to be the subject, and who listens joins
        # by this.
        "attachment_id": case.attachment_id
        or (s.attachment.attachment_id if s and s.attachment else None),
        "instance_uuid": s.instance_id if s else case.instance_id,
        "attached_host": s.attached_host if s else case.host,
        "verified_by": details.verified_by.value if details.verified_by else None,
        "steps": list(details.steps),
        "attempts": case.attempts,
        # A database's clock can be set back, but no case has lasted less than no time.
        "duration_seconds": max(0.0, round((details.now - case.round_began_at).total_seconds(), 3)),
        "trigger": case.trigger.value,
        "request_ids": list(case.request_ids),
        "approved_by": case.approved_by,
        "decided_by": details.decided_by,
    }
    if s is not None and (said := off.counts(s)):
        payload["hosts_said_off"] = [
            {"host": word.host, "said_by": word.said_by} for word in s.off if word.host in said
        ]
    reached = CaseState.PARKED if details.event is Event.PARKED else None
    return Announcement(details.event.value, PRIORITIES[details.event], payload, reached)


def dismissed(case: Case, actor: str, reason: str, now: datetime) -> Announcement:
    """Build what tells that a person closed a case: nothing was recovered by it. Pure.

    Verdict and rule are those of the last look; ``reason`` is the person's.
    """
    verdict = Verdict(case.verdict or Verdict.UNKNOWN.value)
    rule = case.rule or "X0.not-looked-at"
    last = Diagnosis(verdict, rule, case.reason or "", use_case=case.use_case, situation=None)
    return announce(case, last, Details(Event.DISMISSED, now, (), reason, decided_by=actor))


def _volume_keys(case: Case, volume: Volume | None) -> dict[str, Any]:
    if volume is None:
        # Cinder did not answer, or has no such volume: of the usual keys only these are known.
        return {"volume_id": case.volume_id, "host": case.backend, "status": None}
    return {
        "volume_id": case.volume_id,
        "tenant_id": volume.project_id,
        "user_id": volume.user_id,
        "display_name": volume.display_name,
        "size": volume.size_gib,
        "volume_type": volume.volume_type_id,
        "availability_zone": volume.availability_zone,
        "host": volume.ref.backend,
        "status": volume.status,
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the payload."""
    text = importlib.resources.files(__name__).joinpath("announcement.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded
