"""Nova's JSON -> what we speak of. Pure.

Whatever is not of the form that Nova's API reference gives raises ``ShapeError``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drivers.control_plane import BlockDevice, Server
from drivers.shapes import NotAdminError, ShapeError, items, mapping, optional, present, text

VM_STATE, TASK_STATE = "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"
HOST = "OS-EXT-SRV-ATTR:host"
LAUNCHED_AT = "OS-SRV-USG:launched_at"
COMPUTE = "nova-compute"
DELETIONS = frozenset({"delete", "forceDelete"})
TERMINATION, WELL = "compute_terminate_instance", "Success"

Record = Mapping[str, Any]


def server_record(document: Any, instance_id: str) -> Record:
    """Return the ``server`` of ``GET /servers/{id}``.

    Raises ShapeError and NotAdminError. From microversion 2.69 on a server whose
    cell does not answer is shown with a handful of keys and the status UNKNOWN.
    """
    record = mapping(mapping(document, "the answer").get("server"), "server")
    if text(record, "id") != instance_id:
        raise ShapeError("it is about another server")
    if VM_STATE not in record and record.get("status") == "UNKNOWN":
        raise ShapeError("the cell of the server is down")
    if HOST not in record:
        raise NotAdminError(f"it lacks {HOST}")
    for name in (TASK_STATE, LAUNCHED_AT):
        present(record, name)
    assembled(record, (), up=None)
    return record


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
            return None if state is None else state == "up" and not service.get("forced_down")
    return None


def block_devices(
    every: Any, named: Any | None, instance_id: str, volume_id: str
) -> tuple[BlockDevice, ...]:
    """Merge two lists of a server's volumes: below microversion 2.89 and, where there is, at it.

    The first has every block device and names no attachment, the second leaves out those without
    one. What a change in between makes of it errs towards a device that names no attachment, which
    nobody acts on.
    """
    told = list(_devices(every, instance_id, volume_id))
    known = [] if named is None else list(_devices(named, instance_id, volume_id))
    nameless = Counter(device for device, _ in told)
    nameless.subtract(device for device, _ in known)
    return (
        *(BlockDevice(attachment_id, device) for device, attachment_id in known),
        *(BlockDevice(None, device) for device in nameless.elements()),
    )


def _devices(
    document: Any, instance_id: str, volume_id: str
) -> Iterator[tuple[str | None, str | None]]:
    for item in items(document, "volumeAttachments"):
        if text(item, "serverId") != instance_id:
            raise ShapeError("the list of block devices names another server")
        if text(item, "volumeId") == volume_id:
            yield optional(item, "device"), optional(item, "attachment_id")


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
    )


def deletions(document: Any) -> Sequence[str]:
    """Return the request ids of a server's deletions, as Nova lists them: the newest first."""
    return [
        text(action, "request_id")
        for action in items(document, "instanceActions")
        if action.get("action") in DELETIONS
    ]


def ended_on(document: Any) -> str | None:
    """Return the host whose nova-compute carried this action's termination out well."""
    action = mapping(mapping(document, "the answer").get("instanceAction"), "instanceAction")
    for event in items(action, "events"):
        if event.get("event") == TERMINATION and event.get("result") == WELL:
            return optional(event, "host") or None
    return None
