"""The program that asks Ceph, without a Ceph: when it ends, and what it does not begin."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from drivers.rbd.program import PROGRAM


def asked(**limits: float) -> bytes:
    """Return a question with these limits."""
    question = {"number": 1, "op": "look", "conf": "/none", "user": "detachd", **limits}
    return json.dumps(question).encode() + b"\n"


def started() -> subprocess.Popen[bytes]:
    """Start the program, with a Python that has no bindings of Ceph."""
    return subprocess.Popen(
        [sys.executable, "-I", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_it_ends_with_its_stdin() -> None:
    """Whoever asks is gone -> it ends."""
    assert started().communicate(b"", timeout=60) == (b"", None)


@pytest.mark.parametrize(("seconds", "until"), [(10.0, -1.0), (0.0, 10.0)])
def test_question_that_comes_after_its_time_is_not_asked(seconds: float, until: float) -> None:
    """It was stopped with a question in its pipe, and goes on late -> nothing is asked; it ends."""
    told, _ = started().communicate(
        asked(seconds=seconds, until=time.monotonic() + until), timeout=20
    )
    assert json.loads(told)["failed"] == "late"


def test_question_that_takes_too_long_ends_it() -> None:
    """The library, or the Python, hangs -> the kernel ends it, whoever still listens."""
    with started() as program:
        assert program.stdin is not None
        program.stdin.write(asked(seconds=0.000_001, until=time.monotonic() + 60))
        program.stdin.flush()
        assert program.wait(60) == -signal.SIGALRM


def test_signals_to_all_processes_of_the_unit_do_not_end_it() -> None:
    """`systemctl stop` or `systemctl kill -s HUP` -> the question under way is answered."""
    with started() as program:
        assert program.stdin is not None
        program.stdin.write(asked(seconds=60.0, until=time.monotonic() + 60))
        program.stdin.flush()
        assert program.stdout is not None
        program.stdout.readline()  # it has begun, so that it has said what it ignores
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            program.send_signal(number)
        program.stdin.close()
        assert program.wait(60) == 0
