"""What the end of a request means: an answer, nothing done, perhaps done, or refused."""

from __future__ import annotations

import dataclasses
import errno
import os
import select
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers.child import Deadline
from drivers.errors import (
    IndeterminateError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.rbd import RbdDriver
from drivers.rbd.cluster import Cluster, NoBindingsError, NoPoolError, RefusedError
from drivers.rbd.options import OPTS, RbdOptions
from drivers.rbd.program import is_over, read
from drivers.registry import parsed
from tests.bus import until

ADDRESS = "192.0.2.5:0/7"


def cluster(tmp_path: Path, script: str, *, programs: int = 8) -> Cluster:
    """Return a cluster whose Python is a shell script, which reads a question first."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nread -r question\n{script}\n")
    program.chmod(0o700)
    values = {"python": str(program), "programs": programs}
    return Cluster(RbdOptions.read(parsed(OPTS, values)))


def look(asked: Cluster, seconds: float = 60.0) -> object:
    """Ask it to look."""
    return asked.look(("volume-1",), Deadline.after(seconds))


def fence(asked: Cluster, seconds: float = 60.0) -> None:
    """Ask it to fence."""
    asked.release(("volume-1",), ADDRESS, 60.0, (), Deadline.after(seconds))


ACTING = """echo '{"number": 1, "acting": true}'"""


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("exit 1", TransientError),
        ("exit 0", TransientError),
        ("echo '{\"number\"'", TransientError),
        ("printf '{\"number\": 1}'", TransientError),
        ("echo '{}'; exit 0", TransientError),
        ("echo '{\"number\": 2}'; exit 0", TransientError),
        ('echo \'{"number": 0, "fsid": 1}\'', TransientError),
        ('printf \'{"number": 1}\\n{"number": 1}\\n\'', TransientError),
        ("echo 'no object'", TransientError),
        ("kill -9 $$", TransientError),
        ("""echo '{"number": 1, "failed": "bindings"}'""", NoBindingsError),
        ("""echo '{"number": 1, "failed": "pool", "words": "x"}'""", NoPoolError),
        (f"""echo '{{"number": 1, "failed": {errno.EPERM}}}'""", RefusedError),
        ("""echo '{"number": 1, "failed": "ObjectNotFound"}'""", RefusedError),
        (f"""echo '{{"number": 1, "failed": {errno.ETIMEDOUT}}}'""", IndeterminateError),
        (f"""echo '{{"number": 1, "failed": {errno.EIO}}}'""", TransientError),
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
        look(cluster(tmp_path, "sleep 600 & sleep 600"), seconds=1.0)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("exit 1", IndeterminateError),
        ("sleep 600", IndeterminateError),
        (f"{ACTING}; sleep 600", IndeterminateError),
        (f"{ACTING}; exit 1", IndeterminateError),
        (f"{ACTING}; printf '{{'", IndeterminateError),
        (f"""{ACTING}; echo '{{"number": 1, "failed": {errno.EIO}}}'""", IndeterminateError),
        (f"""{ACTING}; echo '{{"number": 1, "failed": {errno.EACCES}}}'""", RefusedError),
        (f"""echo '{{"number": 1, "failed": {errno.EIO}}}'""", TransientError),
    ],
)
def test_fence_that_failed_may_have_been_made_once_it_was_sent(
    tmp_path: Path, script: str, kind: type[OutsideError]
) -> None:
    """It says that it failed before ``acting`` -> nothing done; else perhaps, or refused."""
    with pytest.raises(OutsideError) as raised:
        fence(cluster(tmp_path, script), seconds=1.0 if "sleep" in script else 60.0)
    assert type(raised.value) is kind


def test_no_time_left_is_nothing_done(tmp_path: Path) -> None:
    """The deadline is over -> TransientError, and nothing is run."""
    with pytest.raises(TransientError, match="no time was left"):
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
        (b'{"number": 7, "acting": true}\n', (None, True)),
        (b'{"number": 7, "acting": true}\n{"number": 7, "a": 1}\n', ({"a": 1}, True)),
        (b'{"number": 7, "acting": true}\n{"nu', (None, True)),
        (b'{"number": 6, "acting": true}\n{"number": 7}\n', (None, True)),
        (b'{"number": 7}\n{"number": 7}\n', (None, False)),
        (b'{"number": 7}\n{"nu', (None, False)),
        (b'{"number": 6, "a": 1}\n', (None, False)),
        (b'{"a": 1}\n', (None, False)),
        (b"[]\n", (None, False)),
        (b"\xff\n", (None, False)),
    ],
)
def test_only_one_whole_line_with_its_number_is_an_answer(
    output: bytes, answer: tuple[object, bool]
) -> None:
    """Cut, two of them, or of another question -> none; that it may have acted is told."""
    assert read(output, 7) == answer


def test_image_of_that_name_is_not_taken_for_the_line_that_says_it() -> None:
    """An image is called ``acting`` -> the answer that has it is an answer."""
    answer = b'{"number": 7, "images": [{"name": "acting"}]}\n'
    assert is_over(answer)
    assert not is_over(answer[:-1])
    assert not is_over(b'{"number": 7, "acting": true}\n')


# -- programs that are kept ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Talk:
    """A program that answers any number of questions, and what it was asked so far."""

    cluster: Cluster
    log: Path

    def asked(self) -> list[tuple[int, str]]:
        """Return the process and the operation of each question."""
        lines = [line.split(" ", 1) for line in self.log.read_text().splitlines()]
        return [(int(pid), text.partition('"op": "')[2].partition('"')[0]) for pid, text in lines]

    def processes(self) -> list[int]:
        """Return the process of each question."""
        return [pid for pid, _ in self.asked()]


def talk(tmp_path: Path, later: str, *, programs: int = 8) -> Talk:
    """Return one that answers the first question; of each later one it does ``later``."""
    log = tmp_path / "log"
    script = f"""number=1
while :; do
    echo "$$ $question" >> {log}
    if [ $number = 1 ]; then echo '{{"number": 1}}'; else {later}; fi
    read -r question || exit 0
    number=$((number + 1))
done"""
    return Talk(cluster(tmp_path, script, programs=programs), log)


GOES_ON = """echo "{\\"number\\": $number}\""""


def test_one_program_serves_looks_one_after_the_other(tmp_path: Path) -> None:
    """Three looks -> one process; it is asked each time, nothing is remembered."""
    one = talk(tmp_path, GOES_ON)
    for _ in range(3):
        look(one.cluster)
    assert len(one.processes()) == 3
    assert len(set(one.processes())) == 1


def test_what_changes_something_has_a_program_of_its_own(tmp_path: Path) -> None:
    """Look, fence, look -> the fence's process was not asked before and is not asked again."""
    one = talk(tmp_path, GOES_ON)
    look(one.cluster)
    fence(one.cluster)
    look(one.cluster)
    first, changing, last = one.asked()
    assert (first, changing[1]) == (last, "release")
    assert changing[0] != first[0]
    assert is_gone(changing[0])


@pytest.mark.parametrize(
    "later",
    [
        "exit 1",
        "kill -9 $$",
        "echo noise",
        """echo '{"number": 1}'""",
        f"""echo '{{"number": 2, "failed": {errno.ESHUTDOWN}}}'""",
        f"""echo '{{"number": 2, "failed": {errno.EPERM}}}'""",
        """echo '{"number": 2, "failed": "pool"}'""",
        """echo '{"number": 2, "changed": true}'""",
        pytest.param("sleep 600", marks=pytest.mark.slow),
    ],
)
def test_an_old_program_is_believed_only_where_it_answers(tmp_path: Path, later: str) -> None:
    """It dies, fails, refuses, hangs, or gives an earlier answer -> a new one; it is ended."""
    one = talk(tmp_path, later)
    look(one.cluster)
    look(one.cluster, seconds=4.0 if "sleep" in later else 60.0)
    first, old, new = one.processes()
    assert first == old != new
    assert is_gone(old)


def test_a_second_answer_is_never_taken_for_the_next_one(tmp_path: Path) -> None:
    """Something comes after the answer was read -> the next look does not take it for its own."""
    second = (
        """echo '{"number": 2, "of": "a look"}'; sleep 0.1; echo '{"number": 3, "of": "none"}'"""
    )
    one = talk(tmp_path, second)
    look(one.cluster)
    assert look(one.cluster) == {"of": "a look"}
    (kept,) = one.cluster.programs._free
    until(lambda: select.select([kept.one._tells], [], [], 0)[0])
    assert look(one.cluster) == {}
    *_, third, new = one.processes()
    assert third != new


@pytest.mark.slow
def test_programs_at_once_are_bounded(tmp_path: Path) -> None:
    """All that may be are at work -> one more waits, and gives up in time with nothing done."""
    one = cluster(tmp_path, "sleep 600", programs=2)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(look, one, 3.0) for _ in range(2)]
        until(lambda: one.programs.at_work == 2)
        with pytest.raises(TransientError, match="2 requests at once"):
            look(one, 0.1)
    assert {type(each.exception()) for each in asked} == {IndeterminateError}
    assert one.programs.at_work == 0


def test_programs_end_with_the_driver(tmp_path: Path) -> None:
    """A driver is dropped -> the program that it kept is ended."""
    one = talk(tmp_path, GOES_ON)
    driver = RbdDriver("storage-1@rbd", parsed(OPTS, {"python": one.cluster.options.python}))
    with pytest.raises(PermanentError, match="cannot read"):
        driver.fences(timeout_seconds=10)
    (pid,) = one.processes()
    assert not is_gone(pid)
    del driver
    assert is_gone(pid)


def is_gone(pid: int) -> bool:
    """Tell whether there is no such process, not even one that waits to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
