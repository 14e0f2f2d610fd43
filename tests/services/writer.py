"""A process that writes numbered blocks to a disk over and over, and the oracle that reads them."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

BLOCK = 512


class Writer(ABC):
    """A process that can be stopped, killed and left stuck, and that is killed when it is left.

    The subclass starts it in ``__enter__``. It writes block number n at ``first_block`` + n modulo
    ``blocks``.
    """

    name: str
    _process: subprocess.Popen[bytes]
    _log: Path
    _place: tuple[int, int]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"{self.name}: {self.writes} writes\n{self.said[-2000:]}")
        self.kill()

    @property
    @abstractmethod
    def writes(self) -> int:
        """How many writes were acknowledged; true even while it is stopped."""

    @abstractmethod
    def block(self, number: int) -> bytes:
        """Return what it writes as this block."""

    @property
    def said(self) -> str:
        """What it has told so far."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Tell whether the process lives."""
        return self._process.poll() is None

    def makes_progress(self, seconds: float = 10.0) -> bool:
        """Tell whether a further write is acknowledged in that time."""
        before, ends_at = self.writes, time.monotonic() + seconds
        while time.monotonic() < ends_at:
            if self.writes > before:
                return True
            time.sleep(0.005)
        return False

    def ended(self, seconds: float = 30.0) -> int:
        """Wait until it has ended by itself: 3 where it was refused, 4 where it was cut off."""
        return self._process.wait(seconds)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): the connection stays, nobody answers at its end."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (kill -9); blocks until it is gone."""
        self._process.kill()
        self._process.wait(10)
        if self._process.stdin:
            self._process.stdin.close()

    def missing_writes(self, content: Path) -> list[int]:
        """Return which of the acknowledged writes that must still be on the disk are not."""
        last, (first_block, blocks) = self.writes, self._place
        missing = []
        with content.open("rb") as disk:
            for number in range(max(1, last - blocks + 2), last + 1):
                disk.seek((first_block + number % blocks) * BLOCK)
                if disk.read(BLOCK) != self.block(number):
                    missing.append(number)
        return missing
