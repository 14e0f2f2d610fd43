"""The broker: its settings, and how a connection to it is made.

The code uses kombu on py-amqp and not oslo.messaging's driver: so bodies stay unchanged, detachd
decides when to ack, and every publication is confirmed. The options are those that operators know
from Nova and Cinder (``transport_url``, ``[oslo_messaging_rabbit]``), with the same meaning.

Error messages, above all those about TLS and transport_url, contain no secret.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import logging
import random
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import kombu
import oslo_messaging
import oslo_messaging.opts
from kombu.exceptions import OperationalError
from kombu.transport.pyamqp import Transport
from oslo_config import cfg
from oslo_utils import netutils

from consumer.bus.incoming import BufferedAmqp, frame_handler
from consumer.errors import ConfigurationError

LOG = logging.getLogger(__name__)

OPTION = "[oslo_messaging_rabbit] ssl"


def tls_explained(error: BaseException, *, tls_used: bool) -> str:
    """Return how TLS caused a connection to fail; "" if it did not.

    ``tls_used``: whether the connection was to use TLS. Looks also at the causes of the error,
    because kombu wraps it.
    """
    chain = _chain(error)
    found = next((each for each in chain if isinstance(each, ssl.SSLError)), None)
    match found:
        case ssl.SSLCertVerificationError():
            return f"the broker's certificate is not accepted: {found.verify_message}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return f"the broker does not speak TLS on this port, but {OPTION} is true"
        case ssl.SSLError():
            return f"TLS failed: {found.reason or found}"
    if tls_used and any(isinstance(each, FileNotFoundError | PermissionError) for each in chain):
        return "the file in ssl_ca_file, ssl_cert_file or ssl_key_file cannot be read"
    if not tls_used and any(_closed(each) for each in chain):
        fix = f"if this port speaks TLS, set {OPTION} = true"
        return f"the broker closed the connection at once; {fix}"
    return ""


def _closed(error: BaseException) -> bool:
    return isinstance(error, ConnectionResetError) or "closed the connection" in str(error)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    # kombu raises OperationalError from the socket's error, sometimes several deep. The list also
    # ends a chain that leads back to itself.
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found


BROKER_ERRORS: tuple[type[Exception], ...] = (
    OperationalError,
    *Transport.connection_errors,
    *Transport.channel_errors,
    *Transport.recoverable_connection_errors,
)
"""What kombu raises if the broker is not reachable, refuses, or does not answer in time."""

CHANNEL_ERRORS: tuple[type[Exception], ...] = Transport.channel_errors
"""What kombu raises if the broker refuses one request; the connection stays open."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""How long the broker may take to answer a request before the connection counts as lost."""

TOPICS = ("detachd_notifications",)
"""The topics of announcements, where ``[oslo_messaging_notifications] topics`` names no others."""

_ANY_NAME = "ssl_enforce_hostname_verification = false"
# The options that differ from one broker to the next: where a section [bus:NAME] may set its own.
_OF_ONE_BROKER = frozenset(
    {
        "amqp_durable_queues",
        "heartbeat_timeout_threshold",
        "rabbit_login_method",
        "rabbit_quorum_queue",
        "ssl",
        "ssl_ca_file",
        "ssl_cert_file",
        "ssl_enforce_hostname_verification",
        "ssl_key_file",
    }
)
_TRANSPORTS: Mapping[str, str] = {
    "rabbit": "pyamqp",
    "amqp": "pyamqp",
    "kombu+pyamqp": "pyamqp",
    # For the demo and the tests: oslo.messaging and kombu meet in one process by kombu's memory
    # transport.
    "kombu+memory": "memory",
    "memory": "memory",
}


class BrokerUnavailableError(ConnectionError):
    """None of the broker hosts in transport_url is usable."""


class UnknownTransportError(ValueError):
    """detachd supports RabbitMQ only: the URL starts with rabbit:// (for TLS, set ssl = true)."""


class NoHostError(ValueError):
    """It names no host, or an empty one: write rabbit://USER:PASSWORD@HOST:5672/VHOST."""


class UnencodedUrlError(ValueError):
    """The user or password has a character that ends it, and that is not percent-encoded."""

    fix = (
        "Write rabbit://USER:PASSWORD@HOST:5672/VHOST with %40 for @, %2F for /, %2C for a comma, "
        "%23 for # and %3F for ?."
    )


