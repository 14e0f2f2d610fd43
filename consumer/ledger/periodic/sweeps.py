"""When a sweep is due, and what earlier sweeps saw: by database time, for all replicas.

1. One replica begins a sweep in each interval.
2. A sighting is stored as long as Cinder's lists show it, and is deleted when complete lists no
   longer show it.
3. Its time starts again when it has changed.
4. What the lists showed by the end of the first whole sweep may be old: it waits for a person, once
   for all (``acknowledge``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import PartOfLedger, database_now
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.tables import cases, connectors, sightings, sweeps
from drivers.base import Connector
from handlers.case import CaseState
from handlers.correlation.sweep import Sighting, Standing

VOLUME_ITSELF = ""
"""The attachment id in the key of a sighting of a volume."""

Key = tuple[str, str | None]

_ONE = sa.and_(
    sightings.c.cloud == sa.bindparam("of_cloud"),
    sightings.c.volume_id == sa.bindparam("of_volume"),
    sightings.c.attachment_id == sa.bindparam("of_row"),
)
_RESTARTED = sightings.update().where(_ONE)
_OFFERED = sightings.update().where(_ONE).values(offers=sightings.c.offers + 1)
_FORGET = sightings.delete().where(_ONE)


@dataclasses.dataclass(frozen=True, slots=True)
class DueSweep:
    """A sweep that this replica makes now. ``counted``: the volumes in the last accepted sweep.

    ``doubted_seconds``: for how long later counts have been doubted; None if the last one was
    accepted.
    """

    counted: int | None
    doubted_seconds: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person's word that the list of findings was seen; ``by`` is None after an upgrade."""

    at: datetime
    by: str | None


class Sweeps(PartOfLedger):
    """The sweeps of one cloud."""

    def begin(self, owner: str, interval_seconds: float) -> DueSweep | None:
        """Begin a sweep; None if one began within the interval."""
        return self._write(_begin, owner, interval_seconds)

    def note(self, seen: Collection[Sighting], *, whole: bool) -> tuple[Standing, ...]:
        """Store what a sweep saw, and return how long each sighting has been unchanged.

        If the lists were ``whole``, sightings that they no longer show are deleted.
        """
        return self._write(_note, seen, whole=whole)

    def hosts(self) -> Mapping[str, str]:
        """Return the compute host for each name that backends use: initiator, NQN, WWPN.

        A name that two hosts have had is left out.
        """
        return self._read(_hosts)

    def offered(self, keys: Collection[Key]) -> None:
        """Record that these sightings were given to the ledger as suspects."""
        self._write(_offered, keys)

    def findings(self, limit: int) -> tuple[Standing, ...]:
        """Return what the last sweeps saw, the longest unchanged first."""
        return self._read(_findings, limit)

    def acknowledged(self) -> Acknowledged | None:
        """Return who has seen the list of findings first, or None."""
        return self._read(_acknowledged)

    def acknowledge(self, actor: str, reason: str) -> int:
        """Record that a person has seen the list; return how many cases that waited are due now.

        From then on detachd may act on what only a sweep has found.
        """
        return self._write(_acknowledge, actor, reason)

    def last_whole(self) -> datetime | None:
        """Return when the last sweep with complete lists ended, None if there was none."""
        last = sa.select(sweeps.c.swept_at).where(sweeps.c.cloud == self._cloud)
        return self._database.read(lambda c: c.execute(last).scalar())

    def believed(self, counted: int) -> None:
        """Record a sweep with complete lists, and the number of volumes."""
        self._write(_believed, counted)

    def doubted(self) -> None:
        """Record a sweep whose lists may be incomplete."""
        self._write(_doubted)


def _begin(
    connection: sa.Connection, cloud: str, owner: str, interval_seconds: float
) -> DueSweep | None:
    now = database_now(connection)
    blank = {"cloud": cloud, "next_at": now, "owner": owner}
    connection.execute(insert_absent(connection.dialect.name, sweeps, ("cloud",)), blank)
    mine = sa.and_(sweeps.c.cloud == cloud, sweeps.c.next_at <= now)
    later = now + timedelta(seconds=interval_seconds)
    # The swap: of several replicas the one that moves the time makes the sweep.
    updated = connection.execute(sweeps.update().where(mine).values(owner=owner, next_at=later))
    if updated.rowcount == 0:
        return None
    row = connection.execute(sa.select(sweeps).where(sweeps.c.cloud == cloud)).one()
    return DueSweep(row.counted, _since(row.doubted_at, now))


def _note(
    connection: sa.Connection, cloud: str, seen: Collection[Sighting], *, whole: bool
) -> tuple[Standing, ...]:
    now = database_now(connection)
    stored = {_key(row): row for row in connection.execute(_all_of(cloud))}
    fresh = [s for s in seen if s.key not in stored]
    moved = [s for s in seen if s.key in stored and stored[s.key].version != s.version]
    # What an incomplete list does not show may still be there.
    vanished = stored.keys() - {s.key for s in seen} if whole else ()
    _execute(connection, sightings.insert(), fresh, lambda s: _row(s, cloud, now))
    _execute(connection, _RESTARTED, moved, lambda s: _row(s, cloud, now) | _where(s.key, cloud))
    _execute(connection, _FORGET, vanished, lambda key: _where(key, cloud))
    restarted = {s.key for s in (*fresh, *moved)}
    first_swept_at = _first_swept_at(connection, cloud)
    standings = (
        Standing(s, now, 0.0) if s.key in restarted else _standing(s, stored[s.key], now)
        for s in seen
    )
    return tuple(
        # What was there before detachd watched may be wanted: a person looks at that list first.
        dataclasses.replace(s, old=first_swept_at is None or s.first_seen_at <= first_swept_at)
        for s in standings
    )


