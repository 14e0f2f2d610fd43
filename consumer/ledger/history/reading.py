"""What people read: the list of cases, one case with all its rows, and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import (
    HistoryKind,
    Narrow,
    begins,
    newest_cases,
    number_of,
    of_case,
    one_case,
)
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import NOTIFICATIONS, Row, Stored
from consumer.ledger.database.tables import (
    ARCHIVE_OF,
    cases,
    claims,
    history,
    intents,
    notifications,
    outbox,
)
from consumer.ledger.work.claims import intent
from handlers.case import (
    OPEN_STATES,
    Case,
    CaseState,
    Priority,
    StepKind,
    StepResult,
)
from handlers.notification import Notification

# Messages of one batch have the same received_at.
RECEIPT_ORDER = ("received_at", "published_at", "message_id")


@dataclasses.dataclass(frozen=True, slots=True)
class NotificationRecord:
    """A notification as it was stored."""

    notification: Notification
    received_at: datetime
    bus: str
    body_sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One line of a case's history."""

    recorded_at: datetime
    kind: HistoryKind
    actor: str
    state: CaseState | None
    rule: str | None
    verdict: str | None
    reason: str | None
    detail: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class IntentRecord:
    """One write to Cinder, Nova or a backend: the intent and its result."""

    kind: StepKind
    request_id: str
    attempt: int
    target: Mapping[str, Any]
    evidence: Mapping[str, Any]
    intended_at: datetime
    result: StepResult
    detail: str | None
    result_at: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class OutboxRecord:
    """One announcement, and whether it was sent."""

    message_id: str
    event_type: str
    priority: Priority
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    sent_at: datetime | None
    unrouted_at: datetime | None
    last_error: str | None


_HISTORY = Stored(HistoryRecord, history)
_INTENTS = Stored(IntentRecord, intents)
_OUTBOX = Stored(OutboxRecord, outbox)


