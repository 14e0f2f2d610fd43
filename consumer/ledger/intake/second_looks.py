"""How many ended cases may be looked at once more although nothing about them is unusual.

An end on the bus proves little about the backend. Looking again at every case that ended would cost
a large cloud a request for each attach and detach. So the looks have a budget; under load, which
cases get one is decided by when they end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SecondLooks:
    """A budget of so many looks a minute, of which at most one minute's can be saved up.

    Of this process alone, and full when it starts. Looks at unusual cases are counted too, and may
    overdraw it by as much again. Thread-safe; blocks on nothing.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(per_minute)
        self._counted_at = clock()

    @property
    def any(self) -> bool:
        """Tell whether there is any budget at all."""
        return self._per_minute > 0

    def spare(self) -> int:
        """Return how many looks are left now."""
        with self._lock:
            self._refill()
            return max(int(self._left), 0)

    def spend(self, looks: int) -> None:
        """Count looks that were planned."""
        with self._lock:
            self._refill()
            # A bound, so that a storm of unusual cases uses up the next minute and not the next
            # hours.
            self._left = max(self._left - looks, float(-self._per_minute))

    def _refill(self) -> None:
        now = self._clock()
        earned = (now - self._counted_at) * self._per_minute / 60.0
        self._left = min(self._left + earned, float(self._per_minute))
        self._counted_at = now
