"""Nova's notifications of attaching and detaching, in its versioned and its legacy format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handlers.notification.envelope import Message, identifier, member, required
from handlers.notification.event_type import EventType, Phase
from handlers.notification.types import Ignored, Notification
from handlers.notification.wording import wording

FAULT_LENGTH = 500


def read_versioned(message: Message, kind: EventType) -> Notification | Ignored:
    """Read a versioned notification; raise ``BrokenMessageError`` if its volume does not show.

    ``compute.exception`` names no volume: without a request id it can be joined to nothing and is
    ignored.
    """
    data = member(message.payload, "nova_object.data", "payload['nova_object.data']")
    if kind.phase is Phase.SIGNAL:
        return _of_server(message, kind, data, required(data, "uuid", "uuid"))
    own_request_id = identifier(data.get("request_id")) or message.own_request_id
    names_volume = kind.operation is not None
    if not names_volume and not own_request_id:
        reason = f"{message.event_type} without a request id cannot be joined to an operation"
        return Ignored(message.event_type, reason, kind.source)
    fault = _object(data.get("fault")) if names_volume else data
    return _notification(
        message,
        kind,
        volume_id=required(data, "volume_id", "volume_id") if names_volume else None,
        instance=data,
        attachment_id=None,
        own_request_id=own_request_id,
        fault=_versioned_fault(fault),
    )


def read_legacy(message: Message, kind: EventType) -> Notification:
    """Read a legacy notification; raise ``BrokenMessageError`` if its volume does not show.

    Errors carry what the failed method was called with (Nova, nova/exception_wrapper.py), whose
    objects are flat or in Nova's ``nova_object`` form.
    """
    if kind.phase is Phase.SIGNAL:
        instance_id = required(message.payload, "instance_id", "payload.instance_id")
        return _of_server(message, kind, message.payload, instance_id)
    if kind.phase is not Phase.ERROR:
        return _legacy_end(message, kind)
    args = member(message.payload, "args", "payload.args")
    block_device = _object(args.get("bdm"))
    # attach_volume is called with a block device, the other methods with ids.
    ids = {key: block_device.get(key) or args.get(key) for key in ("volume_id", "attachment_id")}
    return _notification(
        message,
        kind,
        volume_id=required(ids, "volume_id", "the volume_id of payload.args"),
        instance=_object(args.get("instance")),
        attachment_id=identifier(ids["attachment_id"]),
        own_request_id=message.own_request_id,
        fault=_fault(message.payload.get("exception")),
    )


def _of_server(
    message: Message, kind: EventType, data: Mapping[str, Any], instance_id: str
) -> Notification:
    """Read what happened to a server. Which volumes it concerns, Cinder is asked later."""
    return _notification(
        message,
        kind,
        volume_id=None,
        instance={**data, "uuid": instance_id},
        attachment_id=None,
        own_request_id=identifier(data.get("request_id")) or message.own_request_id,
        fault=None,
    )


def _legacy_end(message: Message, kind: EventType) -> Notification:
    payload = message.payload
    return _notification(
        message,
        kind,
        volume_id=required(payload, "volume_id", "payload.volume_id"),
        instance={**payload, "uuid": payload.get("instance_id")},
        attachment_id=None,
        own_request_id=message.own_request_id,
        fault=None,
    )


def _notification(
    message: Message,
    kind: EventType,
    *,
    volume_id: str | None,
    instance: Mapping[str, Any],
    attachment_id: str | None,
    own_request_id: str | None,
    fault: str | None,
) -> Notification:
    project_id = identifier(instance.get("tenant_id")) or identifier(instance.get("project_id"))
    return Notification(
        message_id=message.message_id,
        source=kind.source,
        event_type=message.event_type,
        publisher_id=message.publisher_id,
        operation=kind.operation,
        phase=kind.phase,
        volume_id=volume_id,
        instance_id=identifier(instance.get("uuid")),
        attachment_id=attachment_id,
        request_id=message.context("global_request_id") or own_request_id,
        own_request_id=own_request_id,
        host=identifier(instance.get("host")),
        backend=None,
        volume_status=None,
        project_id=project_id or message.context("project_id"),
        user_id=identifier(instance.get("user_id")) or message.context("user_id"),
        fault=fault,
        attachments=(),
        published_at=message.published_at,
    )


def _object(value: object) -> Mapping[str, Any]:
    """Return the fields of one of Nova's objects, flat or as a primitive; none if it is neither."""
    if not isinstance(value, dict):
        return {}
    data = value.get("nova_object.data", value)
    return data if isinstance(data, dict) else {}


def _versioned_fault(data: Mapping[str, Any]) -> str | None:
    """Return the exception's class and message, scrubbed; the traceback stays behind."""
    # Not the traceback, which shows with what the functions were called.
    parts = [_fault(data.get(key)) for key in ("exception", "exception_message")]
    return ": ".join(part for part in parts if part)[:FAULT_LENGTH] or None


def _fault(text: object) -> str | None:
    return (wording(text, FAULT_LENGTH) or None) if isinstance(text, str) else None