@dataclasses.dataclass(frozen=True, slots=True)
class CaseRecord:
    """A case with all its rows in the ledger, each part oldest first."""

    case: Case
    claimed_by: str | None
    lease_expires_at: datetime | None
    notifications: tuple[NotificationRecord, ...]
    history: tuple[HistoryRecord, ...]
    intents: tuple[IntentRecord, ...]
    outbox: tuple[OutboxRecord, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StateCount:
    """The number of cases in a state, and the age of the oldest (0.0 if none).

    Those that a person has acknowledged are in neither; ``acknowledged`` is their number.
    """

    count: int
    oldest_age_seconds: float
    acknowledged: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which cases to list; None, and no state, match all.

    ``volume`` and ``server`` are ids or their beginnings, ``project`` is one that a notification of
    the case named; ``since`` is when a case was opened at the earliest. ``skip`` leaves out the
    first ones, for paging.
    """

    states: tuple[CaseState, ...] = ()
    backend: str | None = None
    volume_id: str | None = None
    volume: str | None = None
    server: str | None = None
    host: str | None = None
    rule: str | None = None
    project: str | None = None
    since: datetime | None = None
    limit: int = 100
    skip: int = 0

    @property
    def few(self) -> bool:
        """Tell whether it selects few cases."""
        return self.volume_id is not None or self.volume is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """Some cases, and how many there are of that kind: at most ``MOST_COUNTED``."""

    cases: tuple[Case, ...]
    total: int


MOST_COUNTED = 10_000


def list_cases(connection: sa.Connection, cloud: str, wanted: Filter) -> tuple[Case, ...]:
    """Return the cases, the newest first, without the fields that a claim gathers."""
    narrow = _narrow(cloud, wanted, wanted.states)
    return newest_cases(connection, narrow, wanted.limit, few=wanted.few)


def list_urgent(connection: sa.Connection, cloud: str, wanted: Filter) -> Listing:
    """Return the cases, those for a person first and the closed ones last, and their number."""
    states = wanted.states or tuple(CaseState)
    skip, found, total = wanted.skip, list[Case](), 0
    # State by state, each by its index: one ORDER BY over all would sort every case of the ledger.
    for state in (*OPEN_STATES, CaseState.CLOSED):
        if state not in states:
            continue
        narrow = _narrow(cloud, wanted, (state,))
        number = number_of(connection, narrow, MOST_COUNTED)
        total += number
        left = wanted.limit - len(found)
        # The pages before are counted and not read.
        if left > 0 and number > skip:
            # OFFSET would be applied to each of the two places and not to both together.
            page = newest_cases(connection, narrow, skip + left, few=wanted.few)
            found += page[skip:]
        skip = max(skip - number, 0)
    return Listing(tuple(found), min(total, MOST_COUNTED))


def _narrow(cloud: str, wanted: Filter, states: tuple[CaseState, ...]) -> Narrow:
    equal = {name: getattr(wanted, name) for name in ("volume_id", "backend", "host", "rule")}
    beginnings = {"volume_id": wanted.volume, "instance_id": wanted.server}

    def narrow(table: sa.Table) -> sa.ColumnElement[bool]:
        narrowed = [table.c[name] == value for name, value in equal.items() if value is not None]
        narrowed += [begins(table.c[n], v.lower()) for n, v in beginnings.items() if v is not None]
        if states:
            narrowed.append(table.c.state.in_([state.value for state in states]))
        if wanted.project is not None:
            narrowed.append(_of_project(table, wanted.project))
        if wanted.since is not None:
            narrowed.append(table.c.opened_at >= wanted.since)
        return sa.and_(table.c.cloud == cloud, *narrowed)

    return narrow


def _of_project(table: sa.Table, project: str) -> sa.ColumnElement[bool]:
    """Return the condition that a notification of the case named this project."""
    # A case and its notifications are always in the same place.
    of = notifications if table is cases else ARCHIVE_OF[notifications]
    return sa.exists().where(of.c.case_id == table.c.case_id, of.c.project_id == project)


def last_heard(connection: sa.Connection, cloud: str) -> Mapping[tuple[str, str], datetime]:
    """Return when the last notification came from each source on each bus."""
    n = notifications.c
    last = (
        sa.select(n.source, n.bus, sa.func.max(n.received_at))
        .where(n.cloud == cloud)
        .group_by(n.source, n.bus)
    )
    return {(source, bus): at for source, bus, at in connection.execute(last)}


def backends(connection: sa.Connection, cloud: str) -> tuple[str, ...]:
    """Return the backends of the cases, in order."""
    named = (
        sa.select(table.c.backend).where(table.c.cloud == cloud, table.c.backend.is_not(None))
        for table in (cases, ARCHIVE_OF[cases])
    )
    return tuple(sorted(connection.execute(sa.union(*named)).scalars()))


def show_case(connection: sa.Connection, cloud: str, case_id: str) -> CaseRecord:
    """Return one case, by its id or the beginning of it. Raises NoSuchCaseError."""
    case = one_case(connection, cloud, case_id).case
    claim = connection.execute(
        sa.select(claims).where(
            claims.c.cloud == cloud,
            claims.c.volume_id == case.volume_id,
            claims.c.case_id == case.case_id,
        )
    ).first()

    def own(table: sa.Table, *order: str) -> list[Row]:
        return of_case(connection, case.case_id, table, *order)

    intended = own(intents, "intent_id")
    return CaseRecord(
        case=dataclasses.replace(case, intents=tuple(intent(row) for row in intended)),
        claimed_by=claim.owner if claim else None,
        lease_expires_at=claim.lease_expires_at if claim else None,
        notifications=tuple(
            NotificationRecord(NOTIFICATIONS.read(row), row.received_at, row.bus, row.body_sha256)
            for row in own(notifications, *RECEIPT_ORDER)
        ),
        history=tuple(_HISTORY.read(row) for row in own(history, "history_id")),
        intents=tuple(_INTENTS.read(row) for row in intended),
        outbox=tuple(_OUTBOX.read(row) for row in own(outbox, "outbox_id")),
    )


def _counting(*by: sa.Column[Any]) -> sa.Select[Any]:
    until, now = cases.c.acknowledged_until, sa.bindparam("now", type_=cases.c.opened_at.type)
    known = sa.and_(until.is_not(None), until > now)
    return (
        sa.select(
            *by,
            sa.func.count(),
            sa.func.sum(sa.case((known, 1), else_=0)),
            # Without ELSE it is NULL for those that are known, which min leaves out.
            sa.func.min(sa.case((~known, cases.c.opened_at))),
        )
        .where(
            cases.c.cloud == sa.bindparam("cloud"),
            cases.c.state.in_([state.value for state in OPEN_STATES]),
        )
        .group_by(*by)
    )


# Made once: the first is asked at each scrape, and takes less time than it takes to make it.
_BY_STATE = _counting(cases.c.state)
_BY_BACKEND = _counting(cases.c.state, cases.c.backend)


def count_cases(connection: sa.Connection, cloud: str) -> dict[CaseState, StateCount]:
    """Count the open cases of each state. Closed cases are not counted."""
    found = {CaseState(state): count for (state,), count in _counted(connection, cloud, _BY_STATE)}
    return {state: found.get(state, StateCount(0, 0.0)) for state in OPEN_STATES}


def count_by_backend(
    connection: sa.Connection, cloud: str
) -> dict[str | None, dict[CaseState, StateCount]]:
    """Count the open cases of each backend and state; of no backend where none is known yet."""
    found: dict[str | None, dict[CaseState, StateCount]] = {}
    for (state, backend), count in _counted(connection, cloud, _BY_BACKEND):
        found.setdefault(backend, {})[CaseState(state)] = count
    return found


def _counted(
    connection: sa.Connection, cloud: str, statement: sa.Select[Any]
) -> Iterator[tuple[tuple[Any, ...], StateCount]]:
    """Yield the open cases by what the statement counts by, with those acknowledged apart."""
    now = database_now(connection)
    for *key, count, known, oldest_at in connection.execute(
        statement, {"cloud": cloud, "now": now}
    ):
        age_seconds = _age(oldest_at, now)
        yield tuple(key), StateCount(count - int(known), age_seconds, int(known))


def _age(oldest_at: datetime | None, now: datetime) -> float:
    return 0.0 if oldest_at is None else max(0.0, (now - oldest_at).total_seconds())
