"""A storage driver in child processes, which can be killed where a thread cannot.

A child has one call at a time, so that whoever else is at work is not hit when it is killed.

1. A call that has not returned in the middle of its grace is killed, by SIGKILL, with all processes
   of its group. What it has sent to the backend may still be carried out: IndeterminateError.
2. It is over for us only when the kernel has collected the child. One that hangs in the kernel
   cannot be killed at once; its call does not return before, and counts as hanging meanwhile.
3. A child ends with this process. It waits for the end of its socket in a thread, and kills its
   group then. Where the driver keeps that thread from running, the kernel kills the child: by the
   signal of its parent's death, which Linux sends at the end of the thread that has started it. So
   one thread starts all children, and lives as long as the process.
4. Errors keep their three kinds. Of any other error only the name comes over.
5. An answer counts only if it has the number of the question. A driver may fork, and the fork go on
   as if it were the driver: it has no end of the socket.
6. A call that comes to be made after its time is not made. The kernel ends a child whose call is
   past it, for the case that we are stopped ourselves.
7. A child runs the code that is installed when it starts. Where that is another than ours, by an
   upgrade without a restart, it makes no call: fields could be taken for others.

What a driver has started in a process group of its own is not killed with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from drivers import base
from drivers.base import Capabilities, StorageDriver
from drivers.child import KILL_SECONDS, Deadline
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.process_pool import ProcessPool

LOG = logging.getLogger(__name__)
# Not ``multiprocessing``: its spawn imports the main module again, all of detachd, for each child.
CHILD = "from drivers.child_driver import serve; serve()"
# The narrower kinds first: the first that fits is the one that comes over.
KINDS = (NotFoundError, ConflictError, PermanentError, IndeterminateError, TransientError)
WRITES = frozenset({"terminate_connection", "detach", "force_detach", "renew_fence", "lift_fence"})
# The question that asks for no method: whether the driver could be made.
NO_METHOD = ""
MAKING_SECONDS = 25.0
DIE_WITH_PARENT = 1  # prctl PR_SET_PDEATHSIG
FOR_THE_SERVICE = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
UPGRADED = "detachd or the storage driver was upgraded while detachd runs: restart detachd"
TOO_LATE = "Nothing done: the call came to be made after its time."
# One thread, which lives as long as the process: see 3 above.
STARTER = ThreadPoolExecutor(1, "starts drivers")

Make = Callable[[], StorageDriver]
"""Makes the driver in the child; can be pickled."""


class HungError(IndeterminateError):
    """A call of a storage driver did not return in time, and its process was killed."""


class DriverFailedError(Exception):
    """A driver raised an error that is none of the three kinds; ``name`` is the error's class."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the storage driver failed with {name}")
        self.name = name


