"""What the broker delivered: one message as it came, and those that are acked together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the broker delivered it. ``trouble``: why its body could not be read.

    ``message_id``, ``user_id`` and ``headers`` are the sender's, where it set any (the broker
    checks a user_id); ``redelivered`` is False where the broker is sure that nobody had it before.
    ``compression`` is the method that the body is still compressed by. ``properties_trouble`` says
    what of the sender's words could not be read: by itself no reason to put the body aside.
    """

    body: bytes
    exchange: str
    routing_key: str
    content_type: str
    content_encoding: str
    trouble: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    redelivered: bool = False
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compression: str | None = None
    properties_trouble: str | None = None

    @property
    def body_sha256(self) -> str:
        """Return the body's hash, by which the quarantine knows it."""
        return hashlib.sha256(self.body).hexdigest()

    def why(self, reason: str) -> str:
        """Return why it is put aside, and what else could not be read of it."""
        more = self.properties_trouble
        return reason if more is None else f"{reason}; {more}"


@dataclasses.dataclass(slots=True)
class Batch:
    """The messages that are acked together: a tag of each, and those that may concern us.

    ``quarantined`` are the places in ``deliveries`` of those that are on the quarantine queue
    already, should the batch be tried again.
    """

    tags: list[int | str] = dataclasses.field(default_factory=list)
    deliveries: list[Delivery] = dataclasses.field(default_factory=list)
    quarantined: set[int] = dataclasses.field(default_factory=set)
