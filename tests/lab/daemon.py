"""One process of the lab's OpenStack, as a private service: started, killed, paused like any."""

from __future__ import annotations

import signal
import string
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import amqp

from tests.services.ports import free_port
from tests.services.service import PrivateService

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).with_name("templates")
Values = Mapping[str, str]


def render(template: str, values: Values) -> str:
    """Fill in a configuration file; KeyError for a value that nobody gave."""
    return string.Template((TEMPLATES / template).read_text()).substitute(values)


class Daemon(PrivateService):
    """A process of the lab's environment with a configuration file of its own.

    ``values`` are what the template wants, and ``environment`` where the environment is;
    ``directory`` is added. Nothing of them is freed by a clean stop, which takes them up to 10 s.
    """

    template: ClassVar[str]
    stop_signal = signal.SIGKILL

    def __init__(self, values: Values) -> None:
        self.environment = Path(values["environment"])
        self.values = dict(values)

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.directory / self.template

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return what to run, without the interpreter."""

    def _prepare(self) -> None:
        self._write(self.template, render(self.template, self._values()))

    def _values(self) -> Values:
        return self.values | {"directory": str(self.directory)}

    def _launch(self) -> None:
        self._spawn(self.environment / "bin" / "python", *self._command())

    def _program(self, name: str) -> Sequence[str | Path]:
        """Return a console script with our configuration file."""
        return (self.environment / "bin" / name, "--config-file", self.configuration)

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(ROOT)}


class HttpDaemon(Daemon):
    """An API: a WSGI application, served on a port of its own."""

    module: ClassVar[str]
    path: ClassVar[str] = "/"

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str | Path]:
        return ("-m", "tests.lab.inside.wsgi", self.module, str(self.port), *self._arguments())

    def _arguments(self) -> Sequence[str | Path]:
        return ("--config-file", self.configuration)

    def _answers(self) -> bool:
        return answers_http(self.url + self.path)


class RpcDaemon(Daemon):
    """A service that is asked by RPC: it is ready when it consumes from its queue."""

    queue: str

    @property
    def url(self) -> str:
        """The queue, and where that is."""
        return f"{self.values['transport_url']}{self.queue}"

    def _answers(self) -> bool:
        return consumers(self.values["transport_url"], self.queue) > 0


def answers_http(url: str) -> bool:
    """Tell whether somebody answers HTTP there, whatever the answer."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def consumers(transport_url: str, queue: str) -> int:
    """Return how many consume from a queue; 0 where there is none."""
    place = transport_url.rpartition("@")[2].partition("/")[0]
    with amqp.Connection(place) as connection:
        try:
            return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
        except amqp.exceptions.NotFound:
            return 0
