"""The wiring: build, start, stop, wait.

1. Each loop of the service runs in its own thread. If one ends unexpectedly, the service stops.
2. It stops in the order of the work: what brings in work, the attempts, the announcements of those,
   the exporter. The attempts and the announcements share ``drain_seconds``.
3. The ledger is closed, and the sign of life given up, only if no thread was abandoned.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from consumer.bus.broker import url_explained
from consumer.cloud import (
    ControlPlane,
    DriverOf,
    Drivers,
    capabilities,
    control_plane,
    parks_all,
)
from consumer.intake.listener import Listener
from consumer.intake.replay_queue import ReplaySettings
from consumer.intake.replayer import Replayer
from consumer.ledger import Ledger, Pause, Replica
from consumer.periodic.decisions import DecisionLog
from consumer.periodic.fences import FenceWatch
from consumer.periodic.hosts_off import HostsOff
from consumer.periodic.housekeeping import Pruner
from consumer.periodic.kill_switch import KillSwitch
from consumer.periodic.learning import Learner
from consumer.periodic.loop import Loop
from consumer.periodic.region import RegionCheck
from consumer.periodic.server_looks import ServerLooker
from consumer.periodic.sweep import Sweeper
from consumer.publish.publisher import Publisher
from consumer.settings import buses
from consumer.settings.configuration import Settings
from consumer.settings.ledger import open_ledger
from consumer.settings.reloading import brake_changes, mode_changes, with_modes
from consumer.status import page as status_page
from consumer.status.page import StatusPage
from consumer.status.standing import doubt_of
from consumer.status.words import printable
from consumer.supervision.health import Health, Strangers
from consumer.supervision.liveness import Heartbeat, SignOfLife
from consumer.supervision.observing import Observer
from consumer.supervision.outside import Outside
from consumer.supervision.outside_looks import OutsideLooks
from consumer.supervision.report import report
from consumer.work.backends import Backends
from consumer.work.driver_calls import BoundedDrivers
from consumer.work.hanging import HangingWrites
from consumer.work.worker import Worker
from handlers.judgement.policy import Mode
from handlers.notification import ON_THE_BUS
from handlers.recovery.recovery import Recovery
from metrics.collectors import LedgerCollector, ReadinessCollector
from metrics.exporter import Exporter
from metrics.instruments import Instruments

LOG = logging.getLogger(__name__)


LONG_BOUND_SECONDS = 4 * 3600.0
"""How long one turn of what reads long lists may take: between two pages it does not turn."""

FLUSH_SHARE = 0.25
"""The part of ``drain_seconds`` that is for the outbox; the rest is for the attempts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Parts from the caller, used instead of those in the settings.

    The demo and the tests use them, which have their own cloud. ``transport_url`` replaces that of
    the configuration. The caller closes what it passes here.
    """

    control_plane: ControlPlane | None = None
    driver_of: DriverOf | None = None
    ledger: Ledger | None = None
    transport_url: str | None = None


class Service:
    """The whole service in this process: listener, replayer, worker, publisher, exporter.

    ``over`` is set when a part has failed; a caller that wants the service to stop may set it too.
    Making the object connects to nothing. Raises ConfigurationError, LedgerUrlError.
    """

    def __init__(self, settings: Settings, parts: Parts | None = None) -> None:
        parts = parts or Parts()
        self.over = threading.Event()
        # Random, because a process id is used again, in a container nearly always the same one.
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._sign_of_life = SignOfLife(self.owner)
        self.instruments = Instruments()
        self.ledger = parts.ledger or open_ledger(settings.cloud, settings.ledger)
        self._settings = settings
        self._backends, self._brakes = settings.backends, settings.brakes
        self._closes_ledger = parts.ledger is None
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._build(parts)

    def _build(self, parts: Parts) -> None:
        settings, strangers, outside = self._settings, Strangers(), Outside()
        count = Observer(self.instruments, strangers, outside)
        self.listeners, self.replayer, self.publisher = _bus_parts(
            settings, parts, self.ledger, self.owner, count
        )
        clouds = parts.control_plane or control_plane(settings)
        driver_of = BoundedDrivers(
            parts.driver_of or Drivers(settings, clouds.cinder), settings.backends, report=count
        )
        self.hanging_writes = HangingWrites(
            self.ledger, driver_of, settings.backends, owner=self.owner
        )
        self.kill_switch = KillSwitch(
            settings.brakes.kill_switch_file, self.ledger, socket.gethostname()
        )
        self._capabilities = capabilities(settings)
        self.worker = self._worker(clouds, driver_of, count)
        self.sweeper = self._sweeper(clouds, driver_of, count)
        self.learner = self._learner(clouds, driver_of, count)
        self.outside_looks = OutsideLooks(
            clouds.cinder, clouds.nova, driver_of, tuple(settings.backends.by_name), outside, count
        )
        self.server_looker = ServerLooker(
            clouds.cinder,
            self.ledger,
            # Half, so that a look is at most half of its delay late.
            poll_seconds=settings.ledger.second_look_seconds / 2,
            count=count,
        )
        self.fence_watch = self._fence_watch(driver_of, count)
        self.hosts_off = HostsOff(self.ledger, clouds.nova, count)
        self.pruner = self._pruner(count)
        self.region_check = RegionCheck(clouds.places) if clouds.places else None
        self._expose(self._health(strangers, outside))
        self._loops()

    def _worker(self, clouds: ControlPlane, driver_of: DriverOf, count: Observer) -> Worker:
        settings = self._settings
        recovery = Recovery(
            clouds.cinder,
            clouds.nova,
            driver_of,
            lambda backend: self._backends.of(backend).policy,
            stop=self._stopping,
            # Asked before each write, so that a pause holds back an attempt that is under way too.
            paused=self._held,
            count=count,
        )
        return Worker(
            self.ledger,
            recovery,
            owner=self.owner,
            settings=settings.worker,
            backends=settings.backends,
            count=count,
            caught_up=lambda: self.caught_up,
            halted=self.kill_switch.pulled,
            limits=settings.brakes.limits,
        )

    def _sweeper(self, clouds: ControlPlane, driver_of: DriverOf, count: Observer) -> Sweeper:
        return Sweeper(
            clouds.cinder,
            driver_of,
            self.ledger,
            owner=self.owner,
            settings=self._settings.sweep,
            count=count,
            ghosts=any(one.lists_exports for one in self._capabilities),
            learns=any(one.by_learned_client for one in self._capabilities),
            nova=clouds.nova,
        )

    def _held(self, backend: str) -> bool:
        """Tell whether nothing may be written outside now for this backend."""
        return self.kill_switch.pulled() or self.ledger.paused(backend) is not None

    def _fence_watch(self, driver_of: DriverOf, count: Observer) -> FenceWatch:
        return FenceWatch(
            self.ledger,
            driver_of,
            lambda backend: self._backends.of(backend).policy,
            held=self._held,
            count=count,
        )

    def _learner(
        self, clouds: ControlPlane, driver_of: DriverOf, count: Observer
    ) -> Learner | None:
        settings = self._settings
        needed = any(one.by_learned_client for one in self._capabilities)
        if not settings.learning.looks_per_minute or not needed:
            return None
        return Learner(
            (clouds.cinder, clouds.nova),
            driver_of,
            lambda backend: settings.backends.of(backend).policy,
            self.ledger,
            cloud=settings.cloud,
            settings=settings.learning,
            has_room=self.worker.has_room,
            count=count,
        )

    def _health(self, strangers: Strangers, outside: Outside) -> Health:
        return Health(
            self.ledger,
            self.listeners,
            self.replayer,
            self.publisher,
            strangers=strangers,
            stopping=self._stopping,
            outside=outside,
        )

    def _pruner(self, count: Observer) -> Pruner:
        ledger = self._settings.ledger
        return Pruner(
            self.ledger,
            archive_seconds=ledger.archive_seconds or None,
            retention_seconds=ledger.retention_seconds or None,
            count=count,
            caught_up=lambda: self.caught_up,
        )

    def _expose(self, health: Health) -> None:
        instruments, exporter = self.instruments, self._settings.exporter
        instruments.add_process()
        instruments.describe(version("detachd"), _modes(self._backends))
        instruments.expect(
            buses=[listener.status().bus for listener in self.listeners],
            sources=[source.value for source in ON_THE_BUS],
        )
        instruments.sweeping.begin(enabled=self._settings.sweep.enabled)
        instruments.registry.register(LedgerCollector(health.ledger_state))
        instruments.registry.register(ReadinessCollector(health.ready))
        pages = (
            {status_page.PATH: self._status_page(exporter.address)} if exporter.status_page else {}
        )
        self.exporter = Exporter(
            exporter.address,
            exporter.port,
            instruments.registry,
            health.checks,
            stuck=self.stuck,
            mounted=pages,
        )

    def _status_page(self, address: str) -> StatusPage:
        return StatusPage(self.ledger, self._settings.cloud, version("detachd"), address)

    def _loops(self) -> None:
        """Make the loops that stop first, and those that run until the attempts have ended."""
        died, flush_seconds = self.over.set, self._settings.worker.drain_seconds * FLUSH_SHARE
        # The heartbeat is made in its thread: it needs the place, which is known after the start.
        self._lasting = [
            Loop("publisher", lambda s: self.publisher.run(s, flush_seconds=flush_seconds), died),
            Loop("heartbeat", lambda stop: self._heartbeat().run(stop), died),
            Loop("kill switch", self.kill_switch.run, died),
            Loop("log of decisions", DecisionLog(self.ledger).run, died),
            Loop("watch over hanging calls", self.hanging_writes.run, died),
        ]
        # No attempt needs one of these in order to end.
        self._input = [
            Loop("worker", self.worker.run, died),
            Loop("replayer", self.replayer.run, died),
            *self._lookers(died),
            *(Loop(f"listener of bus {one.status().bus}", one.run, died) for one in self.listeners),
        ]

    def _lookers(self, died: Callable[[], None]) -> Iterator[Loop]:
        """Yield the loops that look at what no message tells of, as far as they are configured."""
        ledger, long = self._settings.ledger, {"bound_seconds": LONG_BOUND_SECONDS}
        if self._settings.sweep.enabled:
            yield Loop("sweeper", self.sweeper.run, died, **long)
        yield Loop("look at the outside", self.outside_looks.run, died, **long)
        if self.region_check is not None:
            yield Loop("region check", self.region_check.run, died)
        if ledger.second_looks_per_minute:
            yield Loop("look at servers", self.server_looker.run, died, **long)
        if self.learner is not None:
            yield Loop("learning", self.learner.run, died, **long)
        yield Loop("watch of fences", self.fence_watch.run, died, **long)
        yield Loop("watch of hosts that are off", self.hosts_off.run, died)
        if ledger.archive_seconds or ledger.retention_seconds:
            yield Loop("pruner", self.pruner.run, died)

    def _heartbeat(self) -> Heartbeat:
        host, place = socket.gethostname(), self._sign_of_life.place
        replica = Replica(self.owner, host, os.getpid(), version("detachd"), place)
        return Heartbeat(self.ledger, replica)

    @property
    def caught_up(self) -> bool:
        """Tell whether deadlines count: a missing end may still wait in the queue of any bus."""
        return all(listener.caught_up for listener in self.listeners)

    def stuck(self) -> Sequence[str]:
        """Return a reason for each loop that does not turn any more; only a restart helps."""
        loops = (*self._lasting, *self._input)
        return tuple(why for loop in loops if (why := loop.stuck()) is not None)

    def reload(self, read: Settings) -> Sequence[str]:
        """Take over the modes and the limits of a configuration; return what changed, in sentences.

        A mode holds from the next look on. Nothing else is taken over. Blocks for nothing.
        """
        after = with_modes(self._backends, read.backends)
        changes = (*mode_changes(self._backends, after), *brake_changes(self._brakes, read.brakes))
        self._backends, self._brakes = after, read.brakes
        self.worker.limit(read.brakes.limits)
        self.instruments.set_modes(_modes(after))
        return changes

    def report(self) -> str:
        """Return what the service is doing now, for a person. Blocks for the ledger."""
        head = f"detachd {version('detachd')}, cloud {self._settings.cloud}, as {self.owner}"
        modes = ", ".join(f"{name}: {mode}" for name, mode in _modes(self._backends).items())
        return report(f"{head}; modes: {modes}", self.stuck(), self.ledger, self._settings.conf)

    def start(self) -> None:
        """Start every part; return when they run.

        Raises SchemaBehindError, SchemaAheadError, LedgerUnavailableError and ExporterError, and
        ConfigurationError if it is not clear which region is meant, with nothing started. A broker
        that is down is no error: the listener waits for it. Blocks for an answer of Keystone, and
        a Keystone that is down is no error either.
        """
        # Before anything is started or bound: a wrong schema is the commonest error after an
        # upgrade.
        self.ledger.check_schema()
        pauses = self.ledger.pauses()
        if self.region_check is not None:
            self.region_check.refuse_ambiguous()
        # Before the loops: a port that is taken stops the start with nothing to undo.
        self.exporter.start()
        # Before the heartbeat, which writes the place down: a place without a held name would be
        # the proof of a death.
        self._sign_of_life.hold()
        _introduce(self._settings, self.owner, self.exporter.port)
        _doubt(pauses, self._settings.backends)
        for loop in (*self._lasting, *self._input):
            loop.start()

    def stop(self) -> None:
        """Stop all input: when this returns, no message is consumed and no case is claimed.

        Running attempts end before their next write to the cloud. Blocks for a second or two, at
        most ``drain_seconds``.
        """
        LOG.info("stopping: no new messages and cases are accepted")
        self._stop_at = time.monotonic() + self._settings.worker.drain_seconds
        self._stopping.set()
        # The loops that bring in work stop first, all together. A message that was not acked goes
        # back to its queue.
        for loop in self._input:
            loop.ask_to_stop()
        for loop in self._input:
            loop.wait(self._attempts_left())

    def wait(self) -> bool:
        """Wait until the running attempts have ended and the outbox is published; close everything.

        Blocks for at most ``drain_seconds`` after ``stop``, and until one running publication has
        ended. Returns False if a part failed or did not stop in time.
        """
        well = self.worker.drain(self._attempts_left())
        # The publisher stops after the attempts, because they write their announcements into the
        # outbox when they end.
        for loop in self._lasting:
            loop.ask_to_stop()
        ends_at = time.monotonic() + self._settings.worker.drain_seconds * FLUSH_SHARE
        for loop in (*self._input, *self._lasting):
            well = loop.wait(ends_at - time.monotonic()) and well
        # The exporter stops last, so that the end of the service can be observed.
        self.exporter.stop()
        # A thread that was abandoned may still write its outcome, and would find a closed pool.
        if self._closes_ledger and well:
            self.ledger.close()
        if well:  # otherwise an attempt may still run in this process
            self._sign_of_life.let_go()
        LOG.info("stopped%s", "" if well else ", but a part failed or did not stop in time")
        return well

    def _attempts_left(self) -> float:
        share = self._settings.worker.drain_seconds * FLUSH_SHARE
        # The rest of drain_seconds is for the outbox: an attempt that ends late must still be
        # announced.
        return max(self._stop_at - share - time.monotonic(), 0.0)


def _modes(backends: Backends) -> Mapping[str, str]:
    return {backend.name: backend.policy.mode.value for backend in backends.all()}


def _bus_parts(
    settings: Settings, parts: Parts, ledger: Ledger, owner: str, count: Observer
) -> tuple[Sequence[Listener], Replayer, Publisher]:
    conf = settings.conf
    if parts.transport_url is not None:
        conf.set_override("transport_url", parts.transport_url)
    read = buses.read(conf)
    buses.check_files(read)
    listeners = [Listener(bus, ledger, count) for bus in read]
    with url_explained():
        replayer = Replayer(ReplaySettings.from_conf(conf), ledger, count)
        return listeners, replayer, Publisher.from_conf(conf, ledger, owner, count)


def _doubt(pauses: Iterable[Pause], backends: Backends) -> None:
    for pause in pauses:
        if doubt := doubt_of(pause, backends.by_name):
            LOG.warning("%s; %s", printable(pause.words), doubt)


def _introduce(settings: Settings, owner: str, port: int) -> None:
    LOG.info("detachd %s started for cloud %s as %s", version("detachd"), settings.cloud, owner)
    LOG.info("metrics and health are served on http://%s:%d", settings.exporter.address, port)
    if settings.exporter.status_page:
        LOG.info("the status page is at %s there, for clients on this machine", status_page.PATH)
    for backend in settings.backends.all():
        LOG.info(
            "backend %s: mode %s, driver %s, at most %d cases at the same time",
            backend.name,
            backend.policy.mode.value,
            backend.driver,
            backend.concurrency,
        )
        if parks_all(backend):
            LOG.warning(
                "backend %s: mode %s, but driver %s cannot see the backend and trust_blind is not "
                "set, so every case in which a connection must be released is parked",
                backend.name,
                backend.policy.mode.value,
                backend.driver,
            )
    if settings.backends.defaults.policy.mode is Mode.OBSERVE:
        LOG.info("mode observe: detachd changes nothing until you set another mode for a backend")
    settings.conf.log_opt_values(LOG, logging.DEBUG)
