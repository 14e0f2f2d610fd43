"""Keystone, Cinder and Nova as one HTTP server that answers what a test tells it to.

A real socket with real HTTP on it: it can hang, drip byte by byte, break off, reset, or answer
nonsense. Tokens, the catalog and the version documents are served as the real ones have them.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg

from drivers.openstack import session
from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from tests.services.ports import free_port

PROJECT = "11111111111111111111111111111111"
PASSWORD = "canary-password"
CINDER, NOVA = f"/volume/v3/{PROJECT}", "/compute/v2.1"
NOVAS = ("/servers", "/os-hypervisors", "/os-migrations")
HTML = b"<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how it misbehaves.

    ``hang_seconds`` go by before it begins. ``drip_seconds`` go by before each byte: of the
    headers, or with ``drips_body`` of the body. ``cut`` bytes of the body are sent, then the
    connection is closed; ``reset`` sends none and resets it.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hang_seconds: float = 0.0
    drip_seconds: float = 0.0
    drips_body: bool = False
    cut: int | None = None
    reset: bool = False

    @property
    def payload(self) -> bytes:
        """The body as it goes out; what is not bytes goes as JSON."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def fault(status: int, name: str, message: str) -> Reply:
    """Return a refusal in Cinder's and Nova's form."""
    return Reply(status, {name: {"code": status, "message": message}})


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


class OpenStackApi:
    """The server; use it as a context manager. Replies are by ``METHOD path``, in order.

    The last reply for a line is given again and again. ``requests`` are those to Cinder and Nova,
    ``wire`` the lines of all, ``tokens`` counts what Keystone issued. ``regions`` are those of a
    service in the catalog.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[Request] = []
        self.wire: list[str] = []
        self.tokens = 0
        self.regions: dict[str, tuple[str, ...]] = {}
        self.cinder_newest, self.nova_newest = "3.71", "2.100"
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", free_port()), _Handler)
        self._server.api = self
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> OpenStackApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def script(self, line: str, *replies: Reply) -> None:
        """Say what is answered to ``METHOD /path``, relative to Cinder's or Nova's root."""
        method, path = line.split(" ")
        root = NOVA if path.startswith(NOVAS) or path == "/nova/os-services" else CINDER
        self.replies[f"{method} {root}{path.removeprefix('/nova')}"] = list(replies)

    def asked(self, what: str = "") -> list[str]:
        """Return the lines of the requests so far that contain ``what``, without the roots."""
        lines = [
            f"{r.method} {r.path.removeprefix(CINDER).removeprefix(NOVA)}" for r in self.requests
        ]
        return [line for line in lines if what in line]

    def conf(self, tmp_path: Path, extra: str = "", **defaults: str) -> cfg.ConfigOpts:
        """Return a configuration whose three sections reach this server."""
        path = tmp_path / "openstack.conf"
        path.write_text(self.sections(**defaults) + extra)
        conf = cfg.ConfigOpts()
        for section in session.SECTIONS:
            conf.register_opts(session.options(section, None), group=section)
        conf(["--config-file", str(path)], project="detachd", default_config_files=[])
        return conf

    def sections(self, **more: str) -> str:
        """Return ``[cinder]`` and ``[nova]`` as they would stand in a file."""
        said = {
            "auth_type": "password", "auth_url": f"{self.url}/identity/v3",
            "username": "detachd", "password": PASSWORD, "project_name": "service",
            "user_domain_name": "Default", "project_domain_name": "Default",
        } | more  # fmt: skip
        lines = "".join(f"{name} = {value}\n" for name, value in said.items())
        return f"[cinder]\n{lines}[nova]\n{lines}[service_user]\n{lines}"

    def cinder(self, tmp_path: Path, extra: str = "") -> CinderClient:
        """Return a client of this Cinder."""
        return CinderClient(session.cinder_endpoint(self.conf(tmp_path, extra)))

    def nova(self, tmp_path: Path, extra: str = "") -> NovaClient:
        """Return a client of this Nova."""
        return NovaClient(session.nova_endpoint(self.conf(tmp_path, extra)))

    def answer(self, request: Request) -> Reply:
        """Return what this request gets."""
        with self._lock:
            self.wire.append(request.line)
            if (reply := self._own(request)) is not None:
                return reply
            self.requests.append(request)
            scripted = self.replies.get(request.line)
            if scripted:
                return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        return Reply(404, b"<html>nobody scripted this</html>")

    def _own(self, request: Request) -> Reply | None:
        match request.method, request.path.rstrip("/"):
            case "POST", "/identity/v3/auth/tokens":
                self.tokens += 1
                kept = self.replies.get("POST /identity/v3/auth/tokens")
                return kept[0] if kept else self.token()
            case "GET", "/identity/v3":
                return Reply(200, {"version": {"id": "v3.14", "status": "stable", "links": [
                    {"rel": "self", "href": f"{self.url}/identity/v3/"}]}})  # fmt: skip
            case "GET", "/volume/v3":
                return self.cinder_versions()
            case "GET", "/compute/v2.1":
                return self._versions("v2.1", "/compute/v2.1/", "2.1", self.nova_newest)
        return None

    def cinder_versions(self, path: str = "/volume/v3/") -> Reply:
        """Return the version document of a Cinder whose root is there."""
        return self._versions("v3.0", path, "3.0", self.cinder_newest)

    def _versions(self, name: str, path: str, oldest: str, newest: str) -> Reply:
        version = {
            "id": name, "status": "CURRENT", "version": newest, "min_version": oldest,
            "links": [{"rel": "self", "href": self.url + path}],
        }  # fmt: skip
        return Reply(200, {"versions": [version]} if name == "v3.0" else {"version": version})

    def token(self) -> Reply:
        """Return a new token, as Keystone issues it."""

        def service(kind: str, path: str) -> dict[str, Any]:
            points = [
                {"interface": "public", "region": region, "region_id": region,
                 "id": f"{kind}-{region}", "url": self.url + path}
                for region in self.regions.get(kind, ("one",))
            ]  # fmt: skip
            return {"type": kind, "name": kind, "id": kind, "endpoints": points}

        token = {
            "methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "detachd", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": PROJECT, "name": "service",
                        "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "r", "name": "admin"}],
            "catalog": [service("volumev3", CINDER), service("compute", NOVA)],
        }  # fmt: skip
        return Reply(201, {"token": token}, {"X-Subject-Token": f"canary-token-{self.tokens}"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64  # 5 by default: fourteen at once were reset on a busy machine
    api: OpenStackApi

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        parts = urlsplit(self.path)
        request = Request(
            self.command, parts.path, dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(raw) if raw else None,
        )  # fmt: skip
        self._send(self.server.api.answer(request))

    def _send(self, reply: Reply) -> None:
        over = self.server.api.over
        if reply.hang_seconds:
            over.wait(reply.hang_seconds)
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        head = f"HTTP/1.1 {reply.status} Scripted\r\nContent-Length: {len(reply.payload)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()) + "\r\n"
        if reply.cut is not None:
            self.close_connection = True
            self.wfile.write(head.encode() + reply.payload[: reply.cut])
            return
        if not reply.drip_seconds:
            self.wfile.write(head.encode() + reply.payload)
        elif reply.drips_body:
            self.wfile.write(head.encode())
            self._drip(reply.payload, reply.drip_seconds)
        else:
            self._drip(head.encode(), reply.drip_seconds)

    def _drip(self, data: bytes, seconds: float) -> None:
        for byte in data:
            if self.server.api.over.wait(seconds):
                return
            self.wfile.write(bytes([byte]))
