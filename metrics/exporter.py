"""The HTTP server of the running service.

``/metrics`` is for Prometheus, ``/healthz`` and ``/readyz`` are for the program that supervises the
process. There is no authentication, and no page contains a secret. By default it listens on
loopback only.
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
    """The exporter cannot listen on the configured address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """The check of one component; ``reason`` is a sentence without secrets."""

    component: str
    ok: bool
    reason: str


Checks = Callable[[], Sequence[Check]]


class _Server(ThreadingMixIn, WSGIServer):
    # A thread for each request, so that a slow client does not block Prometheus. Daemon threads, so
    # that it does not delay the end of the process either.
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the DNS lookup of this host's name that HTTPServer makes."""
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log errors of clients, for example a disconnect, instead of printing them."""
        LOG.debug("request %s of %s failed: %s", request, client_address, sys.exc_info()[1])


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    # A client that sends nothing is disconnected after this time.
    timeout = REQUEST_TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
        """Log nothing for a request: there is one every few seconds."""


class Exporter:
    """Serves the metrics of ``registry`` and the answers of ``checks``.

    ``/healthz`` always answers 200. ``/readyz`` answers 200 if every check is ok, else 503; its
    body has each component with the reason.
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
        """The port that it listens on; useful if the configured port is 0."""
        return self._server.server_port if self._server else self._port

    def start(self) -> None:
        """Listen and serve in a separate thread. Raises ExporterError if it cannot listen."""
        self._server = _listen(self._address, self._port, self._app)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="exporter", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port; blocks for a moment."""
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