class TlsFileError(ValueError):
    """A file for TLS to the broker cannot be used; the text names the option, the file and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerHost:
    """One host of ``transport_url``. Its repr does not show the password."""

    hostname: str
    port: int | None
    userid: str | None
    password: str | None = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to connect to the broker. ``tls``: py-amqp's arguments, without the server's name.

    ``durable_exchanges``: whether a missing exchange is declared as durable. ``quorum_queues``:
    whether the services of this cloud use quorum queues. ``is_named`` is False where no host is
    configured, and so localhost is tried.
    """

    transport: str
    hosts: tuple[BrokerHost, ...]
    virtual_host: str
    login_method: str
    heartbeat_seconds: int
    durable_exchanges: bool
    tls: Mapping[str, Any] | None
    # False: the name in the certificate is not compared, because
    # "ssl_enforce_hostname_verification" says so.
    tls_names: bool
    quorum_queues: bool
    is_named: bool

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        url: str | None = None,
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> BrokerSettings:
        """Read ``transport_url`` (or ``url``) and ``[oslo_messaging_rabbit]``.

        As in oslo.messaging, ``[oslo_messaging_notifications] transport_url`` comes before the one
        in ``[DEFAULT]``, and the query of the URL before the options. ``own`` has options for this
        broker only, None if not set. Raises UnknownTransportError, UnencodedUrlError, NoHostError,
        and ``oslo_messaging.InvalidTransportURL``.
        """
        register_opts(conf)
        # None is right for the next line: oslo.messaging then takes transport_url of [DEFAULT].
        where = url or conf.oslo_messaging_notifications.transport_url
        _check_encoded(where or conf.transport_url or "")
        parsed = oslo_messaging.TransportURL.parse(conf, where)
        if parsed.transport not in _TRANSPORTS:
            raise UnknownTransportError(
                f"{UnknownTransportError.__doc__} This URL starts with {parsed.transport}://"
            )
        _check_hosts(where or conf.transport_url or "", parsed)
        option = _Options(conf, parsed.query, own)
        return cls(
            transport=_TRANSPORTS[parsed.transport],
            hosts=_hosts(parsed),
            is_named=bool(parsed.hosts) or _TRANSPORTS[parsed.transport] == "memory",
            virtual_host=parsed.virtual_host or "/",
            login_method=option("rabbit_login_method"),
            heartbeat_seconds=option("heartbeat_timeout_threshold"),
            # As oslo.messaging declares it: with quorum queues its exchanges are durable, whatever
            # amqp_durable_queues is.
            durable_exchanges=option("amqp_durable_queues") or option("rabbit_quorum_queue"),
            tls=_tls(option) if option("ssl") else None,
            # These two options are newer than the oldest oslo.messaging that we support, so they
            # have defaults here.
            tls_names=option("ssl_enforce_hostname_verification", default=True),
            quorum_queues=option("rabbit_quorum_queue", default=False),
        )

    @property
    def confirms(self) -> bool:
        """Tell whether this broker confirms and returns; kombu's memory transport does neither."""
        return self.transport == "pyamqp"


class _Options:
    """The options, in this order: the URL's query (as ``?ssl=1``), ``own``, the section."""

    def __init__(
        self, conf: cfg.ConfigOpts, query: Mapping[str, str], own: Mapping[str, Any]
    ) -> None:
        self._group = conf.oslo_messaging_rabbit
        self._types = {opt.dest: opt.type for opt in _rabbit_opts()}
        self._query = query
        self._own = own

    def __call__(self, name: str, *, default: Any = None) -> Any:
        if name not in self._types:  # an oslo.messaging older or newer than the option
            return default
        if name in self._query:
            return self._types[name](self._query[name])
        own = self._own.get(name)
        return self._group[name] if own is None else own


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of oslo.messaging that detachd reads."""
    for group, options in oslo_messaging.opts.list_opts():
        if group in (None, "oslo_messaging_notifications", "oslo_messaging_rabbit"):
            conf.register_opts(options, group=group)


def options_read() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return those options of oslo.messaging that detachd reads, for the sample configuration.

    A file may set the others too, as one that is made for several services does: those for RPC, for
    Kafka and for connection pools, which detachd has none of. They have no effect.
    """
    listed = {group: {opt.dest: opt for opt in opts} for group, opts in _messaging_opts()}
    where = copy.copy(listed["DEFAULT"]["transport_url"])
    where.sample_default = "rabbit://detachd:PASSWORD@rabbit1:5672/"
    topics = copy.copy(listed["oslo_messaging_notifications"]["topics"])
    topics.sample_default = ",".join(TOPICS)
    own = listed["oslo_messaging_notifications"]["transport_url"]
    return [
        (cfg.OptGroup("DEFAULT"), [where]),
        (cfg.OptGroup("oslo_messaging_notifications"), [own, topics]),
        (
            cfg.OptGroup("oslo_messaging_rabbit"),
            [opt for opt in listed["oslo_messaging_rabbit"].values() if opt.dest in _OF_ONE_BROKER],
        ),
    ]


