"""Cinder's ``volume.attach.*`` and ``volume.detach.*``, and which attachment row they prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from drivers.base import Connector
from handlers.notification.envelope import BrokenMessageError, Message, identifier, required
from handlers.notification.event_type import EventType, Operation, Phase
from handlers.notification.types import Notification, RowSeen, published_by_api

_LONGEST_CONNECTOR = 16_384


def read(message: Message, kind: EventType) -> Notification:
    """Read the message; raise ``BrokenMessageError`` if its volume or its rows cannot be told."""
    payload = message.payload
    rows = _rows(payload)
    row = _proven(kind, rows, message.publisher_id)
    return Notification(
        message_id=message.message_id,
        source=kind.source,
        event_type=message.event_type,
        publisher_id=message.publisher_id,
        operation=kind.operation,
        phase=kind.phase,
        volume_id=required(payload, "volume_id", "payload.volume_id"),
        instance_id=row.instance_id if row else _common_instance(kind, rows),
        attachment_id=row.attachment_id if row else None,
        request_id=message.request_id,
        own_request_id=message.own_request_id,
        host=row.host if row else None,
        backend=_backend(payload),
        volume_status=identifier(payload.get("status")),
        project_id=identifier(payload.get("tenant_id")) or message.context("project_id"),
        user_id=identifier(payload.get("user_id")) or message.context("user_id"),
        fault=None,
        rows=rows,
        published_at=message.published_at,
    )


def _proven(kind: EventType, rows: tuple[RowSeen, ...], publisher_id: str) -> RowSeen | None:
    """Return the row that the message must be about, None where more than one could be meant.

    Cinder reads the rows when it notifies (cinder/volume/volume_utils.py ``_usage_from_volume``).
    An attach that starts is never about a row already attached: the old flow makes its row
    afterwards, and the new one notifies before it finds out that a late call's row is gone
    (cinder/volume/manager.py ``attach_volume``, ``attachment_update``). The API host starts to
    detach only what is reserved (cinder/volume/api.py ``attachment_delete``). When a detach ends,
    its row is no longer shown.
    """
    candidates: list[RowSeen] = []
    match kind.operation, kind.phase:
        case Operation.ATTACH, Phase.START:
            candidates = [row for row in rows if row.status != "attached"]
        case Operation.ATTACH, Phase.END if len(rows) == 1:
            candidates = [row for row in rows if row.status == "attached"]
        case Operation.DETACH, Phase.START if len(rows) == 1:
            candidates = list(rows)
        case Operation.DETACH, Phase.START if published_by_api(publisher_id):
            candidates = [row for row in rows if row.status == "reserved"]
    return candidates[0] if len(candidates) == 1 else None


def _common_instance(kind: EventType, rows: tuple[RowSeen, ...]) -> str | None:
    """Return the instance that all rows name, where the row in question is sure to be shown."""
    gone = kind.operation is Operation.DETACH and kind.phase is Phase.END
    to_come = kind.operation is Operation.ATTACH and all(row.status == "attached" for row in rows)
    if gone or (to_come and kind.phase is Phase.START):
        return None
    instances = {row.instance_id for row in rows}
    return instances.pop() if len(instances) == 1 else None


def _backend(payload: Mapping[str, Any]) -> str | None:
    """Return ``host@backend``; Cinder writes ``host@backend#pool``."""
    nested = [_nested_volume(row).get("host") for row in payload.get("volume_attachment") or ()]
    hosts = (identifier(host) for host in (payload.get("host"), *nested))
    return next((host.partition("#")[0] or None for host in hosts if host), None)


def _nested_volume(row: Mapping[str, Any]) -> Mapping[str, Any]:
    volume = row.get("volume")
    return volume if isinstance(volume, dict) else {}


def _rows(payload: Mapping[str, Any]) -> tuple[RowSeen, ...]:
    """Read every row or refuse the message: with one left out, the others would prove too much."""
    rows = payload.get("volume_attachment")
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise BrokenMessageError("payload.volume_attachment is not a list")
    return tuple(_row(row, f"payload.volume_attachment[{i}]") for i, row in enumerate(rows))


def _row(row: object, where: str) -> RowSeen:
    if not isinstance(row, dict):
        raise BrokenMessageError(f"{where} is not an object")
    connector = _connector(row.get("connector"))
    host = row.get("attached_host") or (connector.host if connector else None)
    return RowSeen(
        attachment_id=required(row, "id", f"{where}.id"),
        status=required(row, "attach_status", f"{where}.attach_status"),
        instance_id=identifier(row.get("instance_uuid")),
        host=identifier(host),
        connector=connector,
    )


def _connector(text: object) -> Connector | None:
    """Read a row's connector, which is JSON text; what is not one is left out."""
    if not isinstance(text, str) or len(text) > _LONGEST_CONNECTOR:
        return None
    try:
        properties = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    connector = Connector.from_mapping(properties) if isinstance(properties, dict) else Connector()
    fit = connector != Connector() and "\\u0000" not in connector.to_json()
    return connector if fit else None
