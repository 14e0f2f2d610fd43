"""The limits of cases worked on at once, in total and for each backend; and the worker threads.

1. A case has one slot from its claim to its end. It may move to another backend, but only if that
   one has room.
2. A slot that was freed wakes who waits for it, unless no work was begun in it.
3. Threads are reused: for example, a connection that a thread has opened serves its next case too.
"""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable

from consumer.work.backends import Backends
from handlers.case import CrowdedError

UNKNOWN = ""
"""Stands for a backend that is not known yet."""


class Slots:
    """At most ``threads`` cases, and for each backend at most its concurrency. Thread-safe.

    A case has the name of its backend from a message until Cinder was asked, and whoever may
    publish can make up names. So a name becomes the label of a metric only if it is configured or
    Cinder has said it: ``confirm`` and ``label``.
    """

    def __init__(self, threads: int, backends: Backends) -> None:
        self._threads = threads
        self._backends = backends
        self._occupied: collections.Counter[str] = collections.Counter()
        self._releases = 0
        self._changed = threading.Condition()
        # Labels are kept for ever: names that anybody can make up would fill the memory of
        # Prometheus.
        self._confirmed = set(backends.by_name)

    def confirm(self, backend: str) -> None:
        """Note that Cinder has a volume on this backend."""
        with self._changed:
            self._confirmed.add(backend)

    def label(self, backend: str) -> str | None:
        """Return the backend's name for metrics, None if nobody but a message has named it."""
        with self._changed:
            return backend if backend in self._confirmed else None

    def occupied(self) -> int:
        """Return how many slots are occupied."""
        with self._changed:
            return self._occupied.total()

    def free(self) -> int:
        """Return how many slots are free."""
        return self._threads - self.occupied()

    def full(self) -> frozenset[str]:
        """Return the backends whose limit is reached."""
        with self._changed:
            # Names that have a slot only: the others have room.
            return frozenset(
                name
                for name, number in self._occupied.items()
                if number >= self._backends.of(name).concurrency
            )

    def room(self, backend: str) -> int:
        """Return how many more cases of this backend may be worked on now."""
        with self._changed:
            return self._backends.of(backend).concurrency - self._occupied[backend]

    def occupy(self, backend: str) -> None:
        """Occupy one slot."""
        with self._changed:
            self._occupied[backend] += 1

    def exchange(self, old: str, new: str) -> bool:
        """Move a slot to another backend; return False if the limit of that one is reached."""
        with self._changed:
            if self._occupied[new] >= self._backends.of(new).concurrency:
                return False
            self._occupied[old] -= 1
            self._occupied[new] += 1
            self._releases += 1
            self._changed.notify_all()
            return True

    def release(self, backend: str, *, unused: bool = False) -> None:
        """Free a slot and wake the threads that wait for it.

        ``unused``: no work was started. The dispatcher then waits as usual; otherwise it would try
        to start the same work again at once.
        """
        with self._changed:
            self._occupied[backend] -= 1
            self._releases += not unused
            self._changed.notify_all()

    def releases(self) -> int:
        """Return how often a slot was freed after work."""
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
    """The slot of one case. For the thread that works it.

    ``label`` is the backend's name for metrics, and stays what it was at the start: what is counted
    up is counted down under the same name.
    """

    def __init__(self, slots: Slots, backend: str) -> None:
        """Occupy a slot of this backend."""
        self._slots = slots
        self._backend = backend
        self.label = slots.label(backend)
        slots.occupy(backend)

    def move(self, backend: str) -> None:
        """Move the slot to the backend of the case, which was not known before.

        Raises CrowdedError if the limit of that backend is reached.
        """
        if not self._slots.exchange(self._backend, backend):
            raise CrowdedError(f"the limit of concurrent cases of backend {backend} is reached")
        self._backend = backend

    def leave(self, *, unused: bool = False) -> None:
        """Free the slot, see ``Slots.release``."""
        self._slots.release(self._backend, unused=unused)


class RunningLeases:
    """When the lease of each running attempt ends, by ``time.monotonic``. Thread-safe.

    An attempt that outlives its lease does no harm by itself: the fence refuses what it writes, and
    no call is begun that the lease does not cover. But another worker may continue beside it, so it
    is told when it happens, and not when the attempt returns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[Seat, float] = {}

    def extend(self, seat: Seat, seconds: float) -> None:
        """Note that the lease now lasts so many seconds; a renewal shortens none."""
        until = time.monotonic() + seconds
        with self._lock:
            self._ends[seat] = max(self._ends.get(seat, until), until)

    def end(self, seat: Seat) -> None:
        """Forget an attempt that has ended."""
        with self._lock:
            self._ends.pop(seat, None)

    def take_outlived(self) -> list[Seat]:
        """Return the attempts whose leases have run out since the last time, each once."""
        now = time.monotonic()
        with self._lock:
            outlived = [seat for seat, until in self._ends.items() if until < now]
            for seat in outlived:
                del self._ends[seat]
        return outlived


IDLE_SECONDS = 30.0

Work = Callable[[], None]


class WorkerThreads:
    """At most ``size`` threads, each started when there is work for it. Thread-safe.

    Daemon threads: if work hangs, the process can still end. A thread without work for half a
    minute ends.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._threads = self._unfinished = 0
        # Not a SimpleQueue: its ``get`` waits for ever where its timeout ends between two tries, as
        # when another thread was faster (seen with Python 3.11; a fault of its C code).
        self._works: queue.Queue[Work] = queue.Queue()

    def do(self, work: Work) -> None:
        """Run ``work`` in a free thread, or in the next that becomes free. It must not raise.

        Raises RuntimeError if the system cannot start a thread; then ``work`` is not run.
        """
        with self._lock:
            # A thread for each piece of unfinished work, so that none waits while the size is not
            # reached.
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
        """Remove this thread, unless all threads are needed for unfinished work."""
        with self._lock:
            # Work was added between the timeout and this lock.
            if self._threads <= self._unfinished:
                return False
            self._threads -= 1
            return True
