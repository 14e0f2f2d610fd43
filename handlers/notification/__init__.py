"""The door for notifications: raw bytes in, what one of them says of an attachment out.

What is not a field of ``Notification`` is dropped here: notifications carry connection_info,
provider_auth, user_data and users' tokens.
"""

from __future__ import annotations

from typing import assert_never

from handlers.notification import cinder, nova
from handlers.notification.envelope import BrokenMessageError, Message, open_envelope
from handlers.notification.event_type import (
    EVENT_TYPES,
    ON_THE_BUS,
    VOLUME_DELETED,
    VOLUME_GONE,
    VOLUME_UNMANAGED,
    EventType,
    Operation,
    Phase,
    Source,
    may_concern,
    source_of,
    why_ignored,
)
from handlers.notification.types import (
    Ignored,
    Malformed,
    Notification,
    NotifiedAttachment,
    Parsed,
    published_by_api,
)

__all__ = [
    "ON_THE_BUS",
    "VOLUME_DELETED",
    "VOLUME_GONE",
    "VOLUME_UNMANAGED",
    "Ignored",
    "Malformed",
    "Notification",
    "NotifiedAttachment",
    "Operation",
    "Parsed",
    "Phase",
    "Source",
    "may_concern",
    "parse",
    "published_by_api",
]


def parse(body: bytes) -> Parsed:
    """Return what a body from the bus means. Never raises, whatever the bytes.

    ``Malformed`` is a body that is no notification, or one of an attachment whose volume or rows
    do not show; everything else that is not about an attachment is ``Ignored``.
    """
    try:
        message = open_envelope(body)
    except BrokenMessageError as error:
        return Malformed(str(error))
    kind = EVENT_TYPES.get(message.event_type)
    if kind is None:
        source = source_of(message.event_type, message.fields.get("payload"))
        return Ignored(message.event_type, why_ignored(message.event_type), source)
    try:
        return _read(message, kind)
    except BrokenMessageError as error:
        return Malformed(f"{message.event_type}: {error}", message.event_type, kind.source)


def _read(message: Message, kind: EventType) -> Notification | Ignored:
    match kind.source:
        case Source.CINDER:
            return cinder.read(message, kind)
        case Source.NOVA_VERSIONED:
            return nova.read_versioned(message, kind)
        case Source.NOVA_LEGACY:
            return nova.read_legacy(message, kind)
        case Source.SWEEP:
            raise AssertionError("what a sweep finds is on no bus")
        case _:
            assert_never(kind.source)
