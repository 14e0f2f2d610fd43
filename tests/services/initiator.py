"""iSCSI initiators as processes of their own, which can be stopped, killed and left stuck."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.services import libiscsi
from tests.services.libiscsi import COUNTS, block_of
from tests.services.service import ServiceMissingError
from tests.services.writer import Writer

SCRIPT = Path(libiscsi.__file__)
LOGIN_SECONDS = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How far it has come: writes acknowledged, logins that went well, logins refused."""

    writes: int
    logins: int
    refusals: int


class Initiator(Writer):
    """One host with a session, as a context manager: ended, without a logout, when it is left.

    ``for_ever``: it logs in again at once whenever it is cut off. ``first_block`` and ``blocks``
    say where on the disk it writes, round and round.
    """

    def __init__(
        self,
        portal: str,
        target: str,
        name: str,
        directory: Path,
        *,
        writes: bool = True,
        for_ever: bool = False,
        first_block: int = 0,
        blocks: int = 1024,
    ) -> None:
        self.name = name
        self._place = (first_block, blocks)
        own = directory / f"initiator-{time.monotonic_ns()}"
        self._tally, self._log = own.with_suffix(".tally"), own.with_suffix(".log")
        self._tally.write_bytes(bytes(COUNTS.size))
        flags = [*["--writes"] * writes, *["--for-ever"] * for_ever]
        words = [portal, target, name, str(self._tally), *flags]
        self._command = [
            sys.executable, "-I", str(SCRIPT), *words,
            "--first-block", str(first_block), "--blocks", str(blocks),
        ]  # fmt: skip

    def __enter__(self) -> Self:
        """Start it; returns at once."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        return self

    def logged_in(self) -> Self:
        """Wait until it has a session, and, if it writes, until a write was acknowledged."""
        ends_at = time.monotonic() + LOGIN_SECONDS
        while not self.counts().writes if "--writes" in self._command else "in" not in self.lines:
            assert self.running, f"{self.name} ended: {self.said}"
            assert time.monotonic() < ends_at, f"{self.name} has no session: {self.said}"
            time.sleep(0.005)
        return self

    @property
    def lines(self) -> list[str]:
        """The same by lines: ``in``, ``ended: WHY``, ``refused: WHY``."""
        return self.said.splitlines()

    def counts(self) -> Counts:
        """Return how far it has come; true even while it is stopped."""
        return Counts(*COUNTS.unpack(self._tally.read_bytes()))

    @property
    def writes(self) -> int:
        """How many writes were acknowledged."""
        return self.counts().writes

    def block(self, number: int) -> bytes:
        """Return what it writes as this block."""
        return block_of(self.name, number)


class Initiators:
    """The hosts of one test, as a context manager: whatever the test did, each is ended with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Self:
        self._running = ExitStack()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def start(self, portal: str, target: str, name: str, **how: Any) -> Initiator:
        """Start one; the keywords are Initiator's. Returns before it has logged in."""
        made = Initiator(portal, target, name, self._directory, **how)
        return self._running.enter_context(made)


def require_library() -> None:
    """Raise ServiceMissingError where libiscsi is not installed."""
    try:
        ctypes.CDLL(libiscsi.LIBRARY)
    except OSError as error:
        raise ServiceMissingError("libiscsi", "libiscsi7") from error
