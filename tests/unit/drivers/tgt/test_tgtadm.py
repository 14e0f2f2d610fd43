"""What an end of tgtadm means: the exit codes and words are recorded from tgt 1.0.85."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.child import Deadline
from drivers.errors import (
    IndeterminateError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.registry import parsed
from drivers.tgt.options import OPTS, TgtOptions
from drivers.tgt.tgtadm import Refusal, RefusedError, Tgtadm, failure
from tests.bus import until
from tests.recordings import SAMPLES

PLACE = "/run/socket.0"
LISTING = SAMPLES / "tgt" / "targets.txt"
NOT_CONNECTED = "failed to send request hdr to tgt daemon, Transport endpoint is not connected"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("can't find the target", Refusal.NO_TARGET),
        ("can't find the session", Refusal.NO_SESSION),
        ("can't find the connection", Refusal.NO_CONNECTION),
        ("this access control rule does not exist", Refusal.NO_RULE),
        ("this access control rule already exists", Refusal.OTHER),
        ("this target is still active", Refusal.OTHER),
        ("this logical unit is still active", Refusal.OTHER),
        ("invalid request", Refusal.OTHER),
        ("(unknown tgtadm_errno)", Refusal.OTHER),
    ],
)
def test_22_is_told_apart_by_its_words(words: str, refusal: Refusal) -> None:
    """Exit code 22 for everything -> the words say what it was, and are passed on."""
    for writes in (True, False):
        error = failure(22, f"tgtadm: {words}", PLACE, writes=writes)
        assert isinstance(error, RefusedError)
        assert (error.refusal, words in str(error)) == (refusal, True)


@pytest.mark.parametrize(
    ("code", "errors", "reading", "writing"),
    [
        (107, f"tgtadm: {NOT_CONNECTED}", TransientError, TransientError),
        (32, "tgtadm: failed to send request hdr to tgt daemon, Broken pipe",
         TransientError, TransientError),
        (104, "tgtadm: can't get the response, Connection reset by peer",
         TransientError, IndeterminateError),
        (0, "tgtadm: tgtd closed the socket", TransientError, IndeterminateError),
        (0, "tgtadm: a partial response", TransientError, IndeterminateError),
        (0, "failed to read from tgtd, 5", TransientError, IndeterminateError),
        (-9, "", TransientError, IndeterminateError),
        (255, "ssh: connection timed out", TransientError, IndeterminateError),
    ],
    ids=["down", "hung up before", "hung up after", "0 hung up", "0 partial", "0 unread", "killed",
         "wrapper"],
)  # fmt: skip
def test_lost_answer_is_never_success(
    code: int, errors: str, reading: type[OutsideError], writing: type[OutsideError]
) -> None:
    """No answer, whatever the exit code -> nothing done where that is sure, else indeterminate."""
    for writes, kind in ((False, reading), (True, writing)):
        error = failure(code, errors, PLACE, writes=writes)
        assert type(error) is kind
        assert PLACE in str(error)


def test_success_is_0_and_silence() -> None:
    """Exit code 0 and nothing on stderr -> success, and nothing else is."""
    assert failure(0, "", PLACE, writes=True) is None


# -- the command itself ----------------------------------------------------------------------------


def tgtadm_that(directory: Path, script: str) -> Tgtadm:
    """Return a driver's command that runs a shell script in tgtadm's place."""
    program = directory / "tgtadm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Tgtadm(TgtOptions.read(parsed(OPTS, {"tgtadm": str(program), "socket": "/run/s"})))


def test_its_own_socket_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command gets the socket, a path and plain words -> no secret of our environment."""
    monkeypatch.setenv("OS_PASSWORD", "hidden")
    told = tgtadm_that(tmp_path, 'echo "$@"; env').show_targets(Deadline.after(10))
    assert told.startswith("-C 0 --lld iscsi --mode target --op show\n")
    assert "TGT_IPC_SOCKET=/run/s\n" in told
    assert "hidden" not in told


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, LISTING.stat().st_size))
def test_answer_cut_off_by_its_death_is_no_answer(tmp_path: Path, cut: int) -> None:
    """The command dies anywhere in its answer, even right at its end -> an error, no listing."""
    dying = tgtadm_that(tmp_path, f"head -c {cut} {LISTING}; kill -9 $$")
    with pytest.raises(TransientError, match="gave no answer"):
        dying.show_targets(Deadline.after(10))


def test_program_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    """No tgtadm, or one that may not be run -> PermanentError naming package and option."""
    there = tgtadm_that(tmp_path, "true")
    program = Path(there.options.tgtadm)
    for spoilt in ("may not be run", "is not there"):
        program.unlink() if spoilt == "is not there" else program.chmod(0o644)
        with pytest.raises(PermanentError, match="install the package tgt, or set"):
            there.show_targets(Deadline.after(10))


def test_time_over_before_it_began(tmp_path: Path) -> None:
    """No time is left -> the command is not run, and that is said as nothing done."""
    mark = tmp_path / "mark"
    with pytest.raises(TransientError, match="No time was left"):
        tgtadm_that(tmp_path, f"touch {mark}").unbind(1, "iqn.x:y", Deadline.after(0))
    assert not mark.exists()


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & exit 0", "while :; do :; done"])
def test_hanging_command_and_its_children_are_ended(tmp_path: Path, script: str) -> None:
    """It hangs, spins, or leaves a child with its pipes -> over in time, and nothing is left."""
    hanging = tgtadm_that(tmp_path, f"echo $$ > {tmp_path / 'pid'}\n{script}")
    began = time.monotonic()
    with pytest.raises(IndeterminateError, match="did not answer in time"):
        hanging.unbind(1, "iqn.x:y", Deadline.after(1.5))
    assert time.monotonic() - began < 30
    group = int((tmp_path / "pid").read_text())
    until(lambda: not group_of_processes(group))


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_command_that_may_not_be_killed_is_left_behind_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper became somebody else's process, as sudo does -> still over in time, and a kind."""

    def not_ours(group: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    hanging = tgtadm_that(tmp_path, f"echo $$ > {tmp_path / 'pid'}\nexec sleep 60")
    began = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", not_ours)
        with pytest.raises(IndeterminateError, match="did not answer in time"):
            hanging.unbind(1, "iqn.x:y", Deadline.after(1.5))
    took = time.monotonic() - began
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert took < 30


def group_of_processes(group: int) -> list[str]:
    """List what runs in a process group, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def test_line_ends_in_names_stay_what_they_are(tmp_path: Path) -> None:
    """A carriage return in what tgtd shows -> no line end; bytes that are no text -> replaced."""
    told = tgtadm_that(tmp_path, r"printf 'a\rb\377\n'").show_targets(Deadline.after(10))
    assert told == "a\rb\N{REPLACEMENT CHARACTER}\n"
