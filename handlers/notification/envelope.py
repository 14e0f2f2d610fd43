"""One message off the bus, out of either of oslo.messaging's envelopes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

ID_LENGTH = 255


class BrokenMessageError(Exception):
    """The message should parse and does not; the text says where, and shows nothing of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """The inner message, whose ``event_type`` could be read; ``body`` is what was delivered."""

    event_type: str
    fields: Mapping[str, Any]
    body: bytes

    @property
    def payload(self) -> Mapping[str, Any]:
        """Return the payload; raise ``BrokenMessageError`` if it is not an object."""
        return member(self.fields, "payload", "payload")

    @property
    def message_id(self) -> str:
        """Return the publisher's id, or one made of the body, the same for the same bytes."""
        own = identifier(self.fields.get("message_id"))
        # So that a redelivery is known as one also where the publisher gave no id.
        return own or f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def publisher_id(self) -> str:
        """Return who published it; raise ``BrokenMessageError`` if it does not show."""
        return required(self.fields, "publisher_id", "publisher_id")

    @property
    def own_request_id(self) -> str | None:
        """Return the id of the request in which the publisher did it."""
        return self.context("request_id")

    @property
    def request_id(self) -> str | None:
        """Return the id that Nova and Cinder share (oslo.context ``global_id``)."""
        return self.context("global_request_id") or self.own_request_id

    @property
    def published_at(self) -> datetime | None:
        """Return the publisher's clock, which oslo.messaging writes as naive UTC text."""
        text = self.fields.get("timestamp")
        try:
            at = datetime.fromisoformat(text) if isinstance(text, str) else None
            # astimezone overflows for the first and the last day that a datetime can hold.
            return at and (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            return None

    def context(self, name: str) -> str | None:
        """Return a short text of the request context that the publisher flattened into it."""
        return identifier(self.fields.get(f"_context_{name}"))


def open_envelope(body: bytes) -> Message:
    """Read the body of either envelope, ``messagingv2``'s or none (oslo.messaging's drivers).

    Raises ``BrokenMessageError``.
    """
    outer = _json_object(body, "the body")
    fields = _enveloped(outer) if "oslo.message" in outer else outer
    return Message(required(fields, "event_type", "event_type"), fields, body)


def _enveloped(outer: Mapping[str, Any]) -> Mapping[str, Any]:
    version, text = outer.get("oslo.version"), outer["oslo.message"]
    # Another major version may mean another thing by the same keys; it is quarantined, not guessed
    # at.
    if not isinstance(version, str) or version.partition(".")[0] != "2":
        raise BrokenMessageError("the envelope's oslo.version is not 2.x")
    if not isinstance(text, str):
        raise BrokenMessageError("the envelope's oslo.message is not a text")
    return _json_object(text, "oslo.message")


def _json_object(text: bytes | str, where: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BrokenMessageError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BrokenMessageError(f"{where} is JSON, but not an object")
    return value


def identifier(value: object) -> str | None:
    """Return the value if it may stand for an id or a name: 1 to 255 printable characters."""
    if isinstance(value, str) and 0 < len(value) <= ID_LENGTH and value.isprintable():
        return value
    return None


def required(mapping: Mapping[str, Any], key: str, where: str) -> str:
    """Return the id or name under the key; raise ``BrokenMessageError`` if it is none."""
    value = identifier(mapping.get(key))
    if value is None:
        raise BrokenMessageError(f"{where} is not a text of 1 to {ID_LENGTH} printable characters")
    return value


def member(mapping: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return the object under the key; raise ``BrokenMessageError`` if there is none."""
    value = mapping.get(key)
    if not isinstance(value, dict):
        raise BrokenMessageError(f"{where} is not an object")
    return value
