"""A driver in a child process: what hangs is killed, and what it says comes over."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers import child_driver, errors
from drivers.base import Attachment, ClientInstance, Connector, StorageDriver, VolumeRef
from drivers.child_driver import Child, ChildDriver, DriverFailedError, HungError, NotMadeError
from drivers.errors import IndeterminateError, OutsideError, TransientError
from drivers.process_pool import ProcessPool
from tests.bus import until
from tests.time_limits import HandTimer, hand_timers, time_is_up
from tests.unit.drivers.hanging_in_a_process import BACKEND, Hanging, made

REF = VolumeRef("volume-1", BACKEND)
ROW = Attachment("volume-1", "row-1", "server-1", Connector(host="compute1"))
CLIENT = ClientInstance("192.0.2.1:0/1", "client.1", 1, datetime(2026, 1, 1, tzinfo=UTC))
GRACE = 0.4
LONG = 60.0

Call = Callable[[StorageDriver, float], object]
READS: dict[str, Call] = {
    "how_reached": lambda d, s: d.how_reached(timeout_seconds=s),
    "observe": lambda d, s: d.observe(REF, timeout_seconds=s),
    "list_exports": lambda d, s: d.list_exports(timeout_seconds=s),
    "reach_of": lambda d, s: d.reach_of(REF, CLIENT, timeout_seconds=s),
    "fences": lambda d, s: d.fences(timeout_seconds=s),
}
WRITES: dict[str, Call] = {
    "renew_fence": lambda d, s: d.renew_fence(CLIENT.address, timeout_seconds=s),
    "lift_fence": lambda d, s: d.lift_fence(CLIENT.address, timeout_seconds=s),
    "terminate_connection": lambda d, s: d.terminate_connection(
        REF, ROW, request_id="req-1", timeout_seconds=s
    ),
    "detach": lambda d, s: d.detach(REF, ROW, request_id="req-1", timeout_seconds=s),
}
CALLS = READS | WRITES


class Play:
    """A driver in a process, and what it was asked."""

    def __init__(self, directory: Path, *, most: int = 4, **plan: tuple[bool, str]) -> None:
        self.log = directory / "log"
        self.log.touch()
        self.plan = plan
        options = {"log": str(self.log), "plan": plan}
        self.driver = ChildDriver(
            Hanging,
            BACKEND,
            options,
            functools.partial(made, options),
            grace_seconds=GRACE,
            most=most,
        )

    def calls(self) -> list[tuple[int, str]]:
        """Return process and method of each call that was carried out."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(int(pid), method) for pid, method in lines]

    def free(self) -> list[int]:
        """Return the processes that wait for a call."""
        return [lent.one.pid for lent in self.driver._children._free]


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[HandTimer]:
    """Have the time limits of calls end when the test says so; return what limits them."""
    return hand_timers(monkeypatch)


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, which has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# -- what hangs ------------------------------------------------------------------------------------


@pytest.mark.slow  # together: each waits for two processes to start
@pytest.mark.parametrize("before", [True, False], ids=["before acting", "after acting"])
@pytest.mark.parametrize("method", CALLS)
def test_call_that_hangs_is_killed(
    tmp_path: Path, timers: list[HandTimer], method: str, before: bool
) -> None:
    """It hangs, deaf to SIGTERM -> IndeterminateError in time; the next call has another."""
    play = Play(tmp_path, **{method: (before, "hang")})
    (pid,) = play.free()
    acted = [] if before else [(pid, method)]
    raised = time_is_up(
        timers, lambda: CALLS[method](play.driver, LONG), when=lambda: play.calls() == acted
    )
    assert isinstance(raised, HungError)
    assert isinstance(raised, IndeterminateError)
    assert f"did not return from {method} in time" in str(raised)
    assert timers[-1].interval <= LONG + GRACE / 2
    assert not is_running(pid)
    assert play.calls() == acted
    other = "observe" if method != "observe" else "fences"
    CALLS[other](play.driver, LONG)
    assert play.calls()[-1][0] != pid


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "hog"])
def test_time_of_a_call_goes_by_the_clock(tmp_path: Path, how: str) -> None:
    """The library hangs, or keeps Python's lock as well -> killed when its seconds are over."""
    with pytest.raises(HungError):
        CALLS["observe"](Play(tmp_path, observe=(False, how)).driver, 3.0)