def _messaging_opts() -> Iterator[tuple[str, list[cfg.Opt]]]:
    for group, opts in oslo_messaging.opts.list_opts():
        yield getattr(group, "name", group) or "DEFAULT", opts


def options_of_one_broker() -> list[cfg.Opt]:
    """Return the options of ``[oslo_messaging_rabbit]`` that may be set for a single broker.

    Their default is None.
    """
    return [unset(opt) for opt in _rabbit_opts() if opt.dest in _OF_ONE_BROKER]


def unset(opt: cfg.Opt) -> cfg.Opt:
    """Return the option with the default None: the value then comes from another section."""
    same = copy.copy(opt)
    same.default = None
    same.deprecated_opts = []  # they would be looked for in the general section
    # Nobody is to be warned of an option that only a section of ours copies.
    same.deprecated_for_removal = False
    return same


def _rabbit_opts() -> list[cfg.Opt]:
    return list(dict(oslo_messaging.opts.list_opts())["oslo_messaging_rabbit"])


def _check_encoded(url: str) -> None:
    """Refuse a URL of which a part of the password would be taken for a host, and so be shown."""
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    hosts = authority.split(",")
    # An @ in a password, and whatever follows it, would be read as the host, and hosts are logged.
    twice = any(host.count("@") > 1 for host in hosts)
    # A host without a user before one that has a user: a comma in a password makes the same.
    cut = any("@" in later and "@" not in host for host, later in itertools.pairwise(hosts))
    # An @ after the first slash: an unencoded slash, ? or # in the password has cut the rest off.
    if twice or cut or "@" in rest[len(authority) :]:
        raise UnencodedUrlError(f"{UnencodedUrlError.__doc__} {UnencodedUrlError.fix}")


def _check_hosts(url: str, parsed: oslo_messaging.TransportURL) -> None:
    """Refuse a URL with a typing error that leaves localhost to be tried without a word."""
    # oslo.messaging takes rabbit:USER@HOST, without its slashes, for a URL without any host. Of
    # rabbit:// alone, its default, doctor says that it is not set.
    if "://" not in url or any(not host.hostname for host in parsed.hosts):
        raise NoHostError(NoHostError.__doc__)


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
    # Without ssl_ca_file py-amqp loads the CAs of the system.
    return given | {"cert_reqs": ssl.CERT_REQUIRED}


