"""The simulated backends as a storage driver reaches them, one call at a time."""

from __future__ import annotations

import dataclasses

from drivers.base import Attachment, Connector, Export, Observation, VolumeRef
from drivers.errors import PermanentError
from drivers.simulator.backend import Backend
from drivers.simulator.estate import Estate
from drivers.simulator.hazards import Asked
from drivers.simulator.switchboard import Switchboard


@dataclasses.dataclass(frozen=True, slots=True)
class StorageFace:
    """The backends in process; every call goes through the switchboard as ``driver.<method>``."""

    estate: Estate
    board: Switchboard

    def observe(self, backend: str, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Say who is connected to the volume."""
        asked = Asked("driver", "observe", volume.volume_id, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._backend(backend).observe(volume.ids()))

    def terminate_connection(
        self,
        backend: str,
        volume: VolumeRef,
        attachment: Attachment,
        *,
        request_id: str,
        timeout_seconds: float,
    ) -> None:
        """Revoke the access of the attachment's host, then end its sessions."""
        # The driver has refused a missing one; nothing belongs to an empty one.
        connector = attachment.connector or Connector()
        asked = _about("terminate_connection", volume, attachment, request_id, timeout_seconds)
        self.board.perform(asked, lambda: self._backend(backend).revoke(volume.ids(), connector))

    def detach(
        self,
        backend: str,
        volume: VolumeRef,
        attachment: Attachment,
        *,
        request_id: str,
        timeout_seconds: float,
    ) -> None:
        """Remove the volume's target if no host has access any more."""
        asked = _about("detach", volume, attachment, request_id, timeout_seconds)
        self.board.perform(asked, lambda: self._backend(backend).retire(volume.ids()))

    def list_exports(self, backend: str, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return every volume that a host has access to."""
        asked = Asked("driver", "list_exports", None, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._backend(backend).listing())

    def _backend(self, name: str) -> Backend:
        if (backend := self.estate.backends.get(name)) is None:
            raise PermanentError(f"The simulated cloud has no backend {name}.")
        return backend


def _about(
    method: str,
    volume: VolumeRef,
    attachment: Attachment,
    request_id: str,
    timeout_seconds: float,
) -> Asked:
    host = attachment.connector.host if attachment.connector else None
    about = (("attachment_id", attachment.attachment_id), ("host", host))
    return Asked("driver", method, volume.volume_id, request_id, timeout_seconds, about)
