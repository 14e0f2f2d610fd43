"""The simulated Nova: how it attaches, detaches, migrates and shelves.

Follows nova/compute/api.py, nova/compute/manager.py and nova/virt/block_device.py. Nova talks to
Cinder with a service token, so Cinder's guard lets it pass; it tries each call five times and then
cleans up as the real one does, for better or worse.

``NovaFace`` is Nova as the service sees it: ``drivers.control_plane.Nova``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

from drivers.control_plane import (
    DETACHABLE,
    BlockDevice,
    DeletedServer,
    Server,
    ServersPage,
    ServerVolumes,
    Swap,
)
from drivers.errors import ConflictError, NotFoundError, PermanentError
from drivers.simulator.cinder_api import CinderApi
from drivers.simulator.estate import Estate
from drivers.simulator.faults import Landing
from drivers.simulator.hazards import Asked, Watch
from drivers.simulator.state import AttachmentRecord, DeviceRecord, Guest, Link, ServerRecord
from drivers.simulator.switchboard import Switchboard, UnansweredError

T = TypeVar("T")

# nova/volume/cinder.py, the decorator of attachment_update and attachment_delete.
TRIES = 5


@dataclasses.dataclass(slots=True)
class Compute:
    """Nova's API and computes. All methods run under the estate's lock."""

    estate: Estate
    api: CinderApi
    watch: Watch

    def reserve(self, volume_id: str, instance_id: str, device: str) -> AttachmentRecord:
        """Reserve the volume and make the block device that names the row."""
        server = self.estate.server(instance_id)
        attachment = self._ask_cinder(lambda: self.api.create_attachment(volume_id, instance_id))
        server.devices.append(DeviceRecord(volume_id, attachment.attachment_id, device))
        return attachment

    def connect(self, attachment: AttachmentRecord, host: str) -> None:
        """``PUT /attachments/{id}`` with the host's connector, up to five times."""
        self._persist(
            lambda: self.api.update_attachment(attachment, self.estate.connector_of(host))
        )
        if attachment.instance_id:
            self.watch.second_host(
                self.estate.volume(attachment.volume_id), host, attachment.instance_id
            )

    def clean_up(self, attachment: AttachmentRecord, *, reaches_cinder: bool = True) -> None:
        """Undo a failed attach: delete the row if Cinder lets it, the block device always."""
        server = self.estate.server(attachment.instance_id or "")
        # Always, even if the row stays: this is how a row without a block device arises.
        server.devices = [d for d in server.devices if d.attachment_id != attachment.attachment_id]
        if reaches_cinder:
            with contextlib.suppress(PermanentError):
                self.drop(attachment.attachment_id)

    def open(self, volume_id: str, instance_id: str) -> None:
        """Log the host in and give the guest the disk."""
        self.estate.volume(volume_id).opened_by.add(instance_id)
        if (link := self._guest_link(volume_id, instance_id)) is not None:
            # A host that is in session already keeps what it has.
            link.sessions = max(link.sessions, 1)

    def close_disk(self, volume_id: str, instance_id: str) -> None:
        """Take the disk from the guest and log the host out."""
        self.estate.volume(volume_id).opened_by.discard(instance_id)
        link = self._guest_link(volume_id, instance_id)
        if link is not None and not link.stuck:
            link.sessions = 0

    def begin_detach(self, volume_id: str, instance_id: str) -> None:
        """Accept a detach (202) after nova-api's checks and Cinder's compare-and-swap.

        A lock does not stop an administrator, and detachd is one (``check_instance_lock``).
        """
        server = self.estate.known_server(instance_id)
        if server is None or not server.devices_of(volume_id):
            raise NotFoundError(f"Nova: instance {instance_id} has no volume {volume_id}.")
        if server.vm_state not in DETACHABLE:
            raise ConflictError(f"Nova: cannot detach while the instance is {server.vm_state}.")
        if self.estate.compute_up(server.host) is False:
            # Nova answers 409 rather than queue the request for a host that does not answer.
            raise ConflictError(f"Nova: the compute service of {server.host} is down.")
        self._ask_cinder(lambda: self.api.begin_detaching(volume_id))

    def finish_detach(self, volume_id: str, instance_id: str, guest: Guest) -> None:
        """Do the compute's part of a detach that was accepted.

        A guest that refuses is rolled back to in-use. Where Cinder fails, the guest has closed the
        disk already; the block device stays, and so does ``detaching``.
        """
        server = self.estate.server(instance_id)
        match guest:
            case Guest.REFUSES:
                self.api.roll_detaching(volume_id)
            case Guest.COMPUTE_DIES:
                # The guest goes on: only its compute is not heard of any more.
                self.estate.dead_computes.add(server.host or "")
            case Guest.LETS_GO:
                self.close_disk(volume_id, instance_id)
                self._disconnect(server, volume_id)

    def holders(self, volume_id: str, host: str) -> tuple[str, ...]:
        """Return the servers that may be using the volume on this host, by Nova's records.

        NotFoundError where the host is no compute.
        """
        if self.estate.compute_up(host) is None:
            raise NotFoundError(f"Nova: no compute host {host}.")
        return tuple(
            server.instance_id
            for server in self.estate.servers.values()
            if self.estate.known_server(server.instance_id) and _may_use(server, volume_id, host)
        )

    def is_offloaded(self, instance_id: str) -> bool:
        """Tell whether the server is on no compute, so that nova-api detaches by itself."""
        server = self.estate.known_server(instance_id)
        return server is not None and server.vm_state == "shelved_offloaded"

    def drop_offloaded(self, volume_id: str, instance_id: str) -> None:
        """Detach from a server that is on no compute: the row goes if it can, the device always.

        Cinder's status is not looked at (``_detach_volume_shelved_offloaded``).
        """
        server = self.estate.server(instance_id)
        devices = server.devices_of(volume_id)
        if not devices:
            raise NotFoundError(f"Nova: instance {instance_id} has no volume {volume_id}.")
        for device in devices:
            with contextlib.suppress(PermanentError):
                self._persist(functools.partial(self._release, server, device))
            server.devices.remove(device)

    def drop(self, attachment_id: str) -> None:
        """Delete a row at Cinder, up to five times."""
        self._persist(lambda: self._delete(attachment_id))

    def name_attachment(self, server: ServerRecord, volume_id: str, attachment_id: str) -> None:
        """Make the server's block device name another row."""
        for device in server.devices_of(volume_id):
            device.attachment_id = attachment_id

    def _disconnect(self, server: ServerRecord, volume_id: str) -> None:
        for device in server.devices_of(volume_id):
            with contextlib.suppress(PermanentError):
                self._persist(functools.partial(self._release, server, device))
                server.devices.remove(device)

    def _release(self, server: ServerRecord, device: DeviceRecord) -> None:
        """Delete the attachment's row; without one make the two calls of the legacy flow."""
        if device.attachment_id is not None:
            self._delete(device.attachment_id)
            return
        connector = self.estate.connector_of(server.host or "")
        self.api.terminate_connection(device.volume_id, connector, trusted=True)
        self.api.detach(device.volume_id, None, trusted=True)

    def _delete(self, attachment_id: str) -> None:
        self.api.delete_attachment(attachment_id, trusted=True)

    def _guest_link(self, volume_id: str, instance_id: str) -> Link | None:
        host = self.estate.server(instance_id).guest_host
        if host is None:
            return None
        name = self.estate.connector_of(host).initiator or host
        links = self.estate.links(self.estate.volume(volume_id))
        return next((link for link in links if link.name == name), None)

    def _persist(self, call: Callable[[], None]) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                self._ask_cinder(call)
            except UnansweredError as error:
                if not tries_left:
                    raise PermanentError(f"Nova gave up after {TRIES} tries: {error}") from None
            else:
                return

    def _ask_cinder(self, call: Callable[[], T]) -> T:
        if not self.estate.cinder_api_up:
            raise PermanentError("Nova cannot reach cinder-api.")
        return call()


