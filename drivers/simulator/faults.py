"""Scripted faults: which call fails, how, and whether and when it acts all the same.

The methods that can be struck go by ``actor.method``: the faces' (``cinder.volume``,
``cinder.reserve``, ``cinder.unreserve``, ``cinder.roll_detaching``, ``cinder.complete``,
``cinder.delete_attachment``, ``cinder.terminate_connection``, ``cinder.force_detach``,
``nova.server``, ``nova.deleted_server``, ``nova.compute_up``, ``nova.holders``,
``nova.swapping``, ``nova.volumes_of``, ``nova.detach``,
``driver.observe``, ``driver.terminate_connection``, ``driver.detach``, ``driver.list_exports``)
and, one floor below, what cinder-volume asks of its own driver (``backend.initialize_connection``,
``backend.terminate_connection``, ``backend.remove_export``). A fault below makes Cinder itself
answer 500 or time out, with the half-done state that a real one leaves.

A fault may also let the call act after its caller has given up waiting.
"""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable

from drivers.errors import IndeterminateError, OutsideError, TransientError

METHODS = frozenset({
    "cinder.count_volumes", "cinder.protocol_of", "cinder.volumes_in", "cinder.rows_in",
    "cinder.volume", "cinder.reserve", "cinder.unreserve", "cinder.roll_detaching",
    "cinder.complete", "cinder.delete_attachment", "cinder.terminate_connection",
    "cinder.force_detach",
    "nova.server", "nova.deleted_server", "nova.compute_up", "nova.holders", "nova.detach",
    "nova.swapping", "nova.volumes_of",
    "driver.observe", "driver.terminate_connection", "driver.detach", "driver.list_exports",
    "backend.initialize_connection", "backend.terminate_connection", "backend.remove_export",
})  # fmt: skip


class Effect(enum.Enum):
    """Whether a call that is struck does what it was asked: never, at once, or later."""

    NEVER = "never"
    NOW = "now"
    LATE = "late"


@dataclasses.dataclass(frozen=True, slots=True)
class Landing:
    """When a late effect happens; ``Cloud.land_late()`` makes it happen at any time.

    After ``after_seconds`` of real time, or right after the ``after_calls``-th further call of
    ``after_method`` for the same volume; with neither, only when told to.
    """

    after_seconds: float | None = None
    after_method: str | None = None
    after_calls: int = 1

    def __post_init__(self) -> None:
        if self.after_method is not None:
            checked(self.after_method)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault. The constructors below say the usual ones in words.

    It strikes ``times`` calls of ``method`` (for ``volume_id``, or any) after letting ``skip`` of
    them pass. ``seconds`` are really slept, at most as long as the call's own time limit; a call
    that sleeps its whole limit raises IndeterminateError. ``error`` None: slow, but it succeeds.
    """

    method: str
    effect: Effect
    error: type[OutsideError] | None = IndeterminateError
    volume_id: str | None = None
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    landing: Landing = Landing()

    def __post_init__(self) -> None:
        checked(self.method)

    @classmethod
    def before(
        cls,
        method: str,
        error: type[OutsideError] = TransientError,
        *,
        volume_id: str | None = None,
        times: int = 1,
        skip: int = 0,
    ) -> Fault:
        """Raise before anything is done."""
        return cls(method, Effect.NEVER, error, volume_id, times, skip)

    @classmethod
    def after(
        cls, method: str, *, volume_id: str | None = None, times: int = 1, skip: int = 0
    ) -> Fault:
        """Do everything, then raise IndeterminateError: the answer is lost."""
        return cls(method, Effect.NOW, IndeterminateError, volume_id, times, skip)

    @classmethod
    def hang(
        cls,
        method: str,
        seconds: float,
        *,
        effect: Effect = Effect.NEVER,
        volume_id: str | None = None,
        times: int = 1,
        landing: Landing | None = None,
    ) -> Fault:
        """Really hang, at most until the caller's limit, then raise IndeterminateError.

        ``Effect.NOW`` acts first and hangs then.
        """
        return cls(
            method,
            effect,
            volume_id=volume_id,
            times=times,
            seconds=seconds,
            landing=landing or Landing(),
        )

    @classmethod
    def late(
        cls,
        method: str,
        landing: Landing | None = None,
        *,
        volume_id: str | None = None,
        times: int = 1,
    ) -> Fault:
        """Time out at once, without sleeping; what was asked happens at the landing."""
        return cls(
            method, Effect.LATE, volume_id=volume_id, times=times, landing=landing or Landing()
        )

    @classmethod
    def slow(
        cls, method: str, seconds: float, *, volume_id: str | None = None, times: int = 1
    ) -> Fault:
        """Sleep, then do as asked and succeed."""
        return cls(method, Effect.NOW, None, volume_id, times, seconds=seconds)

    def matches(self, method: str, volume_id: str | None) -> bool:
        """Tell whether this fault is meant for that call."""
        return self.method == method and self.volume_id in (None, volume_id)


def checked(method: str) -> str:
    """Return the method; ValueError with the list of them for one that can never be called."""
    if method not in METHODS:
        raise ValueError(f"{method} is not called by detachd; it calls {sorted(METHODS)}.")
    return method


class FaultScript:
    """The faults that are still to come, in the order in which they were scripted."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Append a fault."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget what has not struck yet."""
        self._faults.clear()

    def pending(self) -> tuple[Fault, ...]:
        """Return what has not struck yet; a test that scripts a fault can see that it did."""
        return tuple(self._faults)

    def next_fault(self, method: str, volume_id: str | None) -> Fault | None:
        """Return the first fault that strikes this call, and count it down."""
        # The first that fits, even if it is only counted down: so several faults of one method
        # strike in turn.
        for place, fault in enumerate(self._faults):
            if fault.matches(method, volume_id):
                return self._count(place, fault)
        return None

    def _count(self, place: int, fault: Fault) -> Fault | None:
        if fault.skip:
            self._faults[place] = dataclasses.replace(fault, skip=fault.skip - 1)
            return None
        if fault.times > 1:
            self._faults[place] = dataclasses.replace(fault, times=fault.times - 1)
        else:
            del self._faults[place]
        return fault


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
    """Effects that are under way after their callers gave up. Each one lands once."""

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
            # Waited for, so that no effect lands in the next test.
            timer.join()

    def _land(self, due: Callable[[Pending], bool]) -> int:
        with self._lock:
            landing = [p for p in self._pending if due(p)]
            self._pending = [p for p in self._pending if p not in landing]
        # Outside the lock: what lands may start another effect.
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
