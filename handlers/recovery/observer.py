"""What recovery tells of itself while it works; metrics listen here."""

from __future__ import annotations

from typing import Protocol


class RecoveryObserver(Protocol):
    """Gets every outside call, every step and every objection. Must be quick and never raise."""

    def called(self, system: str, method: str, seconds: float, error: str | None) -> None:
        """Note one call outside; ``error`` is the kind's class name, None for success."""

    def stepped(self, step: str, result: str, seconds: float) -> None:
        """Note one step of a plan, its last look included."""

    def guarded(self, guard: str) -> None:
        """Note that a guard kept a plan from being carried out."""


class _NoObserver:
    def called(self, system: str, method: str, seconds: float, error: str | None) -> None:
        pass

    def stepped(self, step: str, result: str, seconds: float) -> None:
        pass

    def guarded(self, guard: str) -> None:
        pass


NO_OBSERVER: RecoveryObserver = _NoObserver()
