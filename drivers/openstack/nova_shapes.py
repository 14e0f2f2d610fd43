"""Nova's JSON -> the types of ``drivers.control_plane``. Pure.

Whatever is not of the form that Nova's API reference gives raises ``ShapeError``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drivers.control_plane import BlockDevice, Server, Swap
from drivers.openstack.shapes import (
    NotAdminError,
    ShapeError,
    items,
    mapping,
    optional,
    present,
    text,
)

VM_STATE, TASK_STATE = "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"
POWER_STATE, SHUTDOWN = "OS-EXT-STS:power_state", 4  # nova/compute/power_state.py
HOST = "OS-EXT-SRV-ATTR:host"
LAUNCHED_AT = "OS-SRV-USG:launched_at"
COMPUTE = "nova-compute"
DELETIONS = frozenset({"delete", "forceDelete"})
SWAP, SWAPPING, DETACH = "swap_volume", "compute_swap_volume", "detach_volume"
TERMINATION, WELL = "compute_terminate_instance", "Success"
CREATION, OF_COMPUTE = "create", "compute_"
VOLUMES = "os-extended-volumes:volumes_attached"
MIGRATING, EVACUATION, COMPLETED = "migrating", "evacuation", "completed"

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ListedServer:
    """One server of ``GET /servers/detail``: its host, and its volumes, if they are shown."""

    instance_id: str
    host: str | None
    task_state: str | None
    volumes: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Evacuation:
    """One evacuation of ``GET /os-migrations``, the newest first."""

    instance_id: str
    source: str | None
    completed: bool


def server_record(document: Any, instance_id: str) -> Record:
    """Return the ``server`` of ``GET /servers/{id}``.

    Raises ShapeError and NotAdminError. From microversion 2.69 on a server whose
    cell does not answer is shown with a handful of keys and the status UNKNOWN.
    """
    record = mapping(mapping(document, "the answer").get("server"), "server")
    if text(record, "id") != instance_id:
        raise ShapeError("it is about another server")
    # Before the check for an admin, which such a record would not pass either.
    if VM_STATE not in record and record.get("status") == "UNKNOWN":
        raise ShapeError("the cell of the server is down")
    if HOST not in record:
        raise NotAdminError(f"it lacks {HOST}")
    for name in (TASK_STATE, LAUNCHED_AT):
        present(record, name)
    assembled(record, (), up=None)
    return record


def volumes_shown(record: Record) -> frozenset[str]:
    """Return the volumes for which a server that was shown or listed has a block device."""
    return frozenset(text(volume, "id") for volume in items(record, VOLUMES))


def host_of(record: Record) -> str | None:
    """Return the compute host that the server is on, None where it is on none."""
    return optional(record, HOST) or None


def compute_up(document: Any, host: str) -> bool | None:
    """Tell whether the host's nova-compute is up and not forced down; None where it is unknown.

    A service whose cell is down is listed without its state.
    """
    for service in items(document, "services"):
        if service.get("binary") == COMPUTE and service.get("host") == host:
            state = optional(service, "state")
            # ``forced_down`` is an administrator's word, and overrules a heartbeat that is still
            # fresh.
            return None if state is None else state == "up" and not service.get("forced_down")
    return None


def block_devices(
    every: Any, with_attachments: Any | None, instance_id: str, volume_id: str
) -> tuple[BlockDevice, ...]:
    """Merge two lists of a server's volumes: below microversion 2.89 and, where there is, at it.

    The first has every block device and names no attachment, the second leaves out those without
    one. A change between the two can only add a device that names no attachment, and no rule
    acts on such a device.
    """
    identified = (
        [] if with_attachments is None else list(_devices(with_attachments, instance_id, volume_id))
    )
    nameless = Counter(device for device, _ in _devices(every, instance_id, volume_id))
    nameless.subtract(device for device, _ in identified)
    return (
        *(BlockDevice(attachment_id, device) for device, attachment_id in identified),
        *(BlockDevice(None, device) for device in nameless.elements()),
    )


def _devices(
    document: Any, instance_id: str, volume_id: str
) -> Iterator[tuple[str | None, str | None]]:
    for item in _volume_attachments(document, instance_id):
        if text(item, "volumeId") == volume_id:
            yield optional(item, "device"), optional(item, "attachment_id")


def _volume_attachments(document: Any, instance_id: str) -> Sequence[Record]:
    """Return the items of ``GET /servers/{id}/os-volume_attachments``, all of this one server."""
    found = items(document, "volumeAttachments")
    if any(text(item, "serverId") != instance_id for item in found):
        raise ShapeError("the list of block devices names another server")
    return found


def assembled(record: Record, devices: tuple[BlockDevice, ...], *, up: bool | None) -> Server:
    """Put a server together."""
    return Server(
        instance_id=text(record, "id"),
        vm_state=text(record, VM_STATE),
        task_state=optional(record, TASK_STATE),
        host=host_of(record),
        compute_up=up,
        launched=optional(record, LAUNCHED_AT) is not None,
        block_devices=devices,
        powered_off=record.get(POWER_STATE) == SHUTDOWN,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """The request ids of a server's deletions, the newest first, and of its creation."""

    deletions: tuple[str, ...]
    creation: str | None


