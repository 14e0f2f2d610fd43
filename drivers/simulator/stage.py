"""Scene-setting: putting volumes, servers and half-done states where a test or demo wants them.

Nothing here goes through the journal, the fault script or the watch of a face: these are not the
service's calls. What a state *means* is up to the caller; that any combination can be set is the
point.
"""

from __future__ import annotations

from typing import Any

from drivers.base import Connector
from drivers.simulator import rows
from drivers.simulator.backend import Backend
from drivers.simulator.estate import new_id
from drivers.simulator.hosts import Hosts
from drivers.simulator.state import (
    DEFAULT_BACKEND,
    DeviceRecord,
    Exporting,
    ExportRecord,
    RowRecord,
    ServerRecord,
    VolumeRecord,
)


class Stage(Hosts):
    """The part of ``Cloud`` that arranges scenes. Thread-safe."""

    def add_backend(
        self, name: str = DEFAULT_BACKEND, exporting: Exporting = Exporting.PER_HOST
    ) -> None:
        """Add a backend; ``create_volume`` adds the ones that are missing as PER_HOST."""
        with self._estate.lock:
            self._estate.backends[name] = Backend(
                name,
                exporting,
                lambda volume, link, granted: self._note(name, volume, link, granted),
            )

    def create_volume(
        self, volume_id: str | None = None, *, backend: str = DEFAULT_BACKEND, **columns: Any
    ) -> str:
        """Create an available volume; ``columns`` are VolumeRecord's (multiattach, name_id ...)."""
        volume = VolumeRecord(volume_id or new_id(), backend, **columns)
        with self._estate.lock:
            if backend not in self._estate.backends:
                self.add_backend(backend)
            self._estate.volumes[volume.volume_id] = volume
            self._estate.backends[backend].exports[volume.name] = ExportRecord(volume.name)
        return volume.volume_id

    def delete_volume(self, volume_id: str) -> None:
        """Delete it at Cinder and on the backend."""
        with self._estate.lock:
            volume = self._estate.volumes.pop(volume_id)
            self._estate.backend_of(volume).exports.pop(volume.name, None)
            for attachment_id in volume.rows:
                self._estate.rows.pop(attachment_id, None)

    def forget_on_backend(self, volume_id: str) -> None:
        """Make the backend not know the volume under any name: "unknown", not "clean"."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            self._estate.backend_of(volume).exports.pop(volume.name, None)

    def boot_server(
        self, instance_id: str | None = None, *, host: str | None = "compute-1", **columns: Any
    ) -> str:
        """Boot a server, running on ``host``; ``columns`` are ServerRecord's (vm_state ...)."""
        columns = {"guest_host": host} | columns
        server = ServerRecord(instance_id or new_id(), host, **columns)
        with self._estate.lock:
            self._estate.servers[server.instance_id] = server
        return server.instance_id

    def set_server(self, instance_id: str, **columns: Any) -> None:
        """Set columns of ServerRecord: vm_state, task_state, host, locked, guest_running ..."""
        with self._estate.lock:
            _set(self._estate.server(instance_id), columns)

    def delete_server(self, instance_id: str, *, guest_keeps_running: bool = False) -> None:
        """Delete Nova's record with its block devices; the guest may outlive it on a dead host.

        A compute that is up ends the guest and logs its host out; what Cinder and the backend then
        do is not part of it.
        """
        with self._estate.lock:
            server = self._estate.server(instance_id)
            server.deleted, server.guest_running = True, guest_keeps_running
            if not guest_keeps_running and self._estate.compute_up(server.host):
                server.ended_on = server.guest_host
                self._log_out(instance_id)
            server.devices.clear()
            if not guest_keeps_running:
                self._stop_guest(instance_id)

    def stop_guest(self, instance_id: str) -> None:
        """Really stop the guest: it holds no disk any more, whatever Nova says."""
        with self._estate.lock:
            self._estate.server(instance_id).guest_running = False
            self._stop_guest(instance_id)

    def set_compute(self, host: str, *, up: bool | None) -> None:
        """Set whether Nova holds the compute service of a host for up. Guests do not notice.

        None: the host has none; it is a backup's, or another service's.
        """
        with self._estate.lock:
            for hosts, holds in (
                (self._estate.dead_computes, up is False),
                (self._estate.no_computes, up is None),
            ):
                (hosts.add if holds else hosts.discard)(host)

    def set_volume(self, volume_id: str, **columns: Any) -> None:
        """Set columns of VolumeRecord: status, attach_status, migration_status, multiattach ..."""
        with self._estate.lock:
            _set(self._estate.volume(volume_id), columns)

    def set_status(self, volume_id: str, status: str, attach_status: str | None = None) -> None:
        """Write Cinder's statuses, nothing else (as ``reset-state`` does, rows kept)."""
        columns = {"status": status} | ({"attach_status": attach_status} if attach_status else {})
        self.set_volume(volume_id, **columns)

    def add_row(
        self,
        volume_id: str,
        status: str,
        instance_id: str | None = None,
        *,
        host: str | None = None,
        connector: Connector | None = None,
        has_connection_info: bool | None = None,
        attachment_id: str | None = None,
    ) -> str:
        """Insert an attachment row; statuses of the volume are left as they are.

        ``host`` gives it that host's connector; ``has_connection_info`` follows from there being
        one unless said otherwise (False with a connector: the API had timed out).
        """
        connector = connector or (self._estate.connector_of(host) if host else None)
        row = RowRecord(
            attachment_id=attachment_id or new_id(),
            volume_id=volume_id,
            status=status,
            instance_id=instance_id,
            connector=connector,
            has_connection_info=bool(connector)
            if has_connection_info is None
            else has_connection_info,
            attached_host=connector.host if connector else None,
        )
        with self._estate.lock:
            rows.add(self._estate, row)
        return row.attachment_id

    def set_row(self, attachment_id: str, **columns: Any) -> None:
        """Set columns of RowRecord: status, connector, has_connection_info ..."""
        with self._estate.lock:
            _set(self._estate.row(attachment_id), columns)

    def drop_row(self, attachment_id: str) -> None:
        """Soft-delete a row and recompute the volume, with the backend not asked."""
        with self._estate.lock:
            volume = self._estate.volume(self._estate.row(attachment_id).volume_id)
            rows.finish_detach(self._estate, volume, attachment_id)

    def add_block_device(
        self, instance_id: str, volume_id: str, attachment_id: str | None, device: str = "/dev/vdb"
    ) -> None:
        """Make Nova's record that the server has the volume."""
        with self._estate.lock:
            record = DeviceRecord(volume_id, attachment_id, device)
            self._estate.server(instance_id).devices.append(record)

    def drop_block_device(self, instance_id: str, volume_id: str) -> None:
        """Delete Nova's record."""
        with self._estate.lock:
            server = self._estate.server(instance_id)
            server.devices = [d for d in server.devices if d.volume_id != volume_id]

    def statuses(self, volume_id: str) -> tuple[str, str]:
        """Return Cinder's status and attach_status, with no call noted in the journal."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            return volume.status, volume.attach_status

    def guests_holding(self, volume_id: str) -> tuple[str, ...]:
        """Return the instances whose guest really has the disk open: the truth."""
        with self._estate.lock:
            return tuple(sorted(self._estate.volume(volume_id).held_by))

    def _log_out(self, instance_id: str) -> None:
        for volume in self._estate.volumes.values():
            if instance_id in volume.held_by:
                for link in self._estate.backend_of(volume).export((volume.name,)).links.values():
                    if link.host == self._estate.server(instance_id).guest_host and not link.stuck:
                        link.sessions = 0

    def _stop_guest(self, instance_id: str) -> None:
        for volume in self._estate.volumes.values():
            volume.held_by.discard(instance_id)


def _set(record: object, columns: dict[str, Any]) -> None:
    for column, value in columns.items():
        if not hasattr(record, column):
            raise AttributeError(f"{type(record).__name__} has no {column}.")
        setattr(record, column, value)
