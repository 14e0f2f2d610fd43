"""Shows other services of this machine that this one lives, and tells which of them are dead.

A process that was killed leaves claims behind. Their leases are long, because a lease has to
outlast every call that it covers. So a service on the same machine looks for a proof that the owner
is dead, and the leases of a dead owner are ended at once. Invariants:

1. The proof is the kernel's, never a missing heartbeat: a process that is frozen, or cut off from
   the ledger, has no heartbeat and may go on at any moment.
2. Each process binds an abstract Unix socket whose name only it uses. The kernel frees the name
   when the last thread of the process has ended, and in no other way (unix(7)).
3. Such names belong to one network namespace of one boot of a kernel. ``place`` names both, and
   only a process of the same place may conclude anything from a name that is free.
4. Whoever cannot bind its name has no place, so nothing is ever concluded about it.

Where there is no proof, another host for example, a claim ends with its lease. The heartbeat is for
people only; its loop looks for dead services in passing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import socket
import threading
from pathlib import Path

from consumer.ledger import Ledger, Replica
from consumer.periodic.loop import one_turn

LOG = logging.getLogger(__name__)

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/net")


class SignOfLife:
    """The name that this process holds while it lives. ``place`` is None where it holds none."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._descriptor: int | None = None
        self.place: str | None = None

    def hold(self) -> None:
        """Bind the name. ``place`` stays None where there are no such names, or it is taken."""
        with contextlib.suppress(OSError):
            # As a number, so that it is not closed with the last reference to an object.
            self._descriptor = _bound(self._owner).detach()
            self.place = place()

    def let_go(self) -> None:
        """Free the name. Only for when no thread works on a claim of this owner any more."""
        self.place = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def place() -> str:
    """Return boot and network namespace of this process. OSError: the system hides them."""
    boot, namespace = BOOT.read_text(encoding="ascii").strip(), NAMESPACE.stat()
    return f"{boot} {namespace.st_dev}:{namespace.st_ino}"


def is_dead(owner: str) -> bool:
    """Tell whether nobody holds the name of this owner, whose place is ours. OSError: unknown."""
    try:
        _bound(owner).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def _bound(owner: str) -> socket.socket:
    name = hashlib.sha256(owner.encode()).hexdigest()[:32]
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0detachd/{name}")
    except OSError:
        held.close()
        raise
    return held


BEAT_SECONDS = 10.0


class Heartbeat:
    """Writes the heartbeat of this replica into the ledger at intervals.

    It also looks for replicas that have died on this machine, and ends their leases: another worker
    can continue with their volumes at once.
    """

    def __init__(
        self, ledger: Ledger, replica: Replica, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self._ledger = ledger
        self._replica = replica
        self._beat_seconds = beat_seconds

    def run(self, stop: threading.Event) -> None:
        """Write heartbeats until ``stop`` is set, then remove the row. Errors are retried."""
        while not stop.is_set():
            # Apart, so that a ledger that refuses one of them still gets the other.
            with one_turn(LOG, "the heartbeat"):
                self._ledger.beat(self._replica)
            with one_turn(LOG, "ending the leases of dead services"):
                self._end_leases_of_the_dead()
            stop.wait(self._beat_seconds)
        with one_turn(LOG, "the last heartbeat"):
            self._ledger.leave(self._replica.owner)

    def _end_leases_of_the_dead(self) -> None:
        if self._replica.place is None:
            return
        for owner in self._ledger.claiming_at(self._replica.place):
            if owner != self._replica.owner and is_dead(owner):
                ended = self._ledger.end_leases(owner)
                LOG.warning("%s has died on this machine; %d of its leases end now", owner, ended)
