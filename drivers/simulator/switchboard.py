"""Every call goes through here: journal, latency, scripted fault, the act itself, the watch."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import TypeVar

from drivers.errors import IndeterminateError, OutsideError, TransientError
from drivers.simulator.estate import Estate
from drivers.simulator.faults import Effect, Fault, FaultScript, Landing, LateEffects
from drivers.simulator.hazards import OK, Asked, Journal, Watch

T = TypeVar("T")


class UnansweredError(Exception):
    """Inside the cloud: the API would answer 500, after ``seconds`` of real waiting."""

    def __init__(self, words: str, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.seconds = seconds


@dataclasses.dataclass(slots=True)
class Switchboard:
    """Carries calls to the estate. Sleeps happen here, never while the lock is held."""

    estate: Estate
    journal: Journal
    faults: FaultScript
    late: LateEffects
    watch: Watch
    latency_seconds: float = 0.0
    closed: threading.Event = dataclasses.field(default_factory=threading.Event)

    def perform(self, asked: Asked, act: Callable[[], T]) -> T:
        """Carry out one call and write it down; raises the kinds of ``drivers.errors``."""

        def reached() -> T:
            self.estate.refuse_if_down(asked.actor)
            return act()

        # Before anything may fail: a call that hangs is in the journal too.
        number = self.journal.begin(asked)
        try:
            result = self._answer(asked, reached)
        except OutsideError as error:
            self.journal.end(number, type(error).__name__)
            raise
        else:
            self.journal.end(number, OK)
            return result
        finally:
            # After the call, whatever became of it: an effect may wait for so many of them.
            self.late.count(asked.name, asked.volume_id)

    def later(self, label: str, volume_id: str, landing: Landing, work: Callable[[], None]) -> None:
        """Keep work that the caller of the moment has given up on; it stays the caller's doing."""
        asked = self.watch.current
        self.late.add(label, volume_id, landing, lambda: self._land(asked, work))

    def on_thaw(self, label: str, backend: str, volume_id: str, work: Callable[[], None]) -> None:
        """Keep work that a frozen service will do when it thaws."""
        asked = self.watch.current
        self.late.add(label, volume_id, Landing(), lambda: self._land(asked, work), thaws=backend)

    def strike(self, method: str, volume_id: str) -> Fault | None:
        """Return the fault that strikes this call, if one does."""
        with self.estate.lock:
            return self.faults.next_fault(method, volume_id)

    def _answer(self, asked: Asked, act: Callable[[], T]) -> T:
        if self.closed.is_set():
            raise TransientError("The simulated cloud is closed.")
        if self.latency_seconds:
            self._sleep(self.latency_seconds, asked)
        if (fault := self.strike(asked.name, asked.volume_id or "")) is None:
            return self._act(asked, act)
        return self._act_with_fault(fault, asked, act)

    def _act_with_fault(self, fault: Fault, asked: Asked, act: Callable[[], T]) -> T:
        if fault.error is None:
            self._sleep(fault.seconds, asked)
            return self._act(asked, act)
        match fault.effect:
            case Effect.NOW:
                self._land(asked, act)
            case Effect.LATE:
                self.late.add(
                    asked.name, asked.volume_id, fault.landing, lambda: self._land(asked, act)
                )
            case Effect.NEVER:
                pass
        self._sleep(fault.seconds, asked)
        raise fault.error(f"{asked.name}: scripted fault, effect {fault.effect.value}.")

    def _act(self, asked: Asked, act: Callable[[], T]) -> T:
        try:
            return self._watched(asked, act)
        except UnansweredError as unanswered:
            self._sleep(unanswered.seconds, asked)
            raise IndeterminateError(f"{asked.name}: {unanswered}") from None

    def _watched(self, asked: Asked | None, act: Callable[[], T]) -> T:
        with self.estate.lock:
            if asked is None or not asked.writes:
                return act()
            with self.watch.over(asked):
                return act()

    def _land(self, asked: Asked | None, act: Callable[[], object]) -> None:
        """Do what no caller waits for any more; its errors are not reported either."""
        with contextlib.suppress(OutsideError, UnansweredError):
            self._watched(asked, act)

    def _sleep(self, seconds: float, asked: Asked) -> None:
        """Sleep, but no longer than the caller waits; IndeterminateError when the limit is hit."""
        if seconds <= 0:
            return
        # An event and no sleep: ``close`` wakes it.
        self.closed.wait(min(seconds, asked.timeout_seconds))
        if seconds >= asked.timeout_seconds:
            raise IndeterminateError(
                f"{asked.name} gave no answer within {asked.timeout_seconds:g} s."
            )
