"""What could not be used: hash, reason and a scrubbed text; the body itself is on the broker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.dialects import insert_or_update
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.tables import quarantine

NAME_LENGTH = 255
HELD = "held"


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that should parse and does not. ``excerpt`` is scrubbed of secrets by the caller."""

    bus: str
    routing_key: str
    body_sha256: str
    size: int
    reason: str
    excerpt: str


def put(connection: sa.Connection, cloud: str, body: Unreadable) -> None:
    """Record it as held; the same body again counts, and what was decided of it is over."""
    now = database_now(connection)
    row = {
        "cloud": cloud,
        "body_sha256": body.body_sha256,
        "bus": _storable(body.bus),
        "routing_key": _storable(body.routing_key),
        "size": body.size,
        "reason": body.reason,
        "excerpt": body.excerpt,
        "times": 1,
        "first_at": now,
        "last_at": now,
        "state": HELD,
    }
    keys = ("cloud", "body_sha256")
    connection.execute(insert_or_update(connection.dialect.name, quarantine, keys, _again), row)


def _again(new: Mapping[str, Any], old: sa.Table) -> Mapping[str, Any]:
    fresh = ("last_at", "reason", "excerpt", "state")
    return {"times": old.c.times + 1} | {name: new[name] for name in fresh}


def _storable(text: str) -> str:
    plain = text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    return plain[:NAME_LENGTH]