def test_what_the_driver_has_started_is_killed_too(tmp_path: Path, timers: list[HandTimer]) -> None:
    """It hangs because a program of its own does -> both are gone."""
    play = Play(tmp_path, detach=(False, "hang with a child"))
    (pid,) = play.free()
    started: list[int] = []

    def has_started() -> bool:
        started[:] = children_of(pid)
        return bool(started)

    raised = time_is_up(timers, lambda: CALLS["detach"](play.driver, LONG), when=has_started)
    assert isinstance(raised, HungError)
    until(lambda: not any(is_running(each) for each in (pid, *started)))


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in paths for child in path.read_text().split()]


def test_nobody_else_is_slowed_by_one_that_hangs(tmp_path: Path, timers: list[HandTimer]) -> None:
    """One call hangs -> another one of the same backend is made meanwhile, and is not killed."""
    play = Play(tmp_path, detach=(True, "hang"))
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(CALLS["detach"], play.driver, LONG)
        until(lambda: len(timers) == 2)
        limit = timers[-1]
        for _ in range(3):
            CALLS["observe"](play.driver, LONG)
        assert not hung.done()
        limit.goes_off()
        assert isinstance(hung.exception(), HungError)
    assert len({pid for pid, _ in play.calls()}) == 1


def test_force_detach_has_the_limit_of_two_calls(tmp_path: Path, timers: list[HandTimer]) -> None:
    """It terminates, and hangs in detach -> killed after two limits, not after one."""
    play = Play(tmp_path, detach=(True, "hang"))
    raised = time_is_up(
        timers,
        lambda: play.driver.force_detach(REF, ROW, request_id="req-1", timeout_seconds=LONG),
        when=play.calls,
    )
    assert isinstance(raised, HungError)
    assert LONG + GRACE < timers[-1].interval <= 2 * LONG + GRACE / 2
    assert [method for _, method in play.calls()] == ["terminate_connection"]


def test_process_that_cannot_be_killed_keeps_its_call(
    tmp_path: Path, timers: list[HandTimer]
) -> None:
    """It is killed and is not gone -> the call does not return before it is."""
    play = Play(tmp_path, detach=(True, "hang"))
    child = play.driver._children._free[0].one
    gone = threading.Event()
    collect = child._process.wait
    child._process.wait = lambda: (gone.wait(), collect())[1]  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(CALLS["detach"], play.driver, LONG)
        until(lambda: len(timers) == 2)
        timers[-1].goes_off()
        assert child.was_killed
        time.sleep(0.2)
        assert not hung.done()
        gone.set()
        assert isinstance(hung.exception(), HungError)


class LateTimer(threading.Timer):
    """A timer that goes off in the moment in which it is cancelled."""

    def cancel(self) -> None:
        """Do what it was set for, as one does whose time came just before."""
        super().cancel()
        self.function(*self.args)


def test_answer_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes as the time is up -> it counts, and its process serves the next call.

    The timer, which could not be cancelled any more, killed it in the midst of the next one.
    """
    monkeypatch.setattr(threading, "Timer", LateTimer)
    play = Play(tmp_path)
    (pid,) = play.free()
    for _ in range(2):
        CALLS["detach"](play.driver, LONG)
    assert play.calls() == [(pid, "detach")] * 2


def test_fork_that_outlives_the_process_does_not_hold_up_the_call(
    tmp_path: Path, timers: list[HandTimer]
) -> None:
    """A fork by the vendor's library has the socket too, out of reach -> over, and it lives on."""
    play = Play(tmp_path, detach=(True, "hang in a fork"))
    fork = Path(f"{play.log}.fork")
    raised = time_is_up(timers, lambda: CALLS["detach"](play.driver, LONG), when=fork.exists)
    assert isinstance(raised, HungError)
    try:
        assert is_running(int(fork.read_text()))
    finally:
        os.kill(int(fork.read_text()), signal.SIGKILL)


def test_call_whose_time_is_up_is_not_made(tmp_path: Path) -> None:
    """The machine stood still between question and call -> nothing done, and no call."""
    driver = made({"log": str(tmp_path / "log"), "plan": {}})
    answer = child_driver._answering(child_driver.contract(Hanging.capabilities), lambda: driver)
    late = child_driver.Question(1, time.monotonic() - 1.0, "detach", (), {})
    told = child_driver._in_time(answer, late)
    assert told == child_driver.Failed(
        child_driver.KINDS.index(TransientError), child_driver.TOO_LATE
    )
    assert not (tmp_path / "log").exists()


@pytest.mark.slow
def test_child_ends_its_call_where_the_service_stands_still(tmp_path: Path) -> None:
    """The service does not kill it at its time -> the kernel ends it a little later."""
    play = Play(tmp_path, detach=(True, "hang"))
    child = play.driver._children._free[0].one
    child._kill = lambda _=None: None  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        over = pool.submit(CALLS["detach"], play.driver, 3.0)
        until(lambda: not is_running(child.pid))
        assert isinstance(over.exception(), IndeterminateError)


