"""The broker: where it is, how it is reached, what is declared there.

Kombu on py-amqp, without oslo.messaging's driver: bodies stay as they came, acks are ours to time,
and every publication is confirmed. Options are those that operators know from Nova's and Cinder's
configuration (``transport_url``, ``[oslo_messaging_rabbit]``), read as oslo.messaging reads them.
"""

from __future__ import annotations

import dataclasses
import random
import ssl
import struct
from collections.abc import Callable, Mapping
from typing import Any

import kombu
import oslo_messaging
import oslo_messaging.opts
from amqp.method_framing import frame_handler
from kombu.exceptions import OperationalError
from kombu.transport.pyamqp import Transport
from oslo_config import cfg
from oslo_utils import netutils

BROKER_ERRORS: tuple[type[Exception], ...] = (
    OperationalError,
    *Transport.connection_errors,
    *Transport.channel_errors,
    *Transport.recoverable_connection_errors,
)
"""What a broker that is gone, refuses or does not answer in time makes kombu raise."""

CHANNEL_ERRORS: tuple[type[Exception], ...] = Transport.channel_errors
"""What the broker answers to one request that it refuses; the connection lives on."""

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""How long the broker may take to answer a request before it counts as gone."""

_CONTENT_HEADER_FRAME = 2
_HEADER_FIXED_BYTES = 12
_TRANSPORTS: Mapping[str, str] = {
    "rabbit": "pyamqp",
    "amqp": "pyamqp",
    "kombu+pyamqp": "pyamqp",
    "kombu+memory": "memory",
    "memory": "memory",
}


class BrokerUnavailableError(ConnectionError):
    """No broker host of transport_url could be used."""


class UnknownTransportError(ValueError):
    """transport_url: detachd speaks to RabbitMQ; the URL must start with rabbit://."""


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerHost:
    """One host of ``transport_url``; the password shows nowhere."""

    hostname: str
    port: int | None
    userid: str | None
    password: str | None = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach the broker. ``tls`` is what py-amqp wants, without the server's name.

    ``durable_exchanges`` says how exchanges are declared that do not exist yet.
    """

    transport: str
    hosts: tuple[BrokerHost, ...]
    virtual_host: str
    login_method: str
    heartbeat_seconds: int
    durable_exchanges: bool
    tls: Mapping[str, Any] | None = None
    tls_names: bool = True

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, url: str | None = None) -> BrokerSettings:
        """Read ``transport_url`` (or ``url``) and ``[oslo_messaging_rabbit]``.

        As in oslo.messaging, ``[oslo_messaging_notifications] transport_url`` goes before the
        general one, and the URL's query before the options. Raises UnknownTransportError, and
        ``oslo_messaging.InvalidTransportURL``.
        """
        register_opts(conf)
        where = url or conf.oslo_messaging_notifications.transport_url
        parsed = oslo_messaging.TransportURL.parse(conf, where)
        if parsed.transport not in _TRANSPORTS:
            raise UnknownTransportError(f"{UnknownTransportError.__doc__} Not: {parsed.transport}")
        option = _Options(conf, parsed.query)
        return cls(
            transport=_TRANSPORTS[parsed.transport],
            hosts=_hosts(parsed),
            virtual_host=parsed.virtual_host or "/",
            login_method=option("rabbit_login_method"),
            heartbeat_seconds=option("heartbeat_timeout_threshold"),
            durable_exchanges=option("amqp_durable_queues") or option("rabbit_quorum_queue"),
            tls=_tls(option) if option("ssl") else None,
            tls_names=option("ssl_enforce_hostname_verification", default=True),
        )

    @property
    def confirms(self) -> bool:
        """Tell whether this broker confirms and returns; kombu's memory transport does neither."""
        return self.transport == "pyamqp"


