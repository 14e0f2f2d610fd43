"""The kill switch as a file: while it is there, detachd writes nothing to the cloud.

1. Before each write this host looks whether the file is there. That needs no ledger.
2. The first service that sees it pauses detachd in the ledger, so that the other replicas stop too,
   and `detachd status`, the metrics and the log say it. When the file is gone, it resumes what it
   has paused, and nothing else.
3. A file that cannot be looked for counts as there.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from consumer.ledger import Ledger
from consumer.periodic.loop import one_turn

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0


def is_there(path: Path) -> bool:
    """Tell whether the file is there, or cannot be looked for. Blocks for the file system."""
    try:
        # lstat: a symbolic link that leads nowhere is a file that somebody has made.
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


class KillSwitch:
    """Looks for the file, and keeps the ledger's pause in step with it. Thread-safe.

    ``host`` names the host on which the file is.
    """

    def __init__(
        self,
        path: str,
        ledger: Ledger,
        host: str,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._path = Path(path) if path else None
        self._ledger = ledger
        self._actor = f"the file {path} on {host}"
        self._interval_seconds = interval_seconds
        self._pulled = False

    def pulled(self) -> bool:
        """Tell whether the file is there, or cannot be looked for. Blocks for the file system."""
        return self._path is not None and is_there(self._path)

    def run(self, stop: threading.Event) -> None:
        """Keep the ledger in step until ``stop`` is set."""
        while True:
            self.keep_in_step()
            if stop.wait(self._interval_seconds):
                return

    def keep_in_step(self) -> None:
        """Pause detachd while the file is there; resume what it has paused when it is gone."""
        pulled = self.pulled()
        if pulled is not self._pulled:
            LOG.warning("the kill switch is %s: %s", "on" if pulled else "off again", self._actor)
        self._pulled = pulled
        # This host stops by the file itself, whether or not the others can be told.
        with one_turn(LOG, "telling the ledger of the kill switch"):
            self._write(pulled=pulled)

    def _write(self, *, pulled: bool) -> None:
        pause = self._ledger.paused()
        if pulled and pause is None:
            self._ledger.pause(self._actor, "kill switch")
        # A pause by a person or by the file of another host goes on.
        elif not pulled and pause is not None and pause.actor == self._actor:
            self._ledger.resume(self._actor, "the file of the kill switch is gone")
