"""A driver that hangs in each method: its call is given up, and nobody else is held up."""

from __future__ import annotations

import concurrent.futures
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_context import context

from consumer.counting import Answered, CallGivenUp, CallReturnedLate, HangingCalls
from consumer.work import driver_calls
from consumer.work.driver_calls import BoundedDrivers, DriverEvent
from drivers.base import Attachment, Capabilities, Connector, Export, Observation, StorageDriver
from drivers.base import VolumeRef as Ref
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    PermanentError,
    TransientError,
)
from tests.bus import until
from tests.time_limits import TimeLimits
from tests.unit.consumer.due import LAB, SLOW, backend, backends

REF = Ref("volume-1", LAB)
ROW = Attachment("volume-1", "row-1", "server-1", Connector(host="compute1"))
# Long: what ends the wait for a call is that the driver hangs, see TimeLimits.
LIMIT = 30.0
GRACE = 5.0
SEES = Capabilities(sees_connections=True, sees_hosts=True, lists_exports=True)

Call = Callable[[StorageDriver], object]
READS: dict[str, Call] = {
    "observe": lambda driver: driver.observe(REF, timeout_seconds=LIMIT),
    "list_exports": lambda driver: driver.list_exports(timeout_seconds=LIMIT),
}
WRITES: dict[str, Call] = {
    name: lambda driver, name=name: getattr(driver, name)(
        REF, ROW, request_id=f"req-{name}", timeout_seconds=LIMIT
    )
    for name in ("terminate_connection", "detach", "force_detach")
}
CALLS = READS | WRITES


class Hanging(StorageDriver):
    """Hangs in ``method`` until it is let go, and acts before or after that."""

    capabilities = SEES

    @staticmethod
    def begins_to_hang() -> None:
        """Tell the test."""

    def __init__(self, backend: str, method: str | None = None) -> None:
        super().__init__(backend, {})
        self.method = method
        self.let_go = threading.Event()
        self.acted: list[str] = []
        self.acts_first = False
        self.raises: Exception | None = None

    def _do(self, method: str) -> None:
        if self.acts_first:
            self.acted.append(method)
        if method == self.method:
            self.begins_to_hang()
            self.let_go.wait()
        if not self.acts_first:
            self.acted.append(method)
        if self.raises is not None:
            raise self.raises

    def observe(self, volume: Ref, *, timeout_seconds: float) -> Observation:
        """Look."""
        del volume, timeout_seconds
        self._do("observe")
        return Observation((), "it answered")

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """List."""
        del timeout_seconds
        self._do("list_exports")
        return ()

    def terminate_connection(self, *_: Any, **__: Any) -> None:
        """Terminate."""
        self._do("terminate_connection")

    def detach(self, *_: Any, **__: Any) -> None:
        """Detach."""
        self._do("detach")

    def force_detach(self, *_: Any, **__: Any) -> None:
        """Release."""
        self._do("force_detach")


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> TimeLimits:
    """Let the time of a call be up when its driver hangs."""
    limits = TimeLimits(monkeypatch)
    monkeypatch.setattr(Hanging, "begins_to_hang", staticmethod(limits.is_up))
    return limits


@pytest.fixture
def made() -> Iterator[dict[str, Hanging]]:
    """Give the drivers of two backends, and let them go in the end."""
    drivers = {name: Hanging(name) for name in (LAB, SLOW)}
    yield drivers
    for driver in drivers.values():
        driver.let_go.set()


@pytest.fixture
def events() -> list[DriverEvent]:
    return []


@pytest.fixture
def bounded(made: dict[str, Hanging], events: list[DriverEvent]) -> BoundedDrivers:
    return BoundedDrivers(
        made.__getitem__, backends(driver_grace_seconds=GRACE), report=events.append
    )


