"""Row locks on volumes: the rows of ``claims`` are the locks for every change of a case.

1. A transaction that changes cases of a volume locks the row of that volume. Otherwise two
   listeners could each open a case for it, and a listener and a finish could overlook each other.
   SQLite needs no row locks: it has one writer (BEGIN IMMEDIATE).
   On a Galera cluster a row lock stays on its node: there the row is also changed (``turn``), so
   that of two transactions that lock it through different nodes only the first can commit.
2. A message without a volume can be about any case. Its batch locks the gate, the row with the
   volume id "", exclusively. All other batches lock the gate shared. On a cluster the gate
   is ``STRIPES`` rows: each batch changes one of them, and a message without a volume all.
3. The fence of the gate is the lowest fence of new rows. So a volume whose row was deleted never
   gets a fence again that an earlier claim had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database import galera
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.tables import claims

GATE = ""
_STRIPES = tuple(f" gate {number}" for number in range(galera.STRIPES))

_THESE_VOLUMES = sa.and_(
    claims.c.cloud == sa.bindparam("cloud"),
    claims.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
)
# In the order of the volumes, so that two transactions with the same volumes cannot deadlock.
_LOCK = (
    sa.select(claims.c.volume_id, claims.c.owner, claims.c.case_id)
    .where(_THESE_VOLUMES)
    .order_by(claims.c.volume_id)
    .with_for_update()
)
_TURN = (
    claims.update()
    .where(
        claims.c.cloud == sa.bindparam("turned_cloud"),
        claims.c.volume_id.in_(sa.bindparam("turned", expanding=True)),
    )
    .values(turn=claims.c.turn + 1)
)
_GATE = sa.select(claims.c.fence).where(_THESE_VOLUMES)
_RAISED = (
    claims.update()
    .where(
        claims.c.cloud == sa.bindparam("raised_cloud"),
        claims.c.volume_id == GATE,
        claims.c.fence < sa.bindparam("raised_fence"),
    )
    .values(fence=sa.bindparam("raised_fence"))
)


def lock_volumes(
    connection: sa.Connection, cloud: str, volumes: Iterable[str]
) -> Mapping[str, str | None]:
    """Lock these volumes until the transaction ends; return the claimed case of each."""
    wanted = sorted(set(volumes))
    rows = _locked(connection, cloud, wanted)
    present = {row.volume_id for row in rows}
    # Locked again after the insert: another transaction may have inserted the same row, and hold
    # it.
    if absent := [v for v in wanted if v not in present]:
        insert_volumes(connection, cloud, absent)
        rows = _locked(connection, cloud, wanted)
    take_turn(connection, cloud, wanted)
    return {row.volume_id: row.case_id if row.owner else None for row in rows}


def take_turn(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> None:
    """Make what this transaction has locked exclusive among the nodes of a cluster too."""
    if volumes and galera.is_node(connection):
        connection.execute(_TURN, {"turned_cloud": cloud, "turned": sorted(volumes)})


def pass_gate(connection: sa.Connection, cloud: str, *, exclusive: bool) -> None:
    """Lock the gate until the transaction ends: shared, or so that no other batch can run."""
    # One writer at a time: whoever writes has passed the gate.
    if connection.dialect.name == "sqlite":
        return
    if galera.is_node(connection):
        own = _STRIPES[galera.stripe(connection)]
        lock_volumes(connection, cloud, _STRIPES if exclusive else [own])
        return
    # FOR SHARE lets the batches of all listeners run beside one another.
    gate = _GATE.with_for_update(read=not exclusive)
    wanted = {"cloud": cloud, "volumes": [GATE]}
    if connection.execute(gate, wanted).first() is None:
        insert_volumes(connection, cloud, [GATE])
        connection.execute(gate, wanted)


def insert_volumes(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> None:
    """Insert rows for these volumes, unless another transaction has done it."""
    # Not 0: a row of this volume may have been deleted, and a late writer may still have its fence.
    floor = fence_floor(connection, cloud)
    rows = [{"cloud": cloud, "volume_id": v, "fence": floor} for v in sorted(volumes)]
    statement = insert_absent(connection.dialect.name, claims, ("cloud", "volume_id"))
    connection.execute(statement, rows)


def fence_floor(connection: sa.Connection, cloud: str) -> int:
    """Return the fence of the gate: no deleted row had a higher one."""
    row = connection.execute(_GATE, {"cloud": cloud, "volumes": [GATE]}).first()
    return row.fence if row is not None else 0


def raise_fence_floor(connection: sa.Connection, cloud: str, fence: int) -> None:
    """Raise the fence of new rows to at least this one, before rows are deleted that have it."""
    insert_volumes(connection, cloud, [GATE])
    connection.execute(_RAISED, {"raised_cloud": cloud, "raised_fence": fence})


def _locked(connection: sa.Connection, cloud: str, volumes: list[str]) -> list[sa.Row[Any]]:
    return list(connection.execute(_LOCK, {"cloud": cloud, "volumes": volumes}))
