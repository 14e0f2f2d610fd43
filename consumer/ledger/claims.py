"""Who works on which volume: claims with a lease by database time and a fence.

A claim is the row of its volume in ``claims``. It is taken by a compare-and-swap: only where the
row has no owner, or one whose lease ran out, and by raising the fence, which never falls. Whoever
writes for a claim names owner and fence, and writes nothing where they are no longer the row's.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.engine import database_now
from consumer.ledger.history import HistoryKind, note
from consumer.ledger.records import Row, whole_case
from consumer.ledger.tables import cases, claims, intents
from handlers.casefile import Case, CaseState, ClaimLostError

ROUNDS = 3

# Made once: making a statement costs more than running it on SQLite.
_OWN = [
    claims.c[name] == sa.bindparam(f"held_{name}")
    for name in ("cloud", "volume_id", "owner", "fence")
]
_UNTIL = sa.bindparam("held_until", type_=claims.c.lease_expires_at.type)
_RENEW = (
    claims.update()
    .where(*_OWN, claims.c.lease_expires_at > sa.bindparam("held_now"))
    .values(
        lease_expires_at=sa.case(
            (claims.c.lease_expires_at < _UNTIL, _UNTIL), else_=claims.c.lease_expires_at
        )
    )
)
_RELEASE = claims.update().where(*_OWN).values(owner=None, case_id=None, lease_expires_at=None)
_HOLD = sa.select(claims.c.fence).where(*_OWN).with_for_update()
_SWAP = (
    claims.update()
    .where(
        claims.c.cloud == sa.bindparam("swap_cloud"),
        claims.c.volume_id == sa.bindparam("swap_volume_id"),
        claims.c.fence == sa.bindparam("swap_fence"),
        sa.or_(
            claims.c.owner.is_(None), claims.c.lease_expires_at <= sa.bindparam("swap_now")
        ),
    )
    .values({name: sa.bindparam(name) for name in (
        "owner", "case_id", "fence", "claimed_at", "lease_expires_at",
    )})
)  # fmt: skip
_COUNTED = (
    cases.update()
    .where(cases.c.case_id == sa.bindparam("counted_case_id"))
    .values(attempts=sa.bindparam("attempts"), crashes=sa.bindparam("crashes"))
)


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
    """What a worker asks for. ``room`` says how many more of a backend ("": unknown) it takes."""

    cloud: str
    owner: str
    limit: int
    lease_seconds: float
    deadlines: bool
    exclude_backends: Collection[str] = ()
    room: Callable[[str], int] | None = None


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
        asked = _narrowed(wanted, taken)
        candidates = _candidates(connection, asked, now, passed)
        if not candidates:
            break
        passed |= candidates.keys()
        taken += _take(connection, asked, candidates, now)
        if len(taken) == wanted.limit:
            break
    return tuple(taken)


def _narrowed(wanted: Wanted, taken: Sequence[Claim]) -> Wanted:
    """Return what is wanted still, beside what was taken: no more of a backend that is full."""
    if wanted.room is None or not taken:
        return dataclasses.replace(wanted, limit=wanted.limit - len(taken))
    room, of = wanted.room, Counter(claim.case.backend or "" for claim in taken)
    full = {backend for backend, number in of.items() if number >= room(backend)}
    return dataclasses.replace(
        wanted,
        limit=wanted.limit - len(taken),
        exclude_backends=full.union(wanted.exclude_backends),
        room=lambda backend: room(backend) - of[backend],
    )


def renew(connection: sa.Connection, held: Claim, lease_seconds: float) -> None:
    """Extend a lease that has not run out; never shorten it. Raises ClaimLostError."""
    now = database_now(connection)
    until = now + timedelta(seconds=lease_seconds)
    extended = connection.execute(_RENEW, _own(held) | {"held_now": now, "held_until": until})
    if extended.rowcount != 1:
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
    if connection.execute(_RELEASE, _own(held)).rowcount != 1:
        raise lost(held)


def hold(connection: sa.Connection, held: Claim) -> None:
    """Lock the volume's row until the transaction ends. Raises ClaimLostError as release does."""
    if connection.execute(_HOLD, _own(held)).first() is None:
        raise lost(held)


def lost(held: Claim) -> ClaimLostError:
    """Return the error for a claim that is no longer its owner's."""
    return ClaimLostError(
        f"the claim of {held.owner} on volume {held.case.volume_id} (fence {held.fence}) ran out"
    )


def _own(held: Claim) -> dict[str, Any]:
    """Name the row that is this claim's as long as it holds, for the statements above."""
    return {
        "held_cloud": held.case.cloud,
        "held_volume_id": held.case.volume_id,
        "held_owner": held.owner,
        "held_fence": held.fence,
    }


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
    connection: sa.Connection, wanted: Wanted, now: datetime, passed: Collection[str]
) -> dict[str, str]:
    """Return volumes and the oldest due case of each, without locking anything.

    One table, in the order of its index: a join here was planned quadratically by a PostgreSQL that
    had no statistics yet (0.6 s for 2,500 due cases).
    """
    statement = (
        sa.select(cases.c.volume_id, cases.c.case_id, cases.c.backend)
        .where(*_due(wanted, now))
        .order_by(cases.c.next_attempt_at)
        .limit(2 * wanted.limit)  # two cases of one volume count once
    )
    if passed:
        statement = statement.where(cases.c.volume_id.not_in(sorted(passed)))
    oldest: dict[str, str] = {}
    of: Counter[str] = Counter()
    for volume_id, case_id, backend in connection.execute(statement):
        has_room = wanted.room is None or of[backend or ""] < wanted.room(backend or "")
        if has_room and volume_id not in oldest:
            oldest[volume_id] = case_id
            of[backend or ""] += 1
    return dict(list(oldest.items())[: wanted.limit])


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
        "swap_cloud": new.case.cloud,
        "swap_volume_id": new.case.volume_id,
        "swap_fence": new.fence - 1,
        "swap_now": new.claimed_at,
    }
    if connection.execute(_SWAP, values).rowcount != 1:
        return False
    counted = {"attempts": new.case.attempts, "crashes": new.case.crashes}
    connection.execute(_COUNTED, {"counted_case_id": new.case.case_id, **counted})
    return True
