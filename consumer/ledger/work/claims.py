"""Claims: which worker works on which volume, with a lease by database time and a fence.

A claim is the row of its volume in ``claims``. Invariants, on each database:

1. At most one worker has a volume: the table's key is (cloud, volume), and a worker gets a row by a
   compare-and-swap of its fence, only if it has no owner or its lease has ended (``_SWAP``).
2. The fence of a volume never falls. Each claim raises it, and the row of a volume whose row was
   deleted begins with the fence that ``locks`` keeps.
3. A write for a claim gives owner and fence, and has no effect if they are no longer those of the
   row (``OWN``). The row stays locked until that transaction ends, so that no worker can claim it
   in between.
4. A lease that has ended is not renewed, and no renewal shortens one (``RENEWAL``). Its owner may
   still finish, as long as no other worker has claimed the volume.
5. All times are those of the database's clock. The nodes of a cluster have several: there a lease
   of another worker has ended only ``galera.CLOCKS_APART`` after its time.
6. A worker never waits for a row that another has locked; it skips the row.
7. A claim of a case whose lease had ended counts as a crash of that case.
8. A lease ends before its time in one case only: its owner is proven dead (``end_leases``). It ends
   now, not before, because a call of that owner may have begun until its death.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database import galera
from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.records import CASES, Row, Values
from consumer.ledger.database.tables import cases, claims, intents
from consumer.ledger.work.beside import open_cases_beside
from consumer.ledger.work.known import known_volumes, unseen_findings
from consumer.ledger.work.late import late_calls
from handlers.case import (
    Case,
    CaseState,
    ClaimLostError,
    Intent,
    StepKind,
    StepResult,
)
from handlers.recovery.summary import grounds

OWN = [
    claims.c[name] == sa.bindparam(f"claim_{name}")
    for name in ("cloud", "volume_id", "owner", "fence")
]
# With its type, as the CASE around it hides from SQLAlchemy which column it is for.
_UNTIL = sa.bindparam("claim_until", type_=claims.c.lease_expires_at.type)
RENEWAL = (
    claims.update()
    .where(*OWN, claims.c.lease_expires_at > sa.bindparam("claim_now"))
    .values(
        lease_expires_at=sa.case(
            (claims.c.lease_expires_at < _UNTIL, _UNTIL), else_=claims.c.lease_expires_at
        ),
        turn=claims.c.turn + 1,  # so that the row changes even if the lease does not (``galera``)
    )
)
_RENEW = Prepared(RENEWAL)
_RELEASE = Prepared(
    claims.update().where(*OWN).values(owner=None, case_id=None, lease_expires_at=None)
)
_LOCK = Prepared(sa.select(claims.c.fence).where(*OWN).with_for_update())
_LOCK_EVERYWHERE = Prepared(claims.update().where(*OWN).values(turn=claims.c.turn + 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A claimed case. ``fence`` grows with each claim of the volume."""

    case: Case
    fence: int
    owner: str
    claimed_at: datetime
    lease_expires_at: datetime


def renew(connection: sa.Connection, claim: Claim, lease_seconds: float) -> None:
    """Extend a lease that has not ended; never shorten it. Raises ClaimLostError."""
    if _RENEW.run(connection, renewed(claim, database_now(connection), lease_seconds)) != 1:
        raise claim_lost(claim)


def release_case(connection: sa.Connection, claim: Claim, delay_seconds: float) -> None:
    """Make the case due after the delay, and do not count the attempt. Raises ClaimLostError."""
    now = database_now(connection)
    due_at = now + timedelta(seconds=delay_seconds)
    free_volume(connection, claim)
    connection.execute(
        cases.update()
        .where(cases.c.case_id == claim.case.case_id)
        .values(attempts=cases.c.attempts - 1, crashes=0, next_attempt_at=due_at, updated_at=now)
    )
    note(
        connection, claim.case.case_id, HistoryKind.HANDED_BACK, claim.owner, now, fence=claim.fence
    )


def free_volume(connection: sa.Connection, claim: Claim) -> None:
    """End the claim on the volume, and keep its row locked until the transaction ends.

    Raises ClaimLostError if the volume was claimed again since.
    """
    if _RELEASE.run(connection, own(claim)) != 1:
        raise claim_lost(claim)


def end_leases(connection: sa.Connection, cloud: str, owner: str) -> int:
    """End the leases of an owner that is proven dead, as if they had run out; return how many."""
    now = database_now(connection)
    lasting = (claims.c.cloud == cloud, claims.c.owner == owner, claims.c.lease_expires_at > now)
    ended = claims.update().where(*lasting).values(lease_expires_at=now, turn=claims.c.turn + 1)
    return connection.execute(ended).rowcount


