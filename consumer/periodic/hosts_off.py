"""Watches the hosts that people say are powered off, and tells when one is heard of again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from consumer.counting import EventKind, Happened
from consumer.ledger import Ledger
from consumer.periodic.loop import one_turn
from drivers.control_plane import Nova
from drivers.errors import OutsideError

LOG = logging.getLogger(__name__)

POLL_SECONDS = 10.0
LOOK_SECONDS = 10.0
SAID = "off"
"""The label of the counter; a host is named in the log, as labels are kept for ever."""


class HostsOff:
    """Asks Nova for each such host, and logs each word that ended by itself, once.

    A message from the host ends the word where it is accepted, and a new session of the host where
    an attempt sees it; both are logged here. Several services may do so at the same time.
    """

    def __init__(
        self,
        ledger: Ledger,
        nova: Nova,
        count: Callable[[Happened], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._nova = nova
        self._count = count
        self._poll_seconds = poll_seconds

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set. Errors are retried."""
        while not stop.wait(self._poll_seconds):
            self.watch_once()

    def watch_once(self) -> None:
        """Ask and tell. Blocks for Nova, for at most ``LOOK_SECONDS`` a host, and the database."""
        # No word is relied upon because this loop stands still: each look asks for itself.
        with one_turn(LOG, "watching hosts that are said to be off", self._count, "hosts off"):
            for word in self._ledger.hosts_off():
                if self._is_up(word.host):
                    self._ledger.heard_of(word.host, "its nova-compute is up")
            self._tell()

    def _is_up(self, host: str) -> bool:
        try:
            # "is True": Nova may not know the host, and that is no sign of life.
            return self._nova.compute_up(host, timeout_seconds=LOOK_SECONDS) is True
        except OutsideError as error:
            LOG.debug("Nova did not say whether %s is up: %s", host, error)
            return False

    def _tell(self) -> None:
        for said in self._ledger.take_ended_words():
            LOG.warning(
                "host %s was said to be powered off by %s until %s, and is alive: %s; the word has "
                "ended, and nothing rests on it any more",
                said.word.host,
                said.word.said_by,
                said.word.until.isoformat(timespec="seconds"),
                said.ended_why,
            )
            self._count(Happened(EventKind.HOST_ALIVE, SAID))
