"""Which client of a backend has a volume open for which attachment, learned while all was well.

1. There is a row for each attachment that a round over the attached volumes listed, or that a look
   found healthy. It says when the attachment was last looked at, and has a client from the first
   look that showed one.
2. Several services may look: a row that one takes is not due for the others.
3. A row goes when the attachment has been neither listed nor found healthy for a week and no case
   of its volume is open: what is stuck keeps its client, however long.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import PartOfLedger, database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.tables import cases, learned_clients
from drivers.base import ClientInstance
from handlers.case import CaseState, LearnedClient

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
FORGOTTEN = timedelta(days=7)
"""A round over the attached volumes takes hours."""
_KEYS = ("cloud", "volume_id", "attachment_id")
_CLIENT = ("backend", "host", "address", "client", "cookie")


@dataclasses.dataclass(frozen=True, slots=True)
class ToLookAt:
    """An attachment that is due for a look. ``backend`` is the volume's at its last look."""

    volume_id: str
    attachment_id: str
    backend: str | None


class Learned(PartOfLedger):
    """The learned clients of one cloud."""

    def note_attached(self, rows: Collection[tuple[str, str]]) -> None:
        """Note volume and attachment of rows that Cinder lists as attached: they get looks."""
        if rows:
            self._write(_note_attached, rows)

    def take(
        self, limit: int, again_seconds: float, *, besides: Collection[str] = ()
    ) -> tuple[ToLookAt, ...]:
        """Return those that were not looked at for so long, those never looked at first.

        None of the backends ``besides``. They count as looked at from now on.
        """
        return self._write(_take, limit, timedelta(seconds=again_seconds), besides)

    def note_backend(self, volume_id: str, attachment_id: str, backend: str) -> None:
        """Note on which backend the volume is, for an attachment of which no client is learned."""
        key = {"cloud": self._cloud, "volume_id": volume_id, "attachment_id": attachment_id}
        self._database.write(lambda c: c.execute(_at(key).values(backend=backend)))

    def learn(self, volume_id: str, seen: LearnedClient) -> ClientInstance | None:
        """Keep the client of an attachment; return the one before where it was another."""
        return self._write(learn, volume_id, seen)

    def of_volume(self, volume_id: str) -> Mapping[str, ClientInstance]:
        """Return the clients that were learned for a volume, by attachment."""
        return self._database.read(
            lambda c: of_volume(c, self._cloud, volume_id), one_statement=True
        )

    def forget(self, limit: int) -> int:
        """Forget up to ``limit`` attachments that are gone; return their number."""
        return self._write(_forget, limit)


def learn(
    connection: sa.Connection, cloud: str, volume_id: str, seen: LearnedClient
) -> ClientInstance | None:
    """Keep the client of an attachment; return the one before where it was another."""
    client, before = seen.client, of_volume(connection, cloud, volume_id).get(seen.attachment_id)
    same = before is not None and _identity(before) == _identity(client)
    row = {
        "cloud": cloud, "volume_id": volume_id, "attachment_id": seen.attachment_id,
        "backend": seen.backend, "host": seen.host, "address": client.address,
        # The cookie as text: a number of 64 bits without a sign fits no integer column of the three
        # databases.
        "client": client.client, "cookie": str(client.cookie), "first_seen_at": client.seen_at,
        "last_seen_at": client.seen_at, "listed_at": client.seen_at, "looked_at": client.seen_at,
    }  # fmt: skip
    # Another client: the time of the first sight begins anew.
    update = _seen_again if same else _seen_anew
    statement = insert_or_update(connection.dialect.name, learned_clients, _KEYS, update)
    connection.execute(statement, row)
    return None if same else before


def of_volume(connection: sa.Connection, cloud: str, volume_id: str) -> dict[str, ClientInstance]:
    """Return the clients that were learned for a volume, by attachment."""
    table = learned_clients
    learned = sa.and_(
        table.c.cloud == cloud, table.c.volume_id == volume_id, table.c.address.is_not(None)
    )
    return {
        row.attachment_id: ClientInstance(
            row.address, row.client, int(row.cookie), row.last_seen_at
        )
        for row in connection.execute(sa.select(table).where(learned))
    }


def _identity(client: ClientInstance) -> tuple[str, str, int]:
    return client.address, client.client, client.cookie


def _seen_again(new: Any, _: sa.Table) -> Mapping[str, object]:
    names = ("backend", "host", "last_seen_at", "listed_at", "looked_at")
    return {name: new[name] for name in names}


def _seen_anew(new: Any, _: sa.Table) -> Mapping[str, object]:
    times = ("first_seen_at", "last_seen_at", "listed_at", "looked_at")
    return {name: new[name] for name in (*_CLIENT, *times)}


def _listed(new: Any, _: sa.Table) -> Mapping[str, object]:
    return {"listed_at": new["listed_at"]}


def _note_attached(
    connection: sa.Connection, cloud: str, rows: Collection[tuple[str, str]]
) -> None:
    now = database_now(connection)
    values = [
        {"cloud": cloud, "volume_id": v, "attachment_id": a, "listed_at": now, "looked_at": NEVER}
        for v, a in sorted(set(rows))
    ]
    statement = insert_or_update(connection.dialect.name, learned_clients, _KEYS, _listed)
    connection.execute(statement, values)


def _take(
    connection: sa.Connection,
    cloud: str,
    limit: int,
    again: timedelta,
    besides: Collection[str],
) -> tuple[ToLookAt, ...]:
    table, now = learned_clients, database_now(connection)
    elsewhere = sa.or_(table.c.backend.is_(None), table.c.backend.not_in(sorted(besides)))
    due = sa.and_(table.c.cloud == cloud, table.c.looked_at <= now - again)
    oldest = sa.select(table).where(due, elsewhere).order_by(table.c.looked_at).limit(limit)
    taken = [
        row
        for row in connection.execute(oldest).mappings().all()
        # With "due" in the condition: of two services only one finds it due.
        if connection.execute(_at(row, due).values(looked_at=now)).rowcount == 1
    ]
    return tuple(ToLookAt(r["volume_id"], r["attachment_id"], r["backend"]) for r in taken)


def _at(key: Mapping[Any, Any], *more: sa.ColumnElement[bool]) -> sa.Update:
    table = learned_clients
    return table.update().where(*(table.c[name] == key[name] for name in _KEYS), *more)


def _forget(connection: sa.Connection, cloud: str, limit: int) -> int:
    table, cutoff = learned_clients, database_now(connection) - FORGOTTEN
    open_case = sa.exists().where(
        cases.c.cloud == cloud,
        cases.c.volume_id == table.c.volume_id,
        cases.c.state != CaseState.CLOSED.value,
    )
    gone = sa.and_(table.c.cloud == cloud, table.c.listed_at < cutoff, ~open_case)
    keys = [table.c[name] for name in _KEYS]
    rows = connection.execute(sa.select(*keys).where(gone).limit(limit)).mappings().all()
    # One by one and with "gone" again: a round may have listed one of them since.
    each = (sa.and_(*(table.c[name] == row[name] for name in _KEYS)) for row in rows)
    return sum(connection.execute(table.delete().where(one, gone)).rowcount for one in each)
