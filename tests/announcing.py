"""Announcements for tests: a case that has something to say, and a stock listener that hears it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import oslo_messaging
from oslo_config import cfg

from consumer.ledger import Arrival, Ledger, OutboxRecord
from handlers.case import Announcement, CaseState, Outcome, Priority
from handlers.notification import Notification, parse
from tests.recorded import FAILED_ATTACH, recording, renewed

START, END = "volume.force_detach.start", "volume.force_detach.end"
PRIORITIES = {START: Priority.INFO, END: Priority.INFO, "volume.force_detach.error": Priority.ERROR}


def announce(ledger: Ledger, *event_types: str) -> str:
    """Take a new case through an attempt that announces these in order; return the case's id."""
    parsed = [parse(message.body) for message in renewed(recording(FAILED_ATTACH))]
    ledger.accept([Arrival(n, "0" * 64, "test") for n in parsed if isinstance(n, Notification)])
    (claim,) = ledger.claim("test", limit=1, lease_seconds=60.0, deadlines=True)
    said = tuple(
        Announcement(event_type, PRIORITIES[event_type], _payload(claim.case.volume_id, number))
        for number, event_type in enumerate(event_types)
    )
    ledger.finish(claim, _outcome(said))
    return claim.case.case_id


def _payload(volume_id: str, number: int) -> dict[str, Any]:
    return {"volume_id": volume_id, "number": number, "request_ids": ["req-of-the-operation"]}


def _outcome(announcements: tuple[Announcement, ...]) -> Outcome:
    return Outcome(
        state=CaseState.PARKED,
        rule="T1.test",
        verdict="park",
        reason="for the test",
        delay_seconds=None,
        conclusion=None,
        use_case=None,
        verified_by=None,
        failed=False,
        mended=False,
        clean=False,
        fingerprint=None,
        evidence={},
        announcements=announcements,
    )


def outbox(ledger: Ledger, case_id: str) -> tuple[OutboxRecord, ...]:
    """Return the case's announcements, oldest first, as an operator sees them."""
    return ledger.case(case_id).outbox


class Heard:
    """The endpoint of a stock oslo.messaging notification listener; keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def info(self, *message: Any) -> None:
        """Keep it: context, publisher_id, event_type, payload, metadata."""
        self._keep("info", message)

    def error(self, *message: Any) -> None:
        """Keep it."""
        self._keep("error", message)

    def _keep(self, priority: str, message: tuple[Any, ...]) -> None:
        names = ("context", "publisher_id", "event_type", "payload", "metadata")
        heard: Mapping[str, Any] = dict(zip(names, message, strict=True))
        self.messages.append({"priority": priority, **heard})

    @property
    def event_types(self) -> list[str]:
        """Return what was told of, in order."""
        return [message["event_type"] for message in self.messages]


@contextlib.contextmanager
def stock_listener(conf: cfg.ConfigOpts) -> Iterator[Heard]:
    """Listen to detachd's announcements as any OpenStack service would."""
    heard = Heard()
    transport = oslo_messaging.get_notification_transport(conf)
    target = oslo_messaging.Target(topic="detachd_notifications", exchange="detachd")
    server = oslo_messaging.get_notification_listener(
        transport, [target], [heard], executor="threading"
    )
    server.start()
    try:
        yield heard
    finally:
        server.stop()
        server.wait()
        transport.cleanup()
