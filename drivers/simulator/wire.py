"""A simulated cloud at the far end of a loopback connection.

1. One connection a thread, opened when the thread first calls.
2. Both ends prove that they know the key (``multiprocessing``'s challenge) before anything is
   unpickled.
3. After an error a connection is not used again: a late answer would be taken for the next call's.

A message is a pickle behind its length: a call is ``(face, method, args, kwargs)``, the answer
``(True, value)`` or ``(False, error class, text)``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, cast

from drivers import errors
from drivers.control_plane import Cinder, Nova
from drivers.errors import IndeterminateError, OutsideError, PermanentError, TransientError
from drivers.simulator.storage_face import StorageFace

# The far end keeps to the limit itself; this is for the way there and back.
GRACE_SECONDS = 0.5
SCENE_SECONDS = 60.0
HIGHEST_PORT = 65535
KINDS: dict[str, type[OutsideError]] = {
    kind.__name__: kind
    for kind in (
        errors.TransientError,
        errors.IndeterminateError,
        errors.PermanentError,
        errors.NotFoundError,
        errors.ConflictError,
    )
}


LENGTH = struct.Struct("!I")


class RemoteCloudError(RuntimeError):
    """The simulated cloud broke while answering; that is a bug in it or in the call."""


class Frames:
    """Whole messages over one socket, each sent and as a rule received by one call of the kernel.

    ``multiprocessing``'s own way takes two for each way, and each lets another thread in: a client
    with many threads waits for its turn more than for the cloud.
    """

    def __init__(self, its_socket: socket.socket) -> None:
        self._socket = its_socket
        self._reader = its_socket.makefile("rb")

    def send(self, message: bytes) -> None:
        """Send one message."""
        self._socket.sendall(LENGTH.pack(len(message)) + message)

    def receive(self) -> bytes:
        """Return the next message; EOFError where it does not come, or not whole."""
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        return self._read(length)

    def close(self) -> None:
        """Let go of the socket, which is not closed before."""
        self._reader.close()

    def _read(self, length: int) -> bytes:
        read = self._reader.read(length)
        if read is None or len(read) < length:  # None: the kernel's own limit on the socket
            raise EOFError
        return read


class Line:
    """One thread's connection; every read and write is bounded."""

    def __init__(self, address: tuple[str, int], authkey: bytes, timeout_seconds: float) -> None:
        self._socket = socket.create_connection(address, timeout_seconds)
        # The limit is the kernel's from here on (``_limit``).
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = Frames(self._socket)
        self._limited_to = 0.0
        # A thread that ends drops its connection silently; this closes it then.
        self._hang_up = weakref.finalize(self, _close, self._socket, self._frames)
        try:
            self._limit(timeout_seconds)
            with handshake(self._socket) as connection:
                answer_challenge(connection, authkey)
                deliver_challenge(connection, authkey)
        except BaseException:
            self.close()
            raise

    def send(self, message: object, timeout_seconds: float) -> None:
        """Send a call; OSError means that the far end never gets the whole of it."""
        self._limit(timeout_seconds)
        self._frames.send(pickle.dumps(message))

    def receive(self) -> Any:
        """Wait for the answer; OSError or EOFError means that it is lost."""
        return pickle.loads(self._frames.receive())  # noqa: S301 - the far end knows the key

    def close(self) -> None:
        """Close; harmless twice, and from another thread (which wakes a waiting one)."""
        self._hang_up()

    def _limit(self, seconds: float) -> None:
        """Let the kernel bound each read and write, which Python's own timeouts make dearer."""
        if seconds == self._limited_to:
            return
        self._limited_to = seconds
        # A struct timeval.
        whole = int(seconds)
        limit = struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, limit)


class Caller:
    """Carries calls to the far end; thread-safe, one connection a thread."""

    def __init__(self, address: tuple[str, int], authkey: bytes) -> None:
        self._address = address
        self._authkey = authkey
        self._own = threading.local()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()

    def call(self, face: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Make one call, bounded by its ``timeout_seconds`` and a short grace.

        A call that was surely not received raises TransientError, one whose answer was lost
        IndeterminateError; else what the far end answered or raised.
        """
        limit = float(kwargs.get("timeout_seconds", SCENE_SECONDS)) + GRACE_SECONDS
        line = self._send(limit, (face, method, args, kwargs))
        try:
            answer = line.receive()
        except (OSError, EOFError):
            self._hang_up(line)
            raise IndeterminateError(
                f"{face}.{method}: the simulated cloud gave no answer."
            ) from None
        return _opened(answer)

    def close(self) -> None:
        """Close every thread's connection."""
        for line in list(self._lines):
            line.close()

    def _send(self, limit: float, message: tuple[Any, ...]) -> Line:
        try:
            line = self._line(limit)
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or error
            raise TransientError(
                f"The simulated cloud cannot be reached: {why}; `detachd simulate` runs one."
            ) from None
        except AuthenticationError:
            raise PermanentError("The simulated cloud does not accept this authkey.") from None
        try:
            line.send(message, limit)
        except OSError as error:
            self._hang_up(line)
            raise TransientError(f"The simulated cloud did not get the call: {error}.") from None
        return line

    def _line(self, limit: float) -> Line:
        line: Line | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = Line(self._address, self._authkey, limit)
            self._lines.add(line)
        return line

    def _hang_up(self, line: Line) -> None:
        """Close a broken connection; a late answer must never be taken for the next call's."""
        self._own.line = None
        line.close()


class Forwarder:
    """Makes each attribute a call of that method on one face of the far cloud."""

    def __init__(self, caller: Caller, face: str) -> None:
        self._caller = caller
        self._face = face

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._caller.call(self._face, method, *args, **kwargs)

        return call


class RemoteFaces:
    """The faces of a far cloud: the same protocols as those of ``Cloud``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.cinder = cast("Cinder", Forwarder(caller, "cinder"))
        self.nova = cast("Nova", Forwarder(caller, "nova"))
        self.storage = cast("StorageFace", Forwarder(caller, "storage"))

    def close(self) -> None:
        """Close every connection; later calls connect anew."""
        self._caller.close()


def handshake(its_socket: socket.socket) -> Connection[Any, Any]:
    """Return what ``multiprocessing`` exchanges its challenges over; close it after those."""
    return Connection(os.dup(its_socket.fileno()))


def _close(its_socket: socket.socket, frames: Frames) -> None:
    with contextlib.suppress(OSError):
        its_socket.shutdown(socket.SHUT_RDWR)
    its_socket.close()
    with contextlib.suppress(OSError):
        frames.close()


def parse_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; ValueError in words where it is not that."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) <= HIGHEST_PORT):
        raise ValueError(
            "The address of a simulated cloud is host:port, with a port of at most "
            f"{HIGHEST_PORT}, not {address!r}."
        )
    return host, int(port)


def _opened(answer: tuple[Any, ...]) -> Any:
    match answer:
        case (True, value):
            return value
        case (False, str(kind), str(text)) if kind in KINDS:
            raise KINDS[kind](text)
        case _:
            raise RemoteCloudError(": ".join(str(part) for part in answer[1:]))
