"""The services that work on this ledger; each writes a heartbeat at intervals.

The heartbeats are only for display. Only a claim decides which worker has a volume, and a claim is
ended early only for a service that is proven dead (``consumer.supervision.liveness``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.tables import claims, replicas

# Six heartbeats: one or two may fail while the ledger is busy.
ALIVE_SECONDS = 60.0
RETENTION_SECONDS = 7 * 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One service process; ``owner`` is its name in claims.

    ``place``: where another process can prove that it is dead; see
    ``consumer.supervision.liveness``.
    """

    owner: str
    host: str
    pid: int
    version: str
    place: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """A replica and its last heartbeat; ``alive``: within the last minute, by database time."""

    replica: Replica
    started_at: datetime
    heartbeat_at: datetime
    alive: bool


def beat(connection: sa.Connection, cloud: str, replica: Replica) -> None:
    """Write the heartbeat of this replica, and remove replicas without one for a week."""
    now = database_now(connection)
    row = dataclasses.asdict(replica) | {"cloud": cloud, "started_at": now, "heartbeat_at": now}
    statement = insert_or_update(connection.dialect.name, replicas, ("owner",), _heartbeat)
    connection.execute(statement, row)
    old = replicas.c.heartbeat_at < now - timedelta(seconds=RETENTION_SECONDS)
    connection.execute(replicas.delete().where(old))


def _heartbeat(new: Mapping[str, sa.ColumnElement[object]], _: sa.Table) -> Mapping[str, object]:
    return {"heartbeat_at": new["heartbeat_at"]}


def leave(connection: sa.Connection, owner: str) -> None:
    """Remove a replica that has stopped normally; keep it while it has abandoned claims."""
    # The row has the place, by which the next service there proves that the owner is dead.
    abandoned = sa.exists().where(claims.c.owner == replicas.c.owner)
    connection.execute(replicas.delete().where(replicas.c.owner == owner, ~abandoned))


def claiming_at(connection: sa.Connection, cloud: str, place: str) -> tuple[str, ...]:
    """Return the owners of claims that run on this place and whose leases have not ended."""
    lasts = sa.exists().where(
        claims.c.cloud == cloud,
        claims.c.owner == replicas.c.owner,
        claims.c.lease_expires_at > database_now(connection),
    )
    found = sa.select(replicas.c.owner).where(
        replicas.c.cloud == cloud, replicas.c.place == place, lasts
    )
    return tuple(connection.execute(found).scalars())


def list_replicas(connection: sa.Connection, cloud: str) -> tuple[ReplicaSeen, ...]:
    """Return the replicas, the most recent heartbeat first."""
    recent = database_now(connection) - timedelta(seconds=ALIVE_SECONDS)
    found = connection.execute(
        sa.select(replicas)
        .where(replicas.c.cloud == cloud)
        .order_by(replicas.c.heartbeat_at.desc(), replicas.c.owner)
    )
    return tuple(
        ReplicaSeen(
            Replica(row.owner, row.host, row.pid, row.version, row.place),
            row.started_at,
            row.heartbeat_at,
            row.heartbeat_at >= recent,
        )
        for row in found
    )
