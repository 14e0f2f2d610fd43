"""Who works on which volume: claims with a lease by database time and a fence.

A claim is the row of its volume in ``claims``. What holds at every moment, on each database:

1. One worker at most has a volume: the table's key is (cloud, volume), and a row is taken by a
   compare-and-swap of its fence, only where it has no owner or its lease has run out (``_SWAP``).
2. The fence of a volume never falls. Each claim raises it, and the row of a volume that was
   forgotten begins where ``locks`` says.
3. Whoever writes for a claim names owner and fence, and writes nothing where they are no longer the
   row's (``OWN``). The row stays locked until that transaction ends, so nobody claims in between.
4. A lease that has run out is not renewed, and no renewal shortens one (``RENEWAL``). Its owner may
   still finish, as long as nobody else has claimed the volume.
5. Only the database's clock is asked.
6. A worker never waits for another's row: what is locked is passed over.
7. A claim that finds a lease run out on this very case counts a crash of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import CASES, Row
from consumer.ledger.database.tables import cases, claims, intents
from consumer.ledger.work.late import late_calls
from handlers.case import Case, CaseState, ClaimLostError, Intent, LateCalls, StepKind, StepResult
from handlers.recovery.summary import grounds

OWN = [
    claims.c[name] == sa.bindparam(f"claim_{name}")
    for name in ("cloud", "volume_id", "owner", "fence")
]
_UNTIL = sa.bindparam("claim_until", type_=claims.c.lease_expires_at.type)
RENEWAL = (
    claims.update()
    .where(*OWN, claims.c.lease_expires_at > sa.bindparam("claim_now"))
    .values(
        lease_expires_at=sa.case(
            (claims.c.lease_expires_at < _UNTIL, _UNTIL), else_=claims.c.lease_expires_at
        )
    )
)
_RENEW = Prepared(RENEWAL)
_RELEASE = Prepared(
    claims.update().where(*OWN).values(owner=None, case_id=None, lease_expires_at=None)
)
_LOCK = Prepared(sa.select(claims.c.fence).where(*OWN).with_for_update())


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One case in hand. ``fence`` grows with each claim of the volume."""

    case: Case
    fence: int
    owner: str
    claimed_at: datetime
    lease_expires_at: datetime


def renew(connection: sa.Connection, claim: Claim, lease_seconds: float) -> None:
    """Extend a lease that has not run out; never shorten it. Raises ClaimLostError."""
    if _RENEW.run(connection, renewed(claim, database_now(connection), lease_seconds)) != 1:
        raise claim_lost(claim)


def release_case(connection: sa.Connection, claim: Claim) -> None:
    """Give a case back untouched: due at once, the attempt not counted. Raises ClaimLostError."""
    now = database_now(connection)
    free_volume(connection, claim)
    connection.execute(
        cases.update()
        .where(cases.c.case_id == claim.case.case_id)
        .values(attempts=cases.c.attempts - 1, crashes=0, next_attempt_at=now, updated_at=now)
    )
    note(
        connection, claim.case.case_id, HistoryKind.HANDED_BACK, claim.owner, now, fence=claim.fence
    )


def free_volume(connection: sa.Connection, claim: Claim) -> None:
    """Give the volume free, and keep its row locked until the transaction ends.

    Raises ClaimLostError where the volume has been claimed again since.
    """
    if _RELEASE.run(connection, own(claim)) != 1:
        raise claim_lost(claim)


def lock_claim(connection: sa.Connection, claim: Claim) -> None:
    """Lock the volume's row until the transaction ends. Raises ClaimLostError as release does."""
    if not _LOCK.finds(connection, own(claim)):
        raise claim_lost(claim)


def claim_lost(claim: Claim) -> ClaimLostError:
    """Return the error for a claim that is no longer its owner's."""
    volume, fence = claim.case.volume_id, claim.fence
    return ClaimLostError(
        f"the claim of {claim.owner} on volume {volume} (fence {fence}) has ended"
    )


def renewed(claim: Claim, now: datetime, lease_seconds: float) -> dict[str, Any]:
    """Say whose lease lasts how long, for ``RENEWAL``."""
    return own(claim) | {"claim_now": now, "claim_until": now + timedelta(seconds=lease_seconds)}


def own(claim: Claim) -> dict[str, Any]:
    """Name the row that is this claim's as long as it holds, for ``OWN``."""
    return {
        "claim_cloud": claim.case.cloud,
        "claim_volume_id": claim.case.volume_id,
        "claim_owner": claim.owner,
        "claim_fence": claim.fence,
    }