class _Options:
    """``[oslo_messaging_rabbit]``, a query parameter of the URL going first (as ``?ssl=1``)."""

    def __init__(self, conf: cfg.ConfigOpts, query: Mapping[str, str]) -> None:
        self._group = conf.oslo_messaging_rabbit
        self._types = {opt.dest: opt.type for opt in _rabbit_opts()}
        self._query = query

    def __call__(self, name: str, *, default: Any = None) -> Any:
        if name not in self._types:  # an oslo.messaging older or newer than the option
            return default
        return self._types[name](self._query[name]) if name in self._query else self._group[name]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of oslo.messaging that detachd reads."""
    for group, options in oslo_messaging.opts.list_opts():
        if group in (None, "oslo_messaging_notifications", "oslo_messaging_rabbit"):
            conf.register_opts(options, group=group)


def _rabbit_opts() -> list[cfg.Opt]:
    return list(dict(oslo_messaging.opts.list_opts())["oslo_messaging_rabbit"])


def _hosts(url: oslo_messaging.TransportURL) -> tuple[BrokerHost, ...]:
    return tuple(
        BrokerHost(netutils.escape_ipv6(host.hostname), host.port, host.username, host.password)
        for host in url.hosts
    ) or (BrokerHost("localhost", None, None, None),)


def _tls(option: _Options) -> dict[str, Any]:
    files = {
        "ca_certs": option("ssl_ca_file"),
        "certfile": option("ssl_cert_file"),
        "keyfile": option("ssl_key_file"),
    }
    given = {name: path for name, path in files.items() if path}
    return given | {"cert_reqs": ssl.CERT_REQUIRED}


def connect(broker: BrokerSettings, name: str, *, heartbeats: bool) -> kombu.Connection:
    """Connect to one of the hosts, in random order, under a name that the broker's tools show.

    Publications on it are confirmed. With ``heartbeats`` the caller must call ``heartbeat_check``
    about once a second. Blocks for at most twice CONNECT_SECONDS per host. Raises
    BrokerUnavailableError (one of BROKER_ERRORS) with what each host answered.
    """
    answers = []
    for host in random.sample(broker.hosts, len(broker.hosts)):
        connection = _connection(broker, host, name, heartbeats=heartbeats)
        try:
            return connection.ensure_connection(max_retries=0)
        except BROKER_ERRORS as error:
            connection.collect()
            answers.append(f"{host}: {describe(error)}")
    raise BrokerUnavailableError("; ".join(answers))


def _connection(
    broker: BrokerSettings, host: BrokerHost, name: str, *, heartbeats: bool
) -> kombu.Connection:
    options = _amqp_options(name) if broker.confirms else {"polling_interval": 0.01}
    names = {"server_hostname": host.hostname.strip("[]")} if broker.tls_names else {}
    return kombu.Connection(
        hostname=host.hostname,
        port=host.port,
        userid=host.userid,
        password=host.password,
        virtual_host=broker.virtual_host,
        transport=broker.transport,
        login_method=broker.login_method,
        ssl=False if broker.tls is None else dict(broker.tls) | names,
        connect_timeout=CONNECT_SECONDS,
        heartbeat=broker.heartbeat_seconds if heartbeats else 0,
        transport_options=options,
    )


def _amqp_options(name: str) -> dict[str, Any]:
    return {
        "confirm_publish": True,
        "read_timeout": ANSWER_SECONDS,
        "write_timeout": ANSWER_SECONDS,
        "frame_handler": _lenient_frame_handler,
        "client_properties": {"connection_name": name},
    }


def _lenient_frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[..., bool]:
    """Let a message through whose properties py-amqp cannot decode, without its properties.

    py-amqp raises out of the middle of the message (a ``content_type`` that is not UTF-8 is
    enough) and the connection is of no use any more; the broker redelivers the message first, so
    that one message would stop the listener for good. The body is what we want, and it is whole.
    """
    handle = frame_handler(connection, callback)

    def handle_leniently(frame: tuple[int, int, Any]) -> bool:
        try:
            return bool(handle(frame))
        except (UnicodeDecodeError, struct.error, IndexError):
            kind, channel, content = frame
            if kind != _CONTENT_HEADER_FRAME:
                raise
            bare = bytes(content[:_HEADER_FIXED_BYTES]) + b"\x00\x00"
            return bool(handle((kind, channel, bare)))

    return handle_leniently


def describe(error: BaseException) -> str:
    """Return what went wrong on one line; broker errors carry no credentials."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def backoff_seconds(
    failures: int,
    *,
    first: float = 0.5,
    most: float = 30.0,
    draw: Callable[[], float] = random.random,
) -> float:
    """Return how long to wait after so many failures in a row: exponential, with jitter.

    At least a fifth of the bound, so that a draw near zero is not a busy loop. ``draw`` returns a
    number from 0 to 1.
    """
    bound = min(first * 2.0 ** min(max(failures - 1, 0), 32), most)
    return bound * max(0.2, draw())
