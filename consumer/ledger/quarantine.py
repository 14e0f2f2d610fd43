"""What could not be read: its hash, the reason and a scrubbed text; the body is on the broker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.dialects import insert_or_update
from consumer.ledger.engine import database_now
from consumer.ledger.tables import quarantine

NAME_LENGTH = 255


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
    """Record it; the same body again only counts."""
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
    }
    keys = ("cloud", "body_sha256")
    connection.execute(insert_or_update(connection.dialect.name, quarantine, keys, _again), row)


def _again(new: Mapping[str, Any], old: sa.Table) -> Mapping[str, Any]:
    return {"times": old.c.times + 1, "last_at": new["last_at"]}


def _storable(text: str) -> str:
    plain = text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    return plain[:NAME_LENGTH]
