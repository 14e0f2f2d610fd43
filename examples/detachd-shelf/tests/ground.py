"""A private shelf and its hosts, as the conformance suite needs them: the real daemon, started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from detachd_shelf.client import Deadline, ask
from detachd_shelf.driver import ShelfDriver

from drivers.base import Connection, Connector, StorageDriver, VolumeRef
from drivers.conformance import Ground
from drivers.registry import parsed

PASSWORD = "canary-of-the-shelf"
BACKEND = "storage-1@shelf"
SECONDS = 10.0


class Shelf:
    """A daemon in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        command = [sys.executable, "-m", "detachd_shelf.daemon", str(directory), PASSWORD]
        self.daemon = subprocess.Popen(command)
        until = time.monotonic() + SECONDS
        while not (directory / "data").exists():
            assert self.daemon.poll() is None, "the daemon does not start"
            assert time.monotonic() < until, "the daemon does not start in time"
            time.sleep(0.01)

    def close(self) -> None:
        """End the daemon, by the pid that was started here."""
        self.daemon.terminate()
        self.daemon.wait(SECONDS)


class ShelfGround(Ground):
    """A running shelf, and sockets that stand for the hosts at it."""

    def __init__(self, shelf: Shelf, elsewhere: Shelf) -> None:
        self.shelf, self.other = shelf, elsewhere
        self.directory = shelf.directory
        self.sessions = contextlib.ExitStack()

    def close(self) -> None:
        """Hang up on every host's behalf."""
        self.sessions.close()

    def ask(self, op: str, **about: object) -> dict[str, Any]:
        """Ask the daemon as its administrator would, past the driver."""
        request = {"op": op, "password": PASSWORD, **about}
        return ask(str(self.directory / "control"), request, Deadline(SECONDS), acts=False)

    # -- what every ground has ---------------------------------------------------------------------

    def driver(self) -> StorageDriver:
        """Return the driver with the options that an operator would set."""
        return driver_of(self.shelf)

    def volume(self) -> VolumeRef:
        """Create a volume by its id."""
        volume = VolumeRef(str(uuid.uuid4()), BACKEND)
        self.ask("create", volume=volume.names()[0])
        return volume

    def missing(self) -> VolumeRef:
        """Return a volume that was never created."""
        return VolumeRef(str(uuid.uuid4()), BACKEND)

    def connector(self, host: str) -> Connector:
        """Return what os-brick would tell of the host."""
        return Connector(host=host, initiator=f"iqn.2026-01.example:{host}")

    def connect(self, volume: VolumeRef, connector: Connector, *, sessions: int = 1) -> None:
        """Let it in, and open as many sessions."""
        self.ask("allow", volume=volume.names()[0], initiator=connector.initiator or "")
        for _ in range(sessions):
            assert self._log_in(volume, connector), "the shelf does not accept the host"

    def truth(self, volume: VolumeRef) -> tuple[Connection, ...]:
        """Read the daemon's own account; written anew here, so as not to trust the driver's."""
        shown = self.ask("show", volume=volume.names()[0])
        allowed, sessions = set(shown["allowed"]), shown["sessions"]
        return tuple(
            Connection(name, access=name in allowed, sessions=sessions.get(name, 0))
            for name in allowed | set(sessions)
        )

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Stop the daemon's process; it carries out the requests of that time when it continues."""
        self.shelf.daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.shelf.daemon.send_signal(signal.SIGCONT)
            self.ask("list")

    # -- what this one can show beside -------------------------------------------------------------

    def migrated(self) -> VolumeRef:
        """Create a volume that the shelf has by its name_id."""
        volume = dataclasses.replace(self.missing(), name_id=str(uuid.uuid4()))
        self.ask("create", volume=volume.names()[0])
        return volume

    def withdraw(self, volume: VolumeRef, connector: Connector) -> None:
        """Revoke the access, and end no session."""
        self.ask("revoke", volume=volume.names()[0], initiator=connector.initiator or "")

    @contextlib.contextmanager
    def comes_back(self, volume: VolumeRef, connector: Connector) -> Iterator[None]:
        """Log in again and again from a thread, as an initiator that never gives up."""
        over = threading.Event()

        def storm() -> None:
            while not over.wait(0.002):
                self._log_in(volume, connector)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(SECONDS)

    @contextlib.contextmanager
    def failing_once(self, way: int) -> Iterator[Callable[[], bool]]:
        """Have the daemon hang up on one request, undone and done, the first, the second, ..."""
        request, acts = divmod(way, 2)
        self.ask("hang_up", after=request, acts=bool(acts))
        has_failed = False
        try:
            yield lambda: has_failed
        finally:
            has_failed = not self.ask("trouble")["left"]

    def elsewhere(self) -> StorageDriver:
        """Return a driver that looks at the second shelf."""
        return driver_of(self.other)

    def _log_in(self, volume: VolumeRef, connector: Connector) -> bool:
        session = self.sessions.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        session.settimeout(SECONDS)
        session.connect(str(self.directory / "data"))
        hello = {"volume": volume.names()[0], "initiator": connector.initiator}
        session.sendall(json.dumps(hello).encode() + b"\n")
        return session.recv(100) == b"{}\n"


def driver_of(shelf: Shelf) -> ShelfDriver:
    """Return a driver, its options read as the service reads them."""
    options = {"socket": str(shelf.directory / "control"), "password": PASSWORD}
    return ShelfDriver(BACKEND, parsed(ShelfDriver.opts, options))