def check_tls_files(broker: BrokerSettings) -> None:
    """Read the files for TLS, so that a wrong one is found at the start. Raises TlsFileError.

    Blocks for the file system. At each connection they are read anew.
    """
    files = broker.tls or {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca := files.get("ca_certs"):
        with _explained("ssl_ca_file", ca):
            context.load_verify_locations(ca)
    if certificate := files.get("certfile"):
        key = files.get("keyfile")
        with _explained("ssl_cert_file", f"{certificate}, ssl_key_file = {key or 'not set'}"):
            # With a password, OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")


@contextlib.contextmanager
def _explained(option: str, value: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        why = error.reason or "it is not in PEM format"
        raise TlsFileError(f"[oslo_messaging_rabbit] {option} = {value}: {why}") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise TlsFileError(f"[oslo_messaging_rabbit] {option} = {value}: {why}") from None


def connect(broker: BrokerSettings, name: str, *, heartbeats: bool) -> kombu.Connection:
    """Connect to one of the hosts, in random order. The tools of the broker show ``name``.

    Publications on the connection are confirmed. With ``heartbeats`` the caller must call
    ``heartbeat_check`` about once a second. Blocks for at most twice CONNECT_SECONDS per host.
    Raises BrokerUnavailableError (one of BROKER_ERRORS) with the error of each host.
    """
    if broker.tls is not None and not broker.tls_names:
        LOG.warning("TLS: the host name in the broker's certificate is not checked (%s)", _ANY_NAME)
    answers = []
    # Random, so that the replicas of a service do not all meet on the first host of the cluster.
    for host in random.sample(broker.hosts, len(broker.hosts)):
        connection = _connection(broker, host, name, heartbeats=heartbeats)
        try:
            # Not more often: kombu would repeat with sleeps that no stop ends. The caller has a
            # backoff.
            return connection.ensure_connection(max_retries=0)
        except BROKER_ERRORS as error:
            # release() would talk to the broker that has just failed, and could block for its
            # answer.
            connection.collect()
            why = tls_explained(error, tls_used=broker.tls is not None)
            unset = "" if broker.is_named else " (transport_url names no host)"
            answers.append(f"{host}{unset}: {why or describe(error)}{_cure(error, broker)}")
    raise BrokerUnavailableError("; ".join(answers))


def _cure(error: BaseException, broker: BrokerSettings) -> str:
    """Return the command by which RabbitMQ lets the user in, where it refuses user or vhost."""
    text, where = describe(error), f"--vhost {broker.virtual_host}"
    # RabbitMQ has the same code for a virtual host that is missing and for one that the user may
    # not enter.
    if "NOT_ALLOWED" in text and "not found" in text:
        return f" (rabbitmqctl list_vhosts; rabbitmqctl add_vhost {broker.virtual_host})"
    if "NOT_ALLOWED" in text:
        return f" (rabbitmqctl list_permissions {where}; rabbitmqctl set_permissions {where} ...)"
    if "ACCESS_REFUSED" in text:
        return " (rabbitmqctl list_users; rabbitmqctl authenticate_user USER PASSWORD)"
    return ""


def _connection(
    broker: BrokerSettings, host: BrokerHost, name: str, *, heartbeats: bool
) -> kombu.Connection:
    # kombu's memory transport sleeps between two looks at its queues: 1 s by default, which the
    # demo would show.
    options = _amqp_options(name) if broker.confirms else {"polling_interval": 0.01}
    names = {"server_hostname": host.hostname.strip("[]")} if broker.tls_names else {}
    return kombu.Connection(
        hostname=host.hostname,
        port=host.port,
        userid=host.userid,
        password=host.password,
        virtual_host=broker.virtual_host,
        transport=BufferedAmqp if broker.confirms else broker.transport,
        login_method=broker.login_method,
        ssl=False if broker.tls is None else dict(broker.tls) | names,
        # Applies to the TCP connection and again to the handshake of AMQP: twice for each host.
        connect_timeout=CONNECT_SECONDS,
        # Who waits for a confirm cannot send heartbeats. Such a connection notices a dead broker by
        # its read timeout.
        heartbeat=broker.heartbeat_seconds if heartbeats else 0,
        transport_options=options,
    )


def _amqp_options(name: str) -> dict[str, Any]:
    return {
        # kombu publishes without confirms by default: a message that the broker drops looks like
        # one that it has.
        "confirm_publish": True,
        "read_timeout": ANSWER_SECONDS,
        "write_timeout": ANSWER_SECONDS,
        # Ours leaves properties as bytes: py-amqp breaks the connection over one that it cannot
        # decode (incoming.py).
        "frame_handler": frame_handler,
        "client_properties": {"connection_name": name},
    }


def describe(error: BaseException) -> str:
    """Return the error on one line. Errors of the broker contain no credentials."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def backoff_seconds(failures: int, *, draw: Callable[[], float] = random.random) -> float:
    """Return how long to wait after so many failures in a row: exponential, with jitter.

    The pause is at least a fifth of its bound, so that a small random number makes no busy loop.
    ``draw`` returns a number from 0 to 1.
    """
    # 32: beyond it the power only grows, and a float overflows after a thousand failures.
    bound = min(FIRST_PAUSE_SECONDS * 2.0 ** min(max(failures - 1, 0), 32), LONGEST_PAUSE_SECONDS)
    return bound * max(0.2, draw())


@contextlib.contextmanager
def url_explained() -> Iterator[None]:
    """Raise ConfigurationError instead of the errors that a wrong transport_url causes."""
    try:
        yield
    except (UnknownTransportError, UnencodedUrlError, NoHostError) as error:
        raise ConfigurationError([f"transport_url: {error}"]) from error
    except (oslo_messaging.InvalidTransportURL, ValueError):
        # Their texts may contain a part of the URL, and so of the password.
        problem = "transport_url is not valid; write rabbit://USER:PASSWORD@HOST:5672/VHOST"
        raise ConfigurationError([problem]) from None
