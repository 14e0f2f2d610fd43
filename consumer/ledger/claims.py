"""Who works on which volume: claims with a lease by database time and a fence.

A claim is the row of its volume in ``claims``. It is taken by a compare-and-swap: only where the
row has no owner, or one whose lease ran out, and by raising the fence, which never falls. Whoever
writes for a claim names owner and fence, and writes nothing where they are no longer the row's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.engine import database_now
from consumer.ledger.history import HistoryKind, note
from consumer.ledger.records import Row, whole_case
from consumer.ledger.tables import cases, claims, intents
from handlers.casefile import Case, CaseState, ClaimLostError

ROUNDS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One case in hand. ``fence`` grows with each claim of the volume."""

    case: Case
    fence: int
    owner: str
    claimed_at: datetime
    lease_expires_at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker asks for."""

    cloud: str
    owner: str
    limit: int
    lease_seconds: float
    deadlines: bool
    exclude_backends: Collection[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Free:
    """A volume's row that nobody holds; ``case_id`` is set where a lease ran out on that case."""

    fence: int
    case_id: str | None


def claim(connection: sa.Connection, wanted: Wanted) -> tuple[Claim, ...]:
    """Claim due cases, the oldest first, one a volume; others' rows are never waited for."""
    now = database_now(connection)
    taken: list[Claim] = []
    passed = _held(connection, wanted.cloud, now)
    for _ in range(ROUNDS):
        candidates = _candidates(connection, wanted, now, wanted.limit - len(taken), passed)
        if not candidates:
            break
        passed |= candidates.keys()
        taken += _take(connection, wanted, candidates, now)
        if len(taken) == wanted.limit:
            break
    return tuple(taken)


def renew(connection: sa.Connection, held: Claim, lease_seconds: float) -> None:
    """Extend a lease that has not run out; never shorten it. Raises ClaimLostError."""
    now = database_now(connection)
    until = now + timedelta(seconds=lease_seconds)
    later = sa.case((claims.c.lease_expires_at < until, until), else_=claims.c.lease_expires_at)
    statement = claims.update().where(*_own(held)).where(claims.c.lease_expires_at > now)
    if connection.execute(statement.values(lease_expires_at=later)).rowcount != 1:
        raise lost(held)


def hand_back(connection: sa.Connection, held: Claim) -> None:
    """Give a case back untouched: due at once, the attempt not counted. Raises ClaimLostError."""
    now = database_now(connection)
    release(connection, held)
    connection.execute(
        cases.update()
        .where(cases.c.case_id == held.case.case_id)
        .values(attempts=cases.c.attempts - 1, crashes=0, next_attempt_at=now, updated_at=now)
    )
    note(connection, held.case.case_id, HistoryKind.HANDED_BACK, held.owner, now, fence=held.fence)


def release(connection: sa.Connection, held: Claim) -> None:
    """Give the volume free, and keep its row locked until the transaction ends.

    Raises ClaimLostError where the volume has been claimed again since.
    """
    free = (
        claims.update().where(*_own(held)).values(owner=None, case_id=None, lease_expires_at=None)
    )
    if connection.execute(free).rowcount != 1:
        raise lost(held)


def hold(connection: sa.Connection, held: Claim) -> None:
    """Lock the volume's row until the transaction ends. Raises ClaimLostError as release does."""
    own = sa.select(claims.c.fence).where(*_own(held)).with_for_update()
    if connection.execute(own).first() is None:
        raise lost(held)


def lost(held: Claim) -> ClaimLostError:
    """Return the error for a claim that is no longer its owner's."""
    return ClaimLostError(
        f"the claim of {held.owner} on volume {held.case.volume_id} (fence {held.fence}) ran out"
    )


def _own(held: Claim) -> Iterator[sa.ColumnElement[bool]]:
    yield claims.c.cloud == held.case.cloud
    yield claims.c.volume_id == held.case.volume_id
    yield claims.c.owner == held.owner
    yield claims.c.fence == held.fence


def _due(wanted: Wanted, now: datetime) -> Iterator[sa.ColumnElement[bool]]:
    yield cases.c.cloud == wanted.cloud
    yield cases.c.next_attempt_at <= now
    if not wanted.deadlines:
        yield cases.c.state != CaseState.WAITING.value
    if wanted.exclude_backends:
        # A case whose backend nobody has named yet goes by "", so that it can be excluded as well.
        yield sa.func.coalesce(cases.c.backend, "").not_in(sorted(wanted.exclude_backends))


