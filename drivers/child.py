"""A program that a driver runs for one request: until when, and how it is ended.

A call has one time limit for all that it runs. A program that hangs at the deadline is killed, and
with it whatever it has started: a library that blocks for ever does so in a process of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time

KILL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of ``time.monotonic`` by which a call has to be over."""

    at_seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is so far away."""
        return cls(time.monotonic() + seconds)

    @property
    def left_seconds(self) -> float:
        """How much time is left; nought or less once it is over."""
        return self.at_seconds - time.monotonic()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what was not waited for, with all that it started (a wrapper's own commands).

    It was started with ``process_group=0``. What may not be killed (a wrapper that became root's)
    or hangs in the kernel is left behind; subprocess collects it when it ends.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
