"""What detachd itself fails on again and again, through a fault that nobody thought of.

Such a body must not stop the others: it is put aside when it has had its chances.
"""

from __future__ import annotations

from hashlib import sha256

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

    def refused(self, body: bytes) -> str | None:
        """Return why a body is not to be read at all, None where it may be."""
        if not self._of:  # nearly always
            return None
        return STRUCK_OUT if self.out(sha256(body).hexdigest()) else None

    def out(self, body_sha256: str) -> bool:
        """Tell whether this body has had its chances."""
        return self._of.get(body_sha256, 0) >= MOST_STRIKES
