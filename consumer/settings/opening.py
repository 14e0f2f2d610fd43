"""Opening the ledger that the settings name."""

from __future__ import annotations

from consumer.ledger import Ledger, Timing
from consumer.settings.configuration import Settings


def open_ledger(settings: Settings) -> Ledger:
    """Return the ledger; connects to nothing yet. Raises LedgerUrlError."""
    ledger = settings.ledger
    return Ledger(
        ledger.url,
        cloud=settings.cloud,
        timing=Timing(
            attach_deadline_seconds=ledger.attach_deadline_seconds,
            detach_deadline_seconds=ledger.detach_deadline_seconds,
            error_settle_seconds=ledger.error_settle_seconds,
        ),
        tls=ledger.tls,
    )
