"""The HTTP server of the running service.

``/metrics`` is for Prometheus, ``/healthz`` and ``/readyz`` are for the program that supervises the
process. There is no authentication, and no page contains a secret. By default it listens on
loopback only. Further pages may be mounted below a path of their own.

Waitress serves them: one thread reads requests and writes answers for all connections, and
``THREADS`` threads make the pages. So a client that is slow takes a connection and no thread. What
bounds it:

1. A connection is closed when nothing has happened on it for ``REQUEST_SECONDS``, or when a request
   has waited that long for its client, from its first byte to the last byte of its answer. So a
   client that sends or reads a byte now and then does not stay.
2. At most ``CONNECTIONS`` are open, fewer than the 1024 files that a process may usually open.
   Others wait in the backlog of the socket.
3. A request has a head of 16 KB and a body of 64 KB at most; no page needs a body.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger(__name__)

# Prometheus gives a scrape ten seconds by default.
REQUEST_SECONDS = 10.0
CLEANUP_SECONDS = 1.0
THREADS = 4
CONNECTIONS = 700
LOWEST_PORT = 1024
"""Of those that every user may listen on, by the default of ip_unprivileged_port_start."""
BACKLOG = 1024
LONGEST_HEAD, LONGEST_BODY = 16 * 1024, 64 * 1024

# It warns of each request that waits for a thread; that is what threads are few for.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)


class ExporterError(Exception):
    """The exporter cannot listen on the configured address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """The check of one component; ``reason`` is a sentence without secrets.

    ``degraded``: it is ready, but something that it needs does not work now, for example Nova, or
    one backend. What does not need that goes on.
    """

    component: str
    ok: bool
    reason: str
    degraded: bool = False


Checks = Callable[[], Sequence[Check]]
Stuck = Callable[[], Sequence[str]]


def nothing_is_stuck() -> Sequence[str]:
    """Return no reason: for a process without loops."""
    return ()


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that knows when its request began."""

    begun_at = 0.0

    def received(self, data: bytes) -> bool:
        """Take what the client sent."""
        # The first bytes of a request, and not of the connection: Prometheus keeps one open between
        # scrapes.
        if self.request is None:
            self.begun_at = time.time()
        return bool(super().received(data))

    def is_too_slow(self, cutoff: float) -> bool:
        """Tell whether it waits for its client, and has done so since before ``cutoff``."""
        if self.requests:
            return False  # a page is being made
        halfway = self.request is not None or self.total_outbufs_len > 0
        return self.last_activity < cutoff or (halfway and self.begun_at < cutoff)


class _Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    channel_class = _Channel

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._pulling = threading.Lock()
        self._is_over = False
        super().__init__(*arguments, **options)

    def pull_trigger(self) -> None:
        """Wake the thread of all connections, from any other thread; do nothing once it is over."""
        # A page that outlasts the wait of stop() comes here when the pipe is closed: its byte would
        # go into whatever file has the number next, the ledger perhaps.
        with self._pulling:
            if not self._is_over:
                super().pull_trigger()

    def maintenance(self, now: float) -> None:
        """Close the connections of clients that are too slow.

        At once: waitress closes what is marked as ``will_close`` when the client reads, and this
        one may never read. It runs in the thread of all connections.
        """
        # A copy, as closing takes it out of the dictionary.
        for channel in list(self.active_channels.values()):
            if channel.is_too_slow(now - REQUEST_SECONDS):
                channel.handle_close()

    def bind_server_socket(self) -> None:
        """Bind; leave nothing open if that fails."""
        try:
            super().bind_server_socket()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; also close the copy of the trigger's pipe that waitress leaves open."""
        pipe = self.trigger.socket
        super().close()
        if pipe is not None:
            pipe.close()

    def stop(self) -> None:
        """Close everything, from another thread; ``run`` then returns.

        A page that is being made is waited for, a second at most.
        """
        self.task_dispatcher.shutdown(timeout=1)  # first: its threads write to the trigger
        with self._pulling:
            self.trigger.pull_trigger(self._close_all)

    def _close_all(self) -> None:
        # A page that was just made may have woken this thread before stop() pulls: the trigger is
        # closed only when nobody pulls.
        with self._pulling:
            self._is_over = True
            wasyncore.close_all(self._map)


