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
from collections.abc import Iterator

from drivers.errors import PermanentError, TransientError

# SIGKILL takes effect at once, except in the kernel: whoever is longer there is left behind.
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
        # Monotonic: a step of the wall clock must not end or prolong a call.
        return self.at_seconds - time.monotonic()


@contextlib.contextmanager
def starting(program: str, advice: str) -> Iterator[None]:
    """Make one of the kinds of errors of what keeps this program from being started in the block.

    PermanentError, with the advice, where there is none that this user may run. Else
    TransientError.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise PermanentError(f"{program} cannot be run ({error.strerror}): {advice}.") from error
    except OSError as error:
        # No memory, or too many processes or files: another try may go well.
        raise TransientError(f"{program} was not started: {error}.") from error


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what was not waited for, with all that it started (a wrapper's own commands).

    It was started with ``process_group=0``. What may not be killed (a wrapper that became root's)
    or hangs in the kernel is left behind; subprocess collects it when it ends.
    """
    # Only what was not waited for: once collected, its number may be another process's.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # SIGKILL: a program whose library hangs handles no other signal.
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Collected here if it ends in time, so that no zombie is left for each call that hung.
            process.wait(KILL_SECONDS)
    # By hand, as Popen closes them only by ``with``, which would wait without a limit.
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
