"""The simulated cinder-api: checks, compare-and-swaps, and the order of what it asks and writes.

Follows Cinder, cinder/volume/api.py and cinder/api/contrib/admin_actions.py. ``trusted`` stands for
a request with a service token, as Nova's own have it: Cinder's guard lets those pass.

``CinderFace`` is Cinder as the service sees it: ``drivers.control_plane.Cinder``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from drivers.base import Connector
from drivers.control_plane import (
    CinderAttachment,
    ListedAttachment,
    ListedVolume,
    Volume,
    marks,
)
from drivers.errors import ConflictError, IndeterminateError, NotFoundError
from drivers.simulator import estate
from drivers.simulator.estate import Estate, new_id
from drivers.simulator.hazards import Asked
from drivers.simulator.state import AttachmentRecord, Service, VolumeRecord
from drivers.simulator.switchboard import Switchboard, UnansweredError
from drivers.simulator.volume_service import VolumeService

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class CinderApi:
    """What Cinder does with a request. All methods run under the estate's lock."""

    estate: Estate
    service: VolumeService

    def create_attachment(self, volume_id: str, instance_id: str | None) -> AttachmentRecord:
        """``POST /attachments`` without a connector: a reserved row, the volume reserved.

        A further row for an instance that has one is let through while the volume is in-use or
        reserved: live migration and shelving need it (``_attachment_reserve``).
        """
        volume = self.estate.volume(volume_id)
        if volume.status in _attachable(volume):
            volume.status = "reserved"
        elif not _has_attachment_of(volume, instance_id):
            raise ConflictError(f"Cinder: the volume is {volume.status}, it cannot be attached.")
        return estate.add(
            self.estate, AttachmentRecord(new_id(), volume_id, "reserved", instance_id)
        )

    def update_attachment(self, attachment: AttachmentRecord, connector: Connector) -> None:
        """``PUT /attachments/{id}``: export to the host, then keep the connection info."""
        volume = self.estate.volume(attachment.volume_id)
        self.service.attachment_update(volume, attachment, connector)
        attachment.has_connection_info = True

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
        attachment = estate.add(
            self.estate, AttachmentRecord(new_id(), volume_id, "attaching", instance_id)
        )
        estate.complete(volume, attachment)

    def reset_status(self, volume_id: str, status: str, attach_status: str | None) -> None:
        """``os-reset_status``: written blindly; ``detached`` drops every row and recomputes.

        The backend is never asked. Only in-use is refused, where there is no row.
        """
        volume = self.estate.volume(volume_id)
        if status == "in-use" and not volume.attachments:
            raise ConflictError("Cinder: a volume without attachments cannot be in-use.")
        volume.status = status
        # ``reset-state`` without an attach_status leaves it, as Cinder does: the two may then
        # contradict each other.
        volume.attach_status = attach_status or volume.attach_status
        if attach_status == "detached":
            for attachment_id in list(volume.attachments):
                estate.finish_detach(self.estate, volume, attachment_id)

    def complete(self, attachment_id: str) -> None:
        """``os-complete``; NotFoundError where the row is gone."""
        attachment = self.estate.attachment(attachment_id)
        estate.complete(self.estate.volume(attachment.volume_id), attachment)

    def delete_attachment(self, attachment_id: str, *, trusted: bool) -> None:
        """``DELETE /attachments/{id}``; a row that is gone is success.

        The backend is not asked about a row that is still reserved.
        """
        if (attachment := self.estate.attachments.get(attachment_id)) is None:
            return
        volume = self.estate.volume(attachment.volume_id)
        self._guard(volume, attachment, trusted=trusted)
        # So a backend that was exported for a reserved row stays so: this is how UC5 arises.
        if attachment.status != "reserved":
            self.service.attachment_delete(volume, attachment)
        estate.finish_detach(self.estate, volume, attachment_id)

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
            # Any row counts here, also a reserved one.
            volume.status = "in-use" if volume.attachments else "available"

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
            # The first half is done by now, whatever the second one says.
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
        if attachment_id is None and len(volume.attachments) > 1:
            raise ConflictError("Cinder: there is more than one attachment, and none was named.")
        self.service.detach_volume(volume, attachment_id)

    def _guard_any(self, volume: VolumeRecord, *, trusted: bool) -> None:
        """Guard a request that names no attachment: with several rows it is refused."""
        if trusted or not volume.attachments:
            return
        if len(volume.attachments) > 1:
            raise ConflictError("Cinder: detach the volume from the instance by the Compute API.")
        self._guard(volume, next(iter(volume.attachments.values())), trusted=trusted)

    def _guard_id(self, volume: VolumeRecord, attachment_id: str, *, trusted: bool) -> None:
        if trusted:
            return
        if (attachment := self.estate.attachments.get(attachment_id)) is None:
            raise ConflictError("Cinder: detach the volume from the instance by the Compute API.")
        self._guard(volume, attachment, trusted=trusted)

    def _guard(self, volume: VolumeRecord, attachment: AttachmentRecord, *, trusted: bool) -> None:
        """Refuse what Nova still uses (CVE-2023-2088, ``attachment_deletion_allowed``).

        Nova is asked at microversion 2.89, which hides block devices without an attachment id.
        """
        if trusted:
            return
        if attachment.volume_id != volume.volume_id:
            raise ConflictError("Cinder: mismatched volume and attachment.")
        # Without either Cinder has nobody to ask about, and lets it pass.
        if attachment.instance_id is None or not attachment.has_connection_info:
            return
        if not self.estate.nova_api_up:
            raise UnansweredError("Cinder could not ask Nova who uses the attachment")
        server = self.estate.known_server(attachment.instance_id)
        # A server that this Nova does not know uses nothing, so that the guard lets it pass.
        devices = server.devices_of(volume.volume_id) if server else []
        named = any(d.attachment_id == attachment.attachment_id for d in devices)
        # Cinder may be configured with another Nova than ours: then its guard refuses what we see
        # as gone.
        if named or attachment.attachment_id in self.estate.named_elsewhere:
            raise ConflictError(
                f"Cinder: attachment {attachment.attachment_id} is used by instance "
                f"{attachment.instance_id}."
            )


