"""What Cinder and Nova show, and what may be asked of them.

Two narrow protocols: the clients in ``drivers/openstack`` and the simulated cloud meet them. Every
call is bounded by ``timeout_seconds`` and raises nothing but the kinds of ``drivers.errors``. Every
write carries ``request_id``, which goes out as the global request id, so that the notifications it
causes are known as our own.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Protocol

from drivers.base import Connector, VolumeRef

DETACHABLE = frozenset(
    {"active", "paused", "stopped", "resized", "soft-delete", "shelved", "shelved_offloaded"}
)
"""The vm_states in which Nova takes a detach of a server that ever ran; it refuses all others.

Nova, nova/compute/api.py: ``check_instance_state`` of ``detach_volume``, names as in
nova/objects/fields.py ``InstanceState``.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class CinderAttachment:
    """One live row of Cinder's ``volume_attachment`` table, as ``GET /attachments`` shows it.

    ``status`` is Cinder's attach_status: attached, attaching, reserved, detaching, error_attaching
    or error_detaching. The API never returns the connector. ``host`` is the connector's host, which
    the API shows it for attached rows only (``attachments[].host_name`` of a volume). ``protocol``
    is the ``driver_volume_type`` of its connection info; nothing else of that is kept.
    ``read_only``: its attach_mode is ``ro``, so that its guest opens the volume to read alone.
    """

    attachment_id: str
    status: str
    instance_id: str | None
    has_connection_info: bool
    host: str | None = None
    protocol: str | None = None
    read_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume with all its attachment rows, read in one look at Cinder's API.

    ``status`` is the volume's, e.g. available, attaching, in-use, detaching, reserved.
    ``service_up`` is False where cinder-volume's heartbeat for its backend is missing. ``marks``
    are the names of its metadata that are set, to anything but ``false``, ``no`` and ``0``.
    ``replication_status`` is ``failed-over`` where a replica of it is in use.
    """

    ref: VolumeRef
    status: str
    migration_status: str | None
    attachments: tuple[CinderAttachment, ...]
    service_up: bool
    project_id: str | None = None
    user_id: str | None = None
    display_name: str | None = None
    size_gib: int | None = None
    volume_type_id: str | None = None
    availability_zone: str | None = None
    cluster: str | None = None
    volume_type: str | None = None
    marks: frozenset[str] = frozenset()
    replication_status: str | None = None


class Swap(enum.Enum):
    """What Nova has on record of the swaps of a server's volumes."""

    NONE = "none"
    UNDER_WAY = "under-way"
    FAILED = "failed"


# As a person writes "no" into metadata, which are texts only.
UNSET = frozenset({"", "0", "false", "no", "none", "off"})


def marks(metadata: Mapping[str, object]) -> frozenset[str]:
    """Return the names of a volume's metadata that are set; the values are not kept."""
    return frozenset(n for n, value in metadata.items() if str(value).strip().lower() not in UNSET)


