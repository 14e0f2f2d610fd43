"""The other side of the bus, for tests: who publishes, who else listens; what the ledger got."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import kombu
import pytest
from kombu.transport import memory
from oslo_config import cfg

from consumer.bus.broker import register_opts
from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Pace
from consumer.counting import EventKind, Happened, QueuesSeen
from consumer.intake.batch import BatchReport
from consumer.ledger import Ledger, Timing
from tests.recorded import Recorded
from tests.services import ledgers

MEMORY = "kombu+memory:////"
BRISK = Pace(size=50, idle_seconds=0.02, seconds=0.1, poll_seconds=0.1)


def configured(url: str) -> cfg.ConfigOpts:
    """Make a configuration whose transport_url is this, as kombu or oslo.messaging writes it."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    register_opts(conf)
    conf.set_override("transport_url", url.replace("amqp://", "rabbit://"))
    return conf


def settings(url: str, **changes: Any) -> ListenerSettings:
    """Make a listener's settings: the defaults, but in a hurry."""
    defaults = ListenerSettings.from_conf(configured(url))
    return dataclasses.replace(defaults, **{"pace": BRISK, **changes})


def brisk_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever waits for a message do so as briefly, where the configuration cannot say it."""
    defaults = tuple(getattr(BRISK, field.name) for field in dataclasses.fields(Pace))
    monkeypatch.setattr(Pace.__init__, "__defaults__", defaults)


@contextlib.contextmanager
def new_ledger(directory: Path) -> Iterator[Ledger]:
    """Make an empty ledger on SQLite, whose errors settle at once."""
    timing = Timing(error_settle_seconds=0.0)
    ledger = Ledger(ledgers.sqlite_in(directory), timing=timing)
    try:
        yield ledger
    finally:
        ledger.close()


def stored(directory: Path) -> list[str]:
    """Read the message_ids that the ledger there holds, past all code of ours."""
    return _column(directory, "SELECT message_id FROM notifications")


def quarantined(directory: Path) -> list[str]:
    """Read why bodies are in quarantine according to the ledger there."""
    return _column(directory, "SELECT reason FROM quarantine")


def _column(directory: Path, query: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(directory / "ledger.sqlite")) as connection:
        return [row[0] for row in connection.execute(query)]


def forget_memory() -> None:
    """Empty kombu's in-memory broker, which is one for the whole process."""
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to come true; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


class Notes:
    """Keeps what a listener tells of itself."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []
        self.seen: list[QueuesSeen] = []
        self.lost = 0

    def __call__(self, event: BatchReport | Happened | QueuesSeen) -> None:
        """Keep a report and what was seen of queues, count a loss."""
        match event:
            case BatchReport():
                self.reports.append(event)
            case QueuesSeen():
                self.seen.append(event)
            case Happened(EventKind.DISCONNECTED):
                self.lost += 1


class Runs(Protocol):
    """What runs until it is told to stop."""

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop``."""


@contextlib.contextmanager
def running(loop: Runs) -> Iterator[None]:
    """Run it in a thread; afterwards stop it, and fail if it does not end in ten seconds."""
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "it did not stop"


class Peer:
    """Another service on the same broker, with kombu and confirms."""

    def __init__(self, url: str) -> None:
        self.url = url
        address = "memory://" if url == MEMORY else url
        self.connection = kombu.Connection(address, transport_options={"confirm_publish": True})
        self.channel = self.connection.channel()
        self.channel.auto_decode = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.collect()

    def declare(self, *exchanges: str, **arguments: Any) -> None:
        """Declare exchanges as Nova and Cinder do, by oslo.messaging's defaults."""
        oslo = {"type": "topic", "durable": False, "auto_delete": False, **arguments}
        for name in exchanges:
            kombu.Exchange(name, channel=self.channel, **oslo).declare()

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Make a queue of one's own on an exchange."""
        bound = kombu.Queue(queue, kombu.Exchange(exchange), routing_key, self.channel)
        bound.queue_declare()
        bound.queue_bind()

    def publish(self, messages: Iterable[Recorded]) -> None:
        """Publish recorded messages; each is confirmed when this returns."""
        for message in messages:
            self.put(message.body, message.exchange, message.routing_key)

    def put(self, body: bytes, exchange: str, routing_key: str, **properties: Any) -> None:
        """Publish one body."""
        kombu.Producer(self.channel).publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            **{"content_type": "application/json", "content_encoding": "utf-8", **properties},
        )

    def put_mandatory(self, message: Recorded) -> bool:
        """Publish one; tell whether it is on some queue."""
        returned: list[object] = []
        handlers = self.channel.events["basic_return"]
        handlers.clear()
        handlers.add(lambda *words: returned.append(words))
        self.put(message.body, message.exchange, message.routing_key, mandatory=True)
        return not returned

    def take(self, queue: str) -> Any:
        """Take one message off a queue, None when it is empty."""
        return kombu.Queue(queue, channel=self.channel).get(no_ack=True)

    def take_all(self, queue: str) -> list[bytes]:
        """Take everything off a queue; return the raw bodies."""
        messages = iter(lambda: self.take(queue), None)
        return [m.body.encode() if isinstance(m.body, str) else bytes(m.body) for m in messages]
