"""Stores notifications, a batch in one transaction.

When ``accept`` returns, with any concurrent transactions:

1. Each message of the batch is stored, was stored before, or is in ``rejected``. So the whole batch
   may be acked as soon as the caller has quarantined the rejected ones.
2. A message is stored once, by its message_id. A repetition changes nothing.
3. Its effect on the cases is in the same transaction. No other transaction has changed them since
   they were read, because the rows of their volumes were locked before (``locks``).
4. Each message belongs to one case, or is kept without a case until its start arrives.
5. A row that the database refuses stops no other: the batch is bisected until that row is alone.
   The order of the batch is kept.

First the cases, orphans and intents are read that the batch may be about, in few statements. Then
the correlation decides (``handlers/correlation``). The changes are written with one statement for
each kind of row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from consumer.ledger.database.cases import HistoryKind, add, rewrite
from consumer.ledger.database.engine import Database, cause, database_now
from consumer.ledger.database.locks import lock_volumes, pass_gate
from consumer.ledger.database.prepared import insert_or_update
from consumer.ledger.database.records import CASES, NOTIFICATIONS, Row, Values
from consumer.ledger.database.tables import cases, connectors, history, intents, notifications
from consumer.ledger.decisions import off_words
from consumer.ledger.intake.second_looks import SecondLooks
from consumer.ledger.periodic.server_looks import plan_looks
from handlers.case import Case, CaseState
from handlers.correlation.correlation import Changes, Move, Recorded, correlate
from handlers.correlation.matching import Signal, Timing, shares_request
from handlers.correlation.transitions import learned, new_case_id
from handlers.notification import Notification, Phase


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """One notification: with the hash of its raw body, and the bus that it came from."""

    notification: Notification
    body_sha256: str
    bus: str


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """The result of a batch. ``rejected``: what the database refused, each with the reason.

    ``second_looks``: how many ended cases are to be looked at once more.
    """

    stored: int = 0
    duplicates: int = 0
    opened: int = 0
    closed: int = 0
    second_looks: int = 0
    rejected: tuple[tuple[Arrival, str], ...] = ()

    def __add__(self, other: Accepted) -> Accepted:
        return Accepted(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.opened + other.opened,
            self.closed + other.closed,
            self.second_looks + other.second_looks,
            self.rejected + other.rejected,
        )


_ADOPTED = (
    notifications.update()
    .where(notifications.c.message_id == sa.bindparam("adopted_message"))
    .values(case_id=sa.bindparam("adopting_case"))
)


def write_changes(
    connection: sa.Connection,
    changes: Changes,
    fresh: Sequence[Arrival],
    *,
    cloud: str,
    now: datetime,
) -> None:
    """Write the new and changed cases, the notifications, history and connectors."""
    add(connection, changes.opened, now)
    rewrite(connection, changes.changed, now)
    # After the cases, which the rows refer to.
    stored = [_stored(arrival, changes, cloud, now) for arrival in fresh]
    _write(connection, notifications.insert(), stored)
    adopted = [
        {"adopted_message": message_id, "adopting_case": case_id}
        for message_id, case_id in changes.adopted.items()
    ]
    _write(connection, _ADOPTED, adopted)
    _write(connection, history.insert(), [_moved(move, now) for move in changes.moves])
    _learn(connection, fresh, cloud, now)
    # In the same transaction: a word that a message ends must not count for a moment longer.
    off_words.hear(connection, cloud, (arrival.notification for arrival in fresh))


def _write(
    connection: sa.Connection, statement: sa.Insert | sa.Update, rows: Sequence[Values]
) -> None:
    if rows:
        connection.execute(statement, rows)


def _stored(arrival: Arrival, changes: Changes, cloud: str, now: datetime) -> Values:
    return NOTIFICATIONS.values(arrival.notification) | {
        "cloud": cloud,
        "case_id": changes.filed[arrival.notification.message_id],
        "received_at": now,
        "bus": arrival.bus,
        "body_sha256": arrival.body_sha256,
    }


def _moved(move: Move, now: datetime) -> Values:
    return {
        "case_id": move.case_id,
        "recorded_at": now,
        "kind": _kind(move).value,
        "actor": "notification",
        "state": move.after.value,
        "reason": f"message {move.message_id}",
    }


def _kind(move: Move) -> HistoryKind:
    if move.before is None:
        return HistoryKind.OPENED
    return HistoryKind.CLOSED if move.after is CaseState.CLOSED else HistoryKind.MOVED


def _learn(connection: sa.Connection, fresh: Sequence[Arrival], cloud: str, now: datetime) -> None:
    found = learned(arrival.notification for arrival in fresh)
    rows = [
        {
            "cloud": cloud,
            "host": host,
            "connector": found[host].connector.to_mapping(),
            "attachment_id": found[host].attachment_id,
            "learned_at": now,
        }
        for host in sorted(found)
    ]
    if rows:
        keys = ("cloud", "host")
        statement = insert_or_update(connection.dialect.name, connectors, keys, _newest)
        connection.execute(statement, rows)


def _newest(new: Mapping[str, sa.ColumnElement[object]], _: sa.Table) -> Mapping[str, object]:
    return {name: new[name] for name in ("connector", "attachment_id", "learned_at")}


def _any_of(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam(name, expanding=True))


# No ORDER BY: SQLite would use the index of opened_at and read every case.
_CASES = sa.select(cases).where(
    cases.c.cloud == sa.bindparam("cloud"),
    _any_of(cases.c.volume_id, "volumes"),
    sa.or_(cases.c.closed_at.is_(None), cases.c.closed_at >= sa.bindparam("since")),
)
# What is only a signal waits for no start.
_ORPHANS = sa.select(notifications).where(
    notifications.c.cloud == sa.bindparam("cloud"),
    notifications.c.case_id.is_(None),
    notifications.c.received_at >= sa.bindparam("since"),
    notifications.c.phase != Phase.SIGNAL.value,
)
_ENDS = _ORPHANS.where(_any_of(notifications.c.volume_id, "volumes"))
# coalesce, so that the index of volume_id is not used: it would read all errors without a volume.
_ERRORS = _ORPHANS.where(
    sa.func.coalesce(notifications.c.volume_id, "") == "",
    _any_of(notifications.c.request_id, "requests"),
)
# Ends without attachment and instance: the case that they belong to is not proven.
_FILED_ENDS = sa.select(notifications).where(
    notifications.c.cloud == sa.bindparam("cloud"),
    _any_of(notifications.c.request_id, "requests"),
    _any_of(notifications.c.volume_id, "volumes"),
    notifications.c.phase == Phase.END.value,
    notifications.c.attachment_id.is_(None),
    notifications.c.instance_id.is_(None),
    notifications.c.case_id.is_not(None),
    notifications.c.received_at >= sa.bindparam("since"),
)
_INTENTS = sa.select(intents.c.request_id, intents.c.case_id).where(
    _any_of(intents.c.request_id, "requests")
)
_VOLUMES = (
    sa.select(cases.c.volume_id)
    .distinct()
    .join(notifications, notifications.c.case_id == cases.c.case_id)
    .where(
        notifications.c.cloud == sa.bindparam("cloud"),
        _any_of(notifications.c.request_id, "requests"),
        cases.c.closed_at.is_(None),
    )
)


def volumes_of_requests(
    connection: sa.Connection, cloud: str, requests: Collection[str]
) -> set[str]:
    """Return the volumes of the open cases that a message of one of these requests is about."""
    parameters = {"cloud": cloud, "requests": list(requests)}
    return set(connection.execute(_VOLUMES, parameters).scalars())


def read_known(
    connection: sa.Connection,
    cloud: str,
    batch: Sequence[Notification],
    *,
    claimed: Mapping[str, str | None],
    since: datetime,
) -> Recorded:
    """Read the cases, orphans and intents that a batch may be about.

    ``claimed``: the locked volumes, with the claimed case of each. ``since``: closed cases and
    orphans from before this time are ignored.
    """
    requests = sorted({r for n in batch for r in Signal.of(n).request_ids})
    parameters = {
        "cloud": cloud, "volumes": list(claimed), "requests": requests, "since": since,
    }  # fmt: skip
    # Only what opens a case can find the end that came before it.
    opens = any(n.phase in (Phase.START, Phase.ERROR) for n in batch)
    found = _cases(connection, parameters)
    return Recorded(
        cloud=cloud,
        cases=found,
        claimed=frozenset(case_id for case_id in claimed.values() if case_id is not None),
        orphans=_orphans(connection, parameters, found) if opens else (),
        intents=_intents(connection, parameters),
    )


def _cases(connection: sa.Connection, parameters: Mapping[str, Any]) -> tuple[Case, ...]:
    found = [CASES.read(row) for row in connection.execute(_CASES, parameters)]
    # Oldest first, for the correlation; the statement must not sort (see _CASES).
    return tuple(sorted(found, key=lambda case: (case.opened_at, case.case_id)))


def _orphans(
    connection: sa.Connection, parameters: Mapping[str, Any], found: Sequence[Case]
) -> tuple[Signal, ...]:
    by_id = {case.case_id: case for case in found}
    # If the case has the request id of the end, the end is proven to belong to it.
    misfiled = [
        row
        for row in connection.execute(_FILED_ENDS, parameters)
        if row.case_id in by_id and not shares_request(_signal(row), by_id[row.case_id])
    ]
    ends = connection.execute(_ENDS, parameters)
    errors = connection.execute(_ERRORS, parameters)
    rows = [*ends, *errors, *misfiled]
    return tuple(_signal(row) for row in sorted(rows, key=lambda row: row.received_at))


def _signal(row: Row) -> Signal:
    return Signal.of(NOTIFICATIONS.read(row))


def _intents(connection: sa.Connection, parameters: Mapping[str, Any]) -> dict[str, str]:
    return {row.request_id: row.case_id for row in connection.execute(_INTENTS, parameters)}


REASON_LENGTH = 500

_STORED = sa.select(notifications.c.message_id).where(
    notifications.c.message_id.in_(sa.bindparam("ids", expanding=True))
)


@dataclasses.dataclass(frozen=True, slots=True)
class Intake:
    """What the intake of one cloud goes by."""

    cloud: str
    timing: Timing
    looks: SecondLooks


def accept(database: Database, intake: Intake, arrivals: Sequence[Arrival]) -> Accepted:
    """Store a batch in one transaction; if a row is refused, bisect until it is alone."""
    if not arrivals:
        return Accepted()
    try:
        accepted = database.write(lambda connection: _store(connection, intake, arrivals))
    except (exc.StatementError, ValueError, TypeError, OverflowError) as error:
        # An outage: the whole batch is refused and not bisected, or each half would wait for it
        # again.
        if not of_the_data(error):
            raise
        if len(arrivals) == 1:
            return Accepted(rejected=((arrivals[0], cause(error)[:REASON_LENGTH]),))
    else:
        # After the commit: what was rolled back has planned no look.
        intake.looks.spend(accepted.second_looks)
        return accepted
    half = len(arrivals) // 2
    first = accept(database, intake, arrivals[:half])
    return first + accept(database, intake, arrivals[half:])


def of_the_data(error: Exception) -> bool:
    """Tell whether the database refused the data (and would again), rather than failed."""
    return isinstance(error, exc.DataError | exc.IntegrityError) or not isinstance(
        error, exc.DBAPIError
    )


def _store(connection: sa.Connection, intake: Intake, arrivals: Sequence[Arrival]) -> Accepted:
    cloud, batch = intake.cloud, [arrival.notification for arrival in arrivals]
    # Before anything is read: another listener may be storing the same messages.
    claimed = _lock(connection, cloud, batch)
    fresh = _fresh(connection, arrivals)
    if not fresh:
        return Accepted(duplicates=len(arrivals))
    now = database_now(connection)
    changes = _correlated(connection, intake, fresh, claimed=claimed, now=now)
    write_changes(connection, changes, fresh, cloud=cloud, now=now)
    if intake.looks.any:
        told = [arrival.notification for arrival in fresh]
        plan_looks(connection, cloud, told, now, intake.timing.second_look_seconds)
    return Accepted(
        stored=len(fresh),
        duplicates=len(arrivals) - len(fresh),
        opened=len(changes.opened),
        closed=sum(move.after is CaseState.CLOSED for move in changes.moves),
        second_looks=changes.second_looks,
    )


def _lock(
    connection: sa.Connection, cloud: str, batch: Sequence[Notification]
) -> Mapping[str, str | None]:
    """Lock the volumes that the batch may be about; return the claimed case of each."""
    # An error without a volume can be about any case: no other batch may run meanwhile.
    requests = {
        r
        for n in batch
        if n.volume_id is None and n.phase is Phase.ERROR
        for r in Signal.of(n).request_ids
    }
    # Before the volumes are locked: in the other order two batches could wait for each other.
    pass_gate(connection, cloud, exclusive=bool(requests))
    volumes = {n.volume_id for n in batch if n.volume_id is not None}
    if requests:
        volumes |= volumes_of_requests(connection, cloud, requests)
    return lock_volumes(connection, cloud, volumes)


def _fresh(connection: sa.Connection, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    by_id: dict[str, Arrival] = {}
    for arrival in arrivals:
        # The first of two in one batch counts, as the first of two batches would.
        by_id.setdefault(arrival.notification.message_id, arrival)
    stored = set(connection.execute(_STORED, {"ids": list(by_id)}).scalars())
    return [arrival for message_id, arrival in by_id.items() if message_id not in stored]


def _correlated(
    connection: sa.Connection,
    intake: Intake,
    fresh: Sequence[Arrival],
    *,
    claimed: Mapping[str, str | None],
    now: datetime,
) -> Changes:
    batch, timing = [arrival.notification for arrival in fresh], intake.timing
    # What is older is no longer matched, so a batch reads little, however much is kept.
    since = now - timedelta(seconds=timing.memory_seconds)
    known = read_known(connection, intake.cloud, batch, claimed=claimed, since=since)
    return correlate(
        known, batch,
        timing=timing, now=now, new_id=new_case_id, spare_looks=intake.looks.spare(),
    )  # fmt: skip
