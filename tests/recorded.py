"""Recorded notifications (tests/samples), as the bus carried them."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
HEALTHY = "nova-compute/o_healthy"
FAILED_ATTACH = "nova-compute/b_hang_60"

_ID = re.compile(
    rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """One message: where it was published, and the raw body."""

    exchange: str
    routing_key: str
    body: bytes

    @property
    def message(self) -> dict[str, object]:
        """Return the inner message."""
        inner: dict[str, object] = json.loads(json.loads(self.body)["oslo.message"])
        return inner

    @property
    def message_id(self) -> str:
        """Return the publisher's id of the message."""
        return str(self.message["message_id"])

    @property
    def event_type(self) -> str:
        """Return what it tells."""
        return str(self.message["event_type"])


def recording(name: str) -> list[Recorded]:
    """Return all messages of one recorded scenario, in their order."""
    lines = (SAMPLES / f"{name}.jsonl").read_text().splitlines()
    return [
        Recorded(line["exchange"], line["routing_key"], line["body"].encode())
        for line in map(json.loads, lines)
    ]


def renewed(messages: Sequence[Recorded]) -> list[Recorded]:
    """Return the same scenario at another volume: every id is new, and the same in all of it."""
    ids: dict[bytes, bytes] = {}

    def new_id(found: re.Match[bytes]) -> bytes:
        new = uuid.uuid4()
        text = str(new) if b"-" in found.group() else new.hex
        return ids.setdefault(found.group(), text.encode())

    return [dataclasses.replace(m, body=_ID.sub(new_id, m.body)) for m in messages]
