"""HTTP with one time limit for a whole call, which knows whether a request has gone out.

requests and urllib3 bound each wait for the next bytes: a peer that sends one byte at a time keeps
a call for ever, and an exception does not say whether the request had left. Here:

1. Every wait on a socket ends with the ``Exchange`` that is under way in the thread, whatever of it
   is going on: a token being fetched, versions being discovered, the call itself.
2. Before the first byte of a write leaves, the exchange is ``outstanding``, and it stays so until
   the write is answered. No error in between can mean "not sent".
3. A request whose time is up is not sent. The system's resolver has bounds of its own (resolv.conf:
   ``timeout``, ``attempts``), and may use up the time before.
4. Nothing is sent a second time here.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import requests
from keystoneauth1.session import TCPKeepAliveAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

REQUEST_ID = "X-OpenStack-Request-ID"
# A page of 1000 volumes has some megabytes. A peer that never stops must not take all memory.
MAX_BYTES = 64 * 1024 * 1024
UNAUTHORIZED = 401
MOST_CONNECTIONS = 256
"""More than any service has threads. urllib3's default is 10; it drops and logs each beyond."""


class AnswerTooLongError(OSError):
    """An answer was longer than any answer of OpenStack."""


@dataclasses.dataclass(slots=True)
class Exchange:
    """One call, however many HTTP requests it takes; ``ends_at`` is monotonic time.

    ``outstanding`` is True while a write has gone out, if only in part, and was not answered.
    """

    ends_at: float
    outstanding: bool = False
    writing: bool = False
    received: int = 0

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError where none are."""
        if (left := self.ends_at - time.monotonic()) <= 0:
            raise TimeoutError("the time for the call is up")
        return left

    def sending(self) -> None:
        """Note that bytes of a request are about to go out."""
        # Before they go out: an error in between means "perhaps".
        self.outstanding = self.outstanding or self.writing

    def receiving(self, count: int) -> None:
        """Note that bytes of an answer came in. Raises AnswerTooLongError."""
        self.received += count
        if self.received > MAX_BYTES:
            raise AnswerTooLongError(f"the answer is longer than {MAX_BYTES} bytes")


_UNBOUNDED = Exchange(float("inf"))
# A context variable, as nothing between keystoneauth and the socket would hand a time limit down.
_current = contextvars.ContextVar("exchange", default=_UNBOUNDED)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[Exchange]:
    """Bound all HTTP of this thread inside the block by ``seconds`` in total."""
    exchange = Exchange(time.monotonic() + seconds)
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


class BoundedLock:
    """A lock that is waited for no longer than the thread's exchange may last.

    An auth plugin fetches its token while it holds a lock that all threads need.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        exchange = _current.get()
        # keystoneauth holds it while it asks Keystone. With a plain lock, every thread would wait
        # for the one whose Keystone hangs.
        if not self._lock.acquire(timeout=-1 if exchange is _UNBOUNDED else exchange.left()):
            raise TimeoutError("the time for the call is up")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class BoundedTransport(TCPKeepAliveAdapter):
    """Carries the requests of a session within the thread's exchange. Never repeats one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Keep as many connections to an address as there were calls at once."""
        super().__init__(*args, pool_maxsize=MOST_CONNECTIONS, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use bounded connections."""
        super().init_poolmanager(*args, **kwargs)
        # urllib3 offers this for other classes of connections; requests makes the manager itself.
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Use bounded connections to a proxy too."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send one request; a write is one that carries our request id.

        A 401 is an answer: the service acted on nothing, and a new token may be fetched.
        """
        exchange = _current.get()
        # A token is fetched by a POST too: only what carries our request id acts on the cloud.
        exchange.writing = REQUEST_ID in request.headers
        # Replaces keystoneauth's, which bounds each read and not the whole.
        kwargs["timeout"] = None if exchange is _UNBOUNDED else exchange.left()
        response = super().send(request, *args, **kwargs)
        if response.status_code == UNAUTHORIZED:
            exchange.outstanding = False
        return response


class _Wire:
    """A connected socket, each operation of which ends with the exchange."""

    def __init__(self, its_socket: socket.socket) -> None:
        self._socket = its_socket

    def sendall(self, data: bytes) -> None:
        exchange = _current.get()
        _limit(self._socket, exchange)
        exchange.sending()
        self._socket.sendall(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return what http.client reads answers from; it asks for ``rb`` and nothing else."""
        # Buffered: http.client reads heads line by line.
        return io.BufferedReader(_Incoming(self._socket))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Incoming(io.RawIOBase):
    """What a socket receives. It holds the socket open, as ``socket.makefile`` does."""

    def __init__(self, its_socket: socket.socket) -> None:
        super().__init__()
        self._socket = its_socket
        # The file counts its users: the socket is closed only after the last answer was read.
        self._raw = its_socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        exchange = _current.get()
        _limit(self._socket, exchange)
        count = self._raw.readinto(buffer)
        exchange.receiving(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _limit(its_socket: socket.socket, exchange: Exchange) -> None:
    its_socket.settimeout(None if exchange is _UNBOUNDED else exchange.left())


class _Bounded(HTTPConnection):
    """Makes a connection within the exchange, be it to several addresses in turn."""

    def _new_conn(self) -> socket.socket:
        failure: OSError = OSError("the name has no address")
        try:
            # Each address by itself, with what is left of the time: urllib3 would give each the
            # whole of it.
            for address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
                try:
                    return self._connected(str(address[4][0]))
                except OSError as error:
                    failure = error
            raise failure
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except OSError as error:
            raise NewConnectionError(self, f"cannot connect to {self.host}: {error}") from error

    def _connected(self, ip: str) -> socket.socket:
        exchange = _current.get()
        limit = None if exchange is _UNBOUNDED else exchange.left()
        made = create_connection((ip, self.port), limit, self.source_address, self.socket_options)
        # Python bounds a TLS handshake as a whole by the socket's timeout.
        _limit(made, exchange)
        return made

    def connect(self) -> None:
        super().connect()
        # After the TLS handshake: from here on bytes are bytes of a request.
        self.sock = cast("socket.socket", _Wire(cast("socket.socket", self.sock)))


class _BoundedTls(_Bounded, HTTPSConnection):
    """The same with TLS."""


class _LengthChecked(HTTPConnectionPool):
    """Takes an answer that breaks off for an error; urllib3 1.26 would take it for a short one."""

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        return super().urlopen(*args, **{**kwargs, "enforce_content_length": True})


class _Pool(_LengthChecked):
    ConnectionCls = _Bounded


class _TlsPool(_LengthChecked, HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


_POOLS = {"http": _Pool, "https": _TlsPool}
