"""Scene-setting: putting volumes, servers and half-done states where a test or demo wants them.

Nothing here goes through the journal, the fault script or the watch of a face: these are not the
service's calls. What a state *means* is up to the caller; that any combination can be set is the
point.

Of the storage side it sets which hosts have access and log in, and what the backend then holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from drivers.base import Connection, Connector
from drivers.simulator import estate
from drivers.simulator.backend import Backend
from drivers.simulator.estate import Estate, new_id
from drivers.simulator.state import (
    DEFAULT_BACKEND,
    AttachmentRecord,
    DeviceRecord,
    Exporting,
    ExportRecord,
    Link,
    ServerRecord,
    VolumeRecord,
)


@dataclasses.dataclass(frozen=True, slots=True)
class AccessChange:
    """One host got access to a volume, or lost it. ``request_id``: whose call did it, if ours.

    ``volume`` is the backend's name of it, ``number`` the estate's running count.
    """

    number: int
    backend: str
    volume: str
    host: str
    granted: bool
    request_id: str | None


class Hosts:
    """The part of ``Cloud`` that stands for the hosts at its backends. Thread-safe."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._changes: list[AccessChange] = []

    def export(
        self,
        volume_id: str,
        host: str,
        *,
        connector: Connector | None = None,
        sessions: int = 0,
        stuck: bool = False,
        instance_id: str | None = None,
        purpose: str | None = None,
    ) -> None:
        """Let a host in on the backend, unknown to Cinder and Nova; its own connector or another.

        ``purpose`` says in words whose healthy use it is (a backup's mapping); ``stuck`` sessions
        stay when access is revoked, until ``release_stuck_session``.
        """
        connector = connector or self._estate.connector_of(host)
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            link = Link(
                connector.initiator or host, host, connector.ip, sessions=sessions, stuck=stuck,
                instance_id=instance_id, purpose=purpose, granted=next(self._estate.counter),
            )  # fmt: skip
            self._estate.backend_of(volume).initialize(volume.name, link)

    def unexport(self, volume_id: str, host: str) -> None:
        """Take a host's access on the backend, unknown to Cinder and Nova."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            self._estate.backend_of(volume).revoke((volume.name,), self._estate.connector_of(host))

    def hang_session(self, volume_id: str, connector: Connector) -> None:
        """Make a host's I/O hang: its session stays when access is revoked."""
        with self._estate.lock:
            for link in self._links(volume_id):
                # Others that are stuck stay so.
                link.stuck = link.stuck or link.seen().belongs_to(connector)

    def release_stuck_session(self, volume_id: str, host: str) -> None:
        """End the hanging I/O of a host, and with it a session whose access is revoked."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            links = self._estate.backend_of(volume).export((volume.name,)).links
            for link in [k for k in links.values() if k.host == host]:
                link.stuck = False
                # One that still has access goes on: only what was revoked ends with its I/O.
                if not link.access:
                    del links[link.name]

    def log_in(self, volume_id: str, connector: Connector) -> bool:
        """Have a host without a session open one; tell whether the backend accepted it."""
        with self._estate.lock:
            for link in self._links(volume_id):
                if link.seen().belongs_to(connector) and link.access:
                    link.sessions = link.sessions or 1
                    return True
            return False

    def withdraw(self, volume_id: str, connector: Connector) -> None:
        """Take a host's access and leave its sessions, as an entry deleted by hand does."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            for link in self._links(volume_id):
                if link.access and link.seen().belongs_to(connector):
                    link.access = False
                    self._note(volume.backend, volume.name, link, granted=False)

    def exported_to(self, volume_id: str) -> tuple[str, ...]:
        """Return the hosts that the backend lets in or holds a session with: the truth."""
        with self._estate.lock:
            return tuple(sorted(link.host for link in self._links(volume_id)))

    def has_target(self, volume_id: str) -> bool:
        """Tell whether the backend still has a target for the volume, with a host or without."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            return self._estate.backend_of(volume).export((volume.name,)).target

    def connections(self, volume_id: str) -> tuple[Connection, ...]:
        """Return what the backend holds for the volume, with no call in the journal: the truth."""
        with self._estate.lock:
            return tuple(link.seen() for link in self._links(volume_id))

    def access_log(self) -> tuple[AccessChange, ...]:
        """Every access given or taken so far: who could write, and when."""
        with self._estate.lock:
            return tuple(self._changes)

    def _links(self, volume_id: str) -> tuple[Link, ...]:
        return self._estate.links(self._estate.volume(volume_id))

    def _note(self, backend: str, volume: str, link: Link, granted: bool) -> None:
        number = next(self._estate.counter)
        asked = self._asked_by()
        self._changes.append(AccessChange(number, backend, volume, link.host, granted, asked))

    def _asked_by(self) -> str | None:
        """Return the request id of the service's call under way, if there is one."""
        return None


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

    def set_metadata(self, volume_id: str, **metadata: str) -> None:
        """Set the volume's metadata, as its owner does."""
        with self._estate.lock:
            self._estate.volume(volume_id).metadata = metadata

    def delete_volume(self, volume_id: str) -> None:
        """Delete it at Cinder and on the backend."""
        with self._estate.lock:
            volume = self._estate.volumes.pop(volume_id)
            self._estate.backend_of(volume).exports.pop(volume.name, None)
            for attachment_id in volume.attachments:
                self._estate.attachments.pop(attachment_id, None)

    def forget_on_backend(self, volume_id: str) -> None:
        """Make the backend not know the volume under any name: "unknown", not "clean"."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            self._estate.backend_of(volume).exports.pop(volume.name, None)

    def boot_server(
        self, instance_id: str | None = None, *, host: str | None = "compute-1", **columns: Any
    ) -> str:
        """Boot a server, running on ``host``; ``columns`` are ServerRecord's (vm_state ...)."""
        # A test that says where the guest really is wins.
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
            # Only a compute that is up records that it has ended the guest: this is Nova's word for
            # it.
            if not guest_keeps_running and self._estate.compute_up(server.host):
                server.ended_on = server.guest_host
                self._log_out(instance_id)
            # nova-api deletes the records alone where the compute is down.
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

    def power_off(self, host: str) -> None:
        """Cut a host's power: its guests and its sessions end, and its compute is not heard of.

        Its access on the backends stays, and so does what Nova and Cinder have on record.
        """
        with self._estate.lock:
            for server in self._estate.servers.values():
                if server.guest_host == host:
                    server.guest_running = False
                    self._stop_guest(server.instance_id)
            for volume in self._estate.volumes.values():
                for link in self._estate.links(volume):
                    link.sessions = 0 if link.host == host else link.sessions
            self._estate.dead_computes.add(host)

    def set_volume(self, volume_id: str, **columns: Any) -> None:
        """Set columns of VolumeRecord: status, attach_status, migration_status, multiattach ..."""
        with self._estate.lock:
            _set(self._estate.volume(volume_id), columns)

    def set_status(self, volume_id: str, status: str, attach_status: str | None = None) -> None:
        """Write Cinder's statuses, nothing else (as ``reset-state`` does, rows kept)."""
        columns = {"status": status} | ({"attach_status": attach_status} if attach_status else {})
        self.set_volume(volume_id, **columns)

    def add_attachment(
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
        attachment = AttachmentRecord(
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
            estate.add(self._estate, attachment)
        return attachment.attachment_id

    def set_attachment(self, attachment_id: str, **columns: Any) -> None:
        """Set columns of AttachmentRecord: status, connector, has_connection_info ..."""
        with self._estate.lock:
            _set(self._estate.attachment(attachment_id), columns)

    def drop_attachment(self, attachment_id: str) -> None:
        """Soft-delete a row and recompute the volume, with the backend not asked."""
        with self._estate.lock:
            volume = self._estate.volume(self._estate.attachment(attachment_id).volume_id)
            estate.finish_detach(self._estate, volume, attachment_id)

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
            return tuple(sorted(self._estate.volume(volume_id).opened_by))

    def _log_out(self, instance_id: str) -> None:
        for volume in self._estate.volumes.values():
            if instance_id in volume.opened_by:
                for link in self._estate.links(volume):
                    if link.host == self._estate.server(instance_id).guest_host and not link.stuck:
                        link.sessions = 0

    def _stop_guest(self, instance_id: str) -> None:
        for volume in self._estate.volumes.values():
            volume.opened_by.discard(instance_id)


def _set(record: object, columns: dict[str, Any]) -> None:
    for column, value in columns.items():
        # setattr would take a misspelt column without a word, and the scene would be another.
        if not hasattr(record, column):
            raise AttributeError(f"{type(record).__name__} has no {column}.")
        setattr(record, column, value)
