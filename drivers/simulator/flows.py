"""Whole flows as users and Nova run them: attach, detach, migrate, shelve, back up.

They run through the same Cinder and the same backend as the service's calls do, so a scripted
``backend.*`` fault strikes them and leaves what a real one leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from drivers.errors import OutsideError, PermanentError
from drivers.simulator.cinder_api import CinderApi
from drivers.simulator.estate import Estate
from drivers.simulator.nova_compute import Compute
from drivers.simulator.stage import Stage
from drivers.simulator.state import AttachmentRecord, Guest


@dataclasses.dataclass(slots=True)
class AttachUnderWay:
    """An attach of one volume to one server, a step at a time, in this order.

    ``connect`` exports and marks attaching, ``open`` gives the guest the disk, ``complete`` ends
    it. ``finish`` does what is left. ``give_up`` is Nova's own clean-up after a failure.
    """

    estate: Estate
    compute: Compute
    attachment: AttachmentRecord
    instance_id: str
    host: str
    steps: list[Callable[[], None]] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.steps = [self._connect, self._open, self._complete]

    @property
    def attachment_id(self) -> str:
        """The id of the attachment's row."""
        return self.attachment.attachment_id

    def advance(self, steps: int = 1, *, cleans_up: bool = True) -> AttachUnderWay:
        """Do the next steps; PermanentError where Nova gives up, which has then cleaned up.

        ``cleans_up`` False: the compute dies instead, and all stays as it is.
        """
        with self.estate.lock:
            for _ in range(steps):
                try:
                    self.steps.pop(0)()
                except OutsideError:
                    (self.give_up if cleans_up else self.abandon)()
                    raise
        return self

    def finish(self) -> str:
        """Do what is left; return the attachment id."""
        return self.advance(len(self.steps)).attachment_id

    def give_up(self, *, reaches_cinder: bool = True) -> None:
        """Fail the attach as Nova does: delete the row, if Cinder lets it, and the block device."""
        with self.estate.lock:
            self.steps.clear()
            self._connecting().discard(self.host)
            self.compute.clean_up(self.attachment, reaches_cinder=reaches_cinder)

    def abandon(self) -> None:
        """Stop here, as when the compute dies: nothing is cleaned up or continued."""
        with self.estate.lock:
            self.steps.clear()
            self._connecting().discard(self.host)

    def _connecting(self) -> set[str]:
        return self.estate.volume(self.attachment.volume_id).connecting

    def _connect(self) -> None:
        # While it lasts, the watch counts the host as a user of the volume.
        self._connecting().add(self.host)
        self.compute.connect(self.attachment, self.host)

    def _open(self) -> None:
        self.compute.open(self.attachment.volume_id, self.instance_id)

    def _complete(self) -> None:
        self.compute.api.complete(self.attachment.attachment_id)
        self._connecting().discard(self.host)


