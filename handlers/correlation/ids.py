"""The ids of cases: as good as random, and yet one beside the other in every index.

An index of random ids is written all over: each new case dirties a page of its own in each index
that begins with its id, which a database feels when the index has outgrown its memory. So an id
begins with the time. It counts on from the last one, so that its first eight digits, by which
people name a case, are given to one case only (by one process; two in the same 16 ms may agree).
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid

UNITS_A_SECOND = 62.5
PREFIX_BITS = 32  # begin anew after two years, which harms nothing: the rest is random
RANDOM_BITS = 96
VERSION_8 = (8 << 76, 0xF << 76)  # RFC 9562, section 5.8: a layout of one's own
VARIANT = (2 << 62, 3 << 62)


class _Counter:
    """Counts on from its last number, or from the time, whichever is more. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, int(time.time() * UNITS_A_SECOND))
            return self._last


_COUNTER = _Counter()


def new_case_id() -> str:
    """Return an id that nobody has. Thread-safe; blocks on nothing."""
    value = (_COUNTER.next() % (1 << PREFIX_BITS)) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    for bits, mask in (VERSION_8, VARIANT):
        value = value & ~mask | bits
    return str(uuid.UUID(int=value))
