"""Which services work on this ledger: each says again and again that it lives.

Nothing is decided by it: who has a volume is decided by its claim alone. It is for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.tables import replicas

ALIVE_SECONDS = 60.0
RETENTION_SECONDS = 7 * 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Replica:
    """One service process; ``owner`` is how its claims name it."""

    owner: str
    host: str
    pid: int
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """A replica and when it was last heard of; ``alive``: within a minute, by database time."""

    replica: Replica
    started_at: datetime
    heartbeat_at: datetime
    alive: bool


def beat(connection: sa.Connection, cloud: str, replica: Replica) -> None:
    """Note that this replica lives, and forget those that nobody heard of for a week."""
    now = database_now(connection)
    row = dataclasses.asdict(replica) | {"cloud": cloud, "started_at": now, "heartbeat_at": now}
    statement = insert_or_update(connection.dialect.name, replicas, ("owner",), _heartbeat)
    connection.execute(statement, row)
    old = replicas.c.heartbeat_at < now - timedelta(seconds=RETENTION_SECONDS)
    connection.execute(replicas.delete().where(old))


def _heartbeat(new: Mapping[str, sa.ColumnElement[object]], _: sa.Table) -> Mapping[str, object]:
    return {"heartbeat_at": new["heartbeat_at"]}


def leave(connection: sa.Connection, owner: str) -> None:
    """Forget a replica that has ended in good order."""
    connection.execute(replicas.delete().where(replicas.c.owner == owner))


def list_replicas(connection: sa.Connection, cloud: str) -> tuple[ReplicaSeen, ...]:
    """Return the replicas, those heard of last first."""
    recent = database_now(connection) - timedelta(seconds=ALIVE_SECONDS)
    found = connection.execute(
        sa.select(replicas)
        .where(replicas.c.cloud == cloud)
        .order_by(replicas.c.heartbeat_at.desc(), replicas.c.owner)
    )
    return tuple(
        ReplicaSeen(
            Replica(row.owner, row.host, row.pid, row.version),
            row.started_at,
            row.heartbeat_at,
            row.heartbeat_at >= recent,
        )
        for row in found
    )