class NotMadeError(Exception):
    """The driver could not be made; the text is the one of the error that was raised for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One call of a method, with its number; it is not begun after ``until`` (monotonic)."""

    number: int
    until: float
    method: str
    args: tuple[Any, ...]
    named: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What the method has returned."""

    value: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """What it raised: a place in KINDS, or None and the name of the class."""

    kind: int | None
    words: str
    retry_after_seconds: float = 0.0

    @classmethod
    def by(cls, error: BaseException) -> Failed:
        """Return what comes over of an error."""
        if not isinstance(error, OutsideError):
            return cls(None, type(error).__name__)
        kinds = [number for number, kind in enumerate(KINDS) if isinstance(error, kind)]
        after = getattr(error, "retry_after_seconds", 0.0)
        # An OutsideError of a kind of its own may have acted.
        return cls((*kinds, KINDS.index(IndeterminateError))[0], str(error), after)

    def error(self) -> Exception:
        """Return the error as the caller would have had it."""
        if self.kind is None:
            # Only the name of the class: the text of a foreign error may hold anything, a password
            # too.
            return DriverFailedError(self.words)
        if KINDS[self.kind] is TransientError:
            return TransientError(self.words, retry_after_seconds=self.retry_after_seconds)
        return KINDS[self.kind](self.words)


@dataclasses.dataclass(frozen=True, slots=True)
class NotMade:
    """Why there is no driver."""

    words: str


Answer = Done | Failed | NotMade


def contract(capabilities: Capabilities) -> str:
    """Return what both sides have to agree on: what is pickled, by position, and what it means."""
    fields = {
        kind.__qualname__: [field.name for field in dataclasses.fields(kind)]
        # Every dataclass that may be pickled, found and not listed, so that a new one is not
        # forgotten.
        for kind in (*vars(base).values(), *globals().values())
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
    return f"{sorted(fields.items())} {[kind.__name__ for kind in KINDS]} {capabilities}"


# -- here ------------------------------------------------------------------------------------------


class Child:
    """One child process with its own driver, for one call after the other."""

    def __init__(self, make: Make, agreed: str) -> None:
        """Start it; raises TransientError where the machine cannot."""
        try:
            self._process, self._socket = STARTER.submit(_started).result()
        except (OSError, RuntimeError) as error:
            raise TransientError(f"no process was started for the call: {error}") from error
        # ``multiprocessing.connection`` frames and pickles; the socket itself is kept for
        # ``shutdown``.
        self._connection = Connection(self._socket.fileno())
        self._numbers = itertools.count(1)
        self._killing = threading.Lock()
        self._was_killed = self._is_over = False
        self._asked: int | None = None
        # Sent with the first question, so that to start a child does not wait until it reads.
        self._unsent = [list(sys.path), logging.getLogger().getEffectiveLevel(), agreed, make]

    @property
    def pid(self) -> int:
        """The process."""
        return int(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Tell whether it may be asked again."""
        # Not collected, so that its number stays that of its group until that is killed.
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        # One that is just dying may still count as alive. It is asked then, and gives no answer: a
        # write is IndeterminateError although nothing was done, which is the safe side.
        return not self._was_killed and os.waitid(os.P_PID, self._process.pid, how) is None

    def ask(
        self, method: str, args: tuple[Any, ...], named: dict[str, Any], deadline: Deadline
    ) -> Answer | None:
        """Have it make one call.

        None where it was killed at the deadline, has ended, or says what is no answer to this.
        """
        # A moment of the machine's clock, not a duration: the child may have been stopped before it
        # reads.
        question = Question(next(self._numbers), deadline.at_seconds, method, args, named)
        # A timer, as ``recv`` has no limit: the kill shuts the socket down, which ends it.
        limit_seconds = max(deadline.left_seconds, 0.0)
        killer = threading.Timer(limit_seconds, self._kill, (question.number,))
        # A service that stops does not wait for calls that hang.
        killer.daemon = True
        self._asked = question.number
        try:
            killer.start()
        except RuntimeError as error:
            raise TransientError("the machine has no thread left for the call") from error
        try:
            for what in (*self._unsent, question):
                self._connection.send(what)
            self._unsent.clear()
            # Log lines come before the answer; written in this thread, they name its case.
            while isinstance(told := self._connection.recv(), logging.LogRecord):
                logging.getLogger(told.name).handle(told)
        except (EOFError, OSError):
            return None
        finally:
            with self._killing:
                self._asked = None
            killer.cancel()
        number, answer = told
        # A fork of the driver may answer the last call once more (see 5).
        return cast("Answer", answer) if number == question.number else None

    @property
    def was_killed(self) -> bool:
        """Tell whether it was killed because it did not answer."""
        return self._was_killed

    def end(self) -> None:
        """Kill it and its group, and wait until it is gone, however long that takes."""
        self._kill()
        with self._killing:
            self._is_over = True  # its number may soon be another one's
        self._process.wait()
        self._connection.close()
        self._socket.detach()  # the same one

    def _kill(self, number: int | None = None) -> None:
        """Kill it; where a number is given, only in the midst of that call."""
        with self._killing:
            # A timer that goes off cannot be cancelled any more: it would hit whoever asks next.
            if number is not None and number != self._asked:
                return
            self._was_killed = True
            if not self._is_over:
                with contextlib.suppress(ProcessLookupError):
                    # The group: what the driver has started would otherwise hold the socket, and
                    # act on.
                    os.killpg(self._process.pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    # Another process may have its end: of a fork by a library in C.
                    self._socket.shutdown(socket.SHUT_RDWR)


def _started() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child; return it, and our end of the socket that it has for its stdin."""
    # What is asked goes through a socket: options may be secret, and everybody can read a command
    # line.
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undone:
        undone.enter_context(ours)
        process = subprocess.Popen(  # noqa: S603 - ourselves
            # -P: without it Python puts the working directory before all packages.
            [sys.executable, "-P", "-c", CHILD],
            stdin=theirs.fileno(),
            process_group=0,
        )
        undone.pop_all()
        return process, ours


def _made_in_a_child(method: str, *, calls: int = 1) -> Any:
    """Return a method that is called in a child, ``calls`` time limits long."""

    def call(self: ChildDriver, *args: Any, timeout_seconds: float, **named: Any) -> Any:
        named["timeout_seconds"] = timeout_seconds
        # Half of the grace: the other half is for the kill, before the caller gives the call up.
        return self.ask(method, args, named, calls * timeout_seconds + self.grace_seconds / 2)

    return call


class ChildDriver(StorageDriver):
    """A driver whose every call is made in a child process."""

    how_reached = _made_in_a_child("how_reached")
    observe = _made_in_a_child("observe")
    list_exports = _made_in_a_child("list_exports")
    reach_of = _made_in_a_child("reach_of")
    fences = _made_in_a_child("fences")
    renew_fence = _made_in_a_child("renew_fence")
    lift_fence = _made_in_a_child("lift_fence")
    terminate_connection = _made_in_a_child("terminate_connection")
    detach = _made_in_a_child("detach")
    force_detach = _made_in_a_child("force_detach", calls=2)

    def __init__(
        self,
        kind: type[StorageDriver],
        backend: str,
        options: Mapping[str, Any],
        make: Make,
        *,
        grace_seconds: float,
        most: int,
    ) -> None:
        """Make a driver of this kind once, in a child, to see whether it can be made.

        ``most``: how many calls there may be at once. Blocks while it is made. Raises NotMadeError.
        """
        super().__init__(backend, options)
        self.capabilities = kind.capabilities  # type: ignore[misc]  # of the class, elsewhere
        self.opts = kind.opts  # type: ignore[misc]
        self._kind = kind.__name__
        self.grace_seconds = grace_seconds
        agreed = contract(kind.capabilities)
        # The lambda holds no reference to self, or the driver would never be collected.
        self._children = ProcessPool(lambda: Child(make, agreed), most)
        weakref.finalize(self, self._children.close)
        try:
            # Once at the start, so that wrong options are told then and not by the first case.
            self.ask(NO_METHOD, (), {}, MAKING_SECONDS)
        except OutsideError as error:
            raise NotMadeError(str(error)) from error

    @property
    def kind(self) -> str:
        """The name of the driver's own class."""
        return self._kind

    def ask(self, method: str, args: tuple[Any, ...], named: dict[str, Any], seconds: float) -> Any:
        """Have a child make the call; blocks for so long, and until a killed child is gone."""
        deadline = Deadline.after(seconds)
        with self._children.lend(deadline) as lent:
            # A kept one may have been killed by the system, out of memory for instance: then
            # nothing was asked of it, and another one is.
            if lent.is_new or lent.one.is_alive:
                told = lent.one.ask(method, args, named, deadline)
                # After an error that is none of the three kinds the driver may be broken in itself.
                lent.is_sound = is_plain(told) and lent.one.is_alive
                return self._meant(method, told, lent.one)
        return self.ask(method, args, named, deadline.left_seconds)  # it had ended meanwhile

    def _meant(self, method: str, told: Answer | None, child: Child) -> Any:
        match told:
            case Done(value):
                return value
            case NotMade(words) if method == NO_METHOD:
                raise NotMadeError(words)
            case NotMade(words):  # an earlier child could make it
                raise TransientError(f"Nothing done: {words}")
            case Failed() as failed:
                raise failed.error()
            case None if child.was_killed:
                raise HungError(
                    f"the storage driver of backend {self.backend} did not return from "
                    f"{method or 'its constructor'} in time; its process {child.pid} is killed, "
                    "and what it has asked for may still happen"
                )
        # A look that broke off has done nothing; a write may have gone out before the child died.
        kind = IndeterminateError if method in WRITES else TransientError
        raise kind(
            f"the process of the storage driver of backend {self.backend} ended in the middle of "
            f"{method or 'its constructor'}"
        )


def is_plain(told: Answer | None) -> bool:
    """Tell whether the driver has returned or raised one of the three kinds. Pure."""
    return isinstance(told, Done) or (isinstance(told, Failed) and told.kind is not None)


# -- in the child ----------------------------------------------------------------------------------


class _Carrying(QueueHandler):
    """Sends what is logged to the process that logs."""

    def __init__(self, send: Callable[[object], None]) -> None:
        super().__init__(cast("Any", None))
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)