# -- what comes over -------------------------------------------------------------------------------


def test_answer_of_a_fork_is_nobody_s(tmp_path: Path) -> None:
    """The driver forks and both go on -> the next call gets its own answer, not the fork's."""
    play = Play(tmp_path, observe=(False, "fork"))
    here = made({"log": str(tmp_path / "other"), "plan": {}})
    for method in ("observe", "fences", "list_exports"):
        assert CALLS[method](play.driver, LONG) == CALLS[method](here, LONG)
    assert [method for _, method in play.calls()] == ["observe", "fences", "list_exports"]


def test_answer_to_another_question_is_none(tmp_path: Path) -> None:
    """What a child says has another number -> a write may have been made, and it is ended."""
    play = Play(tmp_path)
    (pid,) = play.free()
    play.driver._children._free[0].one._numbers = iter((7, 7))  # type: ignore[assignment]
    CALLS["observe"](play.driver, LONG)
    child = play.driver._children._free[0].one
    ask = child._connection.recv
    child._connection.recv = lambda: (6, ask()[1])  # type: ignore[method-assign]
    with pytest.raises(IndeterminateError):
        CALLS["detach"](play.driver, LONG)
    assert not is_running(pid)


@pytest.mark.parametrize("changed", ["fields", "capabilities"])
def test_code_that_was_upgraded_meanwhile_makes_no_call(tmp_path: Path, changed: str) -> None:
    """The child's contract is another than ours -> nothing done, by any child; and why."""
    play = Play(tmp_path)
    play.driver._children.close()
    theirs = child_driver.contract(Hanging.capabilities)
    if changed == "fields":
        theirs = theirs.replace("'sessions'", "'more', 'sessions'")
    else:
        theirs = theirs.replace("sees_hosts=True", "sees_hosts=False")
    assert theirs != child_driver.contract(Hanging.capabilities)
    make = functools.partial(made, dict(play.driver.options))
    play.driver._children = ProcessPool(lambda: Child(make, theirs), 1)
    with pytest.raises(TransientError, match=f"Nothing done: {child_driver.UPGRADED}"):
        CALLS["detach"](play.driver, LONG)
    assert play.calls() == []


def test_driver_that_can_no_longer_be_made(tmp_path: Path) -> None:
    """The first child could make it, a later one cannot -> nothing done, with its words."""
    play = Play(tmp_path)
    play.driver._children.close()
    make = functools.partial(made, {"refuses": True})
    play.driver._children = ProcessPool(
        lambda: Child(make, child_driver.contract(Hanging.capabilities)), 1
    )
    with pytest.raises(TransientError, match="Nothing done: the option portal is wrong"):
        CALLS["detach"](play.driver, LONG)


def test_what_cannot_be_pickled_is_no_answer(tmp_path: Path) -> None:
    """The driver returns such a thing -> an error of that call; the next has another process."""
    play = Play(tmp_path, list_exports=(False, "be unpicklable"))
    with pytest.raises(TransientError, match="ended in the middle of list_exports"):
        CALLS["list_exports"](play.driver, LONG)
    CALLS["observe"](play.driver, LONG)


def test_programs_of_the_driver_can_be_ended_by_it(tmp_path: Path) -> None:
    """It ends its own program by SIGTERM, as many do -> the program ends."""
    CALLS["observe"](Play(tmp_path, observe=(False, "end a program")).driver, LONG)


@pytest.mark.parametrize("method", CALLS)
def test_answer_is_the_driver_s(tmp_path: Path, method: str) -> None:
    """A call -> what the same driver returns in a thread; one process serves all."""
    play = Play(tmp_path)
    here = made({"log": str(tmp_path / "other"), "plan": {}})
    assert CALLS[method](play.driver, LONG) == CALLS[method](here, LONG)
    assert len(play.free()) == 1
    assert (play.driver.kind, play.driver.capabilities) == ("Hanging", Hanging.capabilities)


@pytest.mark.parametrize(
    "kind",
    ["TransientError", "IndeterminateError", "PermanentError", "NotFoundError", "ConflictError"],
)
def test_error_keeps_its_kind(tmp_path: Path, kind: str) -> None:
    """One of the three kinds -> the same kind with its text; the process is asked again."""
    play = Play(tmp_path, detach=(False, kind))
    (pid,) = play.free()
    with pytest.raises(OutsideError, match=f"said {kind}") as raised:
        CALLS["detach"](play.driver, LONG)
    assert type(raised.value) is getattr(errors, kind)
    assert play.free() == [pid]


