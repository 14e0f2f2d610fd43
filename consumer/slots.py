"""How many cases may be worked at once, in all and of each backend."""

from __future__ import annotations

import collections
import threading

from consumer.backends import Backends

UNKNOWN = ""
"""Stands for the backend of a case whose backend nobody has named yet."""


class Slots:
    """At most ``threads`` cases at once, of each backend at most its concurrency. Thread-safe."""

    def __init__(self, threads: int, backends: Backends) -> None:
        self._threads = threads
        self._backends = backends
        self._taken: collections.Counter[str] = collections.Counter()
        self._releases = 0
        self._changed = threading.Condition()

    def taken(self) -> int:
        """Return how many cases are being worked."""
        with self._changed:
            return self._taken.total()

    def free(self) -> int:
        """Return how many more may be worked now."""
        return self._threads - self.taken()

    def full(self) -> frozenset[str]:
        """Return the backends of which no more cases may be worked now."""
        with self._changed:
            return frozenset(
                name
                for name, taken in self._taken.items()
                if taken >= self._backends.of(name).concurrency
            )

    def room(self, backend: str) -> int:
        """Return how many more cases of this backend may be worked now."""
        with self._changed:
            return self._backends.of(backend).concurrency - self._taken[backend]

    def take(self, backend: str) -> None:
        """Take one slot."""
        with self._changed:
            self._taken[backend] += 1

    def release(self, backend: str, *, unused: bool = False) -> None:
        """Give it back and wake whoever waits for that; ``unused`` is no reason to look for work.

        Where nothing can be worked, each look for work would be followed by the next at once.
        """
        with self._changed:
            self._taken[backend] -= 1
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
            return self._changed.wait_for(lambda: not self._taken.total(), seconds)
