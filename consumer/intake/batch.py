"""What a batch of raw bodies becomes: notifications in the ledger, or quarantine."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import assert_never

from consumer.bus.subscription import Batch, Delivery
from consumer.ledger import Accepted, Arrival, Ledger
from handlers.notification import Ignored, Malformed, Notification, Source, parse
from handlers.notification.redaction import excerpt

EXCERPT_LENGTH = 500
_EXCERPT_BYTES = 16_000


@dataclasses.dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of one batch. ``offered`` counts by source the notifications given to the ledger.

    ``ignored`` are all that do not concern an attachment; ``accept_seconds`` is the time of the
    ledger's transaction, None where there was none.
    """

    bus: str
    received: int
    ignored: int
    malformed: int
    rejected: int
    stored: int
    duplicates: int
    opened: int
    closed: int
    offered: Mapping[Source, int]
    accept_seconds: float | None


Quarantine = Callable[[Delivery, str], None]
"""Puts a delivery on the quarantine queue, with the reason, or raises."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedBatch:
    """A batch whose bodies were read: those to store and those to put aside, by their places."""

    batch: Batch
    arrivals: Mapping[int, Arrival]
    malformed: Mapping[int, str]


class BatchIntake:
    """Makes a batch durable: when ``store`` has returned, it may be acked."""

    def __init__(
        self, bus: str, ledger: Ledger, quarantine: Quarantine, *, max_body_bytes: int
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._quarantine = quarantine
        self._max_body_bytes = max_body_bytes

    def parse(self, batch: Batch) -> ParsedBatch:
        """Say of each body what is to become of it. Has no effect and blocks on nothing."""
        arrivals: dict[int, Arrival] = {}
        malformed: dict[int, str] = {}
        for place, delivery in enumerate(batch.deliveries):
            match self._judge(delivery):
                case Notification() as notification:
                    arrivals[place] = Arrival(notification, delivery.body_sha256, self._bus)
                case Malformed(reason=reason):
                    malformed[place] = reason
                case Ignored():
                    pass
                case other:
                    assert_never(other)
        return ParsedBatch(batch, arrivals, malformed)

    def store(self, parsed: ParsedBatch) -> BatchReport:
        """Store what concerns us in one transaction; quarantine what should parse and does not.

        May be called again with the same after it raised. Blocks on the ledger and, for a
        malformed message, on the broker's confirm. Raises LedgerUnavailableError and what
        the quarantine raises.
        """
        batch, arrivals, malformed = parsed.batch, parsed.arrivals, parsed.malformed
        self._quarantine_all(batch, malformed)
        accepted, seconds = self._accept(batch, arrivals)
        return BatchReport(
            bus=self._bus,
            received=len(batch.tags),
            ignored=len(batch.tags) - len(arrivals) - len(malformed),
            malformed=len(malformed),
            rejected=len(accepted.rejected),
            stored=accepted.stored,
            duplicates=accepted.duplicates,
            opened=accepted.opened,
            closed=accepted.closed,
            offered=Counter(arrival.notification.source for arrival in arrivals.values()),
            accept_seconds=seconds,
        )

    def _judge(self, delivery: Delivery) -> Notification | Ignored | Malformed:
        if delivery.problem is not None:
            return Malformed(delivery.problem)
        if len(delivery.body) > self._max_body_bytes:
            size, most = len(delivery.body), self._max_body_bytes
            return Malformed(f"the body has {size} bytes, more than max_body_bytes = {most}")
        return parse(delivery.body)

    def _accept(
        self, batch: Batch, arrivals: Mapping[int, Arrival]
    ) -> tuple[Accepted, float | None]:
        started_at = time.monotonic()
        accepted = self._ledger.accept(tuple(arrivals.values()))
        seconds = time.monotonic() - started_at
        places = {arrival.body_sha256: place for place, arrival in arrivals.items()}
        rejected = {places[arrival.body_sha256]: reason for arrival, reason in accepted.rejected}
        self._quarantine_all(batch, rejected)
        return accepted, seconds if arrivals else None

    def _quarantine_all(self, batch: Batch, reasons: Mapping[int, str]) -> None:
        for place, reason in reasons.items():
            delivery = batch.deliveries[place]
            why = delivery.why(reason)
            if place not in batch.quarantined:
                self._quarantine(delivery, why)
                batch.quarantined.add(place)
            record_quarantined(self._ledger, self._bus, delivery, why)


def record_quarantined(ledger: Ledger, bus: str, delivery: Delivery, reason: str) -> None:
    """Record in the ledger, scrubbed, what is on the quarantine queue. Blocks on the ledger."""
    text = delivery.body[:_EXCERPT_BYTES].decode(errors="replace")
    ledger.quarantine(
        bus=bus,
        routing_key=delivery.routing_key,
        body_sha256=delivery.body_sha256,
        size=len(delivery.body),
        reason=reason,
        excerpt=excerpt(text, EXCERPT_LENGTH),
    )
