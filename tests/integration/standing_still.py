#!/opt/detachd/bin/python
"""`detachd`, but two files have it stand still: for the tests of its unit.

While WAITS exists, the service does not get beyond its start. When STANDS exists, it is removed,
and the loop of the kill switch does not turn again; a turn may take half a second.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from consumer.cli.app import main
from consumer.periodic import loop
from consumer.service import Service

STATE = Path("/var/lib/detachd")
WAITS, STANDS = STATE / "waits-at-the-start", STATE / "stands-still"

start, wait = Service.start, loop.Pulse.wait


def start_later(service: Service) -> None:
    """Start when WAITS is gone."""
    while WAITS.exists():
        time.sleep(0.01)
    start(service)


def wait_for_ever(pulse: loop.Pulse, timeout: float | None = None) -> bool:
    """Wait as ever, or stand still."""
    if threading.current_thread().name == "kill switch" and STANDS.exists():
        STANDS.unlink()
        threading.Event().wait()
    return wait(pulse, timeout)


if __name__ == "__main__":
    changed: Any = (Service, loop.Pulse, loop.Loop.__init__)
    changed[0].start, changed[1].wait = start_later, wait_for_ever
    changed[2].__kwdefaults__["bound_seconds"] = 0.5
    sys.exit(main())
