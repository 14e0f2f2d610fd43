"""The records of quarantined bodies: hash, reason, text without secrets, and the decision.

The body itself is on the broker's quarantine queue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.body_state import BodyState
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.records import Stored
from consumer.ledger.database.tables import quarantine
from consumer.ledger.errors import NoSuchBodyError

# The width of the columns. Any sender can choose these names.
NAME_LENGTH = 255


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that cannot be parsed. The caller has removed secrets from ``excerpt``."""

    bus: str
    routing_key: str
    body_sha256: str
    size: int
    reason: str
    excerpt: str


def record(connection: sa.Connection, cloud: str, body: Unreadable) -> None:
    """Record a body as held. The same body again is counted, and an earlier decision ends."""
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
        "state": BodyState.HELD.value,
    }
    keys = ("cloud", "body_sha256")
    connection.execute(insert_or_update(connection.dialect.name, quarantine, keys, _on_repeat), row)


def _on_repeat(new: Mapping[str, Any], old: sa.Table) -> Mapping[str, Any]:
    # The state too: a decision was on the copies that there were then.
    fresh = ("last_at", "reason", "excerpt", "state")
    return {"times": old.c.times + 1} | {name: new[name] for name in fresh}


def _storable(text: str) -> str:
    plain = text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    return plain[:NAME_LENGTH]


SHORTEST_PREFIX = 4


@dataclasses.dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """A quarantined body: its hash, origin, reason, and the decision with actor and reason."""

    body_sha256: str
    state: BodyState
    reason: str
    excerpt: str
    bus: str
    routing_key: str
    size: int
    times: int
    first_at: datetime
    last_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision: str | None


_BODIES = Stored(QuarantinedBody, quarantine)


def list_bodies(
    connection: sa.Connection, cloud: str, state: BodyState | None, limit: int | None
) -> tuple[QuarantinedBody, ...]:
    """Return the bodies, the most recent first."""
    own = sa.select(quarantine).where(quarantine.c.cloud == cloud)
    if state is not None:
        own = own.where(quarantine.c.state == state.value)
    newest = own.order_by(quarantine.c.last_at.desc(), quarantine.c.quarantine_id.desc())
    return tuple(_BODIES.read(row) for row in connection.execute(newest.limit(limit)))


def one_body(connection: sa.Connection, cloud: str, body_sha256: str) -> QuarantinedBody:
    """Return a body by its hash or the beginning of it. Raises NoSuchBodyError."""
    prefix = body_sha256.lower()
    if len(prefix) < SHORTEST_PREFIX:
        raise NoSuchBodyError(f"give at least {SHORTEST_PREFIX} characters of the hash: {prefix}")
    begins = quarantine.c.body_sha256.startswith(prefix, autoescape=True)
    own = sa.select(quarantine).where(quarantine.c.cloud == cloud, begins).limit(2)
    found = connection.execute(own).all()
    if len(found) != 1:
        raise NoSuchBodyError(
            f"several quarantined bodies begin with {prefix}; give more of the hash"
            if found
            else f"there is no quarantined body {prefix}; `detachd quarantine list` shows them"
        )
    return _BODIES.read(found[0])


def decide(
    connection: sa.Connection,
    cloud: str,
    body: QuarantinedBody,
    state: BodyState,
    *,
    actor: str,
    decision: str,
) -> bool:
    """Record a decision; return False, and record nothing, if the body arrived again meanwhile."""
    unchanged = quarantine.update().where(
        quarantine.c.cloud == cloud,
        quarantine.c.body_sha256 == body.body_sha256,
        # The person has decided on what was shown; a copy that came since is not among that.
        quarantine.c.last_at <= body.last_at,
    )
    values = {
        "state": state.value,
        "decided_at": database_now(connection),
        "decided_by": actor,
        "decision": decision,
    }
    return connection.execute(unchanged.values(values)).rowcount == 1
