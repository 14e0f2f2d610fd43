"""The simulated cinder-volume: what Cinder's volume manager asks of its backend driver, in order.

Follows Cinder, cinder/volume/manager.py. Each of its calls can be struck by a ``backend.*`` fault
and then answers nothing (``UnansweredError``: the API says 500), leaving things half done as the
real one does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from drivers.base import Connector
from drivers.simulator import estate
from drivers.simulator.estate import Estate
from drivers.simulator.faults import Effect, Fault
from drivers.simulator.state import AttachmentRecord, Link, Service, VolumeRecord
from drivers.simulator.switchboard import Switchboard, UnansweredError

INITIALIZE, TERMINATE = "backend.initialize_connection", "backend.terminate_connection"
REMOVE_EXPORT = "backend.remove_export"
Step = Callable[[str, Callable[[], None]], None]


@dataclasses.dataclass(slots=True)
class VolumeService:
    """cinder-volume for every backend. All methods run under the estate's lock."""

    estate: Estate
    board: Switchboard

    def attachment_update(
        self, volume: VolumeRecord, attachment: AttachmentRecord, connector: Connector
    ) -> None:
        """Export the volume to a host, then mark row and volume attaching (``attachment_update``).

        A row that was deleted while the driver worked stays deleted, and the export stays: that is
        how a leak is made.
        """

        def connect(step: Step) -> None:
            self._export(step, volume, connector, attachment.instance_id)
            # Cinder looks for the row only after its driver has returned.
            if attachment.attachment_id in volume.attachments:
                estate.mark_attaching(volume, attachment, connector)

        self._ask("attachment_update", volume, connect)

    def initialize_connection(self, volume: VolumeRecord, connector: Connector) -> None:
        """Export the volume to a host, for the old API: no row knows of it."""
        self._ask(
            "initialize_connection",
            volume,
            lambda step: self._export(step, volume, connector, None),
        )

    def attachment_delete(self, volume: VolumeRecord, attachment: AttachmentRecord) -> None:
        """Terminate with the row's own connector, remove the export unless it is shared.

        A row without a connector skips the backend; a failing ``remove_export`` is only logged.
        """

        def disconnect(step: Step) -> None:
            if (connector := attachment.connector) is None:
                return
            step(TERMINATE, lambda: self._terminate(volume, connector))
            if self._shared(volume):
                return
            try:
                step(REMOVE_EXPORT, lambda: self._remove_export(volume))
            except UnansweredError:
                return

        self._ask("attachment_delete", volume, disconnect)

    def terminate_connection(self, volume: VolumeRecord, connector: Connector) -> None:
        """Terminate one host's connection; rows are not looked at."""
        self._ask(
            "terminate_connection",
            volume,
            lambda step: step(TERMINATE, lambda: self._terminate(volume, connector)),
        )

    def detach_volume(self, volume: VolumeRecord, attachment_id: str | None) -> None:
        """Remove the export, drop the row, recompute (``detach_volume``, the legacy way).

        Without rows it writes available and detached, whatever the status was; with an id that
        does not exist it only recomputes.
        """

        def detach(step: Step) -> None:
            if attachment_id is None and not volume.attachments:
                volume.status, volume.attach_status = "available", "detached"
                return
            found_id = attachment_id or next(iter(volume.attachments))
            if found_id in volume.attachments:
                step(REMOVE_EXPORT, lambda: self._remove_export(volume))
            estate.finish_detach(self.estate, volume, found_id)

        self._ask("detach_volume", volume, detach)

    def _ask(
        self,
        name: str,
        volume: VolumeRecord,
        work: Callable[[Step], None],
    ) -> None:
        """Carry the request to the backend's service, in whatever state that is."""
        match self.estate.service(volume.backend):
            case Service.DOWN:
                raise UnansweredError("cinder-volume is down; the request has expired")
            case Service.FROZEN:
                self.board.on_thaw(name, volume.backend, volume.volume_id, lambda: work(_plain))
                raise UnansweredError("cinder-volume gave no answer in time")
            case Service.UP:
                self._work(name, volume, work)

    def _work(
        self,
        name: str,
        volume: VolumeRecord,
        work: Callable[[Step], None],
    ) -> None:
        try:
            work(lambda method, act: self._step(method, volume, act))
        except _DriverStalledError as stall:
            # The manager goes on where the API has stopped listening: it does the whole of its
            # part later, and the API's part (the status) is never done.
            if stall.fault.effect is Effect.LATE:
                self.board.later(name, volume.volume_id, stall.fault.landing, lambda: work(_plain))
            raise

    def _step(self, method: str, volume: VolumeRecord, act: Callable[[], None]) -> None:
        if (fault := self.board.strike(method, volume.volume_id)) is None:
            act()
            return
        if fault.effect is Effect.NOW:
            act()
        if fault.error is None:
            return
        if fault.effect is Effect.LATE or fault.seconds:
            raise _DriverStalledError(method, fault)
        raise _DriverFailedError(f"{method} failed")

    def _export(
        self, step: Step, volume: VolumeRecord, connector: Connector, instance_id: str | None
    ) -> None:
        """Give a host access; where the driver fails, Cinder removes the export of every host."""
        try:
            step(INITIALIZE, lambda: self._initialize(volume, connector, instance_id))
        except _DriverFailedError:
            step(REMOVE_EXPORT, lambda: self._remove_export(volume))
            raise

    def _initialize(
        self, volume: VolumeRecord, connector: Connector, instance_id: str | None
    ) -> None:
        link = Link(
            name=connector.initiator or connector.host or "",
            host=connector.host or "",
            address=connector.ip,
            instance_id=instance_id,
            granted=next(self.estate.counter),
        )
        self.estate.backend_of(volume).initialize(volume.name, link)

    def _terminate(self, volume: VolumeRecord, connector: Connector) -> None:
        """Keep the connection where a second row is on the same host, as real drivers do."""
        on_this_host = sum(r.connector == connector for r in volume.attachments.values())
        if on_this_host <= 1:
            self.estate.backend_of(volume).terminate(volume.name, connector)

    def _remove_export(self, volume: VolumeRecord) -> None:
        self.estate.backend_of(volume).remove_export(volume.name)

    def _shared(self, volume: VolumeRecord) -> bool:
        connected = [r for r in volume.attachments.values() if r.connector]
        backend = self.estate.backend_of(volume)
        return backend.shared(volume.name, other_attachments=len(connected) > 1)


class _DriverFailedError(UnansweredError):
    """The backend driver raised."""


class _DriverStalledError(UnansweredError):
    """The backend driver did not return within the RPC timeout."""

    def __init__(self, method: str, fault: Fault) -> None:
        super().__init__(f"{method} gave no answer in time", fault.seconds)
        self.fault = fault


def _plain(_method: str, act: Callable[[], None]) -> None:
    """Do a step without asking the fault script: a late step is struck no second time."""
    act()
