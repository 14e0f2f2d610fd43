"""Asks Cinder what a server left behind when something happened to it.

Nova swallows what Cinder refuses while a server is deleted, migrated or evacuated, and its
notifications name the server's volumes only where ``[notifications] bdms_in_notifications`` is on.
So Cinder is asked, some time after the message, which rows still name the server: one request. Each
row that is left becomes a look at its volume. The looks, not the requests, are in the budget of
``[ledger] second_looks_per_minute``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from consumer.counting import Happened
from consumer.ledger import Arrival, Ledger
from consumer.periodic.in_use import arrival_of
from consumer.periodic.loop import one_turn
from drivers.control_plane import Cinder, ListedAttachment
from drivers.errors import OutsideError
from handlers.correlation.sweep import left_by_server

LOG = logging.getLogger(__name__)

BUS = "server"
MOST_SERVERS = 10
"""How many servers are asked about at once."""
POLL_SECONDS = 10.0
TIMEOUT_SECONDS = 30.0


class ServerLooker:
    """Looks at the servers that are due, a few at a time."""

    def __init__(
        self,
        cinder: Cinder,
        ledger: Ledger,
        *,
        poll_seconds: float = POLL_SECONDS,
        count: Callable[[Happened], None],
    ) -> None:
        self._cinder = cinder
        self._ledger = ledger
        self._poll_seconds = min(poll_seconds, POLL_SECONDS)
        self._count = count

    def run(self, stop: threading.Event) -> None:
        """Look at what is due until ``stop`` is set. Returns at most one request later."""
        while not stop.wait(self._poll_seconds):
            with one_turn(LOG, "the look at servers", self._count, "server looks"):
                try:
                    self.look_once(stop)
                except OutsideError as error:
                    LOG.warning("Cinder does not say what servers left behind: %s", error)

    def look_once(self, stop: threading.Event) -> int:
        """Look at some servers that are due, within the budget; return at how many.

        Blocks for Cinder and the ledger. Raises OutsideError and LedgerUnavailableError; the server
        in question is due again then.
        """
        spare = self._ledger.spare_looks()
        if spare == 0:
            return 0
        servers = self._ledger.server_looks.take(min(spare, MOST_SERVERS))
        for instance_id, event_type in servers.items():
            if stop.is_set() or self._ledger.spare_looks() == 0:
                break
            left = self._cinder.attachments_of(instance_id, timeout_seconds=TIMEOUT_SECONDS)
            self._ledger.accept(_arrivals(left, event_type))
            # After the accept: a process that dies in between asks once more.
            self._ledger.server_looks.looked_at([instance_id])
        return len(servers)


def _arrivals(left: Sequence[ListedAttachment], event_type: str) -> Sequence[Arrival]:
    return [arrival_of(left_by_server(attachment, event_type), BUS) for attachment in left]
