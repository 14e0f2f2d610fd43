"""A small cloud in memory: Cinder, Nova and storage backends, with faults on request.

In short::

    cloud = Cloud()
    volume, server = cloud.create_volume(), cloud.boot_server(host="compute-1")
    cloud.script(Fault.late("backend.initialize_connection", times=5))
    with contextlib.suppress(PermanentError):
        cloud.attach(volume, server)          # Nova gives up: available, no row
    cloud.land_late()                         # ... and now the backend exports it: UC5
    cloud.cinder, cloud.nova, cloud.driver()  # what the service is given
    cloud.hazards()                           # what it did that may never happen: ()
    cloud.close()
"""

from __future__ import annotations

from types import TracebackType

from drivers.base import Connector
from drivers.cinder_managed import CinderManagedDriver
from drivers.simulator.cinder_api import CinderApi, CinderFace
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.estate import Estate
from drivers.simulator.faults import Fault, FaultScript, LateEffects
from drivers.simulator.flows import Flows
from drivers.simulator.hazards import Call, Hazard, Journal, Watch
from drivers.simulator.nova_compute import Compute, Detaching, NovaFace
from drivers.simulator.state import DEFAULT_BACKEND, Service
from drivers.simulator.storage_face import StorageFace
from drivers.simulator.switchboard import Switchboard
from drivers.simulator.volume_service import VolumeService


class Cloud(Flows):
    """The whole cloud; every method is thread-safe.

    ``latency_seconds`` is slept at the start of every call, without keeping others waiting.
    """

    def __init__(self, *, latency_seconds: float = 0.0) -> None:
        estate = Estate()
        self._watch = Watch(estate)
        self._late = LateEffects()
        self._journal = Journal()
        self._board = Switchboard(
            estate, self._journal, FaultScript(), self._late, self._watch, latency_seconds
        )
        # One estate and one board: what a user's flow does and what the service does meet in the
        # same records.
        api = CinderApi(estate, VolumeService(estate, self._board))
        compute = Compute(estate, api, self._watch)
        super().__init__(estate, api, compute)
        self.cinder = CinderFace(api, self._board)
        self.nova = NovaFace(compute, self._board)
        self.storage = StorageFace(estate, self._board)
        self.add_backend(DEFAULT_BACKEND)

    def __enter__(self) -> Cloud:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def driver(self, backend: str = DEFAULT_BACKEND) -> SimulatorDriver:
        """Return a driver that sees and acts on one backend."""
        return SimulatorDriver(backend, {}, cloud=self)

    def blind_driver(self, backend: str = DEFAULT_BACKEND) -> CinderManagedDriver:
        """Return the driver that cannot look and acts through Cinder."""
        return CinderManagedDriver(backend, {}, cinder=self.cinder)

    def connector(self, host: str) -> Connector:
        """Return the connector of a compute host."""
        return self._estate.connector_of(host)

    def set_connector(self, host: str, connector: Connector) -> None:
        """Have a compute host present itself to storage with this connector from now on."""
        with self._estate.lock:
            self._estate.connectors[host] = connector

    def script(self, *faults: Fault) -> None:
        """Add faults; they strike in the order in which they were added."""
        with self._estate.lock:
            for fault in faults:
                self._board.faults.add(fault)

    def clear_faults(self) -> None:
        """Forget the faults that have not struck yet."""
        with self._estate.lock:
            self._board.faults.clear()

    def faults_left(self) -> tuple[Fault, ...]:
        """Return the faults that have not struck yet."""
        with self._estate.lock:
            return self._board.faults.pending()

    def script_detach(self, instance_id: str, *detaching: Detaching) -> None:
        """Script how the next detaches that Nova accepts from the service go on."""
        with self._estate.lock:
            self.nova.script.setdefault(instance_id, []).extend(detaching)

    def land_late(self, volume_id: str | None = None) -> int:
        """Make what is under way behind the callers' backs happen now; return how many did."""
        return self._late.land(volume_id)

    def under_way(self) -> tuple[str, ...]:
        """Return the names of the calls whose effect is still to come."""
        return self._late.labels()

    def set_service(self, state: Service, backend: str = DEFAULT_BACKEND) -> None:
        """Stop, freeze or start a backend's cinder-volume; thawing does what had piled up."""
        with self._estate.lock:
            self._estate.services[backend] = state
        # Outside the lock: what had piled up takes it again.
        if state is Service.UP:
            self._late.thaw(backend)

    def set_apis(self, *, cinder_up: bool = True, nova_up: bool = True) -> None:
        """Stop or start cinder-api and nova-api; both are up at first."""
        with self._estate.lock:
            self._estate.cinder_api_up, self._estate.nova_api_up = cinder_up, nova_up

    def set_protocol(self, protocol: str | None) -> None:
        """Say how hosts reach the volumes of every backend; None: the scheduler knows no pool."""
        with self._estate.lock:
            self._estate.protocol = protocol

    def set_service_token(self, *, sent: bool) -> None:
        """Say whether the service sends a service token, which Cinder's guard lets pass."""
        with self._estate.lock:
            self._estate.service_token = sent

    def have_service_token(self) -> None:
        """Give the service a service token that it sends with the calls that ask for one."""
        with self._estate.lock:
            self._estate.has_service_token = True

    def ask_another_nova(self, attachment_id: str) -> None:
        """Let Cinder's guard ask a Nova that still names the attachment, unlike the service's."""
        with self._estate.lock:
            self._estate.named_elsewhere.add(attachment_id)

    def set_latency(self, seconds: float) -> None:
        """Set what every call sleeps first."""
        self._board.latency_seconds = seconds

    def calls(
        self, name: str | None = None, *, volume_id: str | None = None, writes: bool = False
    ) -> tuple[Call, ...]:
        """Return the journal: all, or one ``actor.method``, one volume, only writes."""
        return self._journal.calls(name, volume_id=volume_id, writes=writes)

    @property
    def journal(self) -> tuple[Call, ...]:
        """Every call that the service made, in the order in which they began."""
        return self._journal.calls()

    def hazards(self) -> tuple[Hazard, ...]:
        """Return every violation of "what may never happen" that a call of the service did."""
        with self._estate.lock:
            return tuple(self._watch.hazards)

    def close(self) -> None:
        """Wake what sleeps, stop the timers and wait for them; later calls are TransientError."""
        self._board.closed.set()
        self._late.close()

    def _asked_by(self) -> str | None:
        asked = self._watch.current
        return asked.request_id if asked else None