def serve() -> None:
    """Make the driver and its calls until the other side is gone. The main of a child."""
    # First of all: whatever follows may hang, and the kernel needs no thread of ours.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    _leave_signals_to_the_service()
    # A copy, because the driver's standard input becomes /dev/null below.
    connection = Connection(os.dup(0))
    # A fork with the socket would hold up the call for as long as it lives.
    os.register_at_fork(after_in_child=connection.close)
    _leave_the_standard_streams()
    threading.Thread(target=_end_with, args=(connection.fileno(),), daemon=True).start()
    # A thread of the driver may log while the answer is sent.
    sending = threading.Lock()

    def send(what: object) -> None:
        if not connection.closed:
            with sending:
                connection.send(what)

    # As ours: a driver that is found by a path of the service's has to be found here too.
    sys.path[:] = connection.recv()
    logging.getLogger().setLevel(connection.recv())
    logging.getLogger().addHandler(_Carrying(send))
    answer = _answering(agreed=connection.recv(), make=connection.recv())
    while not connection.closed:
        question = connection.recv()
        send((question.number, _in_time(answer, question)))


def _leave_signals_to_the_service() -> None:
    """Ignore what may go to all processes of the unit; the service ends its calls first.

    By a handler, which the programs that the driver runs do not inherit.
    """
    # It ends a call that is past its time (see 6); ignored by our parent, it would not.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in FOR_THE_SERVICE:
        signal.signal(number, _ignored)
        # Otherwise a system call of the driver's C library would end with EINTR.
        signal.siginterrupt(number, False)