class Exporter:
    """Serves the metrics of ``registry``, the answers of ``checks``, and what is ``mounted``.

    ``mounted`` has an application for a path and what is below it. ``/healthz`` answers 200, or 503
    with the reasons that ``stuck`` returns: then only a restart helps. ``/readyz`` answers 200 if
    every check is ok, degraded or not, else 503; its body has each component with the reason.
    """

    def __init__(
        self,
        address: str,
        port: int,
        registry: CollectorRegistry,
        checks: Checks,
        *,
        stuck: Stuck = nothing_is_stuck,
        mounted: Mapping[str, WSGIApplication] | None = None,
    ) -> None:
        self._address, self._port = address, port
        self._app = application(registry, checks, stuck, mounted or {})
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; useful if the configured port is 0."""
        return int(self._server.effective_port) if self._server else self._port

    def start(self) -> None:
        """Listen and serve in a separate thread. Raises ExporterError if it cannot listen."""
        self._server = _listen(self._address, self._port, self._app)
        # A daemon: a page that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._server.run, name="exporter", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port; blocks for a moment. A second call does nothing."""
        server, self._server = self._server, None
        if server and self._thread:
            server.stop()
            self._thread.join()


def _listen(address: str, port: int, app: WSGIApplication) -> _Server:
    options: dict[str, Any] = {
        "connection_limit": CONNECTIONS,
        "backlog": BACKLOG,
        "cleanup_interval": CLEANUP_SECONDS,
        "max_request_header_size": LONGEST_HEAD,
        "max_request_body_size": LONGEST_BODY,
        "asyncore_use_poll": True,  # select() takes no file above 1024
        "ident": "detachd",
    }
    dispatcher = ThreadedTaskDispatcher()
    try:
        server = _Server(app, dispatcher=dispatcher, host=address, port=port, **options)
    except (OSError, ValueError) as error:  # ValueError: the name has no address
        raise ExporterError(
            f"the exporter cannot listen on {address} port {port}: "
            f"{getattr(error, 'strerror', None) or error}; {_advice(error, port)}"
        ) from error
    # Only now: a failure to bind would leave the threads running.
    dispatcher.set_thread_count(THREADS)
    return server


def _advice(error: OSError | ValueError, port: int) -> str:
    if isinstance(error, PermissionError) and port < LOWEST_PORT:
        return f"below {LOWEST_PORT} it needs a right of root: set [exporter] port to a higher one"
    return "set address and port in [exporter] to an address and a port that are free"


def application(
    registry: CollectorRegistry,
    checks: Checks,
    stuck: Stuck,
    mounted: Mapping[str, WSGIApplication],
) -> WSGIApplication:
    """Return the three pages, and those that are mounted, as a WSGI application."""
    metrics = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            return _answer(start_response, "405 Method Not Allowed", {"allowed": ["GET", "HEAD"]})
        match environ.get("PATH_INFO"):
            case "/metrics":
                # prometheus_client answers 405 to a HEAD, which supervisors and probes send.
                page = metrics(environ | {"REQUEST_METHOD": "GET"}, start_response)
            case "/healthz":
                page = _liveness(start_response, stuck())
            case "/readyz":
                page = _readiness(start_response, checks())
            case path if found := _mounted_at(mounted, path):
                page = found(environ, start_response)
            case _:
                pages = ["/metrics", "/healthz", "/readyz", *mounted]
                page = _answer(start_response, "404 Not Found", {"pages": pages})
        return page if method == "GET" else ()

    return app


def _liveness(start_response: StartResponse, stuck: Sequence[str]) -> Iterable[bytes]:
    if not stuck:
        return _answer(start_response, "200 OK", {"alive": True})
    body = {"alive": False, "stuck": list(stuck)}
    return _answer(start_response, "503 Service Unavailable", body)


def _mounted_at(mounted: Mapping[str, WSGIApplication], path: str | None) -> WSGIApplication | None:
    # With the slash on both sides: /statusx is not below /status.
    below = (app for at, app in mounted.items() if f"{path}/".startswith(f"{at}/"))
    return next(below, None)


def _readiness(start_response: StartResponse, checks: Sequence[Check]) -> Iterable[bytes]:
    ready = all(check.ok for check in checks)
    body = {
        "ready": ready,
        "components": {c.component: _component(c) for c in checks},
    }
    return _answer(start_response, "200 OK" if ready else "503 Service Unavailable", body)


def _component(check: Check) -> dict[str, object]:
    degraded = {"degraded": True} if check.degraded else {}
    return {"ok": check.ok, "reason": check.reason, **degraded}


def _answer(start_response: StartResponse, status: str, body: object) -> Iterable[bytes]:
    page = json.dumps(body).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(page)))]
    # An old answer of /readyz would keep a sick process in service.
    start_response(status, [*headers, ("Cache-Control", "no-store")])
    return [page]
