"""Makes every call to a storage driver, and gives up those that do not come back.

A driver promises to keep to its time limit. It may break that promise, for example where a library
of the vendor hangs. So:

1. Each call runs in another thread than its caller's. Past its time limit and a grace period the
   call is given up: the caller gets IndeterminateError and goes on.
2. A thread cannot be ended from outside. It is written off and stays on the list of hanging calls
   until it returns. A write on that list may still act (``consumer/work/hanging.py``). Where the
   driver runs in a process (``drivers/child_driver.py``), that is killed within the grace period,
   and the thread returns; if it cannot be killed, the thread stays on the list like any other.
   A thread that was written off makes no further call, and none begins one whose time is up. One
   that returned in time does, so that what a driver keeps for each thread, a connection as a rule,
   serves more than one call.
3. At most so many calls of one backend hang; then that backend is stopped: its driver is not called
   until one of them returns, or the process is restarted. No other backend notices.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from oslo_context import context

from consumer.counting import Answered, CallGivenUp, CallReturnedLate, HangingCalls
from consumer.work.backends import Backends
from drivers.base import (
    Attachment,
    ClientInstance,
    Export,
    Fences,
    Observation,
    Reach,
    StorageDriver,
    VolumeRef,
)
from drivers.child_driver import DriverFailedError, HungError
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from handlers.counting import uncounted

LOG = logging.getLogger(__name__)

T = TypeVar("T")

MAKING_SECONDS = 30.0
"""How long a driver's constructor may take, which is to open nothing that could block."""
IDLE_SECONDS = 30.0
"""How long a thread waits for a further call, and keeps the driver's connection of that thread."""
ASK_AGAIN_SECONDS = 60.0
"""How long a case of a stopped backend waits at least. Longer than a pause within an attempt."""

DriverEvent = Answered | CallGivenUp | CallReturnedLate | HangingCalls


@dataclasses.dataclass(frozen=True, slots=True)
class HangingCall:
    """A call that was given up and whose thread has not returned.

    ``request_id`` is that of a write, None for a read. ``given_up_at`` is monotonic.
    """

    backend: str
    method: str
    request_id: str | None
    given_up_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """A write that was given up has returned, ``how``: in words that are safe to store."""

    backend: str
    request_id: str
    how: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """One call that a thread is to make; ``log_context`` names the case in what it logs.

    ``until`` (monotonic) it has to return, so that it is not begun later.
    """

    name: str
    call: Callable[[], Any]
    future: concurrent.futures.Future[Any]
    log_context: context.RequestContext | None
    until: float

    def make(self) -> Any:
        """Make it; raises what it raises, and TransientError where it is too late for it."""
        if time.monotonic() > self.until:
            raise TransientError("Nothing done: the call came to be made after its time.")
        return self.call()


_Inbox = queue.SimpleQueue[_Asked]


