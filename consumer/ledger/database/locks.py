"""One volume at a time: the rows of ``claims`` are also the locks under which signals are taken in.

Two listeners that take in messages of one volume at once would each open a case; a listener and a
worker's finish would each overlook the other. So whoever changes the cases of a volume holds its
row. SQLite needs no row locks: it has one writer (BEGIN IMMEDIATE).

A message without a volume can be about any case, so its batch keeps all other batches out for as
long as its transaction lasts: by the row of the volume id "", which every other batch shares.
The fence of that row is where those of new rows begin: a volume that was forgotten and is met again
must not be given a fence that somebody may still hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.tables import claims

GATE = ""

_THESE_VOLUMES = sa.and_(
    claims.c.cloud == sa.bindparam("cloud"),
    claims.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
)
# In order of the volumes, so that two transactions that want the same ones cannot block each other.
_LOCK = (
    sa.select(claims.c.volume_id, claims.c.owner, claims.c.case_id)
    .where(_THESE_VOLUMES)
    .order_by(claims.c.volume_id)
    .with_for_update()
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
    """Lock these volumes until the transaction ends; return the case that is claimed of each."""
    wanted = sorted(set(volumes))
    rows = _locked(connection, cloud, wanted)
    present = {row.volume_id for row in rows}
    if absent := [v for v in wanted if v not in present]:
        insert_volumes(connection, cloud, absent)
        rows = _locked(connection, cloud, wanted)
    return {row.volume_id: row.case_id if row.owner else None for row in rows}


def pass_gate(connection: sa.Connection, cloud: str, *, exclusive: bool) -> None:
    """Share the gate with other batches, or keep them out until the transaction ends."""
    if connection.dialect.name == "sqlite":
        return
    gate = _GATE.with_for_update(read=not exclusive)
    wanted = {"cloud": cloud, "volumes": [GATE]}
    if connection.execute(gate, wanted).first() is None:
        insert_volumes(connection, cloud, [GATE])
        connection.execute(gate, wanted)


def insert_volumes(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> None:
    """Make the rows of volumes that the ledger does not know (any more); another may be faster."""
    floor = fence_floor(connection, cloud)
    rows = [{"cloud": cloud, "volume_id": v, "fence": floor} for v in sorted(volumes)]
    statement = insert_absent(connection.dialect.name, claims, ("cloud", "volume_id"))
    connection.execute(statement, rows)


def fence_floor(connection: sa.Connection, cloud: str) -> int:
    """Return a fence that no row which was forgotten had exceeded: the gate's own."""
    row = connection.execute(_GATE, {"cloud": cloud, "volumes": [GATE]}).first()
    return row.fence if row is not None else 0


def raise_fence_floor(connection: sa.Connection, cloud: str, fence: int) -> None:
    """Let no fence begin below this one; before rows that had it are forgotten."""
    insert_volumes(connection, cloud, [GATE])
    connection.execute(_RAISED, {"raised_cloud": cloud, "raised_fence": fence})


def _locked(connection: sa.Connection, cloud: str, volumes: list[str]) -> list[sa.Row[Any]]:
    return list(connection.execute(_LOCK, {"cloud": cloud, "volumes": volumes}))
