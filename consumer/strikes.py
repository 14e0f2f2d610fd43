"""What detachd itself fails on again and again, through a fault that nobody thought of.

Such a body must not stop the others: it is put aside when it has had its chances.
"""

from __future__ import annotations

MOST_STRIKES = 3
STRUCK_OUT = f"detachd failed on it {MOST_STRIKES} times; its log says how"


class Strikes:
    """Counts our failures on one body, the last that we failed on. For one thread."""

    def __init__(self) -> None:
        self._body_sha256 = ""
        self._strikes = 0

    def strike(self, body_sha256: str) -> None:
        """Count an unexpected error while this body, and no other, was in hand."""
        before = self._strikes if body_sha256 == self._body_sha256 else 0
        self._body_sha256, self._strikes = body_sha256, before + 1

    def out(self, body_sha256: str) -> bool:
        """Tell whether this body has had its chances."""
        return body_sha256 == self._body_sha256 and self._strikes >= MOST_STRIKES
