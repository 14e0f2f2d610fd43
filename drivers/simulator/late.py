"""Effects that happen after their caller has given up waiting."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from drivers.simulator.faults import Landing


@dataclasses.dataclass(slots=True, eq=False)
class Pending:
    """One late effect: ``run`` does it, ``thaws`` names the frozen service that it waits for."""

    label: str
    volume_id: str | None
    landing: Landing
    run: Callable[[], None]
    calls_left: int
    thaws: str | None = None
    timer: threading.Timer | None = None


class LateEffects:
    """What is under way behind the callers' backs. Each effect lands once, whoever asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Pending] = []
        self._timers: list[threading.Timer] = []

    def add(
        self,
        label: str,
        volume_id: str | None,
        landing: Landing,
        run: Callable[[], None],
        *,
        thaws: str | None = None,
    ) -> None:
        """Keep an effect for its landing; with ``after_seconds`` a timer thread starts now."""
        pending = Pending(label, volume_id, landing, run, landing.after_calls, thaws)
        with self._lock:
            self._pending.append(pending)
        if landing.after_seconds is not None:
            self._start(pending, landing.after_seconds)

    def labels(self) -> tuple[str, ...]:
        """Return what is under way, oldest first."""
        with self._lock:
            return tuple(p.label for p in self._pending)

    def land(self, volume_id: str | None = None) -> int:
        """Make what is under way (for one volume, or all) happen now; return how many did.

        What waits for a frozen service goes on waiting.
        """
        return self._land(lambda p: p.thaws is None and volume_id in (None, p.volume_id))

    def thaw(self, backend: str) -> int:
        """Make what waits for a frozen service happen, in the order it was asked."""
        return self._land(lambda p: p.thaws == backend)

    def count(self, method: str, volume_id: str | None) -> None:
        """Count a finished call; land what waited for just so many of them."""
        if self._pending:
            self._land(lambda p: self._is_due(p, method, volume_id))

    def close(self) -> None:
        """Stop the timers and wait for their threads; what has not landed never does."""
        with self._lock:
            self._pending.clear()
            timers = list(self._timers)
        for timer in timers:
            timer.cancel()
            timer.join()

    def _land(self, due: Callable[[Pending], bool]) -> int:
        with self._lock:
            landing = [p for p in self._pending if due(p)]
            self._pending = [p for p in self._pending if p not in landing]
        for pending in landing:
            pending.run()
        return len(landing)

    @staticmethod
    def _is_due(pending: Pending, method: str, volume_id: str | None) -> bool:
        awaited = pending.landing.after_method == method
        if not awaited or pending.volume_id not in (None, volume_id):
            return False
        pending.calls_left -= 1
        return pending.calls_left <= 0

    def _start(self, pending: Pending, seconds: float) -> None:
        timer = threading.Timer(seconds, self._land, [lambda p: p is pending])
        timer.daemon = True
        with self._lock:
            self._timers = [t for t in self._timers if t.is_alive()]
            self._timers.append(timer)
            timer.start()