def life(document: Any) -> Life | None:
    """Return the requests that made and deleted a server, as Nova lists them.

    None where no action at all is on record: every server that a Nova made has its creation there.
    """
    actions = items(document, "instanceActions")
    if not actions:
        return None
    deletions = (text(a, "request_id") for a in actions if a.get("action") in DELETIONS)
    creations = (text(a, "request_id") for a in actions if a.get("action") == CREATION)
    return Life(tuple(deletions), next(creations, None))


def came_to_no_compute(document: Any) -> bool:
    """Tell whether no compute began to build the server that this creation was of.

    A nova-compute records that before it touches a volume (nova/compute/manager.py
    ``_do_build_and_run_instance``, event ``compute__do_build_and_run_instance``).
    """
    names = [text(event, "event") for event in _events(document)]
    return not any(name.startswith(OF_COMPUTE) for name in names)


def ended_on(document: Any) -> str | None:
    """Return the host whose nova-compute carried this action's termination out with success."""
    for event in _events(document):
        if event.get("event") == TERMINATION and event.get("result") == WELL:
            return optional(event, "host") or None
    return None


def swaps(document: Any) -> tuple[Sequence[str], bool]:
    """Return the request ids of a server's volume swaps, as Nova lists them: the newest first.

    And whether the newest one is newer than any detach of a volume that was asked for. Raises
    ShapeError where no action at all is on record: every server has its creation there.
    """
    actions = items(document, "instanceActions")
    if not actions:
        raise ShapeError("no action of the server is on record")
    asked = [a for a in actions if a.get("action") in (SWAP, DETACH)]
    found = [text(a, "request_id") for a in asked if a.get("action") == SWAP]
    return found, bool(asked) and asked[0].get("action") == SWAP


def swap_came_to(document: Any) -> Swap:
    """Return what became of one swap: its compute records the end of it, well or not.

    An action without the event is one that the compute has not begun.
    """
    events = [event for event in _events(document) if event.get("event") == SWAPPING]
    if not any(present(event, "finish_time") is not None for event in events):
        return Swap.UNDER_WAY
    return Swap.NONE if any(event.get("result") == WELL for event in events) else Swap.FAILED


def _events(document: Any) -> Sequence[Record]:
    """Return the events of one action (``GET /servers/{id}/os-instance-actions/{request}``)."""
    action = mapping(mapping(document, "the answer").get("instanceAction"), "instanceAction")
    return items(action, "events")


def listed_servers(document: Any) -> tuple[Sequence[ListedServer], str | None]:
    """Return one page of ``GET /servers/detail``, and after which id the next one begins.

    Raises ShapeError, and NotAdminError where the hosts are not shown: then the filter by host was
    dropped silently (nova/api/openstack/compute/servers.py ``remove_invalid_options``).
    """
    records = items(document, "servers")
    return [_listed_server(record) for record in records], _next(document, records, "servers", "id")


def _listed_server(record: Record) -> ListedServer:
    if HOST not in record:
        raise NotAdminError(f"it lacks {HOST}")
    present(record, TASK_STATE)
    return ListedServer(
        instance_id=text(record, "id"),
        host=host_of(record),
        task_state=optional(record, TASK_STATE),
        volumes=volumes_shown(record),
    )


def listed_evacuations(document: Any) -> tuple[Sequence[Evacuation], str | None]:
    """Return one page of ``GET /os-migrations``, and after which uuid the next one begins."""
    records = items(document, "migrations")
    found = [_evacuation(record) for record in records]
    return found, _next(document, records, "migrations", "uuid")


def _evacuation(record: Record) -> Evacuation:
    # It is null where the user may not see it.
    if present(record, "source_compute") is None:
        raise NotAdminError("it lacks source_compute")
    # The filter was dropped: then the newest of a server could be a migration of another kind.
    if text(record, "migration_type") != EVACUATION:
        raise ShapeError("a migration is no evacuation")
    return Evacuation(
        instance_id=text(record, "instance_uuid"),
        source=text(record, "source_compute"),
        completed=text(record, "status") == COMPLETED,
    )


def _next(document: Any, records: Sequence[Record], name: str, key: str) -> str | None:
    """Return the last id of a page that is not the last, None of the last one."""
    if not document.get(f"{name}_links"):
        return None
    if not records:
        raise ShapeError("an empty page links to a next one")
    return text(records[-1], key)


def volumes_of(document: Any, instance_id: str) -> frozenset[str]:
    """Return the volumes of ``GET /servers/{id}/os-volume_attachments`` below 2.89: all of them."""
    return frozenset(text(item, "volumeId") for item in _volume_attachments(document, instance_id))


def servers_on(document: Any, host: str) -> frozenset[str] | None:
    """Return the servers that the hypervisors of this host have; None where none is of it."""
    found: list[str] = []
    found_host = False
    for hypervisor in items(document, "hypervisors"):
        if text(mapping(hypervisor.get("service"), "service"), "host") == host:
            found_host = True
            found += [text(server, "uuid") for server in items(hypervisor, "servers")]
    return frozenset(found) if found_host else None
