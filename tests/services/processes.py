"""Processes under names that stay theirs: the kernel soon gives a pid to another one."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Watched:
    """Some processes, as a context manager; those that have ended already are left out.

    ``are_meant`` is asked of each once its number cannot be given to another process any more.
    """

    def __init__(
        self, pids: Iterable[int], are_meant: Callable[[int], bool] = lambda _: True
    ) -> None:
        self._pidfds: list[int] = []
        for pid in pids:
            with suppress(ProcessLookupError):
                self._pidfds.append(os.pidfd_open(pid))
                if not are_meant(pid):
                    os.close(self._pidfds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pidfd in self._pidfds:
            os.close(pidfd)

    def kill(self) -> None:
        """Send each kill -9; returns at once."""
        for pidfd in self._pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def end(self, seconds: float) -> bool:
        """Wait until all have ended, reaped or not; tell whether they have within ``seconds``.

        That is a moment after they let go of their working directory, and with it of being listed
        among those of a service.
        """
        deadline = time.monotonic() + seconds
        return all(_ended(pidfd, deadline - time.monotonic()) for pidfd in self._pidfds)


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(1000 * max(seconds, 0.0)))
