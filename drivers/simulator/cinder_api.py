"""The simulated cinder-api: checks, compare-and-swaps, and the order of what it asks and writes.

Follows Cinder, cinder/volume/api.py and cinder/api/contrib/admin_actions.py. ``trusted`` stands for
a request with a service token, as Nova's own have it: Cinder's guard lets those pass.
"""

from __future__ import annotations

import dataclasses

from drivers.base import Connector
from drivers.errors import ConflictError, IndeterminateError
from drivers.simulator import rows
from drivers.simulator.estate import Estate, new_id
from drivers.simulator.state import RowRecord, VolumeRecord
from drivers.simulator.switchboard import UnansweredError
from drivers.simulator.volume_service import VolumeService


@dataclasses.dataclass(slots=True)
class CinderApi:
    """What Cinder does with a request. All methods run under the estate's lock."""

    estate: Estate
    service: VolumeService

    def create_attachment(self, volume_id: str, instance_id: str | None) -> RowRecord:
        """``POST /attachments`` without a connector: a reserved row, the volume reserved.

        A further row for an instance that has one is let through while the volume is in-use or
        reserved: live migration and shelving need it (``_attachment_reserve``).
        """
        volume = self.estate.volume(volume_id)
        if volume.status in _attachable(volume):
            volume.status = "reserved"
        elif not _has_a_row_of(volume, instance_id):
            raise ConflictError(f"Cinder: the volume is {volume.status}, it cannot be attached.")
        return rows.add(self.estate, RowRecord(new_id(), volume_id, "reserved", instance_id))

    def update_attachment(self, row: RowRecord, connector: Connector) -> None:
        """``PUT /attachments/{id}``: export to the host, then keep the connection info."""
        volume = self.estate.volume(row.volume_id)
        self.service.attachment_update(volume, row, connector)
        row.has_connection_info = True

    def initialize_connection(self, volume_id: str, connector: Connector) -> None:
        """``os-initialize_connection``, of the old API: the backend, and no row."""
        self.service.initialize_connection(self.estate.volume(volume_id), connector)

    def attach(self, volume_id: str, instance_id: str) -> None:
        """``os-attach``, of the old API: a row that is attached and has no connector.

        Conditional only on not being in-use already (``attach_volume`` of the volume manager).
        """
        volume = self.estate.volume(volume_id)
        if volume.status == "in-use" and not volume.multiattach:
            raise ConflictError("Cinder: the volume is already attached.")
        row = rows.add(self.estate, RowRecord(new_id(), volume_id, "attaching", instance_id))
        rows.complete(volume, row)

    def reset_status(self, volume_id: str, status: str, attach_status: str | None) -> None:
        """``os-reset_status``: written blindly; ``detached`` drops every row and recomputes.

        The backend is never asked. Only in-use is refused, where there is no row.
        """
        volume = self.estate.volume(volume_id)
        if status == "in-use" and not volume.rows:
            raise ConflictError("Cinder: a volume without attachments cannot be in-use.")
        volume.status = status
        volume.attach_status = attach_status or volume.attach_status
        if attach_status == "detached":
            for attachment_id in list(volume.rows):
                rows.finish_detach(self.estate, volume, attachment_id)

    def complete(self, attachment_id: str) -> None:
        """``os-complete``; NotFoundError where the row is gone."""
        row = self.estate.row(attachment_id)
        rows.complete(self.estate.volume(row.volume_id), row)

    def delete_attachment(self, attachment_id: str, *, trusted: bool) -> None:
        """``DELETE /attachments/{id}``; a row that is gone is success.

        The backend is not asked about a row that is still reserved.
        """
        if (row := self.estate.rows.get(attachment_id)) is None:
            return
        volume = self.estate.volume(row.volume_id)
        self._guard(volume, row, trusted=trusted)
        if row.status != "reserved":
            self.service.attachment_delete(volume, row)
        rows.finish_detach(self.estate, volume, attachment_id)

    def reserve(self, volume_id: str) -> None:
        """``os-reserve``: available to attaching; a multiattach volume also from in-use."""
        volume = self.estate.volume(volume_id)
        if volume.status not in _attachable(volume):
            raise ConflictError(f"Cinder: the volume is {volume.status}, it cannot be reserved.")
        volume.status = "attaching"

    def unreserve(self, volume_id: str) -> None:
        """``os-unreserve``: attaching to in-use where rows are, else to available."""
        volume = self.estate.volume(volume_id)
        if volume.status == "attaching":
            volume.status = "in-use" if volume.rows else "available"

    def begin_detaching(self, volume_id: str) -> None:
        """``os-begin_detaching``: in-use and attached to detaching, else ConflictError."""
        volume = self.estate.volume(volume_id)
        if (volume.status, volume.attach_status) != ("in-use", "attached"):
            raise ConflictError(
                f"Cinder: the volume is {volume.status} and {volume.attach_status}; only one that "
                "is in-use and attached can be detached."
            )
        volume.status = "detaching"

    def roll_detaching(self, volume_id: str) -> None:
        """``os-roll_detaching``: detaching to in-use, rows or none; else no change."""
        volume = self.estate.volume(volume_id)
        if volume.status == "detaching":
            volume.status = "in-use"

    def terminate_connection(self, volume_id: str, connector: Connector, *, trusted: bool) -> None:
        """``os-terminate_connection``: the backend, then what unreserve does."""
        volume = self.estate.volume(volume_id)
        self._guard_any(volume, trusted=trusted)
        self.service.terminate_connection(volume, connector)
        self.unreserve(volume_id)

    def force_detach(
        self, volume_id: str, attachment_id: str | None, connector: Connector, *, trusted: bool
    ) -> None:
        """``os-force_detach``: two requests in a row, neither conditional, not atomic.

        What the second one refuses, it refuses after the first one has been carried out.
        """
        self.terminate_connection(volume_id, connector, trusted=trusted)
        try:
            self.detach(volume_id, attachment_id, trusted=trusted)
        except ConflictError as error:
            raise IndeterminateError(f"{error} The connection may be gone already.") from None

    def detach(self, volume_id: str, attachment_id: str | None, *, trusted: bool) -> None:
        """``os-detach``: remove the export, drop the row; refused in maintenance."""
        volume = self.estate.volume(volume_id)
        if attachment_id is None:
            self._guard_any(volume, trusted=trusted)
        else:
            self._guard_id(volume, attachment_id, trusted=trusted)
        if volume.status == "maintenance":
            raise ConflictError("Cinder: the volume cannot be detached in maintenance.")
        if attachment_id is None and len(volume.rows) > 1:
            raise ConflictError("Cinder: there is more than one attachment, and none was named.")
        self.service.detach_volume(volume, attachment_id)

    def _guard_any(self, volume: VolumeRecord, *, trusted: bool) -> None:
        """Guard a request that names no attachment: with several rows it is refused."""
        if trusted or not volume.rows:
            return
        if len(volume.rows) > 1:
            raise ConflictError("Cinder: detach the volume from the instance by the Compute API.")
        self._guard(volume, next(iter(volume.rows.values())), trusted=trusted)

    def _guard_id(self, volume: VolumeRecord, attachment_id: str, *, trusted: bool) -> None:
        if trusted:
            return
        if (row := self.estate.rows.get(attachment_id)) is None:
            raise ConflictError("Cinder: detach the volume from the instance by the Compute API.")
        self._guard(volume, row, trusted=trusted)

    def _guard(self, volume: VolumeRecord, row: RowRecord, *, trusted: bool) -> None:
        """Refuse what Nova still uses (CVE-2023-2088, ``attachment_deletion_allowed``).

        Nova is asked at microversion 2.89, which hides block devices without an attachment id.
        """
        if trusted:
            return
        if row.volume_id != volume.volume_id:
            raise ConflictError("Cinder: mismatched volume and attachment.")
        if row.instance_id is None or not row.has_connection_info:
            return
        if not self.estate.nova_api_up:
            raise UnansweredError("Cinder could not ask Nova who uses the attachment")
        server = self.estate.known_server(row.instance_id)
        devices = server.devices_of(volume.volume_id) if server else []
        if any(d.attachment_id == row.attachment_id for d in devices):
            raise ConflictError(
                f"Cinder: attachment {row.attachment_id} is used by instance {row.instance_id}."
            )


def _has_a_row_of(volume: VolumeRecord, instance_id: str | None) -> bool:
    if instance_id is None or volume.status not in ("in-use", "reserved"):
        return False
    return any(row.instance_id == instance_id for row in volume.rows.values())


def _attachable(volume: VolumeRecord) -> tuple[str, ...]:
    return ("available", "in-use") if volume.multiattach else ("available",)