@pytest.mark.parametrize("method", CALLS)
def test_a_call_that_does_not_come_back_is_given_up(
    method: str, made: dict[str, Hanging], bounded: BoundedDrivers, events: list[DriverEvent]
) -> None:
    """The driver hangs in a method -> the caller goes on in time, and it is told and counted."""
    made[LAB].method = method
    with pytest.raises(IndeterminateError, match=f"did not return from {method} within"):
        CALLS[method](bounded(LAB))
    (call,) = bounded.hanging()
    assert (call.backend, call.method) == (LAB, method)
    assert call.request_id == (f"req-{method}" if method in WRITES else None)
    assert CallGivenUp(LAB, method) in events
    assert HangingCalls(LAB, 1, stopped=False) in events
    (answered,) = [event for event in events if isinstance(event, Answered)]
    assert f"did not return from {method}" in (answered.problem or "")


@pytest.mark.parametrize("method", CALLS)
def test_a_call_is_given_its_whole_limit_and_the_grace(
    method: str, bounded: BoundedDrivers, limits: TimeLimits
) -> None:
    """A call -> waited for so long; force_detach makes two, each with the whole limit."""
    CALLS[method](bounded(LAB))
    assert limits.seconds[-1] == (2 if method == "force_detach" else 1) * LIMIT + GRACE