class Flows(Stage):
    """The part of ``Cloud`` that plays whole flows. Thread-safe."""

    def __init__(self, estate: Estate, api: CinderApi, compute: Compute) -> None:
        super().__init__(estate)
        self._api = api
        self._compute = compute

    def begin_attach(
        self, volume_id: str, instance_id: str, *, device: str = "/dev/vdb"
    ) -> AttachUnderWay:
        """Reserve the volume for a server; ConflictError where Cinder does not allow it."""
        with self._estate.lock:
            attachment = self._compute.reserve(volume_id, instance_id, device)
            host = self._estate.server(instance_id).guest_host or ""
            return AttachUnderWay(self._estate, self._compute, attachment, instance_id, host)

    def attach(self, volume_id: str, instance_id: str) -> str:
        """Attach the volume, the whole healthy way; return the attachment id.

        Raises PermanentError where Nova gave up: then Nova's own clean-up has run.
        """
        return self.begin_attach(volume_id, instance_id).finish()

    def begin_detaching(self, volume_id: str) -> None:
        """``os-begin_detaching``: a user's wish to detach; in-use to detaching."""
        with self._estate.lock:
            self._api.begin_detaching(volume_id)

    def guest_lets_go(self, instance_id: str, volume_id: str) -> None:
        """Make the guest give the disk back; Cinder and Nova do not hear of it."""
        with self._estate.lock:
            self._compute.close_disk(volume_id, instance_id)

    def detach(self, volume_id: str, instance_id: str, guest: Guest = Guest.LETS_GO) -> None:
        """Detach through Nova, as a user asks for it, and let the compute do its part."""
        with self._estate.lock:
            self._compute.begin_detach(volume_id, instance_id)
            self._compute.finish_detach(volume_id, instance_id, guest)

    def begin_migration(self, volume_id: str, instance_id: str, to: str) -> str:
        """Start a live migration: a second row, attached on the destination and named by Nova.

        Returns the destination's attachment id. Both rows are legal until it ends.
        """
        with self._estate.lock:
            server = self._estate.server(instance_id)
            server.task_state, server.migrating_to = "migrating", to
            attachment = self._api.create_attachment(volume_id, instance_id)
            self._compute.connect(attachment, to)
            self._api.complete(attachment.attachment_id)
            self._compute.name_attachment(server, volume_id, attachment.attachment_id)
            return attachment.attachment_id

    def finish_migration(self, volume_id: str, instance_id: str) -> None:
        """Move the guest over; the source's row is deleted, if the backend lets it."""
        with self._estate.lock:
            server = self._estate.server(instance_id)
            source, destination = server.guest_host, server.migrating_to
            self._compute.close_disk(volume_id, instance_id)
            server.host = server.guest_host = destination
            server.task_state = server.migrating_to = None
            self._compute.open(volume_id, instance_id)
            self._drop_attachments(volume_id, instance_id, source)

    def fail_migration(
        self, volume_id: str, instance_id: str, *, names_destination: bool = False
    ) -> None:
        """Keep the guest; the destination's row is deleted, if the backend lets it.

        ``names_destination``: Nova's block device goes on naming the destination's row.
        """
        with self._estate.lock:
            server = self._estate.server(instance_id)
            destination = server.migrating_to
            server.task_state = server.migrating_to = None
            if not names_destination:
                self._name_attachment_of(server.guest_host, volume_id, instance_id)
            self._drop_attachments(volume_id, instance_id, destination)

    def shelve(self, volume_id: str, instance_id: str) -> str:
        """Shelve and offload: a reserved row without connector is what the server comes back by.

        Returns that row's id.
        """
        with self._estate.lock:
            server = self._estate.server(instance_id)
            self._compute.close_disk(volume_id, instance_id)
            attachment = self._api.create_attachment(volume_id, instance_id)
            self._drop_attachments(volume_id, instance_id, server.host)
            self._compute.name_attachment(server, volume_id, attachment.attachment_id)
            server.vm_state, server.guest_running = "shelved_offloaded", False
            server.host = server.guest_host = None
            return attachment.attachment_id

    def terminate_server(self, instance_id: str) -> None:
        """Delete a server as Nova does: the guest ends, each row goes if the backend lets it.

        A failure of the backend is swallowed (``_shutdown_instance``): no message reports it.
        """
        with self._estate.lock:
            server = self._estate.server(instance_id)
            for volume_id in {device.volume_id for device in server.devices}:
                self._compute.close_disk(volume_id, instance_id)
                self._drop_attachments(volume_id, instance_id, server.host)
            self.delete_server(instance_id)

    def begin_backup(self, volume_id: str, host: str = "cinder-backup-1") -> None:
        """Start a backup: the volume is mapped to a Cinder host, with no row and no server."""
        self.set_status(volume_id, "backing-up")
        self.export(volume_id, host, sessions=1, purpose="a backup's own mapping")

    def _drop_attachments(self, volume_id: str, instance_id: str, host: str | None) -> None:
        attachments = self._estate.volume(volume_id).attachments.values()
        for attachment in [
            r for r in attachments if r.instance_id == instance_id and r.host == host
        ]:
            try:
                self._compute.drop(attachment.attachment_id)
            except PermanentError:
                continue

    def _name_attachment_of(self, host: str | None, volume_id: str, instance_id: str) -> None:
        connector = self._estate.connector_of(host or "")
        for attachment in self._estate.volume(volume_id).attachments.values():
            if attachment.connector == connector:
                server = self._estate.server(instance_id)
                self._compute.name_attachment(server, volume_id, attachment.attachment_id)
