"""All records of the simulated cloud in one place, the lock that guards them, and look-ups.

How a volume's two statuses follow from its attachment rows follows Cinder's database layer:
``volume_attached``, ``volume_detached`` and
``_get_statuses_from_attachments``.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import uuid

from drivers.base import Connector
from drivers.errors import NotFoundError, TransientError
from drivers.simulator.backend import Backend
from drivers.simulator.state import (
    ERROR_ROW,
    AttachmentRecord,
    Link,
    ServerRecord,
    Service,
    VolumeRecord,
)


def new_id() -> str:
    """Return a fresh id of the form that Cinder and Nova use."""
    return str(uuid.uuid4())


def made_up_connector(host: str) -> Connector:
    """Return the connector of a compute host by its name: the same one each time."""
    return Connector(host=host, initiator=f"iqn.2010-10.org.openstack:{host}", ip="192.0.2.1")


@dataclasses.dataclass(slots=True)
class Estate:
    """The state of the cloud. Whoever reads or writes it holds ``lock``."""

    # Re-entrant: a flow of Nova's calls Cinder's methods while it holds it.
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    volumes: dict[str, VolumeRecord] = dataclasses.field(default_factory=dict)
    attachments: dict[str, AttachmentRecord] = dataclasses.field(default_factory=dict)
    servers: dict[str, ServerRecord] = dataclasses.field(default_factory=dict)
    backends: dict[str, Backend] = dataclasses.field(default_factory=dict)
    services: dict[str, Service] = dataclasses.field(default_factory=dict)
    connectors: dict[str, Connector] = dataclasses.field(default_factory=dict)
    dead_computes: set[str] = dataclasses.field(default_factory=set)
    no_computes: set[str] = dataclasses.field(default_factory=set)
    cinder_api_up: bool = True
    nova_api_up: bool = True
    service_token: bool = False
    has_service_token: bool = False
    named_elsewhere: set[str] = dataclasses.field(default_factory=set)
    protocol: str | None = "iscsi"
    counter: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    def refuse_if_down(self, actor: str) -> None:
        """Raise TransientError where the API that is asked takes no connection now."""
        if not {"cinder": self.cinder_api_up, "nova": self.nova_api_up}.get(actor, True):
            raise TransientError(f"Connection to {actor}-api refused.")

    def links(self, volume: VolumeRecord) -> tuple[Link, ...]:
        """Return every host's way to the volume; none where the backend does not know it."""
        record = self.backends[volume.backend].exports.get(volume.name)
        return tuple(record.links.values()) if record else ()

    def volume(self, volume_id: str) -> VolumeRecord:
        """Return the volume; NotFoundError where there is none."""
        if (volume := self.volumes.get(volume_id)) is None:
            raise NotFoundError(f"There is no volume {volume_id}.")
        return volume

    def attachment(self, attachment_id: str) -> AttachmentRecord:
        """Return the live row; NotFoundError where there is none."""
        if (attachment := self.attachments.get(attachment_id)) is None:
            raise NotFoundError(f"There is no attachment {attachment_id}.")
        return attachment

    def server(self, instance_id: str) -> ServerRecord:
        """Return the server, even one whose record Nova has deleted; else NotFoundError."""
        if (server := self.servers.get(instance_id)) is None:
            raise NotFoundError(f"There is no server {instance_id}.")
        return server

    def known_server(self, instance_id: str | None) -> ServerRecord | None:
        """Return the server as Nova's API would find it, or None."""
        server = self.servers.get(instance_id) if instance_id else None
        shown = server is not None and server.on_record and not server.deleted
        return server if shown else None

    def backend_of(self, volume: VolumeRecord) -> Backend:
        """Return the backend that the volume lives on."""
        return self.backends[volume.backend]

    def service(self, backend: str) -> Service:
        """Return how the backend's cinder-volume is."""
        return self.services.get(backend, Service.UP)

    def connector_of(self, host: str) -> Connector:
        """Return the connector of a compute host: what was set, else one made up from its name."""
        return self.connectors.get(host) or made_up_connector(host)

    def compute_up(self, host: str | None) -> bool | None:
        """Tell what Nova says of a compute; None for no host, and for one that is no compute."""
        has_compute = host is not None and host not in self.no_computes
        return host not in self.dead_computes if has_compute else None


STATUS_OF = {"attached": "in-use", "detached": "available"}


def add(estate: Estate, attachment: AttachmentRecord) -> AttachmentRecord:
    """Insert a row; the volume's statuses are not touched."""
    estate.attachments[attachment.attachment_id] = attachment
    estate.volume(attachment.volume_id).attachments[attachment.attachment_id] = attachment
    return attachment


def mark_attaching(
    volume: VolumeRecord, attachment: AttachmentRecord, connector: Connector
) -> None:
    """``volume_attached(mark_attached=False)``: unconditional, so a late one undoes a success."""
    attachment.status, attachment.connector, attachment.attached_host = (
        "attaching",
        connector,
        connector.host,
    )
    # Whatever they were: this undoes a retry that won, which is UC2.
    volume.status = volume.attach_status = "attaching"


def complete(volume: VolumeRecord, attachment: AttachmentRecord) -> None:
    """Row attached, volume in-use: unconditional too (``attachments.complete``)."""
    attachment.status = "attached"
    volume.status, volume.attach_status = "in-use", "attached"


def finish_detach(estate: Estate, volume: VolumeRecord, attachment_id: str) -> None:
    """Drop the row, if there is one, and recompute (``volume_detached``)."""
    if (attachment := volume.attachments.pop(attachment_id, None)) is not None:
        estate.attachments.pop(attachment_id, None)
        attachment.status = "detached"
        volume.deleted_attachments.append(attachment)
    recompute(volume)


def recompute(volume: VolumeRecord) -> None:
    """Derive both statuses from the live rows that are in no error.

    The first in alphabetical order wins: attached, attaching, detaching, reserved. ``available``
    is not written while a migration or an upload owns the volume's status.
    """
    statuses = [r.status for r in volume.attachments.values() if not r.status.startswith(ERROR_ROW)]
    # ``min`` of texts is the order of the alphabet, which is that of Cinder's query.
    volume.attach_status = min(statuses, default="detached")
    if volume.attach_status != "detached" or not _owned_by_another_flow(volume):
        volume.status = STATUS_OF.get(volume.attach_status, volume.attach_status)


def _owned_by_another_flow(volume: VolumeRecord) -> bool:
    if volume.migration_status in ("success", "error"):
        return False
    return bool(volume.migration_status) or volume.status == "uploading"
