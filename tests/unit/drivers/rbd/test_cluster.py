"""What the end of a request means: an answer, nothing done, perhaps done, or refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from drivers.child import Deadline
from drivers.errors import (
    IndeterminateError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.rbd.cluster import Cluster, NoBindingsError, NoPoolError, RefusedError, read
from drivers.rbd.options import OPTS, RbdOptions
from drivers.registry import parsed

ADDRESS = "192.0.2.5:0/7"


def cluster(tmp_path: Path, script: str) -> Cluster:
    """Return a cluster whose Python is a shell script."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(0o700)
    return Cluster(RbdOptions.read(parsed(OPTS, {"python": str(program)})))


def look(asked: Cluster, seconds: float = 10.0) -> object:
    """Ask it to look."""
    return asked.look(("volume-1",), Deadline.after(seconds))


def fence(asked: Cluster, seconds: float = 10.0) -> None:
    """Ask it to fence."""
    asked.release(("volume-1",), ADDRESS, 60.0, (), Deadline.after(seconds))


ACTING = """echo '{"acting": true}'"""


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("exit 1", TransientError),
        ("exit 0", TransientError),
        ("echo '{\"fsid\"'", TransientError),
        ("printf '{\"fsid\": 1}'", TransientError),
        ("echo '{}'; echo '{}'", TransientError),
        ("echo '{}'; exit 1", TransientError),
        ("kill -9 $$", TransientError),
        ("""echo '{"failed": "bindings"}'""", NoBindingsError),
        ("""echo '{"failed": "pool", "words": "x"}'""", NoPoolError),
        (f"""echo '{{"failed": {errno.EPERM}}}'""", RefusedError),
        ("""echo '{"failed": "ObjectNotFound"}'""", RefusedError),
        (f"""echo '{{"failed": {errno.ETIMEDOUT}}}'""", IndeterminateError),
        (f"""echo '{{"failed": {errno.EIO}}}'""", TransientError),
    ],
)
def test_look_that_failed_is_no_answer(
    tmp_path: Path, script: str, kind: type[OutsideError]
) -> None:
    """The program ends in some other way than with one whole answer -> an error of that kind."""
    with pytest.raises(kind):
        look(cluster(tmp_path, script))


def test_look_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    """The program hangs, with a child of its own -> IndeterminateError at the deadline."""
    with pytest.raises(IndeterminateError, match="no answer in time"):
        look(cluster(tmp_path, "sleep 60 & sleep 60"), seconds=0.3)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("exit 1", IndeterminateError),
        ("sleep 60", IndeterminateError),
        (f"{ACTING}; sleep 60", IndeterminateError),
        (f"{ACTING}; exit 1", IndeterminateError),
        (f"{ACTING}; printf '{{'", IndeterminateError),
        (f"""{ACTING}; echo '{{"failed": {errno.EIO}}}'""", IndeterminateError),
        (f"""{ACTING}; echo '{{"failed": {errno.EACCES}}}'""", RefusedError),
        (f"""echo '{{"failed": {errno.EIO}}}'""", TransientError),
    ],
)
def test_fence_that_failed_may_have_been_made_once_it_was_sent(
    tmp_path: Path, script: str, kind: type[OutsideError]
) -> None:
    """It says that it failed before ``acting`` -> nothing done; else perhaps, or refused."""
    with pytest.raises(OutsideError) as raised:
        fence(cluster(tmp_path, script), seconds=0.5 if "sleep" in script else 10.0)
    assert type(raised.value) is kind


def test_no_time_left_is_nothing_done(tmp_path: Path) -> None:
    """The deadline is over -> TransientError, and nothing is run."""
    with pytest.raises(TransientError, match="No time was left"):
        look(cluster(tmp_path, f"touch {tmp_path}/ran"), seconds=-1.0)
    assert not (tmp_path / "ran").exists()


def test_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The option python names nothing -> PermanentError that names the option."""
    missing = Cluster(RbdOptions.read(parsed(OPTS, {"python": str(tmp_path / "none")})))
    with pytest.raises(PermanentError, match="option python"):
        look(missing)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (b"", (None, False)),
        (b'{"acting": true}\n', (None, True)),
        (b'{"acting": true}\n{"done": 1}\n', ({"done": 1}, True)),
        (b'{"acting": true}\n{"do', (None, True)),
        (b'{"a": 1}\n{"b": 2}\n', (None, False)),
        (b"[]\n", (None, False)),
        (b"\xff\n", (None, False)),
    ],
)
def test_only_one_whole_line_is_an_answer(output: bytes, answer: tuple[object, bool]) -> None:
    """Cut, or two of them -> no answer; that it may have acted is told all the same."""
    assert read(output) == answer
