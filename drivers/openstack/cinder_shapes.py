"""Cinder's JSON -> the types of ``drivers.control_plane``. Pure; connection_info is never kept.

Whatever is not of the form that Cinder's API reference gives raises ``ShapeError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from drivers.base import VolumeRef
from drivers.control_plane import (
    CinderAttachment,
    ListedAttachment,
    ListedVolume,
    Volume,
    marks,
)
from drivers.openstack.shapes import (
    NotAdminError,
    ShapeError,
    flag,
    items,
    mapping,
    optional,
    present,
    text,
)

HOST = "os-vol-host-attr:host"
MIGRATION_STATUS = "migration_status"
NAME_ID = "os-vol-mig-status-attr:name_id"
PROJECT_ID = "os-vol-tenant-attr:tenant_id"
ADMIN_ONLY = (MIGRATION_STATUS, HOST)
VOLUME_SERVICE = "cinder-volume"
READ_ONLY = "ro"  # cinder/objects/fields.py, and cinder/volume/manager.py attachment_update
PROTOCOLS: Mapping[str, str] = MappingProxyType({
    "fc": "fibre_channel",
    "nvme-of": "nvmeof", "nvmeof": "nvmeof", "nvme-roce": "nvmeof", "nvme-fc": "nvmeof",
    "nvme-tcp": "nvmeof",
    "ceph": "rbd",
})  # fmt: skip
"""A pool's ``storage_protocol`` in lower case -> ``driver_volume_type``, where the two differ.

Cinder's names are in cinder/common/constants.py.
"""

Record = Mapping[str, Any]


def volume_record(document: Any, volume_id: str) -> Record:
    """Return the ``volume`` of ``GET /volumes/{id}``; raises ShapeError and NotAdminError.

    All of it is read here once, so that a wrong shape is found before the next request is made.
    """
    record = mapping(mapping(document, "the answer").get("volume"), "volume")
    if text(record, "id") != volume_id:
        raise ShapeError("it is about another volume")
    assembled(shown_to_an_admin(record), (), up=False)
    return record


def shown_to_an_admin(record: Record) -> Record:
    """Return the record of a volume, having seen what only the role admin is shown.

    Cinder adds ``migration_status`` exactly where the request's context is an admin's
    (cinder/api/v3/views/volumes.py), and only then looks beyond the request's project.
    """
    if lacking := [name for name in ADMIN_ONLY if name not in record]:
        raise NotAdminError(f"it lacks {' and '.join(lacking)}")
    return record


def attachments(document: Any, volume: Record) -> tuple[CinderAttachment, ...]:
    """Return the rows of ``GET /attachments/detail``, all of this one volume.

    Raises ShapeError where a row that the volume itself names as attached is missing: the list was
    cut short, or something changed between the two questions.
    """
    # The volume's own record names its attached rows, which is a control of the list.
    hosts = _hosts(volume)
    found = tuple(_attachment(item, volume["id"], hosts) for item in items(document, "attachments"))
    if missing := hosts.keys() - {attachment.attachment_id for attachment in found}:
        raise ShapeError(f"the list of attachments lacks {', '.join(sorted(missing))}")
    return found


def _hosts(volume: Record) -> Mapping[str, str | None]:
    """Return the host of each row that is attached, by the row's id."""
    attached = items(volume, "attachments")
    return {text(one, "attachment_id"): optional(one, "host_name") or None for one in attached}


def _attachment(item: Record, volume_id: str, hosts: Mapping[str, str | None]) -> CinderAttachment:
    if text(item, "volume_id") != volume_id:
        raise ShapeError("the list of attachments names another volume")
    attachment_id = text(item, "id")
    return CinderAttachment(
        attachment_id=attachment_id,
        status=text(item, "status"),
        instance_id=optional(item, "instance"),
        # Whether, and not what: it holds the secrets of the connection.
        has_connection_info=bool(present(item, "connection_info")),
        host=hosts.get(attachment_id),
        protocol=_protocol(item),
        read_only=item.get("attach_mode") == READ_ONLY,
    )


def _protocol(item: Record) -> str | None:
    """Return the connection info's ``driver_volume_type``, e.g. iscsi, rbd, scaleio."""
    info = item.get("connection_info")
    found = info.get("driver_volume_type") if isinstance(info, Mapping) else None
    return found if isinstance(found, str) and found else None


