"""Servers that a notification told of, until Cinder was asked what they left behind.

1. A server has one row, however much is told of it; the last message moves its time.
2. A server that was taken is due again if nobody says that it was looked at: a process that dies
   meanwhile loses none. Two replicas may take the same one, which harms nothing.
3. What nobody got to within a day is forgotten. The sweep finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import PartOfLedger, database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.tables import server_looks
from handlers.notification import Notification, Phase

# As long as ten servers take at most, each within its time limit
# (consumer/periodic/server_looks.py).
AGAIN = timedelta(minutes=5)
FORGOTTEN = timedelta(days=1)


def plan_looks(
    connection: sa.Connection,
    cloud: str,
    told: Iterable[Notification],
    now: datetime,
    after_seconds: float,
) -> None:
    """Plan a look for each server that a signal among these is about."""
    rows = {
        n.instance_id: {
            "cloud": cloud,
            "instance_id": n.instance_id,
            "event_type": n.event_type,
            "told_at": now,
            "due_at": now + timedelta(seconds=after_seconds),
        }
        for n in told
        if n.phase is Phase.SIGNAL and n.volume_id is None and n.instance_id is not None
    }
    if rows:
        keys = ("cloud", "instance_id")
        statement = insert_or_update(connection.dialect.name, server_looks, keys, _newest)
        connection.execute(statement, [rows[instance_id] for instance_id in sorted(rows)])


def _newest(new: Mapping[str, sa.ColumnElement[object]], _: sa.Table) -> Mapping[str, object]:
    return {name: new[name] for name in ("event_type", "told_at", "due_at")}


class ServerLooks(PartOfLedger):
    """The servers of one cloud that are to be looked at."""

    def take(self, limit: int) -> Mapping[str, str]:
        """Return up to ``limit`` servers that are due, each with the last event told of it."""
        return self._write(_take, limit)

    def looked_at(self, instance_ids: Collection[str]) -> None:
        """Forget these: Cinder has said what they left behind."""
        if instance_ids:
            self._database.write(lambda c: c.execute(_of(self._cloud, instance_ids)))


def _of(cloud: str, instance_ids: Collection[str]) -> sa.Delete:
    mine = server_looks.delete().where(server_looks.c.cloud == cloud)
    return mine.where(server_looks.c.instance_id.in_(instance_ids))


def _take(connection: sa.Connection, cloud: str, limit: int) -> dict[str, str]:
    now = database_now(connection)
    due = (server_looks.c.cloud == cloud, server_looks.c.due_at <= now)
    too_old = server_looks.c.told_at < now - FORGOTTEN
    oldest = sa.select(server_looks).where(*due).order_by(server_looks.c.due_at).limit(limit)
    rows: list[sa.Row[Any]] = list(connection.execute(oldest.where(~too_old)))
    if rows:
        taken = server_looks.c.instance_id.in_([row.instance_id for row in rows])
        # Not deleted before Cinder has answered: see 2.
        connection.execute(server_looks.update().where(*due, taken).values(due_at=now + AGAIN))
    else:
        # Only where nothing else is due: a busy table is not searched for what is old.
        connection.execute(server_looks.delete().where(*due, too_old))
    return {row.instance_id: row.event_type for row in rows}
