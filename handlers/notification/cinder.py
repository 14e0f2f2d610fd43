"""Cinder's ``volume.attach.*`` and ``volume.detach.*``, and which attachment row they prove."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from drivers.base import Connector
from handlers.notification.envelope import BrokenMessageError, Message, identifier, required
from handlers.notification.event_type import EventType, Operation, Phase
from handlers.notification.types import Notification, NotifiedAttachment, published_by_api

_LONGEST_CONNECTOR = 16_384


def read(message: Message, kind: EventType) -> Notification:
    """Read the message; raise ``BrokenMessageError`` if its volume or its rows do not show."""
    payload = message.payload
    attachments = _attachments(payload)
    kind = _as_shown(kind, attachments, message.publisher_id)
    attachment = _proven(kind, attachments, message.publisher_id)
    return Notification(
        message_id=message.message_id,
        source=kind.source,
        event_type=message.event_type,
        publisher_id=message.publisher_id,
        operation=kind.operation,
        phase=kind.phase,
        volume_id=required(payload, "volume_id", "payload.volume_id"),
        # Where no row is proven, all may still be of one server.
        instance_id=attachment.instance_id if attachment else _common_instance(kind, attachments),
        attachment_id=attachment.attachment_id if attachment else None,
        request_id=message.request_id,
        own_request_id=message.own_request_id,
        host=attachment.host if attachment else None,
        backend=_backend(payload),
        volume_status=identifier(payload.get("status")),
        project_id=identifier(payload.get("tenant_id")) or message.context("project_id"),
        user_id=identifier(payload.get("user_id")) or message.context("user_id"),
        fault=None,
        attachments=attachments,
        published_at=message.published_at,
    )


def _as_shown(
    kind: EventType, attachments: tuple[NotifiedAttachment, ...], publisher_id: str
) -> EventType:
    """Return what the event is, given its rows: an end beside a row still attaching is no end.

    Cinder of Queens and Rocky sends ``volume.attach.end`` when the backend has let the host in, and
    nothing when Nova has connected the disk (bug 1808941; cinder/volume/manager.py
    ``attachment_update``). It says as much as a start: the attach goes on. An end of the old flow,
    which a backend sends too, may have an attach of another server beside it; then it is not known
    whose it is, and the diagnosis at the deadline decides.
    """
    end = (kind.operation, kind.phase) == (Operation.ATTACH, Phase.END)
    attaching = any(attachment.status == "attaching" for attachment in attachments)
    if end and attaching and not published_by_api(publisher_id):
        return dataclasses.replace(kind, phase=Phase.START)
    return kind


def _proven(
    kind: EventType, attachments: tuple[NotifiedAttachment, ...], publisher_id: str
) -> NotifiedAttachment | None:
    """Return the row that the message must be about, None where more than one could be meant.

    Cinder reads the rows when it notifies (cinder/volume/volume_utils.py ``_usage_from_volume``).
    An attach that starts is never about a row already attached: the old flow makes its row
    afterwards, and the new one notifies before it finds out that a late call's row is gone
    (cinder/volume/manager.py ``attach_volume``, ``attachment_update``). The API host starts to
    detach only what is reserved (cinder/volume/api.py ``attachment_delete``). When a detach ends,
    its row is no longer shown.
    """
    candidates: list[NotifiedAttachment] = []
    match kind.operation, kind.phase:
        case Operation.ATTACH, Phase.START:
            candidates = [
                attachment for attachment in attachments if attachment.status != "attached"
            ]
        case Operation.ATTACH, Phase.END if len(attachments) == 1:
            candidates = [
                attachment for attachment in attachments if attachment.status == "attached"
            ]
        case Operation.ATTACH, Phase.ERROR if len(attachments) == 1:  # a status written by hand
            candidates = list(attachments)
        case Operation.DETACH, Phase.START if len(attachments) == 1:
            candidates = list(attachments)
        case Operation.DETACH, Phase.START if published_by_api(publisher_id):
            candidates = [
                attachment for attachment in attachments if attachment.status == "reserved"
            ]
    return candidates[0] if len(candidates) == 1 else None


def _common_instance(kind: EventType, attachments: tuple[NotifiedAttachment, ...]) -> str | None:
    """Return the instance that all rows name, where the row in question is sure to be shown."""
    if kind.phase is Phase.SIGNAL:
        return None
    gone = kind.operation is Operation.DETACH and kind.phase is Phase.END
    to_come = kind.operation is Operation.ATTACH and all(
        attachment.status == "attached" for attachment in attachments
    )
    if gone or (to_come and kind.phase is Phase.START):
        return None
    instances = {attachment.instance_id for attachment in attachments}
    return instances.pop() if len(instances) == 1 else None


def _backend(payload: Mapping[str, Any]) -> str | None:
    """Return ``host@backend``; Cinder writes ``host@backend#pool``."""
    nested = [
        _nested_volume(attachment).get("host")
        for attachment in payload.get("volume_attachment") or ()
    ]
    hosts = (identifier(host) for host in (payload.get("host"), *nested))
    return next((host.partition("#")[0] or None for host in hosts if host), None)


def _nested_volume(attachment: Mapping[str, Any]) -> Mapping[str, Any]:
    volume = attachment.get("volume")
    return volume if isinstance(volume, dict) else {}


def _attachments(payload: Mapping[str, Any]) -> tuple[NotifiedAttachment, ...]:
    """Read every row or refuse the message: with one left out, the others would prove too much."""
    attachments = payload.get("volume_attachment")
    if attachments is None:
        return ()
    if not isinstance(attachments, list):
        raise BrokenMessageError("payload.volume_attachment is not a list")
    return tuple(
        _attachment(attachment, f"payload.volume_attachment[{i}]")
        for i, attachment in enumerate(attachments)
    )


def _attachment(attachment: object, where: str) -> NotifiedAttachment:
    if not isinstance(attachment, dict):
        raise BrokenMessageError(f"{where} is not an object")
    connector = _connector(attachment.get("connector"))
    # A row that is not attached yet has no ``attached_host``; its connector names the same host.
    host = attachment.get("attached_host") or (connector.host if connector else None)
    return NotifiedAttachment(
        attachment_id=required(attachment, "id", f"{where}.id"),
        status=required(attachment, "attach_status", f"{where}.attach_status"),
        instance_id=identifier(attachment.get("instance_uuid")),
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
    # PostgreSQL stores no NUL in JSON. A connector without any key that we know names nobody.
    fit = connector != Connector() and "\\u0000" not in connector.to_json()
    return connector if fit else None
