"""`detachd`, but it stands still at the commit of one of the ledger's transactions, once.

    python -m tests.faults.stalling_service METHOD MARKER serve --config-file FILE

METHOD is one of Ledger's. MARKER is a file that is made right before the commit; the process goes
on when it is gone, or after half a minute. So the database can be killed in the midst.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from consumer.cli.app import main
from consumer.ledger import Ledger

LONGEST_SECONDS = 30.0


class Stall:
    """Stops the first commit within a call of one method that has something to commit."""

    def __init__(self, method: str, marker: Path) -> None:
        self._marker = marker
        self._within = threading.local()
        self._once = threading.Lock()
        self._made = getattr(Ledger, method)
        setattr(Ledger, method, functools.wraps(self._made)(self._call()))
        sa.event.listen(sa.Engine, "commit", self._stand_still)

    def _call(self) -> Any:
        def call(ledger: Ledger, *arguments: Any, **named: Any) -> Any:
            self._within.call = bool(arguments and arguments[0])
            try:
                return self._made(ledger, *arguments, **named)
            finally:
                self._within.call = False

        return call

    def _stand_still(self, _: sa.Connection) -> None:
        if not getattr(self._within, "call", False) or not self._once.acquire(blocking=False):
            return
        self._marker.touch()
        ends_at = time.monotonic() + LONGEST_SECONDS
        while self._marker.exists() and time.monotonic() < ends_at:
            time.sleep(0.01)


if __name__ == "__main__":
    Stall(sys.argv[1], Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
