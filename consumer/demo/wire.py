"""Notifications in the form in which Cinder and Nova publish them, for the scenes.

They follow recordings of Cinder 29 and Nova 34, shortened to the fields that identify a message.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from drivers.base import Connector

BACKEND_PUBLISHER = "volume.storage-1@tgt"
API_PUBLISHER = "volume.controller-1"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message to publish: exchange, routing key and raw body."""

    exchange: str
    routing_key: str
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class SentAttachment:
    """An attachment as a Cinder notification shows it."""

    attachment_id: str
    status: str
    connector: Connector | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Story:
    """What all messages of one operation have in common.

    ``request_id`` is Nova's, which Cinder's notifications carry as the global request id.
    """

    volume_id: str
    instance_id: str
    host: str
    backend: str
    request_id: str = dataclasses.field(default_factory=lambda: f"req-{uuid.uuid4()}")

    def attachment_dropped(
        self, attachment: SentAttachment, status: str = "reserved", **fields: str
    ) -> list[Message]:
        """Return start and end of Cinder deleting an attachment, in one request."""
        own = new_request_id()
        start = self.cinder("detach.start", status, attachment, own_request_id=own, **fields)
        end = self.cinder("detach.end", "available", publisher=API_PUBLISHER, own_request_id=own)
        return [start, end]

    def nova(self, suffix: str, *, fault: str | None = None) -> Message:
        """``instance.volume_<suffix>``, e.g. ``attach.start``; ``fault`` is an exception's name."""
        priority = "ERROR" if fault else "INFO"
        data = {
            "volume_id": self.volume_id, "uuid": self.instance_id, "host": self.host,
            "node": self.host, "state": "active", "task_state": None, "tenant_id": "demo",
            "user_id": "alice", "request_id": self.request_id, "block_devices": None,
            "fault": _exception(fault) if fault else None,
        }  # fmt: skip
        payload = _object("InstanceActionVolumePayload", "1.7", data)
        publisher = f"nova-compute:{self.host}"
        return self._publish(
            f"instance.volume_{suffix}",
            publisher,
            payload,
            exchange="nova",
            topic="versioned_notifications",
            priority=priority,
        )

    def nova_exception(self, name: str) -> Message:
        """``compute.exception``, which names neither volume nor instance."""
        return self._publish(
            "compute.exception",
            f"nova-compute:{self.host}",
            _exception(name),
            exchange="nova",
            topic="versioned_notifications",
            priority="ERROR",
        )

    def nova_legacy_error(self, function: str, name: str, attachment_id: str) -> Message:
        """``attach_volume`` or ``detach_volume``: Nova's unversioned error, named by function."""
        block_device = {"volume_id": self.volume_id, "attachment_id": attachment_id}
        instance = {"uuid": self.instance_id, "host": self.host, "vm_state": "active"}
        args: dict[str, Any] = {"instance": instance}
        args |= {"bdm": block_device} if function == "attach_volume" else block_device
        payload = {"exception": f"{name}()", "args": args}
        return self._publish(
            function, f"compute.{self.host}", payload, exchange="nova", priority="ERROR"
        )

    def cinder(
        self,
        suffix: str,
        status: str,
        *attachments: SentAttachment,
        publisher: str = BACKEND_PUBLISHER,
        own_request_id: str | None = None,
    ) -> Message:
        """``volume.<suffix>``, e.g. ``attach.start``, with the attachments that it shows.

        Start and end of one call in Cinder have the same ``own_request_id``; the default is new.
        """
        payload = {
            "tenant_id": "demo", "user_id": "alice", "host": f"{self.backend}#pool",
            "availability_zone": "nova", "volume_id": self.volume_id, "status": status, "size": 1,
            "display_name": None, "volume_type": None, "metadata": [],
            "volume_attachment": [self._attachment(attachment) for attachment in attachments],
        }  # fmt: skip
        context = {
            "_context_request_id": own_request_id or new_request_id(),
            "_context_global_request_id": self.request_id,
        }
        return self._publish(
            f"volume.{suffix}", publisher, payload, exchange="cinder", context=context
        )

    def _attachment(self, attachment: SentAttachment) -> dict[str, Any]:
        # A text in the JSON, as Cinder's database has it.
        connector = json.dumps(attachment.connector.to_mapping()) if attachment.connector else None
        return {
            "id": attachment.attachment_id, "volume_id": self.volume_id,
            "instance_uuid": self.instance_id,
            "attached_host": attachment.connector.host if attachment.connector else None,
            "mountpoint": None,
            "attach_status": attachment.status, "connector": connector, "connection_info": None,
        }  # fmt: skip

    def _publish(
        self,
        event_type: str,
        publisher_id: str,
        payload: dict[str, Any],
        *,
        exchange: str,
        topic: str = "notifications",
        priority: str = "INFO",
        context: dict[str, Any] | None = None,
    ) -> Message:
        message = {
            "message_id": str(uuid.uuid4()),
            "publisher_id": publisher_id,
            "event_type": event_type,
            "priority": priority,
            "payload": payload,
            "timestamp": datetime.now(UTC).strftime(TIME_FORMAT),
        }
        # Nova's notifications carry the request id alone; Cinder's carry Nova's as the global one.
        message |= context or {"_context_request_id": self.request_id}
        # oslo.messaging puts the message as a text into its envelope.
        envelope = {"oslo.version": "2.0", "oslo.message": json.dumps(message)}
        return Message(exchange, f"{topic}.{priority.lower()}", json.dumps(envelope).encode())


def new_request_id() -> str:
    """Return a new request id."""
    return f"req-{uuid.uuid4()}"


def _object(name: str, version: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
    }


def _exception(name: str) -> dict[str, Any]:
    data = {
        "exception": name,
        "exception_message": "The server has either erred or is incapable of answering",
        "function_name": "request",
        "module_name": "cinderclient.client",
    }
    return _object("ExceptionPayload", "1.1", data)
