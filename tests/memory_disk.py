"""Keeps what the tests write in memory, where the machine has room for it.

Every commit waits for the disk (fsync), as shipped, in the private databases and in SQLite; a disk
makes a test that is all commits many times slower than a file system in memory, and its speed that
of whoever else uses it. Nothing is lost by it: the tests end processes, not machines, and what a
process had written survives its kill -9 in either place.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
"""What the private databases, at their fullest, leave well below."""


def use() -> None:
    """Make it the place for temporary files, of this process and of those that it starts.

    Whoever has set TMPDIR has chosen already.
    """
    if "TMPDIR" not in os.environ and suits(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asks the environment again


def suits(directory: Path) -> bool:
    """Tell whether there is room, and programs may be run from there (containers forbid it)."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize >= ROOM_BYTES and not system.f_flag & os.ST_NOEXEC
