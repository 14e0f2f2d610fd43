"""A private RabbitMQ node with its own epmd."""

import itertools
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.services import chroot
from tests.services.chroot import Debian
from tests.services.ports import free_port
from tests.services.service import PrivateService, executable
from tests.services.tls import Tls

Command = tuple[str | Path, ...]

# Erlang's schedulers spin for a while before they sleep, which the other processes would pay for.
_ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
_VHOSTS_AT_ONCE = 8
_MAKE_VHOSTS = """
    lists:foreach(fun(Name) ->
        rabbit_vhost:add(Name, <<"tests">>),
        rabbit_auth_backend_internal:set_permissions(
            <<"guest">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
    end, [%s]), """
# RabbitMQ 4 may keep its declarations in Khepri, and from 4.3 on has no mnesia: that writes before
# it answers.
_SYNC = "case whereis(mnesia_sup) of undefined -> ok; _ -> ok = mnesia:sync_log() end."
_AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"


class RabbitMQ(PrivateService):
    """One node. Everything that RabbitMQ has a name, port or path for is its own.

    With ``tls`` it listens on ``tls_port`` too.
    """

    name = "rabbitmq"
    stop_signal = (
        signal.SIGKILL
    )  # nothing outside the directory to free, and a clean stop takes seconds

    def __init__(self, tls: Tls | None = None) -> None:
        self._server, self._control, self._epmd = programs()
        self._tls = tls
        ports = _different_ports(5)
        self.port, self.tls_port, self._dist_port, self._epmd_port, self._control_port = ports
        self._numbers = itertools.count(1)
        self._vhosts: list[str] = []

    @property
    def url(self) -> str:
        """The default virtual host, as kombu wants it; oslo.messaging says rabbit for amqp."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def ctl(self, *arguments: str) -> str:
        """Return what `rabbitmqctl ARGUMENTS` prints; blocks for about a second.

        Raises ServiceFailedError with its words when it fails.
        """
        return self._run(*self._control, "--quiet", *arguments)

    def count(self, url: str, queue: str, column: str = "messages") -> int:
        """Return a number of a queue of this URL's virtual host; blocks for about a second.

        ``messages`` counts those that are not acked yet too, ``messages_unacknowledged`` them
        alone.
        """
        vhost = url.rpartition("/")[2]
        words = ("list_queues", "--no-table-headers", "--vhost", vhost, "name", column)
        return int(dict(line.split("\t") for line in self.ctl(*words).splitlines())[queue])

    def sync(self) -> None:
        """Have every declaration on disk; blocks for about half a second.

        RabbitMQ answers a declaration before its database (Erlang's mnesia) has written it. A
        kill -9 at once after it can lose a durable queue and the confirmed messages in it: seen on
        3.10.8 in 3 of 36 tries. A test that kills the broker calls this between.
        """
        self.ctl("eval", _SYNC)

    def fresh_vhost(self) -> str:
        """Make a virtual host, for a test that wants nobody else's queues; return its URL.

        They are made some at a time, on disk when this returns: a command takes longer than what
        it has done.
        """
        if not self._vhosts:
            self._vhosts = [f"fresh-{next(self._numbers)}" for _ in range(_VHOSTS_AT_ONCE)]
            names = ", ".join(f'<<"{name}">>' for name in self._vhosts)
            self.ctl("eval", _MAKE_VHOSTS % names + _SYNC)
        return f"{self.url[:-1]}{self._vhosts.pop()}"

    def _prepare(self) -> None:
        self._write("plugins", "[].\n")
        self._write("rabbitmq.conf", _listener(self._tls, self.tls_port) if self._tls else "")

    def _launch(self) -> None:
        self._spawn(*self._epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._spawn(*self._server)

    def _answers(self) -> bool:
        # The port opens last, when the queues are recovered. A method frame is Connection.Start.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                client.sendall(_AMQP_0_9_1)
                return client.recv(1) == _METHOD_FRAME
        except OSError:
            return False

    def _environment(self) -> Mapping[str, str]:
        settings = {
            "NODENAME": "private@localhost",
            "NODE_IP_ADDRESS": "127.0.0.1",
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self._dist_port),
            "CTL_DIST_PORT_MIN": str(self._control_port),
            "SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "CTL_ERL_ARGS": _ERLANG,
        }
        files = {
            "CONF_ENV_FILE": "none",
            "CONFIG_FILE": "rabbitmq.conf",
            "ADVANCED_CONFIG_FILE": "none.config",
            "ENABLED_PLUGINS_FILE": "plugins",
            "FEATURE_FLAGS_FILE": "feature-flags",
            "PID_FILE": "pid",
            "MNESIA_BASE": "mnesia",
            "LOG_BASE": "logs",
            "GENERATED_CONFIG_DIR": "config",
        }
        places = {name: str(self.directory / file) for name, file in files.items()}
        rabbit = {f"RABBITMQ_{name}": value for name, value in (settings | places).items()}
        return {**super()._environment(), **rabbit, "ERL_EPMD_PORT": str(self._epmd_port)}


def programs() -> tuple[Command, Command, Command]:
    """Return the commands of server, control and epmd, of the broker that DETACHD_RABBITMQ chooses.

    That is ``installed`` (the default), or in a chroot ``4.0``, which is that of Debian 13, or
    ``testing``, that of Debian's testing. Raises ServiceMissingError where it is not here,
    ValueError for any other word.
    """
    # Not the wrapper in /usr/sbin: that changes to the user rabbitmq and loses the environment.
    place = "/usr/lib/rabbitmq/bin"
    server, control = f"{place}/rabbitmq-server", f"{place}/rabbitmqctl"
    match os.environ.get("DETACHD_RABBITMQ") or "installed":
        case "installed":
            return (
                (executable("RabbitMQ", "rabbitmq-server", server),),
                (executable("RabbitMQ", "rabbitmq-server", control),),
                (executable("Erlang", "rabbitmq-server", "epmd"),),
            )
        case "4.0" | "testing" as chosen:
            debian = Debian.THIRTEEN if chosen == "4.0" else Debian.TESTING
            inside = chroot.entrance(debian, "RabbitMQ 4")
            return (*inside, server), (*inside, control), (*inside, "epmd")
        case other:
            raise ValueError(f"DETACHD_RABBITMQ is installed, 4.0 or testing, not {other!r}")


def _different_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def _listener(tls: Tls, port: int) -> str:
    """Return the lines of rabbitmq.conf that make it listen for TLS on a port."""
    return (
        f"listeners.ssl.default = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {tls.ca}\n"
        f"ssl_options.certfile = {tls.certificate}\n"
        f"ssl_options.keyfile = {tls.key}\n"
    )
