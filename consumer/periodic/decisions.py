"""Logs what people decide on the command line, which writes it into the ledger."""

from __future__ import annotations

import logging
import threading

from consumer.ledger import Decision, DecisionKind, Ledger
from consumer.periodic.loop import one_turn

LOG = logging.getLogger(__name__)

POLL_SECONDS = 5.0


class DecisionLog:
    """Logs each decision once, by whichever replica reads it first."""

    def __init__(self, ledger: Ledger, poll_seconds: float = POLL_SECONDS) -> None:
        self._ledger = ledger
        self._poll_seconds = poll_seconds

    def run(self, stop: threading.Event) -> None:
        """Log decisions until ``stop`` is set, and then those that are left. Errors are retried."""
        while not stop.wait(self._poll_seconds):
            self.log_once()
        self.log_once()

    def log_once(self) -> None:
        """Log the decisions that no service has logged. Blocks for the database."""
        with one_turn(LOG, "reading decisions"):
            for decision in self._ledger.take_decisions():
                LOG.info("%s", in_words(decision))


def in_words(decision: Decision) -> str:
    """Return a decision on one line: who, what, about which case, why."""
    detail = dict(decision.detail)
    about = f" case {decision.case_id}" if decision.case_id else ""
    if decision.kind in OF_DETACHD:  # of one backend, or of the whole
        backend = detail.pop("backend", None)
        about = f" backend {backend}" if backend else " detachd"
    more = "".join(f" {name}={value}" for name, value in detail.items() if value)
    reason = " ".join(decision.reason.split()) or "no reason given"
    when = decision.decided_at.isoformat(timespec="seconds")
    return f"{decision.actor} {SAID[decision.kind]}{about} at {when}{more}: {reason}"


OF_DETACHD = (DecisionKind.PAUSED, DecisionKind.RESUMED)
SAID = {
    DecisionKind.PAUSED: "paused",
    DecisionKind.RESUMED: "resumed",
    DecisionKind.APPROVED: "approved the plan of",
    DecisionKind.CLOSED: "closed",
    DecisionKind.ACKNOWLEDGED: "acknowledged",
    DecisionKind.ACKNOWLEDGEMENT_ENDED: "ended the acknowledgement of",
    DecisionKind.NOTED: "wrote a note on",
    DecisionKind.RESENT: "sent unrouted announcements again",
    DecisionKind.ATTESTED: "attested that a host is powered off",
    DecisionKind.REVOKED: "revoked that a host is powered off",
    DecisionKind.LIFTED: "lifted a fence of",
}
