"""Nova as the service sees it: ``drivers.control_plane.Nova`` on the simulated cloud."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from drivers.control_plane import BlockDevice, DeletedServer, Server
from drivers.errors import TransientError
from drivers.simulator.faults import Landing
from drivers.simulator.journal import Asked
from drivers.simulator.nova_compute import Compute
from drivers.simulator.state import Guest
from drivers.simulator.switchboard import Switchboard

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Detaching:
    """How the next accepted detach from one instance goes on, and when.

    ``landing`` None: before the call returns. Else as a late effect: after so many looks
    (``after_method="nova.server"``), after a delay, or when told to.
    """

    guest: Guest = Guest.LETS_GO
    landing: Landing | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class NovaFace:
    """Meets the protocol; every call goes through the switchboard.

    HTTP 400 and 409 are ConflictError, 404 NotFoundError, a nova-api that refuses the connection
    TransientError.
    """

    compute: Compute
    board: Switchboard
    script: dict[str, list[Detaching]] = dataclasses.field(default_factory=dict)

    def server(self, instance_id: str, volume_id: str, *, timeout_seconds: float) -> Server | None:
        """Return the server with its block devices for the volume, or None."""
        asked = Asked(
            "nova", "server", volume_id, None, timeout_seconds,
            writes=False, arguments=(("instance_id", instance_id),),
        )  # fmt: skip
        return self._perform(asked, lambda: self._server(instance_id, volume_id))

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Tell whether the host's compute service is up."""
        asked = Asked(
            "nova", "compute_up", None, None, timeout_seconds,
            writes=False, arguments=(("host", host),),
        )  # fmt: skip
        return self._perform(asked, lambda: self.compute.estate.compute_up(host))

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Return the servers that may be using the volume on this host, by Nova's records."""
        asked = Asked(
            "nova", "holders", volume_id, None, timeout_seconds,
            writes=False, arguments=(("host", host),),
        )  # fmt: skip
        return self._perform(asked, lambda: self.compute.holders(volume_id, host))

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Return what is on record of a server that this Nova had, None where it has no record."""
        asked = Asked(
            "nova", "deleted_server", None, None, timeout_seconds,
            writes=False, arguments=(("instance_id", instance_id),),
        )  # fmt: skip
        return self._perform(asked, lambda: self._deleted_server(instance_id))

    def detach(
        self, instance_id: str, volume_id: str, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Ask Nova to detach; the compute's part happens as scripted, by default at once."""
        asked = Asked(
            "nova", "detach", volume_id, request_id, timeout_seconds,
            writes=True, arguments=(("instance_id", instance_id),),
        )  # fmt: skip
        self._perform(asked, lambda: self._detach(instance_id, volume_id))

    def _perform(self, asked: Asked, act: Callable[[], T]) -> T:
        def reached() -> T:
            if not self.compute.estate.nova_api_up:
                raise TransientError("Connection to nova-api refused.")
            return act()

        return self.board.perform(asked, reached)

    def _detach(self, instance_id: str, volume_id: str) -> None:
        if self.compute.is_offloaded(instance_id):
            self.compute.drop_offloaded(volume_id, instance_id)
            return
        self.compute.begin_detach(volume_id, instance_id)
        scripted = self.script.get(instance_id)
        detaching = scripted.pop(0) if scripted else Detaching()

        def finish() -> None:
            self.compute.finish_detach(volume_id, instance_id, detaching.guest)

        if detaching.landing is None:
            finish()
        else:
            self.board.later("nova.detach", volume_id, detaching.landing, finish)

    def _deleted_server(self, instance_id: str) -> DeletedServer | None:
        record = self.compute.estate.servers.get(instance_id)
        known = record is not None and record.on_record
        return DeletedServer(instance_id, record.ended_on) if record and known else None

    def _server(self, instance_id: str, volume_id: str) -> Server | None:
        record = self.compute.estate.known_server(instance_id)
        if record is None:
            return None
        return Server(
            instance_id=record.instance_id,
            vm_state=record.vm_state,
            task_state=record.task_state,
            host=record.host,
            compute_up=self.compute.estate.compute_up(record.host),
            launched=record.launched,
            block_devices=tuple(
                BlockDevice(d.attachment_id, d.device) for d in record.devices_of(volume_id)
            ),
        )
