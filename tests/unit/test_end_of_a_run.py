"""How a run of tests ends: a process that does not end says why; one that has to wait does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compatibility.records import ROOT

pytestmark = pytest.mark.slow  # each runs a pytest of its own

# As tests/conftest.py, with less patience in one kind of process.
CONFTEST = """
import os
from tests import conftest

if ("PYTEST_XDIST_WORKER" in os.environ) is {in_workers}:
    conftest.PATIENCE_SECONDS = 1.0
"""


def ran(
    directory: Path, tests: str, *arguments: str, in_workers: bool
) -> subprocess.CompletedProcess[str]:
    """Run tests of their own in another process, with its output."""
    (directory / "conftest.py").write_text(CONFTEST.format(in_workers=in_workers))
    (directory / "test_some.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    where = ["--rootdir", str(directory), "-c", os.devnull, "-p", "tests.conftest", str(directory)]
    # This process may be a worker itself.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [*command, *where],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_process_without_tests_waits_for_the_others(tmp_path: Path) -> None:
    """One of two processes has its last test much later -> the other waits, and none complains.

    It printed "Timeout (0:01:00)!" and a traceback, or "<no Python frame>" where it was about to
    end.
    """
    tests = "import time\n\ndef test_short(): pass\n\ndef test_long(): time.sleep(3)\n"
    done = ran(tmp_path, tests, "-n", "2", in_workers=True)
    assert done.returncode == 0, done.stdout
    assert "Timeout" not in done.stdout + done.stderr


def test_a_thread_that_keeps_the_run_from_ending(tmp_path: Path) -> None:
    """A test leaves a thread for ever -> the process ends all the same, and says in which code."""
    tests = (
        "import threading\n\n"
        "def lasting(): threading.Event().wait(600)\n\n"
        "def test_leaves_it(): threading.Thread(target=lasting).start()\n"
    )
    done = ran(tmp_path, tests, "-n", "0", in_workers=False)
    assert done.returncode == 1
    assert "in lasting" in done.stderr
