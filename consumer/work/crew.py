"""Threads that are kept: what a thread has opened, a connection say, serves its next work too."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

IDLE_SECONDS = 30.0

Work = Callable[[], None]


class Crew:
    """At most ``size`` threads, each started when there is work for it. Thread-safe.

    Daemons: work that hangs must not keep the process from ending. A thread that had nothing to do
    for half a minute ends.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._threads = self._unfinished = 0
        self._works: queue.SimpleQueue[Work] = queue.SimpleQueue()

    def do(self, work: Work) -> None:
        """Have it done by a free thread, or the next that is; ``work`` must not raise.

        Raises RuntimeError where the machine has no thread left: then it is not done.
        """
        with self._lock:
            if self._threads < min(self._unfinished + 1, self._size):
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._threads += 1
            self._unfinished += 1
            self._works.put(work)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()
            with self._lock:
                self._unfinished -= 1

    def _next(self) -> Work | None:
        while True:
            try:
                return self._works.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._leaves():
                    return None

    def _leaves(self) -> bool:
        """Take this thread out, unless what is unfinished needs every thread there is."""
        with self._lock:
            if self._threads <= self._unfinished:
                return False
            self._threads -= 1
            return True