class BackendCalls:
    """The calls to the driver of one backend. Thread-safe."""

    def __init__(
        self,
        backend: str,
        most_hanging: int,
        *,
        report: Callable[[DriverEvent], None],
        returned: Callable[[Returned], None],
    ) -> None:
        self._backend = backend
        self._most_hanging = most_hanging
        self._report = report
        self._returned = returned
        self._lock = threading.Lock()
        self._hanging: dict[concurrent.futures.Future[Any], HangingCall] = {}
        self._idle: list[_Inbox] = []

    def make(
        self,
        method: str,
        call: Callable[[], T],
        *,
        limit_seconds: float,
        request_id: str | None = None,
        asks: bool = True,
    ) -> T:
        """Make one call and return what it returns. Blocks for at most ``limit_seconds``.

        ``asks``: it is a question to the backend, so its end shows whether the backend answers.

        Raises what the call raises; TransientError, with nothing done, if the backend is stopped or
        no thread can be started; and IndeterminateError if the call is given up.
        """
        self._refuse_if_stopped()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        name = f"{self._backend} {method}"
        # Given to the thread too: a call that is begun after its caller has gone could act unseen.
        until = time.monotonic() + limit_seconds
        self._give_to_a_thread(_Asked(name, call, future, context.get_current(), until))
        concurrent.futures.wait((future,), limit_seconds)
        if self._is_given_up(future, method, request_id):
            raise self._gave_up(method, limit_seconds)
        return (
            self._result(future, method, writes=request_id is not None) if asks else future.result()
        )

    def hanging(self) -> tuple[HangingCall, ...]:
        """Return the calls that were given up and have not returned."""
        with self._lock:
            return tuple(self._hanging.values())

    def stopped(self) -> str | None:
        """Return why the driver is not called any more, None while it is."""
        number = len(self.hanging())
        if number < self._most_hanging:
            return None
        return (
            f"the storage driver of backend {self._backend} is not called any more, because "
            f"{number} of its calls hang: find out why, then restart detachd (it also goes on by "
            "itself when one of them returns)"
        )

    def _result(self, future: concurrent.futures.Future[T], method: str, *, writes: bool) -> T:
        problem: str | None = None
        try:
            return future.result()
        except OutsideError as error:
            problem = _problem(error, writes=writes)
            # The process of the driver was killed in time: the call did return, and is told as one
            # that hung.
            if isinstance(error, HungError):
                self._report(CallGivenUp(self._backend, method))
                LOG.warning("%s", error)
            raise
        except BaseException as error:
            # The kind of the error alone: its text may hold what a vendor's library put into it.
            problem = f"its storage driver {_named(error).removeprefix('it ')}"
            raise
        finally:
            self._report(Answered(f"backend:{self._backend}", problem))

    def _refuse_if_stopped(self) -> None:
        if (why := self.stopped()) is not None:
            raise TransientError(why, retry_after_seconds=ASK_AGAIN_SECONDS)

    def _give_to_a_thread(self, asked: _Asked) -> None:
        """Have an idle thread make the call, or a new one."""
        # A thread keeps the context of its last call, so a call without one gets a new thread.
        with self._lock:
            # The last one that became idle: the others reach their end when there is less to do.
            idle = self._idle.pop() if self._idle and asked.log_context is not None else None
        (idle or self._new_thread()).put(asked)

    def _new_thread(self) -> _Inbox:
        # An inbox for each thread, so that a call goes to one that is known to wait for it, or to a
        # new one.
        inbox: _Inbox = queue.SimpleQueue()
        # A daemon: where it hangs, the process can still end.
        thread = threading.Thread(target=self._serve, args=(inbox,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise TransientError("the machine has no thread left for the call") from error
        return inbox

    def _serve(self, inbox: _Inbox) -> None:
        """Make calls until one was given up, or no further one comes."""
        while (asked := self._next(inbox)) is not None:
            if not self._run(asked, inbox):
                return
            # So that what it returned, a list of a whole array perhaps, is not kept until the next
            # call.
            del asked  # with what it returned

    def _next(self, inbox: _Inbox) -> _Asked | None:
        try:
            return inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            pass
        with self._lock:
            # Under the lock, in which a caller takes it: either it is here and leaves, or a call is
            # coming.
            if inbox in self._idle:
                self._idle.remove(inbox)
                return None
        return inbox.get()  # it was taken in the last moment: the call is on its way

    def _run(self, asked: _Asked, inbox: _Inbox) -> bool:
        """Make the call, and tell whether its caller was still there."""
        threading.current_thread().name = asked.name
        if asked.log_context is not None:
            asked.log_context.update_store()  # so that what the driver logs names the case
        future = asked.future
        try:
            result = asked.make()
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            give, how = partial(future.set_exception, error), _named(error)
        else:
            give, how = partial(future.set_result, result), "it succeeded"
        if self._hand_over(inbox, give):
            return True
        self._came_back(future, how)
        return False

    def _hand_over(self, inbox: _Inbox, give: Callable[[], None]) -> bool:
        """Give the caller what the call returned, and tell whether it still waits for it."""
        # Idle before the lock is free, so that the caller's next call finds this thread.
        with self._lock:
            try:
                give()
            except concurrent.futures.InvalidStateError:
                return False
            self._idle.append(inbox)
            return True

    def _is_given_up(
        self, future: concurrent.futures.Future[T], method: str, request_id: str | None
    ) -> bool:
        """Give the call up unless it has returned. Its thread finds it either done or listed."""
        with self._lock:
            # cancel() fails where the result is there: under the lock exactly one of the two
            # happens first.
            if not future.cancel():
                return False
            self._hanging[future] = HangingCall(self._backend, method, request_id, time.monotonic())
            self._report_number()
            return True

    def _gave_up(self, method: str, limit_seconds: float) -> IndeterminateError:
        self._report(CallGivenUp(self._backend, method))
        words = (
            f"the storage driver of backend {self._backend} did not return from {method} within "
            f"{limit_seconds:g} s; the call is given up and may still act"
        )
        self._report(Answered(f"backend:{self._backend}", words))
        LOG.warning(
            "%s; %d of at most %d calls hang", words, len(self.hanging()), self._most_hanging
        )
        if (why := self.stopped()) is not None:
            LOG.error("%s", why)
        return IndeterminateError(words)

    def _came_back(self, future: concurrent.futures.Future[T], how: str) -> None:
        with self._lock:
            call = self._hanging.pop(future)
            number = self._report_number()
        late_seconds = time.monotonic() - call.given_up_at
        self._report(CallReturnedLate(self._backend, call.method))
        LOG.warning(
            "%s of backend %s returned %.0f s after it was given up: %s; %d calls still hang",
            call.method, self._backend, late_seconds, how, number,
        )  # fmt: skip
        if call.request_id is not None:
            self._returned(Returned(self._backend, call.request_id, f"{call.method}: {how}"))

    def _report_number(self) -> int:
        """Report how many hang now. For a thread that holds the lock, so that the last is true."""
        number = len(self._hanging)
        stopped = number >= self._most_hanging
        self._report(HangingCalls(self._backend, number, stopped=stopped))
        return number


def _problem(error: OutsideError, *, writes: bool) -> str | None:
    """Return why the backend gave no answer, None where its refusal is one."""
    refused = isinstance(error, NotFoundError | ConflictError)
    refused = refused or (writes and isinstance(error, PermanentError))
    return None if refused else str(error)


def _named(error: BaseException) -> str:
    """Return the kind of error alone: the text of a foreign one may hold anything."""
    if isinstance(error, DriverFailedError):
        return f"it failed with {error.name}"
    return f"it failed with {type(error).__name__}"


class BoundedDriver(StorageDriver):
    """A driver each call of which is given up past its time limit and ``grace_seconds``."""

    def __init__(self, driver: StorageDriver, calls: BackendCalls, grace_seconds: float) -> None:
        super().__init__(driver.backend, driver.options)
        self._driver = driver
        self._calls = calls
        self._grace_seconds = grace_seconds
        self.capabilities = driver.capabilities  # type: ignore[misc]  # of the class, elsewhere

    @property
    def kind(self) -> str:
        """The name of the driver's own class."""
        return self._driver.kind

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return what the driver sees, or raise IndeterminateError in time."""
        return self._bounded("observe", partial(self._driver.observe, volume), timeout_seconds)

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return what the driver lists, or raise IndeterminateError in time."""
        return self._bounded("list_exports", self._driver.list_exports, timeout_seconds)

    def how_reached(self, *, timeout_seconds: float) -> str | None:
        """Return what the driver says, or raise IndeterminateError in time."""
        return self._bounded("how_reached", self._driver.how_reached, timeout_seconds)

    def reach_of(
        self, volume: VolumeRef, client: ClientInstance, *, timeout_seconds: float
    ) -> Reach:
        """Return what the driver counts, or raise IndeterminateError in time."""
        return self._bounded(
            "reach_of", partial(self._driver.reach_of, volume, client), timeout_seconds
        )

    def fences(self, *, timeout_seconds: float) -> Fences:
        """Return whom the cluster refuses, or raise IndeterminateError in time."""
        return self._bounded("fences", self._driver.fences, timeout_seconds)

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Have the driver renew it, or raise IndeterminateError in time."""
        return self._bounded(
            "renew_fence", partial(self._driver.renew_fence, address), timeout_seconds
        )

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Have the driver lift it, or raise IndeterminateError in time."""
        return self._bounded(
            "lift_fence", partial(self._driver.lift_fence, address), timeout_seconds
        )

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Have the driver do it, or raise IndeterminateError in time."""
        self._write("terminate_connection", volume, attachment, request_id, timeout_seconds)

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Have the driver do it, or raise IndeterminateError in time."""
        self._write("detach", volume, attachment, request_id, timeout_seconds)

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Have the driver do it, or raise IndeterminateError in time: twice the time limit.

        A driver terminates and detaches, each within the whole limit.
        """
        self._write("force_detach", volume, attachment, request_id, timeout_seconds, calls=2)

    def _bounded(self, method: str, call: Callable[..., T], timeout_seconds: float) -> T:
        made = partial(call, timeout_seconds=timeout_seconds)
        return self._calls.make(method, made, limit_seconds=timeout_seconds + self._grace_seconds)

    def _write(
        self,
        method: str,
        volume: VolumeRef,
        attachment: Attachment,
        request_id: str,
        timeout_seconds: float,
        *,
        calls: int = 1,
    ) -> None:
        write = getattr(self._driver, method)
        self._calls.make(
            method,
            lambda: write(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            ),
            limit_seconds=calls * timeout_seconds + self._grace_seconds,
            request_id=request_id,
        )


class BoundedDrivers:
    """The driver of each backend, its calls bounded. Thread-safe.

    A driver is made by ``driver_of``, which is bounded too: a constructor that hangs holds up its
    own backend alone.
    """

    def __init__(
        self,
        driver_of: Callable[[str], StorageDriver],
        backends: Backends,
        *,
        report: Callable[[DriverEvent], None] = uncounted,
    ) -> None:
        self._driver_of = driver_of
        self._backends = backends
        self._report = report
        self._lock = threading.Lock()
        self._calls: dict[str, BackendCalls] = {}
        self._drivers: dict[str, BoundedDriver] = {}
        self._returned: list[Returned] = []

    def __call__(self, backend: str) -> StorageDriver:
        """Return the driver of ``host@backend``. Blocks while it is made, at most half a minute.

        Raises what making it raises, TransientError if the backend is stopped, and
        IndeterminateError if its constructor hangs.
        """
        with self._lock:
            # The lock is held for two lookups only. Making a driver may hang.
            made, calls = self._drivers.get(backend), self._calls_of(backend)
        if made is not None:
            return made
        driver = calls.make(
            "the constructor",
            lambda: self._driver_of(backend),
            limit_seconds=MAKING_SECONDS,
            asks=False,
        )
        grace_seconds = self._backends.of(backend).policy.driver_grace_seconds
        with self._lock:
            return self._drivers.setdefault(backend, BoundedDriver(driver, calls, grace_seconds))

    def hanging(self) -> tuple[HangingCall, ...]:
        """Return the calls that were given up and have not returned, of every backend."""
        return tuple(call for calls in self._all().values() for call in calls.hanging())

    def stopped(self) -> Mapping[str, str]:
        """Return the backends whose drivers are not called any more, each with the reason."""
        whys = {backend: calls.stopped() for backend, calls in self._all().items()}
        return {backend: why for backend, why in whys.items() if why is not None}

    def take_returned(self) -> tuple[Returned, ...]:
        """Return the writes that have returned since they were given up; each is given once."""
        with self._lock:
            taken, self._returned = tuple(self._returned), []
        return taken

    def _all(self) -> Mapping[str, BackendCalls]:
        with self._lock:
            return dict(self._calls)

    def _calls_of(self, backend: str) -> BackendCalls:
        if backend not in self._calls:
            self._calls[backend] = BackendCalls(
                backend,
                self._backends.of(backend).hanging_calls,
                report=self._report,
                returned=self._note_returned,
            )
        return self._calls[backend]

    def _note_returned(self, returned: Returned) -> None:
        with self._lock:
            self._returned.append(returned)