@dataclasses.dataclass(frozen=True, slots=True)
class ListedVolume:
    """One volume of a listing (``GET /volumes/detail``): enough to see that it does not move.

    ``updated_at`` is Cinder's own text, compared only with what it was for the same volume.
    ``name_id`` is what the backend calls it after a migration, where that is not its id.
    ``attached`` says whether it has a row that is attached.
    """

    volume_id: str
    status: str
    backend: str | None
    updated_at: str | None
    name_id: str | None = None
    attached: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ListedAttachment:
    """One attachment row of a listing (``GET /attachments``)."""

    attachment_id: str
    volume_id: str
    status: str
    instance_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class BlockDevice:
    """Nova's record that a server has the volume.

    ``attachment_id`` is None on legacy and on half-made records, which Nova's API hides from
    microversion 2.89 on.
    """

    attachment_id: str | None
    device: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A server as Nova's API shows it, with its block devices for one volume.

    ``vm_state`` is Nova's: active, stopped, shelved_offloaded, error ... ``compute_up`` is None
    where Nova did not say. ``launched`` is False for a server that never ran. ``powered_off``:
    Nova last saw its guest shut down, whatever ``vm_state`` says.
    """

    instance_id: str
    vm_state: str
    task_state: str | None
    host: str | None
    compute_up: bool | None
    launched: bool
    block_devices: tuple[BlockDevice, ...]
    powered_off: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ServerVolumes:
    """One server of a listing, with the volumes for which it has a block device."""

    instance_id: str
    volumes: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class ServersPage:
    """One page of a listing of servers; ``after`` begins the next one, None on the last."""

    servers: tuple[ServerVolumes, ...]
    after: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class DeletedServer:
    """A server that this Nova had and shows no more: the control of its 404.

    ``ended_on`` is the compute host that ended its guest, None where no record says so. A server
    that is gone proves nothing of its guest: where its compute was down, nova-api deletes the
    record alone. A host is named only where that host's nova-compute carried the deletion out with
    success (``os-instance-actions``: event compute_terminate_instance, Success). ``deleted_by`` are
    the ids of the requests that deleted it, which Cinder's notifications carry too.
    ``never_built``: it never came to a compute (its creation has no event of one), so that no host
    was ever let in for it.
    """

    instance_id: str
    ended_on: str | None = None
    deleted_by: tuple[str, ...] = ()
    never_built: bool = False


class Cinder(Protocol):
    """What the service asks of Cinder."""

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Return the volume with all its rows, or None where Cinder says that it does not exist.

        None alone is no proof: a Cinder that never had it (another region's) answers that too.
        """

    def count_volumes(self, *, timeout_seconds: float) -> int:
        """Return how many volumes all projects have (``GET /volumes/summary``, 3.12).

        The control of a listing: one that is empty proves nothing by itself.
        """

    def volumes_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedVolume, ...]:
        """Return one page of all projects' volumes in this status, ordered by id.

        ``after`` is the last volume id of the page before, None for the first page. Fewer than
        ``limit`` say that there are no more. NotFoundError where ``after`` was deleted meanwhile.
        """

    def attachments_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return one page of all projects' attachment rows of this attach_status, ordered by id.

        Asked by ``attach_status``: ``status`` is accepted and finds nothing (Cinder,
        cinder/db/api.py: no such column). Pages as ``volumes_in`` does.
        """

    def attachments_of(
        self, instance_id: str, *, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return the rows of one server in all projects, in every attach_status."""

    def protocol_of(self, volume: Volume, *, timeout_seconds: float) -> str | None:
        """Return how hosts reach the volumes of this volume's backend, e.g. iscsi, rbd, scaleio.

        The name is that of ``driver_volume_type``, where it is one that a connector has to fit.
        None where Cinder's scheduler lists no pool of the backend, or pools that differ in it.
        Read-only.
        """

    def reserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-reserve``: available -> attaching, by compare-and-swap; else ConflictError."""

    def unreserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-unreserve``: attaching -> available, or in-use where rows remain; else no change."""

    def roll_detaching(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-roll_detaching``: detaching -> in-use; else no change."""

    def complete(self, attachment_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-complete``: the row becomes attached and the volume in-use."""

    def has_service_token(self) -> bool:
        """Tell whether a service token is configured, which a call can carry. Asks nobody."""

    def delete_attachment(
        self,
        attachment_id: str,
        *,
        request_id: str,
        timeout_seconds: float,
        service_token: bool = False,
    ) -> None:
        """``DELETE /attachments/{id}``: terminate, drop the row, recompute from what remains.

        Cinder terminates with the connector that it has stored, and not at all where the row is
        still ``reserved``. A row that is gone is success. ConflictError where Cinder's guard
        (CVE-2023-2088) says that Nova uses the attachment, which it does not ask where
        ``service_token`` is true.
        """

    def terminate_connection(
        self, volume_id: str, connector: Connector, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``os-terminate_connection``: the backend revokes that host's access; rows stay."""

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
        """``os-force_detach``, never without a connector: terminate, unreserve, then detach."""


class Nova(Protocol):
    """What the service asks of Nova."""

    def server(self, instance_id: str, volume_id: str, *, timeout_seconds: float) -> Server | None:
        """Return the server and its block devices for this volume; None where Nova has none.

        None alone is no proof: a Nova that never had it answers that too (``deleted_server``).
        Block devices without an attachment id are included (asked below microversion 2.89 too).
        """

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Tell whether the host's nova-compute is up and not forced down; None: Nova has none."""

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Return every server that may be using the volume on this compute host. Read-only.

        Those of the host, in any state, that have a block device for it; those under live migration
        that have one; and those evacuated off the host whose guest Nova has not recorded to be
        ended there, whatever volumes they have now. None at all is proof, as far as Nova's records
        go: an answer that may not be whole raises, as does a host without a nova-compute.
        """

    def servers(self, *, after: str | None, limit: int, timeout_seconds: float) -> ServersPage:
        """Return one page of all projects' servers, soft-deleted ones too, with their volumes.

        No proof: Nova leaves out what a cell does not answer. Each server in question is asked for
        by itself.
        """

    def volumes_of(self, instance_id: str, *, timeout_seconds: float) -> frozenset[str] | None:
        """Return the volumes for which a server has a block device; None where Nova has none."""

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Return what is on record of a server that this Nova had; None where it has no record.

        None: it is another Nova's (another region's), or no Nova's at all (bare metal, a client of
        Cinder's own), or its record was archived. Asked only of a server that ``server`` denies.
        """

    def swapping(self, instance_id: str, *, timeout_seconds: float) -> Swap:
        """Tell whether a volume of the server is being swapped for another one. Read-only.

        Nova's ``swap_volume`` sets no task state, and for hours the server has both volumes: the
        old one is ``detaching``, and no block device names the row of the new one. Under way as
        long as its compute has not recorded the end of each swap that Nova has on record. Failed
        where the last swap did, and no detach of any volume of the server was asked for since.
        """

    def detach(
        self, instance_id: str, volume_id: str, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Ask Nova to detach (``DELETE /servers/{id}/os-volume_attachments/{volume}``).

        Nova accepts the request (202); a later look shows how it ended. ConflictError where Nova
        refuses: server locked, wrong state, compute down, Cinder's status not in-use.
        """
