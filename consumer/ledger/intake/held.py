"""What the ledger holds of quarantined bodies, and what people decided of each."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import quarantine
from consumer.ledger.errors import NoSuchBodyError
from consumer.ledger.intake.quarantine import HELD

SHORTEST_PREFIX = 4


class BodyState(enum.Enum):
    """What was decided of a body. One that comes again is held again, whatever was decided."""

    HELD = HELD
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclasses.dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """A body by its hash: where it came from, why it is held, what was decided, by whom and why."""

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


def list_bodies(
    connection: sa.Connection, cloud: str, state: BodyState | None, limit: int | None
) -> tuple[QuarantinedBody, ...]:
    """Return the bodies, those that came last first."""
    own = sa.select(quarantine).where(quarantine.c.cloud == cloud)
    if state is not None:
        own = own.where(quarantine.c.state == state.value)
    newest = own.order_by(quarantine.c.last_at.desc(), quarantine.c.quarantine_id.desc())
    return tuple(_body(row) for row in connection.execute(newest.limit(limit)))


def one_body(connection: sa.Connection, cloud: str, body_sha256: str) -> QuarantinedBody:
    """Return a body by its hash or the beginning of it. Raises NoSuchBodyError."""
    wanted = body_sha256.lower()
    if len(wanted) < SHORTEST_PREFIX:
        raise NoSuchBodyError(f"give at least {SHORTEST_PREFIX} characters of the hash: {wanted}")
    begins = quarantine.c.body_sha256.startswith(wanted, autoescape=True)
    own = sa.select(quarantine).where(quarantine.c.cloud == cloud, begins).limit(2)
    found = connection.execute(own).all()
    if len(found) != 1:
        raise NoSuchBodyError(
            f"several quarantined bodies begin with {wanted}"
            if found
            else f"there is no quarantined body {wanted}"
        )
    return _body(found[0])


def decide(
    connection: sa.Connection,
    cloud: str,
    body: QuarantinedBody,
    state: BodyState,
    *,
    actor: str,
    decision: str,
) -> bool:
    """Note what was decided; False, and nothing noted, where the body came again meanwhile."""
    known = quarantine.update().where(
        quarantine.c.cloud == cloud,
        quarantine.c.body_sha256 == body.body_sha256,
        quarantine.c.last_at <= body.last_at,
    )
    values = {
        "state": state.value,
        "decided_at": database_now(connection),
        "decided_by": actor,
        "decision": decision,
    }
    return connection.execute(known.values(values)).rowcount == 1


def _body(row: Row) -> QuarantinedBody:
    return QuarantinedBody(
        body_sha256=row.body_sha256,
        state=BodyState(row.state),
        reason=row.reason,
        excerpt=row.excerpt,
        bus=row.bus,
        routing_key=row.routing_key,
        size=row.size,
        times=row.times,
        first_at=row.first_at,
        last_at=row.last_at,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decision=row.decision,
    )