def _ignored(number: int, frame: types.FrameType | None) -> None:
    """Do nothing."""


def _in_time(answer: Callable[[Question], Answer], question: Question) -> Answer:
    """Answer; the kernel ends this process a little later than the other side kills it."""
    left_seconds = question.until - time.monotonic()
    if left_seconds <= 0:
        return Failed.by(TransientError(TOO_LATE))
    # Later than the kill from outside, which is the usual way and gives the better error.
    signal.setitimer(signal.ITIMER_REAL, left_seconds + KILL_SECONDS)
    try:
        return answer(question)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _leave_the_standard_streams() -> None:
    """Have the driver read nothing, and print where the journal is."""
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)


def _end_with(socket_number: int) -> None:
    """End with all that was started when the other side of the socket is gone."""
    poll = select.poll()
    # Its end alone: this thread must not read what the other one waits for.
    poll.register(socket_number, select.POLLRDHUP)
    poll.poll()
    os.killpg(0, signal.SIGKILL)


def _answering(agreed: str, make: Make) -> Callable[[Question], Answer]:
    """Make the driver; return what calls it, or what says why there is none."""
    try:
        driver = make()
    except Exception as error:  # noqa: BLE001 - the one who asks is told
        not_made = NotMade(str(error))
        return lambda _: not_made
    # After the making: the class that was really loaded is the one that counts.
    if contract(type(driver).capabilities) != agreed:
        return lambda _: NotMade(UPGRADED)

    def answer(question: Question) -> Done | Failed:
        try:
            call = getattr(driver, question.method) if question.method else lambda: None
            return Done(call(*question.args, **question.named))
        # SystemExit of a library too: it must not end the child without an answer.
        except BaseException as error:  # noqa: BLE001 - the one who asks is told
            return Failed.by(error)

    return answer
