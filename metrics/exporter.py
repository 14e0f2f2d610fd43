"""What other programs may ask the running service over HTTP.

``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for whoever keeps the process running.

There is no authentication and nothing secret; it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.1


class ExporterError(Exception):
    """The exporter could not listen on the address that it was given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """What one component says of itself; ``reason`` is a sentence, and safe to show."""

    component: str
    ok: bool
    reason: str


Checks = Callable[[], Sequence[Check]]


class _Server(ThreadingMixIn, WSGIServer):
    # A thread for each request, so that one slow client does not keep Prometheus waiting; daemon
    # threads, so that it does not keep the process from ending either.
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the resolver for this machine's name, as HTTPServer does."""
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep a client that went away, or never spoke, out of stderr."""
        LOG.debug("request %s of %s failed: %s", request, client_address, sys.exc_info()[1])


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    # A client that connects and says nothing is let go.
    timeout = REQUEST_TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
        """Log nothing: a scrape every few seconds is not news."""


class Exporter:
    """Serves the metrics of ``registry`` and the answers of ``checks``.

    ``/healthz`` answers 200 as long as the process answers at all. ``/readyz`` answers 200 where
    every check is ok, else 503; its body names each component and its reason.
    """

    def __init__(
        self, address: str, port: int, registry: CollectorRegistry, checks: Checks
    ) -> None:
        self._address, self._port = address, port
        self._app = application(registry, checks)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; of interest where port 0 was asked for."""
        return self._server.server_port if self._server else self._port

    def start(self) -> None:
        """Bind and serve in a thread of its own. Raises ExporterError where it cannot listen."""
        self._server = _listen(self._address, self._port, self._app)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="exporter", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and let go of the port; blocks for a moment."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def _listen(address: str, port: int, app: WSGIApplication) -> WSGIServer:
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        kind = _ServerV6 if family == socket.AF_INET6 else _Server
        return make_server(address, port, app, kind, _Handler)
    except OSError as error:
        raise ExporterError(
            f"the exporter cannot listen on {address} port {port}: {error.strerror or error}; "
            "set address and port in [exporter] to an address and a port that are free"
        ) from error


def application(registry: CollectorRegistry, checks: Checks) -> WSGIApplication:
    """Return the three pages as a WSGI application."""
    metrics = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            return _answer(start_response, "405 Method Not Allowed", {"allowed": ["GET", "HEAD"]})
        match environ.get("PATH_INFO"):
            case "/metrics":
                page = metrics(environ | {"REQUEST_METHOD": "GET"}, start_response)
            case "/healthz":
                page = _answer(start_response, "200 OK", {"alive": True})
            case "/readyz":
                page = _readiness(start_response, checks())
            case _:
                pages = ["/metrics", "/healthz", "/readyz"]
                page = _answer(start_response, "404 Not Found", {"pages": pages})
        return page if method == "GET" else ()

    return app


def _readiness(start_response: StartResponse, checks: Sequence[Check]) -> Iterable[bytes]:
    ready = all(check.ok for check in checks)
    body = {
        "ready": ready,
        "components": {c.component: {"ok": c.ok, "reason": c.reason} for c in checks},
    }
    return _answer(start_response, "200 OK" if ready else "503 Service Unavailable", body)


def _answer(start_response: StartResponse, status: str, body: object) -> Iterable[bytes]:
    page = json.dumps(body).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(page)))]
    start_response(status, [*headers, ("Cache-Control", "no-store")])
    return [page]