def _free(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(claims.c.owner.is_(None), claims.c.lease_expires_at <= now)


def _held(connection: sa.Connection, cloud: str, now: datetime) -> set[str]:
    """Return the volumes that somebody works on now: as many as there are workers."""
    held = sa.select(claims.c.volume_id).where(
        claims.c.cloud == cloud, claims.c.lease_expires_at > now
    )
    return set(connection.execute(held).scalars())


def _candidates(
    connection: sa.Connection, wanted: Wanted, now: datetime, limit: int, passed: Collection[str]
) -> dict[str, str]:
    """Return volumes and the oldest due case of each, without locking anything.

    One table, in the order of its index: a join here was planned quadratically by a PostgreSQL that
    had no statistics yet (0.6 s for 2,500 due cases).
    """
    statement = (
        sa.select(cases.c.volume_id, cases.c.case_id)
        .where(*_due(wanted, now))
        .order_by(cases.c.next_attempt_at)
        .limit(2 * limit)  # two cases of one volume count once
    )
    if passed:
        statement = statement.where(cases.c.volume_id.not_in(sorted(passed)))
    oldest: dict[str, str] = {}
    for row in connection.execute(statement):
        oldest.setdefault(row.volume_id, row.case_id)
    return dict(list(oldest.items())[:limit])


def _take(
    connection: sa.Connection, wanted: Wanted, candidates: Mapping[str, str], now: datetime
) -> list[Claim]:
    free = _lock_free(connection, wanted.cloud, candidates, now)
    rows = _still_due(connection, wanted, [candidates[v] for v in free], now)
    own = _intents(connection, [row.case_id for row in rows])
    taken = [
        _claim(row, own.get(row.case_id, ()), free[row.volume_id], wanted, now) for row in rows
    ]
    return [new for new in taken if _swap(connection, new)]


def _claim(row: Row, own: Sequence[Row], free: _Free, wanted: Wanted, now: datetime) -> Claim:
    """Return the claim to be. A lease that ran out on this very case is a crash of its attempt."""
    crashes = row.crashes + 1 if free.case_id == row.case_id else row.crashes
    case = dataclasses.replace(whole_case(row, own), attempts=row.attempts + 1, crashes=crashes)
    until = now + timedelta(seconds=wanted.lease_seconds)
    return Claim(case, free.fence + 1, wanted.owner, now, until)


def _lock_free(
    connection: sa.Connection, cloud: str, volumes: Collection[str], now: datetime
) -> dict[str, _Free]:
    statement = (
        sa.select(claims.c.volume_id, claims.c.fence, claims.c.case_id)
        .where(claims.c.cloud == cloud, claims.c.volume_id.in_(list(volumes)), _free(now))
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(statement)
    return {row.volume_id: _Free(row.fence, row.case_id) for row in rows}


def _still_due(
    connection: sa.Connection, wanted: Wanted, case_ids: Sequence[str], now: datetime
) -> Sequence[Row]:
    """Read the cases again: another worker may have finished one before its volume was locked."""
    statement = (
        sa.select(cases)
        .where(cases.c.case_id.in_(case_ids), *_due(wanted, now))
        .order_by(cases.c.next_attempt_at, cases.c.case_id)
    )
    return connection.execute(statement).all() if case_ids else ()


def _intents(connection: sa.Connection, case_ids: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    if case_ids:
        statement = sa.select(intents).where(intents.c.case_id.in_(case_ids))
        for row in connection.execute(statement.order_by(intents.c.intent_id)):
            found.setdefault(row.case_id, []).append(row)
    return found


def _swap(connection: sa.Connection, new: Claim) -> bool:
    values: dict[str, Any] = {
        "owner": new.owner,
        "case_id": new.case.case_id,
        "fence": new.fence,
        "claimed_at": new.claimed_at,
        "lease_expires_at": new.lease_expires_at,
    }
    swap = claims.update().where(
        claims.c.cloud == new.case.cloud,
        claims.c.volume_id == new.case.volume_id,
        claims.c.fence == new.fence - 1,
        _free(new.claimed_at),
    )
    if connection.execute(swap.values(values)).rowcount != 1:
        return False
    counted = cases.update().where(cases.c.case_id == new.case.case_id)
    connection.execute(counted.values(attempts=new.case.attempts, crashes=new.case.crashes))
    return True
