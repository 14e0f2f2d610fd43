"""The recorded notifications of tests/samples, as bodies and as inner messages."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"


@cache
def bodies(name: str) -> tuple[bytes, ...]:
    """Return the bodies of one recording, ``cinder/inuse_new__del.jsonl``, in order of arrival."""
    text = (SAMPLES / name).read_text()
    if name.endswith(".json"):
        return (text.encode(),)
    return tuple(json.loads(line)["body"].encode() for line in text.splitlines())


def names() -> list[str]:
    """Return the names of all recordings."""
    return sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.json*"))


def inner(body: bytes) -> dict[str, Any]:
    """Return the message within a body, read with the standard library's parser."""
    outer = json.loads(body)
    return json.loads(outer["oslo.message"]) if "oslo.message" in outer else outer


def enveloped(message: object, **options: Any) -> bytes:
    """Return the message in the messagingv2 envelope."""
    text = json.dumps(message, **options)
    return json.dumps({"oslo.version": "2.0", "oslo.message": text}, **options).encode()


def recorded(event_type: str, name: str, *, which: int = 0) -> dict[str, Any]:
    """Return an inner message of this event type from a recording, the first one if not told."""
    found = [m for m in map(inner, bodies(name)) if m["event_type"] == event_type]
    return found[which]