def test_how_long_to_wait_comes_over(tmp_path: Path) -> None:
    """The backend said when to come back -> so does the error."""
    with pytest.raises(TransientError, match="busy") as raised:
        CALLS["observe"](Play(tmp_path, observe=(False, "wait")).driver, LONG)
    assert raised.value.retry_after_seconds == 7.0


def test_of_another_error_only_the_name_comes_over(tmp_path: Path) -> None:
    """An error of no kind, whose text is a secret -> its name; the process is ended."""
    play = Play(tmp_path, observe=(False, "foreign"))
    (pid,) = play.free()
    with pytest.raises(DriverFailedError, match="failed with KeyError") as raised:
        CALLS["observe"](play.driver, LONG)
    assert "secret" not in str(raised.value)
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("method", "kind"), [("observe", TransientError), ("detach", IndeterminateError)]
)
def test_process_that_dies_in_a_call(tmp_path: Path, method: str, kind: type[Exception]) -> None:
    """It crashes in the middle -> a read did nothing, a write perhaps; the next has another."""
    play = Play(tmp_path, **{method: (False, "die")})
    (pid,) = play.free()
    with pytest.raises(kind, match="ended in the middle of"):
        CALLS[method](play.driver, LONG)
    CALLS["fences"](play.driver, LONG)
    assert play.calls()[-1][0] != pid


def test_process_that_died_between_two_calls_is_not_asked(tmp_path: Path) -> None:
    """It was killed while it waited -> the next call is made by another one, and once."""
    play = Play(tmp_path)
    (pid,) = play.free()
    os.kill(pid, signal.SIGKILL)
    # Its main thread is a zombie a moment before its other thread has ended, and until then the
    # kernel does not hand it over.
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    until(lambda: os.waitid(os.P_PID, pid, ended) is not None)
    CALLS["detach"](play.driver, LONG)
    ((another, method),) = play.calls()
    assert (another != pid, method) == (True, "detach")


def test_log_lines_are_the_service_s(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The driver logs -> the line has its logger and its words, in the thread of the call."""
    play = Play(tmp_path, observe=(False, "log"), fences=(False, "print"))
    CALLS["observe"](play.driver, LONG)
    assert ("a.vendor", logging.WARNING, "a word of the vendor") in caplog.record_tuples
    CALLS["fences"](play.driver, LONG)


@pytest.mark.parametrize("number", child_driver.FOR_THE_SERVICE)
def test_signal_to_all_processes_of_the_unit_does_not_cut_a_call(
    tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM, SIGHUP, SIGUSR2 go to the child too (systemctl kill) -> the call is made."""
    play = Play(tmp_path)
    (pid,) = play.free()
    os.kill(pid, number)
    CALLS["detach"](play.driver, LONG)
    assert play.calls() == [(pid, "detach")]


def test_options_that_do_not_go_together_are_said(tmp_path: Path) -> None:
    """The constructor refuses -> NotMadeError with its words, and no process is left."""
    make = functools.partial(made, {"refuses": True, "log": str(tmp_path / "log"), "plan": {}})
    with pytest.raises(NotMadeError, match="the option portal is wrong"):
        ChildDriver(Hanging, BACKEND, {}, make, grace_seconds=GRACE, most=1)


# -- its end ---------------------------------------------------------------------------------------


def test_processes_end_with_the_driver(tmp_path: Path) -> None:
    """The driver is dropped -> so are its processes."""
    play = Play(tmp_path)
    (pid,) = play.free()
    del play
    until(lambda: not is_running(pid))


@pytest.mark.parametrize("what", ["idle", "hang", "hog"])
def test_processes_end_with_the_service(tmp_path: Path, what: str) -> None:
    """The service is killed; no call, one that hangs, one that stops all Python -> it is gone."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE.format(log=str(tmp_path / "log"), what=what))
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as service:  # fmt: skip
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        if what != "idle":
            until((tmp_path / "log").exists)
        assert is_running(pid)
        service.kill()
    until(lambda: not is_running(pid))


SERVICE = """
import functools
from drivers.child_driver import ChildDriver
from drivers.base import VolumeRef
from tests.unit.drivers.hanging_in_a_process import BACKEND, Hanging, made
options = {{"log": {log!r}, "plan": {{"observe": (False, {what!r})}}}}
driver = ChildDriver(
    Hanging, BACKEND, options, functools.partial(made, options), grace_seconds=60, most=1
)
print(driver._children._free[0].one.pid, flush=True)
if {what!r} != "idle":
    driver.observe(VolumeRef("volume-1", BACKEND), timeout_seconds=60)
import time
time.sleep(60)
"""