def lock_claim(connection: sa.Connection, claim: Claim) -> None:
    """Lock the volume's row until the transaction ends. Raises ClaimLostError."""
    if galera.is_node(connection):
        locked = _LOCK_EVERYWHERE.run(connection, own(claim)) == 1
    else:
        locked = _LOCK.finds(connection, own(claim))
    if not locked:
        raise claim_lost(claim)


def claim_lost(claim: Claim) -> ClaimLostError:
    """Return the error for a claim that has ended."""
    volume, fence = claim.case.volume_id, claim.fence
    return ClaimLostError(
        f"the claim of {claim.owner} on volume {volume} (fence {fence}) has ended"
    )


def renewed(claim: Claim, now: datetime, lease_seconds: float) -> dict[str, Any]:
    """Return the values for ``RENEWAL``."""
    return own(claim) | {"claim_now": now, "claim_until": now + timedelta(seconds=lease_seconds)}


def own(claim: Claim) -> dict[str, Any]:
    """Return the values for ``OWN``: they select the claim's row while the claim lasts."""
    return {
        "claim_cloud": claim.case.cloud,
        "claim_volume_id": claim.case.volume_id,
        "claim_owner": claim.owner,
        "claim_fence": claim.fence,
    }


# The candidates of one round may all be locked or taken by other workers; then the next ones are
# tried.
ROUNDS = 3

