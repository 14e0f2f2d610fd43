"""Makes a batch of raw bodies durable: notifications in the ledger, other bodies in quarantine."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import assert_never

from consumer.bus.subscription import Batch, Delivery
from consumer.ledger import Accepted, Arrival, Ledger
from handlers.notification import Ignored, Malformed, Notification, Source, parse
from handlers.notification.wording import wording

EXCERPT_LENGTH = 500
# Before the secrets are removed, which takes time for each byte: the excerpt has 500 characters in
# the end.
_EXCERPT_BYTES = 16_000


@dataclasses.dataclass(frozen=True, slots=True)
class BatchReport:
    """The result of one batch. ``offered``: how many notifications of each source it had.

    ``ignored``: how many messages do not concern an attachment. ``accept_seconds``: the duration of
    the ledger's transaction, None if there was none.
    """

    bus: str
    received: int
    ignored: int
    malformed: int
    accepted: Accepted
    offered: Mapping[Source, int]
    accept_seconds: float | None


Quarantine = Callable[[Delivery, str], None]
"""Puts a delivery on the quarantine queue with the reason, or raises."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedBatch:
    """A parsed batch: what to store and what to quarantine, by the index in its deliveries."""

    batch: Batch
    arrivals: Mapping[int, Arrival]
    malformed: Mapping[int, str]


class BatchIntake:
    """Makes a batch durable. When ``store`` has returned, the batch may be acked."""

    def __init__(
        self, bus: str, ledger: Ledger, quarantine: Quarantine, *, max_body_bytes: int
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._quarantine = quarantine
        self._max_body_bytes = max_body_bytes

    def parse(self, batch: Batch) -> ParsedBatch:
        """Parse each body. Has no effect and does not block."""
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
        """Store the notifications in one transaction; quarantine the malformed bodies.

        After an error it may be called again with the same argument. Blocks for the ledger and,
        for a malformed message, for the broker's confirm. Raises LedgerUnavailableError and what
        the quarantine raises.
        """
        batch, arrivals, malformed = parsed.batch, parsed.arrivals, parsed.malformed
        # First, so that an outage of the quarantine queue is met before the ledger has done its
        # work.
        self._quarantine_all(batch, malformed)
        accepted, seconds = self._accept(batch, arrivals)
        return BatchReport(
            bus=self._bus,
            received=len(batch.tags),
            ignored=len(batch.tags) - len(arrivals) - len(malformed),
            malformed=len(malformed),
            accepted=accepted,
            offered=Counter(arrival.notification.source for arrival in arrivals.values()),
            accept_seconds=seconds,
        )

    def _judge(self, delivery: Delivery) -> Notification | Ignored | Malformed:
        if delivery.problem is not None:
            return Malformed(delivery.problem)
        # Before parsing: the time and memory of a parser grow with the body, and any sender chooses
        # that.
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
        # Two arrivals with the same body are one: a copy of either in quarantine is enough.
        places = {arrival.body_sha256: place for place, arrival in arrivals.items()}
        rejected = {places[arrival.body_sha256]: reason for arrival, reason in accepted.rejected}
        self._quarantine_all(batch, rejected)
        return accepted, seconds if arrivals else None

    def _quarantine_all(self, batch: Batch, reasons: Mapping[int, str]) -> None:
        for place, reason in reasons.items():
            delivery = batch.deliveries[place]
            why = delivery.why(reason)
            # The batch may be stored again after an outage of the ledger: the body is on the queue
            # by then.
            if place not in batch.quarantined:
                self._quarantine(delivery, why)
                batch.quarantined.add(place)
            record_quarantined(self._ledger, self._bus, delivery, why)


def record_quarantined(ledger: Ledger, bus: str, delivery: Delivery, reason: str) -> None:
    """Record a quarantined body in the ledger, without secrets. Blocks for the ledger."""
    text = delivery.body[:_EXCERPT_BYTES].decode(errors="replace")
    ledger.quarantine(
        bus=bus,
        routing_key=delivery.routing_key,
        body_sha256=delivery.body_sha256,
        size=len(delivery.body),
        reason=reason,
        excerpt=wording(text, EXCERPT_LENGTH),
    )
