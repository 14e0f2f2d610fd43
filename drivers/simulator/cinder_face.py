"""Cinder as the service sees it: ``drivers.control_plane.Cinder`` on the simulated cloud."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from drivers.base import Connector
from drivers.control_plane import ListedRow, ListedVolume, Row, Volume
from drivers.errors import NotFoundError, TransientError
from drivers.simulator.cinder_api import CinderApi
from drivers.simulator.journal import Asked
from drivers.simulator.state import RowRecord, Service, VolumeRecord
from drivers.simulator.switchboard import Switchboard

T = TypeVar("T")
Record = TypeVar("Record", VolumeRecord, RowRecord)


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
        asked = Asked("cinder", "volume", volume_id, None, timeout_seconds, writes=False)
        return self._perform(asked, lambda: self._volume(volume_id))

    def count_volumes(self, *, timeout_seconds: float) -> int:
        """``GET /volumes/summary``."""
        asked = Asked("cinder", "count_volumes", None, None, timeout_seconds, writes=False)
        return self._perform(asked, lambda: len(self.api.estate.volumes))

    def volumes_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedVolume, ...]:
        """``GET /volumes/detail`` in one status."""
        asked = Asked("cinder", "volumes_in", None, None, timeout_seconds, writes=False)
        return self._perform(asked, lambda: self._volumes_in(status, after, limit))

    def rows_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedRow, ...]:
        """``GET /attachments`` of one attach_status."""
        asked = Asked("cinder", "rows_in", None, None, timeout_seconds, writes=False)
        return self._perform(asked, lambda: self._rows_in(status, after, limit))

    def reserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-reserve``."""
        asked = Asked("cinder", "reserve", volume_id, request_id, timeout_seconds, writes=True)
        self._perform(asked, lambda: self.api.reserve(volume_id))

    def unreserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-unreserve``."""
        asked = Asked("cinder", "unreserve", volume_id, request_id, timeout_seconds, writes=True)
        self._perform(asked, lambda: self.api.unreserve(volume_id))

    def roll_detaching(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-roll_detaching``."""
        asked = Asked(
            "cinder", "roll_detaching", volume_id, request_id, timeout_seconds, writes=True
        )
        self._perform(asked, lambda: self.api.roll_detaching(volume_id))

    def complete(self, attachment_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-complete``."""
        asked = self._about(attachment_id, "complete", request_id, timeout_seconds)
        self._perform(asked, lambda: self.api.complete(attachment_id))

    def delete_attachment(
        self, attachment_id: str, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``DELETE /attachments/{id}``."""
        asked = self._about(attachment_id, "delete_attachment", request_id, timeout_seconds)
        self._perform(
            asked, lambda: self.api.delete_attachment(attachment_id, trusted=self._trusted)
        )

    def terminate_connection(
        self, volume_id: str, connector: Connector, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``os-terminate_connection``."""
        asked = Asked(
            "cinder", "terminate_connection", volume_id, request_id, timeout_seconds,
            writes=True, arguments=(("host", connector.host),),
        )  # fmt: skip
        self._perform(
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
    ) -> None:
        """``os-force_detach``."""
        asked = Asked(
            "cinder", "force_detach", volume_id, request_id, timeout_seconds, writes=True,
            arguments=(("attachment_id", attachment_id), ("host", connector.host)),
        )  # fmt: skip
        self._perform(
            asked,
            lambda: self.api.force_detach(
                volume_id, attachment_id, connector, trusted=self._trusted
            ),
        )

    @property
    def _trusted(self) -> bool:
        return self.api.estate.service_token

    def _about(
        self, attachment_id: str, method: str, request_id: str, timeout_seconds: float
    ) -> Asked:
        row = self.api.estate.rows.get(attachment_id)
        return Asked(
            "cinder", method, row.volume_id if row else None, request_id, timeout_seconds,
            writes=True, arguments=(("attachment_id", attachment_id),),
        )  # fmt: skip

    def _perform(self, asked: Asked, act: Callable[[], T]) -> T:
        def reached() -> T:
            if not self.api.estate.cinder_api_up:
                raise TransientError("Connection to cinder-api refused.")
            return act()

        return self.board.perform(asked, reached)

    def _volume(self, volume_id: str) -> Volume | None:
        record = self.api.estate.volumes.get(volume_id)
        return None if record is None else self._told(record)

    def _volumes_in(self, status: str, after: str | None, limit: int) -> tuple[ListedVolume, ...]:
        page = _page(self.api.estate.volumes, status, after, limit)
        return tuple(
            ListedVolume(v.volume_id, v.status, v.backend, _version(v), v.name_id) for v in page
        )

    def _rows_in(self, status: str, after: str | None, limit: int) -> tuple[ListedRow, ...]:
        page = _page(self.api.estate.rows, status, after, limit)
        return tuple(ListedRow(r.attachment_id, r.volume_id, r.status, r.instance_id) for r in page)

    def _told(self, record: VolumeRecord) -> Volume:
        return Volume(
            ref=record.ref(),
            status=record.status,
            migration_status=record.migration_status,
            rows=tuple(_row(r) for r in record.rows.values()),
            service_up=self.api.estate.service(record.backend) is Service.UP,
            project_id=record.project_id,
            user_id=record.user_id,
            display_name=record.display_name,
            size_gib=record.size_gib,
            volume_type_id=record.volume_type_id,
            availability_zone=record.availability_zone,
        )


def _row(record: RowRecord) -> Row:
    return Row(
        attachment_id=record.attachment_id,
        status=record.status,
        instance_id=record.instance_id,
        has_connection_info=record.has_connection_info,
        host=record.attached_host if record.status == "attached" else None,
    )


def _page(
    records: Mapping[str, Record], status: str, after: str | None, limit: int
) -> list[Record]:
    if after is not None and after not in records:
        raise NotFoundError(f"Cinder: marker {after} cannot be found.")
    found = sorted(key for key, record in records.items() if record.status == status)
    return [records[key] for key in found if after is None or key > after][:limit]


def _version(record: VolumeRecord) -> str:
    """Return what changes when the volume does, as Cinder's ``updated_at``."""
    rows = sorted((r.attachment_id, r.status) for r in record.rows.values())
    return str((record.status, record.attach_status, record.migration_status, rows))