_DUE = (
    cases.c.cloud == sa.bindparam("cloud"),
    cases.c.next_attempt_at <= sa.bindparam("now"),
    cases.c.state != sa.bindparam("left_alone"),
    # An unknown backend is "", so that it can be excluded too.
    sa.func.coalesce(cases.c.backend, "").not_in(sa.bindparam("excluded", expanding=True)),
)
# No join: without statistics PostgreSQL planned it with quadratic cost (0.6 s for 2,500 due cases).
# This subquery is evaluated once, and has at most as many rows as there are workers.
_WORKED_ON = sa.select(claims.c.volume_id).where(
    claims.c.cloud == sa.bindparam("cloud"), claims.c.lease_expires_at > sa.bindparam("lapsed")
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
        sa.or_(claims.c.owner.is_(None), claims.c.lease_expires_at <= sa.bindparam("lapsed")),
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
        sa.func.coalesce(intents.c.result_at, intents.c.intended_at) < sa.bindparam("ran_out_at"),
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
            claims.c.owner.is_(None), claims.c.lease_expires_at <= sa.bindparam("swap_lapsed")
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
    """What a worker can claim. ``room``: how many more cases of a backend ("": unknown)."""

    cloud: str
    owner: str
    limit: int
    lease_seconds: float
    deadlines: bool
    exclude_backends: Collection[str] = ()
    room: Callable[[str], int] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Free:
    """The row of a volume without a valid claim; ``case_id``: the case whose lease has ended."""

    fence: int
    case_id: str | None
    ran_out_at: datetime | None = None


def claim(connection: sa.Connection, request: ClaimRequest) -> tuple[Claim, ...]:
    """Claim due cases, the oldest first, one of each volume; never wait for locked rows."""
    now = database_now(connection)
    claimed: list[Claim] = []
    passed: set[str] = set()
    for _ in range(ROUNDS):
        remaining = _narrowed(request, claimed)
        candidates = _candidates(connection, remaining, now, passed)
        if not candidates:
            break
        # Also those that were claimed, and those whose rows others had locked: none is worth a
        # second look now.
        passed |= candidates.keys()
        claimed += _claim_free(connection, remaining, candidates, now)
        if len(claimed) == request.limit:
            break
    return tuple(claimed)


def _narrowed(request: ClaimRequest, claimed: Sequence[Claim]) -> ClaimRequest:
    """Return the request without what is claimed, and without backends that are full now."""
    if request.room is None or not claimed:
        return dataclasses.replace(request, limit=request.limit - len(claimed))
    room, of = request.room, Counter(claim.case.backend or "" for claim in claimed)
    # What this call has claimed is not in the slots yet.
    full = {backend for backend, number in of.items() if number >= room(backend)}
    return dataclasses.replace(
        request,
        limit=request.limit - len(claimed),
        exclude_backends=full.union(request.exclude_backends),
        room=lambda backend: room(backend) - of[backend],
    )


def _due(request: ClaimRequest, now: datetime) -> dict[str, Any]:
    """Return the values for ``_DUE``."""
    return {
        "cloud": request.cloud,
        "now": now,
        # No state is "", so nothing is left out.
        "left_alone": "" if request.deadlines else CaseState.WAITING.value,
        "excluded": sorted(request.exclude_backends),
    }


def _candidates(
    connection: sa.Connection, request: ClaimRequest, now: datetime, passed: Collection[str]
) -> dict[str, str]:
    """Return volumes and the oldest due case of each, without locking anything."""
    most = 2 * request.limit  # two cases of one volume count once
    parameters = _due(request, now) | {"passed": sorted(passed), "most": most}
    parameters["lapsed"] = now - galera.slack(connection)
    oldest: dict[str, str] = {}
    of: Counter[str] = Counter()
    for volume_id, case_id, backend in connection.execute(_OLDEST, parameters):
        has_room = request.room is None or of[backend or ""] < request.room(backend or "")
        if has_room and volume_id not in oldest:
            oldest[volume_id] = case_id
            of[backend or ""] += 1
    # The statement ordered them: the oldest first.
    return dict(list(oldest.items())[: request.limit])


def _claim_free(
    connection: sa.Connection, request: ClaimRequest, candidates: Mapping[str, str], now: datetime
) -> list[Claim]:
    free = _lock_free(connection, request.cloud, candidates, now)
    due = _still_due(connection, request, [candidates[v] for v in free], now)
    _end_calls_of_crashes(connection, free.values())
    more = gathered(connection, request.cloud, {row.case_id: row.volume_id for row in due})
    until = now + timedelta(seconds=request.lease_seconds)
    claimed = [
        Claim(
            # Made once: twenty copies of a case take as long as two statements.
            case=CASES.read(row, more[row.case_id] | _counted(row, free[row.volume_id])),
            # What is decided with the old number is refused from the swap on.
            fence=free[row.volume_id].fence + 1,
            owner=request.owner,
            claimed_at=now,
            lease_expires_at=until,
        )
        for row in due
    ]
    # Only the swap decides: on SQLite the rows were not locked when they were read.
    ours = [new for new in claimed if _swap(connection, new)]
    if ours:
        _COUNTED.run(connection, *map(_counters, ours))
    return ours


def gathered(
    connection: sa.Connection, cloud: str, volume_of: Mapping[str, str]
) -> dict[str, Values]:
    """Return, for each case id, the fields of ``handlers.case.GATHERED``.

    And ``volume_seen``, if another case of the volume or a sweep shows it.
    """
    volumes = set(volume_of.values())
    own = _intents(connection, list(volume_of))
    late = late_calls(connection, cloud, volumes)
    known = known_volumes(connection, cloud, volumes)
    unseen = unseen_findings(connection, cloud, volume_of)
    beside = open_cases_beside(connection, cloud, volume_of)
    return {
        case_id: {
            "intents": tuple(own.get(case_id, ())),
            "late": late[volume_id],
            "deletion_told": known[volume_id].deleted,
            "unseen_finding": case_id in unseen,
            "beside": beside[case_id],
        }
        | ({"volume_seen": True} if known[volume_id].seen else {})
        for case_id, volume_id in volume_of.items()
    }


def _end_calls_of_crashes(connection: sa.Connection, free: Iterable[_Free]) -> None:
    """Record an end time for calls that a crash left open: the end of the lease."""
    # A call may begin long after its intent, for example after a slow look. But it never lasts
    # longer than the lease.
    crashed = [
        {"crashed": row.case_id, "crashed_fence": row.fence, "ran_out_at": row.ran_out_at}
        for row in free
        if row.case_id is not None and row.ran_out_at is not None
    ]
    if crashed:
        connection.execute(_CALLS_ENDED, crashed)


def _counted(row: Row, free: _Free) -> Values:
    """Count the attempt. If the case's own lease had ended, it counts as a crash too."""
    # Counted at the claim, so that an attempt that ends in a crash counts too.
    return {
        "attempts": row.attempts + 1,
        "crashes": row.crashes + (free.case_id == row.case_id),
    }


def _lock_free(
    connection: sa.Connection, cloud: str, volumes: Collection[str], now: datetime
) -> dict[str, _Free]:
    lapsed = now - galera.slack(connection)
    parameters = {"cloud": cloud, "volumes": list(volumes), "lapsed": lapsed}
    rows = connection.execute(_FREE, parameters)
    return {row.volume_id: _Free(row.fence, row.case_id, row.lease_expires_at) for row in rows}


def _still_due(
    connection: sa.Connection, request: ClaimRequest, case_ids: Sequence[str], now: datetime
) -> Sequence[Row]:
    """Read the cases again: another worker may have finished one before its volume was locked."""
    if not case_ids:
        return ()
    return connection.execute(_STILL_DUE, _due(request, now) | {"case_ids": case_ids}).all()


def _intents(connection: sa.Connection, case_ids: Sequence[str]) -> dict[str, list[Intent]]:
    found: dict[str, list[Intent]] = {}
    for row in connection.execute(_INTENTS, {"case_ids": case_ids}) if case_ids else ():
        found.setdefault(row.case_id, []).append(intent(row))
    return found


def intent(row: Row) -> Intent:
    """Return the intent of a row, for recovery."""
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
        "swap_lapsed": new.claimed_at - galera.slack(connection),
    }
    return _SWAP.run(connection, values) == 1


def _counters(new: Claim) -> dict[str, Any]:
    case = new.case
    return {"counted_case_id": case.case_id, "attempts": case.attempts, "crashes": case.crashes}
