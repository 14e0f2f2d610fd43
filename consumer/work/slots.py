"""How many cases may be worked at once, in all and of each backend, and the threads that do it.

Threads are kept: what a thread has opened, a connection for example, serves its next case too.
"""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Callable

from consumer.work.backends import Backends
from handlers.case import CrowdedError

UNKNOWN = ""
"""Stands for the backend of a case whose backend nobody has named yet."""


class Slots:
    """At most ``threads`` cases at once, of each backend at most its concurrency. Thread-safe."""

    def __init__(self, threads: int, backends: Backends) -> None:
        self._threads = threads
        self._backends = backends
        self._occupied: collections.Counter[str] = collections.Counter()
        self._releases = 0
        self._changed = threading.Condition()

    def occupied(self) -> int:
        """Return how many cases are being worked."""
        with self._changed:
            return self._occupied.total()

    def free(self) -> int:
        """Return how many more may be worked now."""
        return self._threads - self.occupied()

    def full(self) -> frozenset[str]:
        """Return the backends of which no more cases may be worked now."""
        with self._changed:
            return frozenset(
                name
                for name, number in self._occupied.items()
                if number >= self._backends.of(name).concurrency
            )

    def room(self, backend: str) -> int:
        """Return how many more cases of this backend may be worked now."""
        with self._changed:
            return self._backends.of(backend).concurrency - self._occupied[backend]

    def occupy(self, backend: str) -> None:
        """Take one slot."""
        with self._changed:
            self._occupied[backend] += 1

    def exchange(self, old: str, new: str) -> bool:
        """Give a slot back for one of another backend, where that has one; tell whether."""
        with self._changed:
            if self._occupied[new] >= self._backends.of(new).concurrency:
                return False
            self._occupied[old] -= 1
            self._occupied[new] += 1
            self._releases += 1
            self._changed.notify_all()
            return True

    def release(self, backend: str, *, unused: bool = False) -> None:
        """Give it back and wake whoever waits for that; ``unused`` is no reason to look for work.

        Where nothing can be worked, each look for work would be followed by the next at once.
        """
        with self._changed:
            self._occupied[backend] -= 1
            self._releases += not unused
            self._changed.notify_all()

    def releases(self) -> int:
        """Return how often a slot was given back so far."""
        with self._changed:
            return self._releases

    def wait_for_release(self, since: int, seconds: float) -> None:
        """Block until there were more releases than ``since``, at most ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._releases > since, seconds)

    def wait_until_idle(self, seconds: float | None) -> bool:
        """Block until every slot is free, at most ``seconds``; tell whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._occupied.total(), seconds)


class Seat:
    """The slot of one case. For the thread that works it."""

    def __init__(self, slots: Slots, backend: str) -> None:
        """Take a slot of this backend."""
        self._slots = slots
        self._backend = backend
        slots.occupy(backend)

    def move(self, backend: str) -> None:
        """Exchange it for one of the backend that the case turned out to be of.

        Raises CrowdedError where that has none free: its cap holds for what is learned late too.
        """
        if not self._slots.exchange(self._backend, backend):
            raise CrowdedError(f"the limit of concurrent cases of backend {backend} is reached")
        self._backend = backend

    def leave(self, *, unused: bool = False) -> None:
        """Give it back, as ``Slots.release`` does."""
        self._slots.release(self._backend, unused=unused)


IDLE_SECONDS = 30.0

Work = Callable[[], None]


class WorkerThreads:
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
