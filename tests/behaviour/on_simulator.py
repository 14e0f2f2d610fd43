"""The simulated cloud as a ground."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from drivers.base import Connector
from drivers.control_plane import Cinder, Nova
from drivers.errors import IndeterminateError, OutsideError
from drivers.simulator import Cloud, Detaching, Fault, Guest, Service
from drivers.simulator.switchboard import UnansweredError
from tests.behaviour.ground import NO_COMPUTE, TIMEOUT_SECONDS, State


class SimulatedOthers:
    """What others ask of the simulated Cinder."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._api = cloud._api
        self._estate = cloud._estate

    def create_attachment(self, volume_id: str, instance_id: str | None) -> str:
        """``POST /attachments``."""
        with self._asking():
            return self._api.create_attachment(volume_id, instance_id).attachment_id

    def update_attachment(self, attachment_id: str, connector: Connector) -> None:
        """``PUT /attachments/{id}``."""
        with self._asking():
            self._api.update_attachment(self._estate.attachment(attachment_id), connector)

    def initialize_connection(self, volume_id: str, connector: Connector) -> None:
        """``os-initialize_connection``."""
        with self._asking():
            self._api.initialize_connection(volume_id, connector)

    def attach(self, volume_id: str, instance_id: str) -> None:
        """``os-attach``."""
        with self._asking():
            self._api.attach(volume_id, instance_id)

    def begin_detaching(self, volume_id: str) -> None:
        """``os-begin_detaching``."""
        with self._asking():
            self._api.begin_detaching(volume_id)

    def detach(self, volume_id: str, attachment_id: str | None) -> None:
        """``os-detach``."""
        with self._asking():
            self._api.detach(volume_id, attachment_id, trusted=False)

    def reset_status(self, volume_id: str, status: str, attach_status: str | None = None) -> None:
        """``os-reset_status``."""
        with self._asking():
            self._api.reset_status(volume_id, status, attach_status)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        with self._estate.lock:
            try:
                yield
            except UnansweredError as error:
                raise IndeterminateError(str(error)) from None


class SimulatedServers:
    """Servers of the simulated Nova."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._attached: dict[str, str] = {}

    def shared(self, host: str) -> str:
        """Boot one: nothing is shared here."""
        return self.boot(host)

    def boot(self, host: str) -> str:
        """Boot a server."""
        return self._cloud.boot_server(host=host)

    def attach(self, volume_id: str, server_id: str) -> bool:
        """Attach through Nova and tell whether that went well."""
        self._attached[server_id] = volume_id
        try:
            self._cloud.attach(volume_id, server_id)
        except OutsideError:
            return False
        return True

    @contextlib.contextmanager
    def in_state(self, server_id: str, vm_state: str) -> Iterator[None]:
        """Write the state."""
        self._cloud.set_server(server_id, vm_state=vm_state)
        yield
        self._cloud.set_server(server_id, vm_state="active")

    @contextlib.contextmanager
    def locked(self, server_id: str) -> Iterator[None]:
        """Write the lock."""
        self._cloud.set_server(server_id, locked=True)
        yield
        self._cloud.set_server(server_id, locked=False)

    def shelve(self, server_id: str) -> None:
        """Shelve a server and take it off its host."""
        self._cloud.shelve(self._attached[server_id], server_id)

    def delete(self, server_id: str) -> None:
        """Delete a server as Nova does."""
        self._cloud.terminate_server(server_id)

    def migrate(self, server_id: str, host: str) -> None:
        """Move a server to another host, live."""
        volume_id = self._attached[server_id]
        try:
            self._cloud.begin_migration(volume_id, server_id, host)
        except OutsideError:
            self._cloud.fail_migration(volume_id, server_id)
        else:
            self._cloud.finish_migration(volume_id, server_id)

    def holding(self, volume_id: str) -> tuple[str, ...]:
        """Return whose guests hold a volume."""
        return self._cloud.guests_holding(volume_id)

    def refuse_to_let_go(self, server_id: str) -> None:
        """Let the guest refuse the next detach."""
        self._cloud.script_detach(server_id, Detaching(Guest.REFUSES))

    @contextlib.contextmanager
    def compute_down(self, host: str) -> Iterator[None]:
        """Let Nova take a compute service for down."""
        self._cloud.set_compute(host, up=False)
        yield
        self._cloud.set_compute(host, up=True)

    @contextlib.contextmanager
    def api_down(self) -> Iterator[None]:
        """Stop nova-api."""
        self._cloud.set_apis(nova_up=False)
        yield
        self._cloud.set_apis()


class SimulatorGround:
    """A fresh simulated cloud."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.cloud.set_compute(NO_COMPUTE, up=None)
        self.servers = SimulatedServers(self.cloud)
        self.others = SimulatedOthers(self.cloud)
        self.nova: Nova = self.cloud.nova

    @property
    def cinder(self) -> Cinder:
        """Cinder, asked without a service token."""
        self.cloud.set_service_token(sent=False)
        return self.cloud.cinder

    @property
    def vouching(self) -> Cinder:
        """Cinder, asked with a service token."""
        self.cloud.set_service_token(sent=True)
        return self.cloud.cinder

    @property
    def vouching_on_order(self) -> Cinder:
        """Cinder, asked with a service token where the call says so."""
        self.cloud.set_service_token(sent=False)
        self.cloud.have_service_token()
        return self.cloud.cinder

    def connector(self, host: str) -> Connector:
        """Return the connector of a host."""
        return self.cloud.connector(host)

    def volume(self, *, multiattach: bool = False) -> str:
        """Make an available volume."""
        return self.cloud.create_volume(multiattach=multiattach)

    def look(self, volume_id: str) -> State:
        """Look at a volume from all sides."""
        told = self.cloud.cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS)
        assert told is not None
        attachments = tuple(sorted(attachment.status for attachment in told.attachments))
        return State(
            *self.cloud.statuses(volume_id), attachments, self.cloud.exported_to(volume_id)
        )

    def busy_backend(
        self, method: str, volume_id: str, act: Callable[[], None]
    ) -> Callable[[], None]:
        """Script a call that comes late."""
        self.cloud.script(Fault.late(f"backend.{method}"))
        with pytest.raises(IndeterminateError):
            act()

        def finish() -> None:
            assert self.cloud.land_late(volume_id) == 1

        return finish

    def impatient(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Script a call that comes late: nobody is patient here."""
        return self.busy_backend("initialize_connection", volume_id, act)

    def frozen(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Freeze the backend's service."""
        self.cloud.set_service(Service.FROZEN)
        with pytest.raises(IndeterminateError):
            act()
        return lambda: self.cloud.set_service(Service.UP)

    def break_backend(
        self, method: str, volume_id: str, *, times: int = 1, acts: bool = False
    ) -> None:
        """Script a fault."""
        make = Fault.after if acts else Fault.before
        self.cloud.script(make(f"backend.{method}", times=times, volume_id=volume_id))

    def faults_left(self) -> bool:
        """Tell whether a fault has not struck yet."""
        return bool(self.cloud.faults_left())
