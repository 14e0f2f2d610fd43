"""The C library's arenas, counted by itself in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from consumer.cli.serve import share_one_arena
if "share" in sys.argv:
    share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
together = threading.Barrier(5)
def allocate():
    libc.malloc(100_000)
    together.wait()
for _ in range(4):
    threading.Thread(target=allocate).start()
together.wait()
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="arenas are glibc's")


def arenas(*words: str, **environment: str) -> int:
    """Return how many arenas a process has whose four threads allocate at once."""
    usual = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *words],
        check=True, capture_output=True, text=True, env=usual | environment,
    )  # fmt: skip
    return done.stdout.count("<heap nr=")


@pytest.mark.slow
def test_threads_share_one_arena() -> None:
    """Four threads allocate at once -> one arena, where it would be several."""
    assert arenas() > 1, "this test could not fail"
    assert arenas("share") == 1


@pytest.mark.slow
def test_what_the_operator_sets_counts() -> None:
    """MALLOC_ARENA_MAX is set in the environment -> as it says."""
    assert arenas("share", MALLOC_ARENA_MAX="2") == 2
