"""The notifications of the small world, as bytes, read by the real parser."""

from __future__ import annotations

import functools
import json
from typing import Any

from drivers.base import Connector
from handlers.notification import Notification, parse
from tests.exhaustive.world import BACKEND, VOLUME, Row, World

API, MANAGER = "volume.controller-1", f"volume.{BACKEND}"


def connector(host: str) -> Connector:
    """Return the connector of a compute host."""
    return Connector(host=host, initiator=f"iqn.2026-01.test:{host}")


def of_cinder(
    world: World, name: str, request: str, own: str, *, publisher: str = MANAGER
) -> Notification:
    """Return ``volume.NAME`` with the rows as they are now."""
    context = (("_context_request_id", own), ("_context_global_request_id", request))
    return _of_cinder(name, world.status, world.rows, context, publisher)


@functools.cache
def _of_cinder(
    name: str,
    status: str,
    rows: tuple[Row, ...],
    context: tuple[tuple[str, str], ...],
    publisher: str,
) -> Notification:
    payload = {
        "volume_id": VOLUME, "status": status, "host": f"{BACKEND}#pool",
        "volume_attachment": [_shown(row) for row in rows],
    }  # fmt: skip
    return _read(f"volume.{name}", publisher, payload, dict(context))


def _shown(row: Row) -> dict[str, Any]:
    return {
        "id": row.name, "instance_uuid": row.server, "attach_status": row.status,
        "attached_host": row.host or None,
        "connector": json.dumps(connector(row.host).to_mapping()) if row.host else None,
    }  # fmt: skip


@functools.cache
def of_nova(name: str, server: str, host: str, request: str) -> Notification:
    """Return ``instance.volume_NAME`` of Nova's versioned format."""
    data = {"volume_id": VOLUME, "uuid": server, "host": host, "request_id": request}
    payload = {"nova_object.name": "InstanceActionVolumePayload", "nova_object.data": data}
    context = {"_context_request_id": request}
    return _read(f"instance.volume_{name}", f"nova-compute:{host}", payload, context)


@functools.cache
def of_nova_error(function: str, server: str, host: str, row: str, request: str) -> Notification:
    """Return the error of Nova's legacy format that bears the name of the failed function."""
    device = {"volume_id": VOLUME, "attachment_id": row}
    args: dict[str, Any] = {"instance": {"uuid": server, "host": host}}
    args |= {"bdm": device} if function == "attach_volume" else device
    payload = {"exception": "ClientException()", "args": args}
    return _read(function, f"compute.{host}", payload, {"_context_request_id": request})


def _read(
    event_type: str, publisher: str, payload: dict[str, Any], context: dict[str, str]
) -> Notification:
    message = {"event_type": event_type, "publisher_id": publisher, "payload": payload} | context
    read = parse(json.dumps(message).encode())
    assert isinstance(read, Notification), read
    return read
