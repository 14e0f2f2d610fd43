"""The simulated cloud's records: what its databases, hypervisors and backends hold.

Mutable on purpose, and touched only while the estate's lock is held.
"""

from __future__ import annotations

import dataclasses
import enum

from drivers.base import Connection, Connector, VolumeRef

# Cinder leaves rows in an error out when it derives the volume's status.
ERROR_ROW = "error_"
DEFAULT_BACKEND = "storage-1@tgt"


class Exporting(enum.Enum):
    """When a backend's driver ends a host's access; real Cinder drivers do it in either way.

    PER_HOST: ``terminate_connection`` removes that host, ``remove_export`` drops the whole target.
    WHOLE_VOLUME: ``terminate_connection`` does nothing, ``remove_export`` ends every host's access
    (Cinder's LVM and RBD drivers).
    """

    PER_HOST = "per-host"
    WHOLE_VOLUME = "whole-volume"


class Service(enum.Enum):
    """How a backend's cinder-volume is: DOWN drops what it is asked, FROZEN does it on thaw."""

    UP = "up"
    DOWN = "down"
    FROZEN = "frozen"


class Guest(enum.Enum):
    """How a detach that Nova has accepted goes on at the compute."""

    LETS_GO = "lets go"
    REFUSES = "refuses"
    COMPUTE_DIES = "compute dies"


@dataclasses.dataclass(slots=True)
class AttachmentRecord:
    """One row of Cinder's ``volume_attachment`` table.

    ``has_connection_info`` stands for the column that holds secrets, which are not simulated.
    """

    attachment_id: str
    volume_id: str
    status: str
    instance_id: str | None = None
    connector: Connector | None = None
    has_connection_info: bool = False
    attached_host: str | None = None

    @property
    def host(self) -> str | None:
        """The host that the row is about, where it says so."""
        return self.connector.host if self.connector else self.attached_host


@dataclasses.dataclass(frozen=True, slots=True)
class Reservation:
    """How a volume was when one of our calls reserved it: giving that back does no harm."""

    links: frozenset[tuple[str, bool, bool]]
    touched: int | None


@dataclasses.dataclass(slots=True)
class VolumeRecord:
    """A volume as Cinder's database has it, with what the hypervisors really do with it.

    ``opened_by`` are the instances whose guest has the disk open. ``connecting`` are the hosts that
    Nova is attaching it to at this moment. ``touched`` is the estate's count when one of our calls
    last changed the volume.
    """

    volume_id: str
    backend: str
    status: str = "available"
    attach_status: str = "detached"
    migration_status: str | None = None
    multiattach: bool = False
    name_id: str | None = None
    provider_location: str | None = None
    shared_targets: bool = False
    project_id: str | None = None
    user_id: str | None = None
    display_name: str | None = None
    size_gib: int | None = 1
    volume_type_id: str | None = None
    volume_type: str | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    availability_zone: str | None = "nova"
    attachments: dict[str, AttachmentRecord] = dataclasses.field(default_factory=dict)
    deleted_attachments: list[AttachmentRecord] = dataclasses.field(default_factory=list)
    opened_by: set[str] = dataclasses.field(default_factory=set)
    connecting: set[str] = dataclasses.field(default_factory=set)
    reservation: Reservation | None = None
    touched: int | None = None

    @property
    def name(self) -> str:
        """The name that the backend knows the volume by."""
        return self.name_id or self.volume_id

    def ref(self) -> VolumeRef:
        """Return the volume as a storage driver gets it."""
        return VolumeRef(
            volume_id=self.volume_id,
            backend=self.backend,
            name_id=self.name_id,
            provider_location=self.provider_location,
            multiattach=self.multiattach,
            shared_targets=self.shared_targets,
        )


@dataclasses.dataclass(slots=True)
class DeviceRecord:
    """One row of Nova's ``block_device_mapping`` table."""

    volume_id: str
    attachment_id: str | None
    device: str | None = None


@dataclasses.dataclass(slots=True)
class ServerRecord:
    """A server: what Nova's database says of it, and what its guest really does.

    ``host`` is Nova's word, ``guest_host`` the truth: after a failed live migration, or an
    evacuation from a compute that only seemed dead, they differ. A guest can outlive its record;
    ``ended_on`` is the compute that ended it when the server was deleted, None where none did,
    ``deleted_by`` the requests that deleted it.
    ``on_record`` is False where this Nova has no record at all: the server is another region's,
    bare metal, another client's, or its record was archived.
    ``swapping``: one of its volumes is being swapped for another one.
    ``evacuated_from`` is the host that it was evacuated off, until the compute there has ended the
    old guest.
    """

    instance_id: str
    host: str | None
    vm_state: str = "active"
    task_state: str | None = None
    launched: bool = True
    locked: bool = False
    deleted: bool = False
    guest_host: str | None = None
    guest_running: bool = True
    migrating_to: str | None = None
    ended_on: str | None = None
    deleted_by: tuple[str, ...] = ()
    on_record: bool = True
    evacuated_from: str | None = None
    swapping: bool = False
    devices: list[DeviceRecord] = dataclasses.field(default_factory=list)

    def devices_of(self, volume_id: str) -> list[DeviceRecord]:
        """Return Nova's block devices for one volume."""
        return [d for d in self.devices if d.volume_id == volume_id]


@dataclasses.dataclass(slots=True)
class Link:
    """One host's way to a volume, as the backend holds it.

    ``instance_id`` and ``purpose`` are the simulation's knowledge; no backend shows them.
    A ``stuck`` session stays listed until ``Cloud.release_stuck_session``, as one does whose I/O
    hangs.
    """

    name: str
    host: str
    address: str | None = None
    access: bool = True
    sessions: int = 0
    stuck: bool = False
    instance_id: str | None = None
    purpose: str | None = None
    granted: int = 0

    def seen(self) -> Connection:
        """Return the connection as an observation shows it."""
        return Connection(
            name=self.name,
            host=self.host,
            address=self.address,
            access=self.access,
            sessions=self.sessions,
        )


@dataclasses.dataclass(slots=True)
class ExportRecord:
    """A backend's own record of one volume: the links, and whether a target exists at all."""

    name: str
    links: dict[str, Link] = dataclasses.field(default_factory=dict)
    target: bool = False
