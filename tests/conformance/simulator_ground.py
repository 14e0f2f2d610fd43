"""A simulated cloud as the ground that the conformance suite stands on."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

from drivers import registry
from drivers.base import Connection, Connector, StorageDriver, VolumeRef
from drivers.child_driver import ChildDriver
from drivers.cinder_managed import ThroughCinder
from drivers.conformance import Ground
from drivers.simulator import DEFAULT_BACKEND, Cloud, Effect, Fault, SimulatorDriver

AUTHKEY = "canary-of-the-authkey"
OPTIONS = {"address": None, "authkey": AUTHKEY}
METHODS = ("observe", "terminate_connection", "detach", "list_exports")
FROZEN = tuple(f"driver.{method}" for method in METHODS)
STORM_SECONDS = 0.001


class SimulatorGround(Ground):
    """Hosts are compute-nodes, names are Cinder's ids; the driver is of any of the classes."""

    def __init__(
        self,
        cloud: Cloud,
        kind: type[SimulatorDriver] | type[ThroughCinder] = SimulatorDriver,
        frozen: tuple[str, ...] = FROZEN,
    ) -> None:
        self.cloud, self.kind, self.frozen = cloud, kind, frozen

    def driver(self) -> StorageDriver:
        """Make one for the cloud's own backend."""
        return self._made(DEFAULT_BACKEND)

    def elsewhere(self) -> StorageDriver:
        """Make one for a second backend of the cloud, which holds another volume."""
        self.cloud.create_volume(backend="storage-2@tgt")
        return self._made("storage-2@tgt")

    def _made(self, backend: str) -> StorageDriver:
        if issubclass(self.kind, ThroughCinder):
            return self.kind(backend, {}, cinder=self.cloud.cinder)
        return self.kind(backend, OPTIONS, cloud=self.cloud)

    def volume(self) -> VolumeRef:
        """Create one without rows or servers."""
        return self._ref(self.cloud.create_volume())

    def migrated(self) -> VolumeRef:
        """Create one that the backend has under its name_id."""
        return self._ref(self.cloud.create_volume(name_id="migrated"))

    def missing(self) -> VolumeRef:
        """Create one that the backend has forgotten."""
        volume = self.cloud.create_volume(name_id="forgotten")
        self.cloud.forget_on_backend(volume)
        return self._ref(volume)

    def connector(self, host: str) -> Connector:
        """Return the cloud's own of that host."""
        return self.cloud.connector(host)

    def connect(self, volume: VolumeRef, connector: Connector, *, sessions: int = 1) -> None:
        """Export to it."""
        host = connector.host or ""
        self.cloud.export(volume.volume_id, host, connector=connector, sessions=sessions)

    def truth(self, volume: VolumeRef) -> tuple[Connection, ...]:
        """Ask the cloud itself."""
        return self.cloud.connections(volume.volume_id)

    def withdraw(self, volume: VolumeRef, connector: Connector) -> None:
        """Take the access only."""
        self.cloud.withdraw(volume.volume_id, connector)

    @contextlib.contextmanager
    def comes_back(self, volume: VolumeRef, connector: Connector) -> Iterator[None]:
        """Log in again and again from a thread."""
        over = threading.Event()

        def storm() -> None:
            while not over.wait(STORM_SECONDS):
                self.cloud.log_in(volume.volume_id, connector)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def stuck(self, volume: VolumeRef, connector: Connector) -> Iterator[None]:
        """Have the session's I/O hang."""
        self.cloud.hang_session(volume.volume_id, connector)
        try:
            yield
        finally:
            self.cloud.release_stuck_session(volume.volume_id, connector.host or "")

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Hang every call, and do after the thaw what was asked meanwhile."""
        for method in self.frozen:
            self.cloud.script(Fault.hang(method, 60, effect=Effect.LATE, times=9))
        try:
            yield
        finally:
            self.cloud.clear_faults()
            self.cloud.land_late()

    @contextlib.contextmanager
    def failing_once(self, way: int) -> Iterator[Callable[[], bool]]:
        """Strike the first call of any kind, without and with effect, and then ``detach`` alone."""
        detach = [method for method in self.frozen if method.endswith(".detach")]
        ways = [(self.frozen, Fault.before), (self.frozen, Fault.after), (detach, Fault.before)]
        methods, struck = ways[way] if way < len(ways) else ((), Fault.before)
        self.cloud.script(*(struck(method) for method in methods))
        try:
            yield lambda: has_struck
        finally:
            has_struck = len(self.cloud.faults_left()) < len(methods)
            self.cloud.clear_faults()

    def request_ids(self) -> tuple[str, ...]:
        """Return what the calls of the journal were made with."""
        return tuple(call.asked.request_id for call in self.cloud.journal if call.asked.request_id)

    def _ref(self, volume_id: str) -> VolumeRef:
        volume = self.cloud.cinder.volume(volume_id, timeout_seconds=1)
        assert volume is not None
        return volume.ref


class GroundInAProcess(SimulatorGround):
    """The same, but each driver makes its calls in a child process, which asks the served cloud."""

    def __init__(self, cloud: Cloud, address: str) -> None:
        super().__init__(cloud)
        self.address = address

    def _made(self, backend: str) -> StorageDriver:
        options = {"address": self.address, "authkey": AUTHKEY}
        make = functools.partial(registry.build, "simulator", backend, options, cinder=None)
        return ChildDriver(SimulatorDriver, backend, options, make, grace_seconds=2.0, most=8)
