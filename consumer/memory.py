"""How the C library hands out memory to many threads."""

from __future__ import annotations

import ctypes
import os

M_ARENA_MAX = -8
"""From glibc's ``malloc.h``; see mallopt(3)."""


def share_one_arena() -> None:
    """Have all threads that are started from now on take their memory from one arena.

    glibc gives threads arenas of their own, eight for each core, so that they need not wait for
    each other; none gives back what another could use. Threads of Python allocate one at a time
    anyhow. Whoever sets ``MALLOC_ARENA_MAX`` is left alone, and so is a C library without arenas.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