def protocol_of(document: Any, volume: Volume) -> str | None:
    """Return the protocol of the pools of the volume's backend, None where they name none or two.

    The pools of a cluster's backend go by the name of the cluster (cinder/scheduler/host_manager).
    """
    names = {volume.ref.backend, volume.cluster}
    pools = items(document, "pools")
    found = {_pool_protocol(p) for p in pools if text(p, "name").partition("#")[0] in names}
    # Two pools of one backend may differ; then nobody can say what the connector must have.
    return found.pop() if len(found) == 1 else None


def _pool_protocol(pool: Record) -> str | None:
    """Return ``driver_volume_type`` by a pool's ``storage_protocol``, which a driver may leave out.

    Cinder keeps a list of all names of the protocol, the preferred one first, and shows that one.
    """
    told = mapping(pool.get("capabilities"), "capabilities").get("storage_protocol")
    first = told[0] if isinstance(told, list) and told else told
    if not isinstance(first, str) or not first:
        return None
    return PROTOCOLS.get(first.lower(), first.lower())


def service_up(document: Any, volume: Record) -> bool:
    """Tell whether cinder-volume of the volume's backend, or of its cluster, sends heartbeats."""
    backend, cluster = backend_of(volume), optional(volume, "cluster_name")
    return any(
        # One that is up is enough: in a cluster any of its services may have the volume.
        text(service, "state") == "up"
        for service in items(document, "services")
        if text(service, "binary") == VOLUME_SERVICE
        and (text(service, "host") == backend or (cluster and service.get("cluster") == cluster))
    )


def backend_of(record: Record) -> str:
    """Return ``host@backend`` without the pool; empty for a volume that was never scheduled."""
    # What follows ``#`` is the pool, which a driver has no use for.
    return (optional(record, HOST) or "").partition("#")[0]


def assembled(record: Record, its_attachments: tuple[CinderAttachment, ...], *, up: bool) -> Volume:
    """Put a volume together. ``provider_location`` is in no API and stays None."""
    return Volume(
        ref=VolumeRef(
            volume_id=text(record, "id"),
            backend=backend_of(record),
            name_id=optional(record, NAME_ID),
            multiattach=flag(record, "multiattach"),
            # Strict: a null, as from 3.69 on, would be taken for "not shared".
            shared_targets=flag(record, "shared_targets"),
        ),
        status=text(record, "status"),
        migration_status=optional(record, MIGRATION_STATUS),
        attachments=its_attachments,
        service_up=up,
        project_id=optional(record, PROJECT_ID),
        user_id=optional(record, "user_id"),
        display_name=optional(record, "name"),
        size_gib=record["size"] if isinstance(record.get("size"), int) else None,
        volume_type_id=optional(record, "volume_type_id"),
        availability_zone=optional(record, "availability_zone"),
        cluster=optional(record, "cluster_name"),
        volume_type=optional(record, "volume_type"),
        marks=marks(mapping(record.get("metadata"), "metadata")),
        replication_status=optional(record, "replication_status"),
    )


def total(document: Any) -> int:
    """Return the count of ``GET /volumes/summary``."""
    summary = mapping(mapping(document, "the answer").get("volume-summary"), "volume-summary")
    if not isinstance(count := summary.get("total_count"), int):
        raise ShapeError("total_count is no number")
    return count


def listed_volumes(document: Any) -> Sequence[ListedVolume]:
    """Return a page of ``GET /volumes/detail``."""
    return [
        ListedVolume(
            volume_id=text(record, "id"),
            status=text(record, "status"),
            backend=backend_of(shown_to_an_admin(record)) or None,
            updated_at=optional(record, "updated_at"),
            name_id=optional(record, NAME_ID),
            attached=bool(items(record, "attachments")),
        )
        for record in items(document, "volumes")
    ]


def listed_attachments(document: Any) -> Sequence[ListedAttachment]:
    """Return a page of ``GET /attachments``."""
    return [
        ListedAttachment(
            attachment_id=text(record, "id"),
            volume_id=text(record, "volume_id"),
            status=text(record, "status"),
            instance_id=optional(record, "instance"),
        )
        for record in items(document, "attachments")
    ]
