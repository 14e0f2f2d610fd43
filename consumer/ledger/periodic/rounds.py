"""The slow round of the sweep: how far it is, and what Cinder's and Nova's lists showed.

A round reads Nova's servers and Cinder's rows page by page, over many sweeps. A pair of volume and
server that only one of the two lists showed is *apart*.

1. Each page and the place where the next one begins are stored in one transaction, so that any
   replica goes on where the last one stopped.
2. A pair belongs to the round in which a list showed it last. What both lists no longer show is
   forgotten at the end of a round.
3. A pair that is apart is looked into once in a round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import PartOfLedger, database_now
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.tables import inventory, rounds

DONE = "done"
NEVER = 0

Pair = tuple[str, str]
"""A volume and a server."""


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """A round that is under way. ``stage`` is what is read now, ``marker`` where it goes on.

    ``devices`` counts the pairs that Nova's list has shown so far, ``devices_before`` those of the
    last round.
    """

    number: int
    stage: str
    marker: str | None
    devices: int
    devices_before: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Apart:
    """A pair that only one list showed: Nova's if ``device``, else Cinder's."""

    volume_id: str
    instance_id: str
    device: bool


class Rounds(PartOfLedger):
    """The rounds of one cloud."""

    def current(self, first_stage: str, interval_seconds: float) -> Round | None:
        """Return the round under way, or begin the next one; None before it is due."""
        return self._write(_current, first_stage, interval_seconds)

    def note(
        self, now: Round, pairs: Collection[Pair], *, stage: str, marker: str | None, device: bool
    ) -> Round:
        """Store a page, and where the next one begins; return the round as it is then."""
        devices = now.devices + (len(set(pairs)) if device else 0)
        after = dataclasses.replace(now, stage=stage, marker=marker, devices=devices)
        self._write(_note, after, pairs, device=device)
        return after

    def apart(self, now: Round, limit: int, again_seconds: float) -> tuple[Apart, ...]:
        """Return pairs that are apart, were not checked in this round, or offered lately."""
        return self._read(_apart, now, limit, again_seconds)

    def checked(self, now: Round, pair: Pair, *, offered: bool) -> None:
        """Record that a pair was looked into, and whether a case was made of it."""
        self._write(_checked, now, pair, offered=offered)

    def end(self, now: Round) -> None:
        """End the round, and forget the pairs that neither list showed."""
        self._write(_end, now)


def _current(
    connection: sa.Connection, cloud: str, first_stage: str, interval_seconds: float
) -> Round | None:
    now = database_now(connection)
    row = connection.execute(sa.select(rounds).where(rounds.c.cloud == cloud)).first()
    if row is None:
        first = Round(1, first_stage, None, 0, None)
        connection.execute(rounds.insert().values(_row(cloud, first, now)))
        return first
    if row.stage != DONE:
        return Round(row.number, row.stage, row.marker, row.devices, row.devices_before)
    if row.began_at + timedelta(seconds=interval_seconds) > now:
        return None
    following = Round(row.number + 1, first_stage, None, 0, row.devices)
    values = _row(cloud, following, now)
    connection.execute(rounds.update().where(rounds.c.cloud == cloud).values(values))
    return following


def _row(cloud: str, of: Round, now: datetime) -> dict[str, Any]:
    return dataclasses.asdict(of) | {"cloud": cloud, "began_at": now}


def _note(
    connection: sa.Connection, cloud: str, after: Round, pairs: Collection[Pair], *, device: bool
) -> None:
    shown = "device_round" if device else "row_round"
    if pairs:
        blank = {"device_round": NEVER, "row_round": NEVER, "checked_round": NEVER}
        values = [
            blank | {"cloud": cloud, "volume_id": v, "instance_id": i, shown: after.number}
            # Sorted, so that two transactions lock the rows in the same order; a set, as a list may
            # name one twice.
            for v, i in sorted(set(pairs))
        ]

        def newest(
            new: Mapping[str, sa.ColumnElement[object]], _: sa.Table
        ) -> Mapping[str, object]:
            return {shown: new[shown]}

        keys = ("cloud", "volume_id", "instance_id")
        statement = insert_or_update(connection.dialect.name, inventory, keys, newest)
        connection.execute(statement, values)
    # Only of this round: a replica that was slow must not move the next one back.
    mine = sa.and_(rounds.c.cloud == cloud, rounds.c.number == after.number)
    place = {"stage": after.stage, "marker": after.marker, "devices": after.devices}
    connection.execute(rounds.update().where(mine).values(place))


def _apart(
    connection: sa.Connection, cloud: str, now: Round, limit: int, again_seconds: float
) -> tuple[Apart, ...]:
    lately = database_now(connection) - timedelta(seconds=again_seconds)
    device, row = inventory.c.device_round == now.number, inventory.c.row_round == now.number
    found = connection.execute(
        sa.select(inventory)
        .where(
            inventory.c.cloud == cloud,
            sa.or_(sa.and_(device, ~row), sa.and_(row, ~device)),
            # Each pair once in a round, so that one that stays apart does not keep the round from
            # its end.
            inventory.c.checked_round != now.number,
            sa.or_(inventory.c.offered_at.is_(None), inventory.c.offered_at < lately),
        )
        .limit(limit)
    )
    return tuple(
        Apart(one.volume_id, one.instance_id, one.device_round == now.number) for one in found
    )


def _checked(
    connection: sa.Connection, cloud: str, now: Round, pair: Pair, *, offered: bool
) -> None:
    values: dict[str, Any] = {"checked_round": now.number}
    if offered:
        values["offered_at"] = database_now(connection)
    volume_id, instance_id = pair
    connection.execute(
        inventory.update()
        .where(
            inventory.c.cloud == cloud,
            inventory.c.volume_id == volume_id,
            inventory.c.instance_id == instance_id,
        )
        .values(values)
    )


def _end(connection: sa.Connection, cloud: str, now: Round) -> None:
    old = sa.and_(inventory.c.device_round < now.number, inventory.c.row_round < now.number)
    connection.execute(inventory.delete().where(inventory.c.cloud == cloud, old))
    mine = sa.and_(rounds.c.cloud == cloud, rounds.c.number == now.number)
    connection.execute(rounds.update().where(mine).values(stage=DONE, marker=None))