def _may_use(server: ServerRecord, volume_id: str, host: str) -> bool:
    """Tell whether the server may be using the volume there, by what Nova has on record."""
    # A guest under migration may be on the host before the record is.
    near = server.host == host or server.task_state == "migrating"
    # Whatever volumes its record has now: the old guest has those of then.
    outlived = server.evacuated_from == host and server.host != host
    return outlived or (near and bool(server.devices_of(volume_id)))


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
            "nova", "server", volume_id, None, timeout_seconds, (("instance_id", instance_id),)
        )
        return self.board.perform(asked, lambda: self._server(instance_id, volume_id))

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Tell whether the host's compute service is up."""
        asked = Asked("nova", "compute_up", None, None, timeout_seconds, (("host", host),))
        return self.board.perform(asked, lambda: self.compute.estate.compute_up(host))

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Return the servers that may be using the volume on this host, by Nova's records."""
        asked = Asked("nova", "holders", volume_id, None, timeout_seconds, (("host", host),))
        return self.board.perform(asked, lambda: self.compute.holders(volume_id, host))

    def servers(self, *, after: str | None, limit: int, timeout_seconds: float) -> ServersPage:
        """Return one page of all servers that are not deleted, with their volumes."""
        asked = Asked("nova", "servers", None, None, timeout_seconds)
        return self.board.perform(asked, lambda: self._servers(after, limit))

    def volumes_of(self, instance_id: str, *, timeout_seconds: float) -> frozenset[str] | None:
        """Return the volumes for which a server has a block device; None where there is none."""
        asked = Asked(
            "nova", "volumes_of", None, None, timeout_seconds, (("instance_id", instance_id),)
        )
        return self.board.perform(asked, lambda: self._volumes_of(instance_id))

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Return what is on record of a server that this Nova had, None where it has no record."""
        asked = Asked(
            "nova", "deleted_server", None, None, timeout_seconds, (("instance_id", instance_id),)
        )
        return self.board.perform(asked, lambda: self._deleted_server(instance_id))

    def swapping(self, instance_id: str, *, timeout_seconds: float) -> Swap:
        """Tell whether a volume of the server is being swapped for another one; none ever fails."""
        asked = Asked(
            "nova", "swapping", None, None, timeout_seconds, (("instance_id", instance_id),)
        )
        return self.board.perform(asked, lambda: self._swap_of(instance_id))

    def _swap_of(self, instance_id: str) -> Swap:
        swapping = self.compute.estate.server(instance_id).swapping
        return Swap.UNDER_WAY if swapping else Swap.NONE

    def detach(
        self, instance_id: str, volume_id: str, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Ask Nova to detach; the compute's part happens as scripted, by default at once."""
        about = (("instance_id", instance_id),)
        asked = Asked("nova", "detach", volume_id, request_id, timeout_seconds, about)
        self.board.perform(asked, lambda: self._detach(instance_id, volume_id))

    def _servers(self, after: str | None, limit: int) -> ServersPage:
        estate = self.compute.estate
        listed = sorted(i for i, server in estate.servers.items() if not server.deleted)
        page = [i for i in listed if after is None or i > after][:limit]
        found = tuple(
            ServerVolumes(i, frozenset(d.volume_id for d in estate.servers[i].devices))
            for i in page
        )
        more = bool(page) and page[-1] != listed[-1]
        return ServersPage(found, page[-1] if more else None)

    def _volumes_of(self, instance_id: str) -> frozenset[str] | None:
        record = self.compute.estate.known_server(instance_id)
        return None if record is None else frozenset(d.volume_id for d in record.devices)

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
        if record is None or not known:
            return None
        never_built = record.host is None and record.vm_state == "building"
        return DeletedServer(instance_id, record.ended_on, record.deleted_by, never_built)

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
