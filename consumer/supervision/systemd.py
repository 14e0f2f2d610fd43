"""What systemd is told of the service: that it has started, that it is alive, that it stops.

The protocol is a datagram with a line to the socket in ``NOTIFY_SOCKET`` (sd_notify(3)). If nobody
asks, nothing is sent. The main thread feeds the watchdog, and only while no loop has stood still
for longer than its bound: what /healthz says to others.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

LOG = logging.getLogger(__name__)

FED_EARLY = 3
"""The watchdog is fed so many times within its interval; systemd advises two or more."""


class Supervisor:
    """systemd, if it has started this process and wants to be told. For one thread."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self._fed_at: float | None = None
        self._interval_seconds = _watchdog_seconds(environment) / FED_EARLY
        self._held_back = False

    def started(self) -> None:
        """Tell that the service has started."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """Tell that the service stops."""
        self._tell("STOPPING=1")

    def alive(self, stuck: Callable[[], Sequence[str]]) -> None:
        """Feed the watchdog if it is due and nothing is stuck; call this every second or so.

        systemd ends the process with SIGABRT, and starts it again, when it was not fed for its
        interval.
        """
        now = self._clock()
        if not self._interval_seconds or (
            self._fed_at is not None and now - self._fed_at < self._interval_seconds
        ):
            return
        why = stuck()
        if why and not self._held_back:
            LOG.critical("systemd's watchdog is not fed any more: %s", "; ".join(why))
        self._held_back = bool(why)
        if not why:
            self._fed_at = now
            self._tell("WATCHDOG=1")

    def _tell(self, line: str) -> None:
        """Send a line. A systemd that does not listen is no reason to stop working."""
        if not self._address:
            return
        # An abstract socket is written with @, and has a zero byte there.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                # systemd may be stopped or slow, and the main thread has to go on.
                one.setblocking(False)
                one.sendto(line.encode(), address)
        except OSError as error:
            LOG.warning("systemd could not be told %s: %s", line, error.strerror or error)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Return the interval of the watchdog that systemd has set for this process; 0.0 for none."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    # WATCHDOG_PID: the variables are inherited, and another process must not feed a watchdog that
    # is not its own.
    if not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6
