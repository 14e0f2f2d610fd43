"""Serving a simulated cloud from a process of its own, and connecting to one.

In short::

    server = serve_cloud(cloud, ("127.0.0.1", 0), b"key")       # threads of this process
    remote = connect_cloud(server.address, b"key")              # in another process
    remote.cinder, remote.nova, remote.driver("storage-1@tgt")  # as those of Cloud
    remote.scene.create_volume()                                # any public method of Cloud
    remote.scenes.uc5(host="compute-1")                         # any story of scenes.py
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import socket
import socketserver
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
from typing import Any

from drivers.errors import OutsideError
from drivers.simulator.cloud import Cloud
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.scenes import SCENES
from drivers.simulator.state import DEFAULT_BACKEND
from drivers.simulator.wire import (
    Caller,
    Forwarder,
    Frames,
    RemoteFaces,
    handshake,
    parse_address,
)

LOG = logging.getLogger(__name__)
FACES = ("cinder", "nova", "storage")


class RemoteCloud(RemoteFaces):
    """A cloud that another process serves.

    ``scene`` forwards every public method of ``Cloud`` whose arguments and result can be pickled
    (all but ``begin_attach``, ``driver`` and ``blind_driver``); ``scenes`` plays the stories of
    ``scenes.py`` at the far end and returns the ``Scene``.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self.scene: Any = Forwarder(caller, "scene")
        self.scenes: Any = Forwarder(caller, "scenes")

    def driver(self, backend: str = DEFAULT_BACKEND) -> SimulatorDriver:
        """Return a driver for one of its backends."""
        return SimulatorDriver(backend, {}, cloud=self)


class CloudServer(socketserver.ThreadingTCPServer):
    """Serves one cloud; a thread a connection. Use ``serve_cloud``."""

    allow_reuse_address = True
    # Joined at the close, so that no call of one test is answered in the next.
    daemon_threads = False
    # Each thread of a client connects by itself, many at once.
    request_queue_size = 256

    def __init__(self, cloud: Cloud, address: tuple[str, int], authkey: bytes) -> None:
        super().__init__(address, _Handler)
        self.cloud = cloud
        self.authkey = authkey
        self._open: set[socket.socket] = set()
        self._closing = False
        self._open_lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="simulated-cloud"
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port`` with the port that was really bound."""
        host, port = self.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Close all connections and stop; the cloud itself stays open.

        Waits for calls under way, a hanging one until its own limit: ``Cloud.close`` wakes those.
        """
        self.shutdown()
        self._thread.join()
        with self._open_lock:
            self._closing = True
            for open_socket in self._open:
                _hang_up(open_socket)
        self.server_close()

    def wait(self) -> None:
        """Block until the server is closed."""
        self._thread.join()

    def __enter__(self) -> CloudServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def answering(self, request: socket.socket, *, begins: bool) -> None:
        """Keep count of the open connections, so that ``close`` can hang up on them."""
        with self._open_lock:
            (self._open.add if begins else self._open.discard)(request)
            # It was accepted before the end, and its thread came to this only now: that is joined.
            if begins and self._closing:
                _hang_up(request)


def _hang_up(open_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)


class _Handler(socketserver.BaseRequestHandler):
    """Answers one connection until it ends."""

    server: CloudServer
    request: socket.socket

    def handle(self) -> None:
        # Small messages in both directions: Nagle's algorithm would hold each back.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.answering(self.request, begins=True)
        try:
            with contextlib.suppress(EOFError, OSError, AuthenticationError):
                self._answer_all()
        finally:
            self.server.answering(self.request, begins=False)

    def _answer_all(self) -> None:
        with handshake(self.request) as connection:
            # Before a pickle is read: whoever can send one can run any code here.
            deliver_challenge(connection, self.server.authkey)
            answer_challenge(connection, self.server.authkey)
        with contextlib.closing(Frames(self.request)) as frames:
            while True:
                call = pickle.loads(frames.receive())  # noqa: S301 - the far end knows the key
                frames.send(self._answer(*call))

    def _answer(
        self, face: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        """Make the call and pickle what it returned or raised; a broken call breaks no other."""
        try:
            return pickle.dumps((True, self._target(face, method)(*args, **kwargs)))
        except OutsideError as error:
            return pickle.dumps((False, type(error).__name__, str(error)))
        except Exception as error:
            LOG.exception("The simulated cloud could not answer %s.%s", face, method)
            return pickle.dumps((False, type(error).__name__, str(error)))

    def _target(self, face: str, method: str) -> Callable[..., object]:
        cloud = self.server.cloud
        if face == "scenes":
            return functools.partial(SCENES[method], cloud)
        if method.startswith("_"):
            raise AttributeError(f"{method} is private.")
        target: Callable[..., object] = getattr(
            getattr(cloud, face) if face in FACES else cloud, method
        )
        return target


def serve_cloud(
    cloud: Cloud, address: tuple[str, int] = ("127.0.0.1", 0), authkey: bytes = b"simulated cloud"
) -> CloudServer:
    """Serve a cloud on loopback from threads of this process; port 0 picks a free one."""
    return CloudServer(cloud, address, authkey)


def connect_cloud(address: str, authkey: bytes = b"simulated cloud") -> RemoteCloud:
    """Return a cloud that another process serves; connects with the first call."""
    return RemoteCloud(Caller(parse_address(address), authkey))