def _first_swept_at(connection: sa.Connection, cloud: str) -> datetime | None:
    """Return when the first whole sweep ended; what was seen until then may be old."""
    first = sa.select(sweeps.c.first_swept_at).where(sweeps.c.cloud == cloud)
    at: datetime | None = connection.execute(first).scalar()
    return at


def _hosts(connection: sa.Connection, cloud: str) -> Mapping[str, str]:
    stored = sa.select(connectors.c.host, connectors.c.connector).where(connectors.c.cloud == cloud)
    of: dict[str, set[str]] = {}
    for row in connection.execute(stored):
        for name in Connector.from_mapping(row.connector).names():
            of.setdefault(name, set()).add(row.host)
    # A name of two hosts (a cloned initiator) proves nothing of either.
    return {name: next(iter(hosts)) for name, hosts in of.items() if len(hosts) == 1}


def _offered(connection: sa.Connection, cloud: str, keys: Collection[Key]) -> None:
    now = database_now(connection)
    _execute(connection, _OFFERED, keys, lambda key: _where(key, cloud) | {"offered_at": now})


def _findings(connection: sa.Connection, cloud: str, limit: int) -> tuple[Standing, ...]:
    now = database_now(connection)
    oldest = _all_of(cloud).order_by(sightings.c.first_seen_at, sightings.c.volume_id).limit(limit)
    return tuple(
        _standing(Sighting(*_key(row), row.status, row.version), row, now)
        for row in connection.execute(oldest)
    )


def _acknowledged(connection: sa.Connection, cloud: str) -> Acknowledged | None:
    row = connection.execute(sa.select(sweeps).where(sweeps.c.cloud == cloud)).first()
    if row is None or row.acknowledged_at is None:
        return None
    return Acknowledged(row.acknowledged_at, row.acknowledged_by)


def _acknowledge(connection: sa.Connection, cloud: str, actor: str, reason: str) -> int:
    if _acknowledged(connection, cloud) is not None:
        return 0
    now = database_now(connection)
    blank = {"cloud": cloud, "next_at": now, "owner": actor}
    connection.execute(insert_absent(connection.dialect.name, sweeps, ("cloud",)), blank)
    said = {"acknowledged_at": now, "acknowledged_by": actor, "acknowledgement": reason}
    connection.execute(sweeps.update().where(sweeps.c.cloud == cloud).values(said))
    waiting = (cases.c.cloud == cloud, cases.c.state == CaseState.AWAITING_APPROVAL.value)
    ids = list(connection.execute(sa.select(cases.c.case_id).where(*waiting)).scalars())
    if ids:
        # The number of signals, so that an attempt that is running leaves the case due.
        due = {"state": CaseState.DUE.value, "next_attempt_at": now, "updated_at": now}
        due["signal_seq"] = cases.c.signal_seq + 1
        connection.execute(cases.update().where(*waiting).values(due))
    for case_id in ids:
        note(
            connection, case_id, HistoryKind.MOVED, actor, now,
            state=CaseState.DUE.value, reason=f"the findings of the sweeps were seen: {reason}",
        )  # fmt: skip
    return len(ids)


def _believed(connection: sa.Connection, cloud: str, counted: int) -> None:
    now = database_now(connection)
    found = sweeps.update().where(sweeps.c.cloud == cloud)
    first = sa.func.coalesce(sweeps.c.first_swept_at, now)
    values = {"counted": counted, "swept_at": now, "doubted_at": None, "first_swept_at": first}
    connection.execute(found.values(values))


def _doubted(connection: sa.Connection, cloud: str) -> None:
    since = sa.func.coalesce(sweeps.c.doubted_at, database_now(connection))
    connection.execute(sweeps.update().where(sweeps.c.cloud == cloud).values(doubted_at=since))


def _execute(
    connection: sa.Connection,
    statement: sa.Executable,
    of: Collection[Any],
    values: Callable[[Any], Mapping[str, Any]],
) -> None:
    if of:
        connection.execute(statement, [values(one) for one in of])


def _all_of(cloud: str) -> sa.Select[Any]:
    return sa.select(sightings).where(sightings.c.cloud == cloud)


def _key(row: sa.Row[Any]) -> Key:
    return row.volume_id, row.attachment_id or None


def _where(key: Key, cloud: str) -> dict[str, Any]:
    return {"of_cloud": cloud, "of_volume": key[0], "of_row": key[1] or VOLUME_ITSELF}


def _row(seen: Sighting, cloud: str, now: datetime) -> dict[str, Any]:
    return {
        "cloud": cloud,
        "volume_id": seen.volume_id,
        "attachment_id": seen.attachment_id or VOLUME_ITSELF,
        "status": seen.status,
        "version": seen.version,
        "first_seen_at": now,
        "offers": 0,
        "offered_at": None,
    }


def _standing(seen: Sighting, row: sa.Row[Any], now: datetime) -> Standing:
    age_seconds = (now - row.first_seen_at).total_seconds()
    offered_seconds = _since(row.offered_at, now)
    return Standing(seen, row.first_seen_at, age_seconds, row.offers, offered_seconds)


def _since(then: datetime | None, now: datetime) -> float | None:
    return None if then is None else (now - then).total_seconds()