ROUNDS = 3

_DUE = (
    cases.c.cloud == sa.bindparam("cloud"),
    cases.c.next_attempt_at <= sa.bindparam("now"),
    cases.c.state != sa.bindparam("left_alone"),
    # A case whose backend nobody has named yet goes by "", so that it can be excluded as well.
    sa.func.coalesce(cases.c.backend, "").not_in(sa.bindparam("excluded", expanding=True)),
)
# No join: that was planned quadratically by a PostgreSQL that had no statistics yet (0.6 s for
# 2,500 due cases). What somebody works on is looked up once, and there is as much of it as there
# are workers.
_WORKED_ON = sa.select(claims.c.volume_id).where(
    claims.c.cloud == sa.bindparam("cloud"), claims.c.lease_expires_at > sa.bindparam("now")
)
_OLDEST = (
    sa.select(cases.c.volume_id, cases.c.case_id, cases.c.backend)
    .where(
        *_DUE,
        cases.c.volume_id.not_in(_WORKED_ON),
        cases.c.volume_id.not_in(sa.bindparam("passed", expanding=True)),
    )
    .order_by(cases.c.next_attempt_at)
    .limit(sa.bindparam("most", type_=sa.Integer()))
)
_FREE = (
    sa.select(claims.c.volume_id, claims.c.fence, claims.c.case_id, claims.c.lease_expires_at)
    .where(
        claims.c.cloud == sa.bindparam("cloud"),
        claims.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
        sa.or_(claims.c.owner.is_(None), claims.c.lease_expires_at <= sa.bindparam("now")),
    )
    .with_for_update(skip_locked=True)
)
_STILL_DUE = (
    sa.select(cases)
    .where(cases.c.case_id.in_(sa.bindparam("case_ids", expanding=True)), *_DUE)
    .order_by(cases.c.next_attempt_at, cases.c.case_id)
)
_INTENTS = (
    sa.select(intents)
    .where(intents.c.case_id.in_(sa.bindparam("case_ids", expanding=True)))
    .order_by(intents.c.intent_id)
)
_CALLS_ENDED = (
    intents.update()
    .where(
        intents.c.case_id == sa.bindparam("crashed"),
        intents.c.fence == sa.bindparam("crashed_fence"),
        intents.c.result == StepResult.INTENDED.value,
        intents.c.result_at.is_(None),
        intents.c.intended_at < sa.bindparam("ran_out_at"),
    )
    .values(result_at=sa.bindparam("ran_out_at"))
)
_SWAP = Prepared(
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
_COUNTED = Prepared(
    cases.update()
    .where(cases.c.case_id == sa.bindparam("counted_case_id"))
    .values(attempts=sa.bindparam("attempts"), crashes=sa.bindparam("crashes"))
)


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimRequest:
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
    ran_out_at: datetime | None = None


def claim(connection: sa.Connection, request: ClaimRequest) -> tuple[Claim, ...]:
    """Claim due cases, the oldest first, one a volume; others' rows are never waited for."""
    now = database_now(connection)
    claimed: list[Claim] = []
    passed: set[str] = set()
    for _ in range(ROUNDS):
        remaining = _narrowed(request, claimed)
        candidates = _candidates(connection, remaining, now, passed)
        if not candidates:
            break
        passed |= candidates.keys()
        claimed += _claim_free(connection, remaining, candidates, now)
        if len(claimed) == request.limit:
            break
    return tuple(claimed)


def _narrowed(request: ClaimRequest, claimed: Sequence[Claim]) -> ClaimRequest:
    """Return what is wanted still, beside what was taken: no more of a backend that is full."""
    if request.room is None or not claimed:
        return dataclasses.replace(request, limit=request.limit - len(claimed))
    room, of = request.room, Counter(claim.case.backend or "" for claim in claimed)
    full = {backend for backend, number in of.items() if number >= room(backend)}
    return dataclasses.replace(
        request,
        limit=request.limit - len(claimed),
        exclude_backends=full.union(request.exclude_backends),
        room=lambda backend: room(backend) - of[backend],
    )


def _due(request: ClaimRequest, now: datetime) -> dict[str, Any]:
    """Say what is due, for the statements above."""
    return {
        "cloud": request.cloud,
        "now": now,
        "left_alone": "" if request.deadlines else CaseState.WAITING.value,
        "excluded": sorted(request.exclude_backends),
    }


def _candidates(
    connection: sa.Connection, request: ClaimRequest, now: datetime, passed: Collection[str]
) -> dict[str, str]:
    """Return volumes and the oldest due case of each, without locking anything."""
    most = 2 * request.limit  # two cases of one volume count once
    parameters = _due(request, now) | {"passed": sorted(passed), "most": most}
    oldest: dict[str, str] = {}
    of: Counter[str] = Counter()
    for volume_id, case_id, backend in connection.execute(_OLDEST, parameters):
        has_room = request.room is None or of[backend or ""] < request.room(backend or "")
        if has_room and volume_id not in oldest:
            oldest[volume_id] = case_id
            of[backend or ""] += 1
    return dict(list(oldest.items())[: request.limit])


def _claim_free(
    connection: sa.Connection, request: ClaimRequest, candidates: Mapping[str, str], now: datetime
) -> list[Claim]:
    free = _lock_free(connection, request.cloud, candidates, now)
    due = _still_due(connection, request, [candidates[v] for v in free], now)
    _end_calls_of_crashes(connection, free.values())
    own = _intents(connection, [case.case_id for case in due])
    late = late_calls(connection, request.cloud, {case.volume_id for case in due})
    until = now + timedelta(seconds=request.lease_seconds)
    claimed = [
        Claim(
            case=_counted(case, free[case.volume_id], own.get(case.case_id, ()), late),
            fence=free[case.volume_id].fence + 1,
            owner=request.owner,
            claimed_at=now,
            lease_expires_at=until,
        )
        for case in due
    ]
    # The swap alone decides: what was read before holds only where rows can be locked.
    return [new for new in claimed if _swap(connection, new)]


def _end_calls_of_crashes(connection: sa.Connection, free: Iterable[_Free]) -> None:
    """Note when the calls were given up at the latest that a crash left open: as the lease ran out.

    A call is made long after it was meant where the look before it is slow, or is repeated, but
    never so late that it could outlast the lease.
    """
    crashed = [
        {"crashed": row.case_id, "crashed_fence": row.fence, "ran_out_at": row.ran_out_at}
        for row in free
        if row.case_id is not None and row.ran_out_at is not None
    ]
    if crashed:
        connection.execute(_CALLS_ENDED, crashed)


def _counted(case: Case, free: _Free, own: Sequence[Intent], late: Mapping[str, LateCalls]) -> Case:
    """Return the case to be. A lease that ran out on this very case is a crash of its attempt."""
    return dataclasses.replace(
        case,
        attempts=case.attempts + 1,
        crashes=case.crashes + (free.case_id == case.case_id),
        intents=tuple(own),
        late=late[case.volume_id],
    )


def _lock_free(
    connection: sa.Connection, cloud: str, volumes: Collection[str], now: datetime
) -> dict[str, _Free]:
    parameters = {"cloud": cloud, "volumes": list(volumes), "now": now}
    rows = connection.execute(_FREE, parameters)
    return {row.volume_id: _Free(row.fence, row.case_id, row.lease_expires_at) for row in rows}


def _still_due(
    connection: sa.Connection, request: ClaimRequest, case_ids: Sequence[str], now: datetime
) -> Sequence[Case]:
    """Read the cases again: another worker may have finished one before its volume was locked."""
    if not case_ids:
        return ()
    rows = connection.execute(_STILL_DUE, _due(request, now) | {"case_ids": case_ids})
    return [CASES.read(row) for row in rows]


def _intents(connection: sa.Connection, case_ids: Sequence[str]) -> dict[str, list[Intent]]:
    found: dict[str, list[Intent]] = {}
    for row in connection.execute(_INTENTS, {"case_ids": case_ids}) if case_ids else ():
        found.setdefault(row.case_id, []).append(intent(row))
    return found


def intent(row: Row) -> Intent:
    """Read what recovery has to know of an intent."""
    return Intent(
        kind=StepKind(row.kind),
        result=StepResult(row.result),
        request_id=row.request_id,
        attempt=row.attempt,
        attachment_id=row.target.get("attachment_id"),
        intended_at=row.intended_at,
        grounds=grounds(row.evidence),
    )


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
    if _SWAP.run(connection, values) != 1:
        return False
    counted = {"attempts": new.case.attempts, "crashes": new.case.crashes}
    _COUNTED.run(connection, {"counted_case_id": new.case.case_id, **counted})
    return True
