"""Notifications, cases and outcomes to test with; time is made to pass in the database."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.ledger import Arrival, Claim, Ledger, Replay
from consumer.ledger.database.tables import cases, claims, notifications, outbox
from consumer.ledger.work import claims as claims_of
from drivers.base import Connector
from handlers.case import Announcement, Case, CaseState, Conclusion, Outcome, Priority, Trigger
from handlers.notification import Notification, NotifiedAttachment, Operation, Phase, Source

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
VOLUME, INSTANCE, ATTACHMENT, REQUEST = "vol-1", "inst-1", "att-1", "req-1"
CONNECTOR = Connector(host="compute1", initiator="iqn.2026-11.org.example:compute1")


def told(
    operation: Operation | None = Operation.ATTACH, phase: Phase = Phase.START, **fields: Any
) -> Notification:
    """Return a Cinder notification of the volume; ``fields`` replace what it says."""
    event_type = f"volume.{operation.value}.{phase.value}" if operation else "compute.exception"
    known: dict[str, Any] = {
        "message_id": str(uuid.uuid4()),
        "source": Source.CINDER,
        "event_type": event_type,
        "publisher_id": "volume.labhost@lab",
        "operation": operation,
        "phase": phase,
        "volume_id": VOLUME,
        "instance_id": None,
        "attachment_id": None,
        "request_id": None,
        "own_request_id": None,
        "host": None,
        "backend": None,
        "volume_status": None,
        "project_id": None,
        "user_id": None,
        "fault": None,
        "attachments": (),
        "published_at": None,
    }  # fmt: skip
    return Notification(**known | fields)


def seen(status: str, **fields: Any) -> NotifiedAttachment:
    """Return an attachment row of the volume."""
    known: dict[str, Any] = {
        "attachment_id": ATTACHMENT, "status": status, "instance_id": INSTANCE, "host": None,
        "connector": None,
    }  # fmt: skip
    return NotifiedAttachment(**known | fields)


def released(**fields: Any) -> Notification:
    """Return UC5's signature: the API host starts to detach a row that is still reserved."""
    own = {"attachment_id": ATTACHMENT, "request_id": REQUEST}
    return told(
        Operation.DETACH,
        publisher_id="volume.labhost",
        attachments=(seen("reserved"),),
        **own | fields,
    )


def attach_error(**fields: Any) -> Notification:
    """Return Nova's error of an attach, which makes a case due."""
    own = {"source": Source.NOVA_VERSIONED, "instance_id": INSTANCE, "request_id": REQUEST}
    return told(Operation.ATTACH, Phase.ERROR, **own | fields)


def known(**fields: Any) -> Case:
    """Return a case that waits for the end of an attach of ATTACHMENT."""
    values: dict[str, Any] = {
        "case_id": "case-1",
        "cloud": "default",
        "volume_id": VOLUME,
        "operation": Operation.ATTACH,
        "attachment_id": ATTACHMENT,
        "instance_id": INSTANCE,
        "request_ids": (REQUEST,),
        "trigger": Trigger.DEADLINE,
        "state": CaseState.WAITING,
        "opened_at": NOW,
        "updated_at": NOW,
        "next_attempt_at": NOW + timedelta(seconds=900),
        "signal_seq": 1,
        "starts": 1,
    }
    return Case(**values | fields)


def arrival(notification: Notification) -> Arrival:
    """Return a notification as the listener hands it over."""
    body_sha256 = hashlib.sha256(notification.message_id.encode()).hexdigest()
    return Arrival(notification, body_sha256, "cinder")


def accept(ledger: Ledger, *notifications: Notification) -> None:
    """Take in notifications, one batch."""
    ledger.accept([arrival(notification) for notification in notifications])


def due_case(ledger: Ledger, **fields: Any) -> str:
    """Make a case that is due now, of an attach that failed; return its id."""
    notification = attach_error(**fields)
    accept(ledger, notification)
    make_due(ledger)
    return next(case.case_id for case in ledger.cases() if case.volume_id == notification.volume_id)


def claim_one(ledger: Ledger, owner: str = "w1", *, lease_seconds: float = 60.0) -> Claim:
    """Claim the one case that is due."""
    (claim,) = ledger.claim(owner, limit=1, lease_seconds=lease_seconds, deadlines=True)
    return claim


def renew(ledger: Ledger, claim: Claim, lease_seconds: float) -> None:
    """Renew a lease, as an intent does."""
    ledger._database.write(lambda c: claims_of.renew(c, claim, lease_seconds))


def send_round(ledger: Ledger, case_id: str) -> None:
    """Let a person replay a case."""
    ledger.replay(Replay(str(uuid.uuid4()), "0" * 64, "replay", "alice", "again"), case_id)


def outcome(state: CaseState, **fields: Any) -> Outcome:
    """Return what an attempt came to."""
    values: dict[str, Any] = {
        "state": state,
        "rule": "r1",
        "verdict": "clean",
        "reason": "nothing holds it",
        "delay_seconds": None,
        "conclusion": Conclusion.HEALTHY if state is CaseState.CLOSED else None,
        "use_case": None,
        "verified_by": None,
        "failed": False,
        "mended": False,
        "clean": False,
        "fingerprint": None,
        "evidence": {"volume": {"status": "available"}},
        "announcements": (),
    }
    return Outcome(**values | fields)


def announcement(name: str, **payload: Any) -> Announcement:
    """Return one announcement of ours."""
    reached = CaseState.PARKED if name == "parked" else None
    return Announcement(f"volume.force_detach.{name}", Priority.INFO, payload, reached)


def make_due(ledger: Ledger) -> None:
    """Let so much time pass that every case that time moves is due, in the order it was."""
    database = ledger._database
    with database.engine.begin() as connection:
        moved = cases.select().where(cases.c.next_attempt_at.is_not(None))
        for row in connection.execute(moved).all():  # read to its end, which SQLite's writers await
            earlier = row.next_attempt_at - timedelta(days=1)
            own = cases.update().where(cases.c.case_id == row.case_id)
            connection.execute(own.values(next_attempt_at=earlier))


def expire_leases(ledger: Ledger) -> None:
    """Let so much time pass that every lease, on a volume or an announcement, ran out."""
    past = datetime.now(UTC) - timedelta(days=1)
    with ledger._database.engine.begin() as connection:
        claimed = claims.update().where(claims.c.owner.is_not(None))
        connection.execute(claimed.values(lease_expires_at=past))
        pending = outbox.update().where(outbox.c.due_at.is_not(None))
        connection.execute(pending.values(due_at=past))


def age_notifications(ledger: Ledger, seconds: float) -> None:
    """Let time pass since every notification was received."""
    with ledger._database.engine.begin() as connection:
        for row in connection.execute(notifications.select()).all():
            own = notifications.update().where(notifications.c.message_id == row.message_id)
            aged = row.received_at - timedelta(seconds=seconds)
            connection.execute(own.values(received_at=aged))


def places(ledger: Ledger) -> dict[str, str | None]:
    """Return where each stored message is: its case, or None for one kept for its start."""
    with ledger._database.engine.begin() as connection:
        rows = connection.execute(notifications.select())
        return {row.message_id: row.case_id for row in rows}


def ids(notifications: Sequence[Notification]) -> list[str]:
    """Return the message ids."""
    return [notification.message_id for notification in notifications]


def other(notification: Notification) -> Notification:
    """Return the same told once more, as a message of its own."""
    return dataclasses.replace(notification, message_id=str(uuid.uuid4()))


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run these in threads that start together; return their results, raise the first error."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        barrier.wait()
        return work()

    with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
