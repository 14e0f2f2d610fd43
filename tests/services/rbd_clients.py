"""Clients of Ceph as processes of their own, each from the address of its host."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.services import rbd_client
from tests.services.ceph import PACKAGES, PYTHON, Ceph
from tests.services.rbd_client import COUNTS, PACE_SECONDS, block_of
from tests.services.service import ServiceMissingError, executable
from tests.services.writer import Writer

SCRIPT = Path(rbd_client.__file__)
SHIM = SCRIPT.with_name("source_address.c")
OPEN_SECONDS = 60.0


class RbdClient(Writer):
    """One client with an image open (POOL/IMAGE or POOL/NAMESPACE/IMAGE).

    Its watch outlives it by 30 s where it is killed.

    ``address`` is where the cluster sees it come from, one of 127.0.0.0/8. It opens the image
    ``opens`` times, and each of ``also``, images of its pool or POOL/IMAGE. ``writes`` is how many
    blocks it writes, for ever where it is negative, round and round from ``first_block``, with a
    pause of ``pace_seconds`` after each; ``reads``: it opens the image to read only.
    """

    def __init__(
        self,
        ceph: Ceph,
        library: Path,
        directory: Path,
        image: str,
        *,
        address: str = "127.0.0.1",
        name: str = "client",
        opens: int = 1,
        also: tuple[str, ...] = (),
        writes: int = -1,
        first_block: int = 0,
        blocks: int = 128,
        pace_seconds: float = PACE_SECONDS,
        reads: bool = False,
    ) -> None:
        self.name, self._place = name, (first_block, blocks)
        own = directory / f"rbd-client-{time.monotonic_ns()}"
        self._tally, self._log = own.with_suffix(".tally"), own.with_suffix(".log")
        self._tally.write_bytes(bytes(COUNTS.size))
        place, _, image = image.rpartition("/")
        pool, _, namespace = place.partition("/")
        what = [str(ceph.configuration), "compute", pool, namespace, image, name, str(self._tally)]
        how = ["--opens", str(opens), "--writes", str(writes), "--first-block", str(first_block)]
        how += ["--blocks", str(blocks), "--pace", str(pace_seconds)]
        how += [word for name in also for word in ("--also", name)]
        self._command = [PYTHON, "-I", str(SCRIPT), *what, *how, *["--reads"] * reads]
        self._wants_write = bool(writes) and not reads
        self._environment = {"LD_PRELOAD": str(library), "SOURCE_ADDRESS": address}

    def __enter__(self) -> Self:
        """Start it; returns at once."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
            )
        return self

    def opened(self) -> Self:
        """Wait until it has the image open, and, if it writes, until a write was acknowledged."""
        ends_at = time.monotonic() + OPEN_SECONDS
        while "open" not in self.said.splitlines() or (self._wants_write and not self.writes):
            assert self.running, f"{self.name} ended: {self.said}"
            assert time.monotonic() < ends_at, f"{self.name} does not open: {self.said}"
            time.sleep(0.005)
        return self

    @property
    def writes(self) -> int:
        """How many writes were acknowledged; true even while it is stopped."""
        (count,) = COUNTS.unpack(self._tally.read_bytes())
        return int(count)

    def block(self, number: int) -> bytes:
        """Return what it writes as this block."""
        return block_of(self.name, number)

    def close(self) -> None:
        """Have it close what it has open, and end; blocks until it has."""
        self._process.terminate()
        self._process.wait(30)


class RbdClients:
    """The clients of one test, as a context manager: whatever the test did, each ends with it."""

    def __init__(self, ceph: Ceph, directory: Path) -> None:
        self._ceph, self._directory = ceph, directory
        self._library = ceph.directory / "source_address.so"
        if not self._library.exists():
            _compile(self._library)

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

    def start(self, image: str, **how: Any) -> RbdClient:
        """Start one; the keywords are RbdClient's. Returns before it has the image open."""
        made = RbdClient(self._ceph, self._library, self._directory, image, **how)
        return self._running.enter_context(made)


def _compile(library: Path) -> None:
    compiler = executable("A C compiler", "tcc", "cc", "tcc")
    command = [compiler, "-shared", "-fPIC", "-o", library, SHIM]
    subprocess.run(command, check=True, capture_output=True)


def require_bindings() -> None:
    """Raise ServiceMissingError where Debian's Python cannot import the bindings."""
    python = shutil.which(PYTHON)
    if (
        python is None
        or subprocess.run([python, "-Ic", "import rados, rbd"], check=False).returncode
    ):
        raise ServiceMissingError("Ceph", PACKAGES)
