"""Due cases for tests: a real ledger on SQLite, and notifications that open cases in it."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from consumer.ledger import Arrival, CaseRecord, Ledger
from consumer.work.backends import Backend, Backends
from handlers.case import CaseState, Outcome
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Notification, Operation, Phase, Source

LAB, SLOW = "labhost@lab", "slowhost@slow"
_numbers = itertools.count(1)


def open_case(
    ledger: Ledger, *, backend: str | None = LAB, phase: Phase = Phase.ERROR, **changes: Any
) -> str:
    """Let a failed attach of a new volume arrive; return the volume's id."""
    number = next(_numbers)
    volume_id = str(changes.pop("volume_id", None) or uuid.uuid4())
    facts: dict[str, Any] = {
        "message_id": str(uuid.uuid4()),
        "source": Source.CINDER,
        "event_type": "volume.attach.start",
        "publisher_id": "volume.labhost@lab",
        "operation": Operation.ATTACH,
        "phase": phase,
        "volume_id": volume_id,
        "instance_id": str(uuid.uuid4()),
        "attachment_id": str(uuid.uuid4()),
        "request_id": f"req-{number}",
        "own_request_id": None,
        "host": "compute1",
        "backend": backend,
        "volume_status": "attaching",
        "project_id": None,
        "user_id": None,
        "fault": None,
        "attachments": (),
        "published_at": None,
    }
    ledger.accept([Arrival(Notification(**facts | changes), f"{number:064d}", "default")])
    return volume_id


def only_case(ledger: Ledger, volume_id: str) -> CaseRecord:
    """Return the one case of a volume."""
    (summary,) = ledger.cases(volume_id=volume_id)
    return ledger.case(summary.case_id)


def outcome(state: CaseState = CaseState.PARKED, **changes: Any) -> Outcome:
    """Make what an attempt comes to."""
    facts: dict[str, Any] = {
        "state": state,
        "rule": "T1.test",
        "verdict": "park",
        "reason": "for the test",
        "delay_seconds": None,
        "conclusion": None,
        "use_case": None,
        "verified_by": None,
        "failed": False,
        "mended": False,
        "clean": False,
        "fingerprint": None,
        "evidence": {},
        "announcements": (),
    }
    return Outcome(**facts | changes)


def backend(name: str, *, concurrency: int = 2, **policy: Any) -> Backend:
    """Make the settings of one backend."""
    return Backend(name, "simulator", concurrency, BackendPolicy(**policy))


def backends(**policy: Any) -> Backends:
    """Make the settings of two backends, each with at most two cases at once."""
    return Backends(
        defaults=backend("backend_defaults", **policy),
        by_name={name: backend(name, **policy) for name in (LAB, SLOW)},
    )
