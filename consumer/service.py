"""The wiring: build, start, stop, wait."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import socket
import threading
import time
from importlib.metadata import version

import oslo_messaging

from consumer.broker import UnknownTransportError
from consumer.bus import ListenerSettings
from consumer.cloud import ControlPlane, DriverOf, Drivers, control_plane
from consumer.config import ConfigurationError, Settings
from consumer.health import Health
from consumer.ledger import Ledger
from consumer.listener import Listener
from consumer.loop import Loop
from consumer.observing import Observer
from consumer.opening import open_ledger
from consumer.publisher import Publisher
from consumer.worker import Worker
from handlers.notification import Source
from handlers.policy import Mode
from handlers.recovery import Recovery
from metrics.exporter import Exporter
from metrics.instruments import Instruments, LedgerCollector, ReadinessCollector

LOG = logging.getLogger(__name__)

FLUSH_SHARE = 0.25
"""The part of ``drain_seconds`` that the outbox gets, after the attempts have had theirs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Parts that the caller brings, in place of those that the settings name.

    For the demo and the tests, which have a cloud of their own. ``transport_url`` replaces the
    broker's. What the caller brings the caller closes.
    """

    control_plane: ControlPlane | None = None
    driver_of: DriverOf | None = None
    ledger: Ledger | None = None
    transport_url: str | None = None


class Service:
    """The whole service in this process: listener, worker, publisher, exporter.

    ``over`` is set when a part of it died; whoever wants it to stop may set it too. Building it
    connects to nothing. Raises ConfigurationError, LedgerUrlError.
    """

    def __init__(self, settings: Settings, parts: Parts | None = None) -> None:
        parts = parts or Parts()
        self.over = threading.Event()
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.instruments = Instruments()
        self.ledger = parts.ledger or open_ledger(settings)
        self._settings = settings
        self._closes_ledger = parts.ledger is None
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._build(parts)

    def _build(self, parts: Parts) -> None:
        settings, observer = self._settings, Observer(self.instruments)
        self.listener, self.publisher = _bus_parts(
            settings, parts, self.ledger, self.owner, observer
        )
        clouds = parts.control_plane or control_plane(settings)
        recovery = Recovery(
            clouds.cinder,
            clouds.nova,
            parts.driver_of or Drivers(settings),
            lambda backend: settings.backends.of(backend).policy,
            stop=self._stopping,
            observer=observer,
        )
        self.worker = Worker(
            self.ledger,
            recovery,
            owner=self.owner,
            settings=settings.worker,
            backends=settings.backends,
            observer=observer,
            caught_up=lambda: self.listener.caught_up,
        )
        self._expose(Health(self.ledger, self.listener, self.publisher, self._stopping))
        self._loops()

    def _expose(self, health: Health) -> None:
        instruments, exporter = self.instruments, self._settings.exporter
        instruments.add_process()
        instruments.describe(
            version("detachd"),
            {b.name: b.policy.mode.value for b in self._settings.backends.all()},
        )
        instruments.expect(
            buses=[self.listener.status().bus], sources=[source.value for source in Source]
        )
        instruments.registry.register(LedgerCollector(health.ledger_state))
        instruments.registry.register(ReadinessCollector(health.ready))
        self.exporter = Exporter(
            exporter.address, exporter.port, instruments.registry, health.checks
        )

    def _loops(self) -> None:
        flush_seconds = self._settings.worker.drain_seconds * FLUSH_SHARE
        died = self.over.set
        self._listening = Loop("listener", self.listener.run, died)
        self._working = Loop("worker", self.worker.run, died)
        self._publishing = Loop(
            "publisher",
            lambda stop: self.publisher.run(stop, flush_seconds=flush_seconds),
            died,
        )

    def start(self) -> None:
        """Start every part; returns when they run.

        Raises SchemaBehindError, SchemaAheadError, LedgerUnavailableError and ExporterError, with
        nothing started. A broker that is down is no error: the listener waits for it.
        """
        self.ledger.check_schema()
        self.exporter.start()
        _introduce(self._settings, self.owner, self.exporter.port)
        for loop in (self._publishing, self._working, self._listening):
            loop.start()

    def stop(self) -> None:
        """Take nothing new: once this returns, no message is taken and no case is claimed.

        Running attempts are told to end before their next outside write. Blocks for a second or
        two, never longer than ``drain_seconds``.
        """
        LOG.info("stopping: nothing new is taken")
        self._stop_at = time.monotonic() + self._settings.worker.drain_seconds
        self._stopping.set()
        # The listener and the worker go first, together: what the one would take could not be
        # worked any more by the other. What was not acked goes back to the queue.
        for loop in (self._listening, self._working):
            loop.ask_to_stop()
        for loop in (self._listening, self._working):
            loop.wait(self._attempts_left())

    def wait(self) -> bool:
        """Wait until what was taken is finished or handed back, and told; then let go of all.

        Blocks for at most ``drain_seconds`` from ``stop`` on, and the end of one sending. Returns
        whether every part ended as it should: False after a part died or was left behind.
        """
        well = self.worker.drain(self._attempts_left())
        # The publisher goes after the attempts, because they put their announcements into the
        # outbox when they end.
        self._publishing.ask_to_stop()
        flush_seconds = self._settings.worker.drain_seconds * FLUSH_SHARE
        loops = (self._listening, self._working, self._publishing)
        for loop in loops:
            well = loop.wait(flush_seconds) and well
        # The exporter goes last, so that the end can be watched.
        self.exporter.stop()
        if self._closes_ledger and well:
            self.ledger.close()
        LOG.info("stopped%s", "" if well else ", but not in good order")
        return well

    def _attempts_left(self) -> float:
        share = self._settings.worker.drain_seconds * FLUSH_SHARE
        return max(self._stop_at - share - time.monotonic(), 0.0)


def _bus_parts(
    settings: Settings, parts: Parts, ledger: Ledger, owner: str, observer: Observer
) -> tuple[Listener, Publisher]:
    conf = settings.conf
    if parts.transport_url is not None:
        conf.set_override("transport_url", parts.transport_url)
    try:
        listener = Listener(ListenerSettings.from_conf(conf), ledger, observer)
        return listener, Publisher.from_conf(conf, ledger, owner, observer)
    except UnknownTransportError as error:
        raise ConfigurationError([f"transport_url: {error}"]) from error
    except (oslo_messaging.InvalidTransportURL, ValueError):
        # Their texts may repeat a part of the URL, and that of the password.
        problem = (
            "transport_url is no URL of a broker; write rabbit://USER:PASSWORD@HOST:5672/VHOST"
        )
        raise ConfigurationError([problem]) from None


def _introduce(settings: Settings, owner: str, port: int) -> None:
    LOG.info("detachd %s on cloud %s as %s", version("detachd"), settings.cloud, owner)
    LOG.info("metrics and health on http://%s:%d", settings.exporter.address, port)
    for backend in settings.backends.all():
        LOG.info(
            "backend %s: mode %s, driver %s, %d at once",
            backend.name,
            backend.policy.mode.value,
            backend.driver,
            backend.concurrency,
        )
    if settings.backends.defaults.policy.mode is Mode.OBSERVE:
        LOG.info("mode observe: nothing is changed on a backend until its mode says so")
    settings.conf.log_opt_values(LOG, logging.DEBUG)