def _has_attachment_of(volume: VolumeRecord, instance_id: str | None) -> bool:
    if instance_id is None or volume.status not in ("in-use", "reserved"):
        return False
    return any(attachment.instance_id == instance_id for attachment in volume.attachments.values())


def _attachable(volume: VolumeRecord) -> tuple[str, ...]:
    return ("available", "in-use") if volume.multiattach else ("available",)


Record = TypeVar("Record", VolumeRecord, AttachmentRecord)


@dataclasses.dataclass(frozen=True, slots=True)
class CinderFace:
    """Meets the protocol; every call goes through the switchboard.

    HTTP 400 and 409 are ConflictError, 404 NotFoundError, 500 IndeterminateError, a cinder-api
    that refuses the connection TransientError.
    """

    api: CinderApi
    board: Switchboard

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Return the volume with its live rows, or None."""
        asked = Asked("cinder", "volume", volume_id, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._volume(volume_id))

    def count_volumes(self, *, timeout_seconds: float) -> int:
        """``GET /volumes/summary``."""
        asked = Asked("cinder", "count_volumes", None, None, timeout_seconds)
        return self.board.perform(asked, lambda: len(self.api.estate.volumes))

    def volumes_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedVolume, ...]:
        """``GET /volumes/detail`` in one status."""
        asked = Asked("cinder", "volumes_in", None, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._volumes_in(status, after, limit))

    def attachments_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """``GET /attachments`` of one attach_status."""
        asked = Asked("cinder", "rows_in", None, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._attachments_in(status, after, limit))

    def attachments_of(
        self, instance_id: str, *, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return the rows of one server."""
        asked = Asked(
            "cinder", "attachments_of", None, None, timeout_seconds, (("instance_id", instance_id),)
        )
        return self.board.perform(asked, lambda: self._attachments_of(instance_id))

    def protocol_of(self, volume: Volume, *, timeout_seconds: float) -> str | None:
        """``GET /scheduler-stats/get_pools``."""
        asked = Asked(
            "cinder", "protocol_of", None, None, timeout_seconds, (("backend", volume.ref.backend),)
        )
        return self.board.perform(asked, lambda: self.api.estate.protocol)

    def reserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-reserve``."""
        asked = Asked("cinder", "reserve", volume_id, request_id, timeout_seconds)
        self.board.perform(asked, lambda: self.api.reserve(volume_id))

    def unreserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-unreserve``."""
        asked = Asked("cinder", "unreserve", volume_id, request_id, timeout_seconds)
        self.board.perform(asked, lambda: self.api.unreserve(volume_id))

    def roll_detaching(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-roll_detaching``."""
        asked = Asked("cinder", "roll_detaching", volume_id, request_id, timeout_seconds)
        self.board.perform(asked, lambda: self.api.roll_detaching(volume_id))

    def complete(self, attachment_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-complete``."""
        asked = self._about(attachment_id, "complete", request_id, timeout_seconds)
        self.board.perform(asked, lambda: self.api.complete(attachment_id))

    def has_service_token(self) -> bool:
        """Tell whether the service has a service token that it can send on an order."""
        return self.api.estate.has_service_token or self._trusted

    def delete_attachment(
        self,
        attachment_id: str,
        *,
        request_id: str,
        timeout_seconds: float,
        service_token: bool = False,
    ) -> None:
        """``DELETE /attachments/{id}``."""
        asked = self._about(attachment_id, "delete_attachment", request_id, timeout_seconds)
        trusted = self._trusted or (service_token and self.has_service_token())
        self.board.perform(
            asked, lambda: self.api.delete_attachment(attachment_id, trusted=trusted)
        )

    def terminate_connection(
        self, volume_id: str, connector: Connector, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``os-terminate_connection``."""
        about = (("host", connector.host),)
        asked = Asked(
            "cinder", "terminate_connection", volume_id, request_id, timeout_seconds, about
        )
        self.board.perform(
            asked,
            lambda: self.api.terminate_connection(volume_id, connector, trusted=self._trusted),
        )

    def force_detach(
        self,
        volume_id: str,
        attachment_id: str | None,
        connector: Connector,
        *,
        request_id: str,
        timeout_seconds: float,
        service_token: bool = False,
    ) -> None:
        """``os-force_detach``."""
        about = (("attachment_id", attachment_id), ("host", connector.host))
        asked = Asked("cinder", "force_detach", volume_id, request_id, timeout_seconds, about)
        trusted = self._trusted or (service_token and self.has_service_token())
        self.board.perform(
            asked,
            lambda: self.api.force_detach(volume_id, attachment_id, connector, trusted=trusted),
        )

    @property
    def _trusted(self) -> bool:
        return self.api.estate.service_token

    def _about(
        self, attachment_id: str, method: str, request_id: str, timeout_seconds: float
    ) -> Asked:
        attachment = self.api.estate.attachments.get(attachment_id)
        about = (("attachment_id", attachment_id),)
        return Asked(
            "cinder",
            method,
            attachment.volume_id if attachment else None,
            request_id,
            timeout_seconds,
            about,
        )

    def _volume(self, volume_id: str) -> Volume | None:
        record = self.api.estate.volumes.get(volume_id)
        return None if record is None else self._shown(record)

    def _volumes_in(self, status: str, after: str | None, limit: int) -> tuple[ListedVolume, ...]:
        page = _page(self.api.estate.volumes, status, after, limit)
        return tuple(
            ListedVolume(v.volume_id, v.status, v.backend, _version(v), v.name_id, _attached(v))
            for v in page
        )

    def _attachments_in(
        self, status: str, after: str | None, limit: int
    ) -> tuple[ListedAttachment, ...]:
        page = _page(self.api.estate.attachments, status, after, limit)
        return tuple(
            ListedAttachment(r.attachment_id, r.volume_id, r.status, r.instance_id) for r in page
        )

    def _attachments_of(self, instance_id: str) -> tuple[ListedAttachment, ...]:
        rows = self.api.estate.attachments.values()
        return tuple(
            ListedAttachment(r.attachment_id, r.volume_id, r.status, r.instance_id)
            for r in rows
            if r.instance_id == instance_id
        )

    def _shown(self, record: VolumeRecord) -> Volume:
        return Volume(
            ref=record.ref(),
            status=record.status,
            migration_status=record.migration_status,
            attachments=tuple(_attachment(r) for r in record.attachments.values()),
            service_up=self.api.estate.service(record.backend) is Service.UP,
            project_id=record.project_id,
            user_id=record.user_id,
            display_name=record.display_name,
            size_gib=record.size_gib,
            volume_type_id=record.volume_type_id,
            availability_zone=record.availability_zone,
            volume_type=record.volume_type,
            marks=marks(record.metadata),
        )


def _attachment(record: AttachmentRecord) -> CinderAttachment:
    return CinderAttachment(
        attachment_id=record.attachment_id,
        status=record.status,
        instance_id=record.instance_id,
        has_connection_info=record.has_connection_info,
        host=record.attached_host if record.status == "attached" else None,
    )


def _attached(record: VolumeRecord) -> bool:
    return any(r.status == "attached" for r in record.attachments.values())


def _page(
    records: Mapping[str, Record], status: str, after: str | None, limit: int
) -> list[Record]:
    if after is not None and after not in records:
        raise NotFoundError(f"Cinder: marker {after} cannot be found.")
    found = sorted(key for key, record in records.items() if record.status == status)
    return [records[key] for key in found if after is None or key > after][:limit]


def _version(record: VolumeRecord) -> str:
    """Return what changes when the volume does, as Cinder's ``updated_at``."""
    attachments = sorted((r.attachment_id, r.status) for r in record.attachments.values())
    return str((record.status, record.attach_status, record.migration_status, attachments))
