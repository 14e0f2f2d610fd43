"""What detachd itself fails on again and again, through a fault that nobody thought of.

Such a body must not stop the others: it is put aside when it has had its chances.
"""

from __future__ import annotations

MOST_STRIKES = 3
STRUCK_OUT = f"detachd failed on it {MOST_STRIKES} times; its log says how"

_MOST_KEPT = 1000


class Strikes:
    """Counts our failures on each body; those of a thousand bodies are kept. For one thread.

    Of several, not of the last alone: replicas that share a queue pass such bodies to each other.
    """

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def strike(self, body_sha256: str) -> None:
        """Count an unexpected error while this body, and no other, was in hand."""
        self._of[body_sha256] = self._of.pop(body_sha256, 0) + 1
        if len(self._of) > _MOST_KEPT:
            del self._of[next(iter(self._of))]

    def out(self, body_sha256: str) -> bool:
        """Tell whether this body has had its chances."""
        return self._of.get(body_sha256, 0) >= MOST_STRIKES
