"""What a short command costs: in processor time, beside what its database library alone takes.

A ratio does not depend on the machine. Imports are nearly all of it, so the modules are compiled
before, as an installed package has them.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 3.8
"""Measured: 2.1 to 3.1 (Python 3.11), a fifth more with the look-ups of cliff that we leave out."""
LIBRARY = (sys.executable, "-c", "import sqlalchemy")
COMMANDS = ["case list", "status", "sweep list"]


def cpu_seconds(words: tuple[str, ...], env: dict[str, str], times: int) -> float:
    """Return the least processor time that a program took in so many runs."""
    found = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, env=env, stdout=subprocess.DEVNULL, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.slow
@pytest.mark.usefixtures("ledger")
def test_a_short_command_takes_a_few_times_what_its_library_takes(tmp_path: Path) -> None:
    """Commands on a ledger that is there -> none takes four times as long as SQLAlchemy alone."""
    path = tmp_path / "detachd.conf"
    path.write_text(f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path / "compiled")
    program = (sys.executable, "-m", "consumer")
    of = {name: (*program, *name.split(), "--config-file", str(path)) for name in COMMANDS}
    for words in of.values():
        cpu_seconds(words, env, 1)
    alone = cpu_seconds(LIBRARY, env, 2)
    ratios = {name: cpu_seconds(words, env, 2) / alone for name, words in of.items()}
    assert {name: round(r, 1) for name, r in ratios.items() if r >= MOST} == {}