def test_the_time_of_a_call_goes_by_the_clock(
    made: dict[str, Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver hangs -> given up when the seconds are over, and not before."""
    monkeypatch.setattr(concurrent.futures, "wait", concurrent.futures._base.wait)
    made[LAB].method = "observe"
    driver = BoundedDrivers(made.__getitem__, backends(driver_grace_seconds=0.1))(LAB)
    began = time.monotonic()
    with pytest.raises(IndeterminateError):
        driver.observe(REF, timeout_seconds=0.2)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("method", CALLS)
def test_a_call_that_returns_is_only_passed_on(
    method: str, bounded: BoundedDrivers, events: list[DriverEvent]
) -> None:
    """A driver that keeps to its limit -> its own answer and class's name; it is well."""
    driver = bounded(LAB)
    CALLS[method](driver)
    assert (driver.kind, driver.capabilities, bounded.hanging()) == ("Hanging", SEES, ())
    assert set(events) == {Answered(f"backend:{LAB}", None)}


@pytest.mark.parametrize("error", [NotFoundError("no such volume"), KeyError("a bug")])
def test_what_a_driver_raises_reaches_its_caller(
    error: Exception, made: dict[str, Hanging], bounded: BoundedDrivers
) -> None:
    """The driver raises, also what it may not -> the same error, in the caller's thread."""
    made[LAB].raises = error
    with pytest.raises(type(error)) as raised:
        CALLS["observe"](bounded(LAB))
    assert raised.value is error
    assert bounded.hanging() == ()


@pytest.mark.parametrize(
    ("method", "error", "problem"),
    [
        ("observe", NotFoundError("no such volume"), None),
        ("observe", ConflictError("it moves"), None),
        ("observe", TransientError("no route"), "no route"),
        ("observe", PermanentError("no rights"), "no rights"),
        (
            "observe",
            RuntimeError("password=hunter2"),
            "its storage driver failed with RuntimeError",
        ),
        ("force_detach", PermanentError("in use"), None),
        ("force_detach", IndeterminateError("cut off"), "cut off"),
    ],
)
def test_a_refusal_is_an_answer_of_the_backend(  # noqa: PLR0917 - cases and fixtures
    method: str,
    error: Exception,
    problem: str | None,
    made: dict[str, Hanging],
    bounded: BoundedDrivers,
    events: list[DriverEvent],
) -> None:
    """The driver raises -> told as a problem of the backend, unless it is a word on the volume."""
    made[LAB].raises = error
    driver = bounded(LAB)
    events.clear()
    with pytest.raises(type(error)):
        CALLS[method](driver)
    assert events == [Answered(f"backend:{LAB}", problem)]


@pytest.mark.parametrize("acts_first", [True, False])
def test_a_write_that_returns_late_is_handed_over_once(
    acts_first: bool,
    made: dict[str, Hanging],
    bounded: BoundedDrivers,
    events: list[DriverEvent],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It hangs before or after it acted, then returns -> logged, counted, given to the ledger."""
    made[LAB].method, made[LAB].acts_first = "force_detach", acts_first
    with pytest.raises(IndeterminateError):
        CALLS["force_detach"](bounded(LAB))
    assert made[LAB].acted == (["force_detach"] if acts_first else [])
    assert bounded.take_returned() == ()
    with caplog.at_level(logging.WARNING):
        made[LAB].let_go.set()
        until(lambda: not bounded.hanging())
        until(lambda: "returned" in caplog.text)
        until(lambda: CallReturnedLate(LAB, "force_detach") in events)
    taken = until_taken(bounded)
    assert [(r.request_id, r.how) for r in taken] == [
        ("req-force_detach", "force_detach: it succeeded")
    ]
    assert bounded.take_returned() == ()
    assert HangingCalls(LAB, 0, stopped=False) in events


def until_taken(bounded: BoundedDrivers) -> list[Any]:
    taken: list[Any] = []
    until(lambda: bool(taken.extend(bounded.take_returned()) or taken))
    return taken


def test_the_text_of_a_late_error_is_not_kept(
    made: dict[str, Hanging], bounded: BoundedDrivers, caplog: pytest.LogCaptureFixture
) -> None:
    """A write fails late with a foreign text -> its kind is kept and logged, not its text."""
    made[LAB].method, made[LAB].raises = "detach", RuntimeError("password=hunter2")
    with pytest.raises(IndeterminateError):
        CALLS["detach"](bounded(LAB))
    made[LAB].let_go.set()
    (returned,) = until_taken(bounded)
    assert returned.how == "detach: it failed with RuntimeError"
    assert "hunter2" not in caplog.text


def test_a_backend_is_stopped_when_too_many_of_its_calls_hang(
    made: dict[str, Hanging],
    bounded: BoundedDrivers,
    events: list[DriverEvent],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So many calls hang -> its driver is called no more, which is said; the other backend goes on.

    When one returns, it is called again.
    """
    made[LAB].method = "observe"
    most = backend(LAB).hanging_calls
    for _ in range(most):
        with pytest.raises(IndeterminateError):
            CALLS["observe"](bounded(LAB))
    threads = set(threading.enumerate())
    with pytest.raises(TransientError, match=f"{most} of its calls hang") as refused:
        CALLS["list_exports"](bounded(LAB))
    assert refused.value.retry_after_seconds > 30
    assert set(threading.enumerate()) <= threads
    assert [r.levelname for r in caplog.records if "is not called any more" in r.message] == [
        "ERROR"
    ]
    assert HangingCalls(LAB, most, stopped=True) in events
    assert set(bounded.stopped()) == {LAB}
    CALLS["observe"](bounded(SLOW))
    made[LAB].let_go.set()
    until(lambda: not bounded.stopped())
    CALLS["list_exports"](bounded(LAB))


def test_a_constructor_that_hangs_holds_up_its_own_backend_alone(
    made: dict[str, Hanging], limits: TimeLimits
) -> None:
    """One driver cannot be made -> given up; the driver of another backend is made meanwhile."""
    let_go = threading.Event()

    def make(name: str) -> StorageDriver:
        if name == LAB and not let_go.is_set():
            limits.is_up()
            let_go.wait()
        return made[name]

    bounded = BoundedDrivers(make, backends())
    with pytest.raises(IndeterminateError, match="the constructor"):
        bounded(LAB)
    assert limits.seconds == [driver_calls.MAKING_SECONDS]
    CALLS["observe"](bounded(SLOW))
    let_go.set()
    until(lambda: not bounded.hanging())
    assert bounded.take_returned() == ()
    CALLS["observe"](bounded(LAB))


# -- the threads that make the calls ---------------------------------------------------------------


class Noting(Hanging):
    """Notes by which thread it is called, and what that thread's log lines name."""

    def __init__(self, backend: str, method: str | None = None) -> None:
        super().__init__(backend, method)
        self.threads: list[int] = []
        self.named: list[str | None] = []

    def _do(self, method: str) -> None:
        self.threads.append(threading.get_native_id())
        now = context.get_current()
        self.named.append(now.request_id if now else None)
        super()._do(method)


@pytest.fixture
def working() -> Iterator[None]:
    """Let this thread work on a case, as far as logging knows."""
    context.RequestContext(request_id="req-first")
    yield
    del context._request_store.context


@pytest.mark.usefixtures("working")
def test_calls_one_after_another_are_made_by_one_thread() -> None:
    """Three looks -> one thread, so that a connection which it keeps serves all of them."""
    driver = Noting(LAB)
    bounded = BoundedDrivers(lambda _: driver, backends(driver_grace_seconds=GRACE))(LAB)
    for number in range(3):
        context.RequestContext(request_id=f"req-{number}")
        READS["observe"](bounded)
    assert len(set(driver.threads)) == 1
    assert driver.named == ["req-0", "req-1", "req-2"]


@pytest.mark.usefixtures("working")
def test_calls_at_the_same_time_do_not_wait_for_each_other() -> None:
    """One look hangs and another comes -> the other is made at once, by another thread."""
    driver = Noting(LAB, "list_exports")
    bounded = BoundedDrivers(lambda _: driver, backends(driver_grace_seconds=GRACE))(LAB)
    with pytest.raises(IndeterminateError):
        READS["list_exports"](bounded)
    READS["observe"](bounded)
    driver.let_go.set()
    assert len(set(driver.threads)) == 2


@pytest.mark.usefixtures("working")
def test_the_thread_of_a_call_that_was_given_up_makes_no_further_one() -> None:
    """A look hangs, is given up, and returns -> its thread ends; the next look has another one."""
    driver = Noting(LAB, "list_exports")
    bounded = BoundedDrivers(lambda _: driver, backends(driver_grace_seconds=GRACE))(LAB)
    with pytest.raises(IndeterminateError):
        READS["list_exports"](bounded)
    driver.let_go.set()
    until(lambda: driver.threads[0] not in {t.native_id for t in threading.enumerate()})
    READS["observe"](bounded)
    assert driver.threads[1] != driver.threads[0]


def test_a_call_whose_thread_comes_too_late_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stood still before the thread had begun -> given up, and the call is not made."""
    made: list[str] = []
    returned: list[driver_calls.Returned] = []
    calls = driver_calls.BackendCalls(LAB, 4, report=lambda _: None, returned=returned.append)
    inboxes: list[Any] = []
    monkeypatch.setattr(concurrent.futures, "wait", concurrent.futures._base.wait)
    calls._new_thread = lambda: inboxes.append(queue.SimpleQueue()) or inboxes[-1]  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(IndeterminateError, match="given up"):
        calls.make("detach", lambda: made.append("x"), limit_seconds=0.02, request_id="req-1")
    assert calls._run(inboxes[0].get(), inboxes[0]) is False
    assert (made, [call.request_id for call in calls.hanging()]) == ([], [])
    assert [back.request_id for back in returned] == ["req-1"]


@pytest.mark.usefixtures("working")
def test_a_call_of_no_case_is_not_logged_as_that_of_the_last_case() -> None:
    """A case's look, then a look of the sweep -> the sweep's log lines name no case."""
    driver = Noting(LAB)
    bounded = BoundedDrivers(lambda _: driver, backends(driver_grace_seconds=GRACE))(LAB)
    READS["observe"](bounded)
    in_another = threading.Thread(target=READS["observe"], args=(bounded,))
    in_another.start()
    in_another.join()
    assert driver.named == ["req-first", None]


@pytest.mark.usefixtures("working")
def test_a_thread_without_a_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call for a while -> no thread is left; the next call is made all the same."""
    monkeypatch.setattr(driver_calls, "IDLE_SECONDS", 0.05)
    driver = Noting(LAB)
    bounded = BoundedDrivers(lambda _: driver, backends(driver_grace_seconds=GRACE))(LAB)
    READS["observe"](bounded)
    until(lambda: driver.threads[0] not in {t.native_id for t in threading.enumerate()})
    READS["observe"](bounded)
    assert len(driver.threads) == 2
