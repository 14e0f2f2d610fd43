"""Who works on which volume: claims with a lease by database time and a fence.

A claim is the row of its volume in ``claims``. It is taken by a compare-and-swap: only where the
row has no owner, or one whose lease ran out, and by raising the fence, which never falls. Whoever
writes for a claim names owner and fence, and writes nothing where they are no longer the row's.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import cases, claims
from consumer.ledger.work.history import HistoryKind, note
from handlers.case import Case, ClaimLostError

OWN = [
    claims.c[name] == sa.bindparam(f"held_{name}")
    for name in ("cloud", "volume_id", "owner", "fence")
]
_UNTIL = sa.bindparam("held_until", type_=claims.c.lease_expires_at.type)
RENEWAL = (
    claims.update()
    .where(*OWN, claims.c.lease_expires_at > sa.bindparam("held_now"))
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
_HOLD = Prepared(sa.select(claims.c.fence).where(*OWN).with_for_update())


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One case in hand. ``fence`` grows with each claim of the volume."""

    case: Case
    fence: int
    owner: str
    claimed_at: datetime
    lease_expires_at: datetime


def renew(connection: sa.Connection, held: Claim, lease_seconds: float) -> None:
    """Extend a lease that has not run out; never shorten it. Raises ClaimLostError."""
    if _RENEW.run(connection, renewed(held, database_now(connection), lease_seconds)) != 1:
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
    if _RELEASE.run(connection, own(held)) != 1:
        raise lost(held)


def hold(connection: sa.Connection, held: Claim) -> None:
    """Lock the volume's row until the transaction ends. Raises ClaimLostError as release does."""
    if not _HOLD.finds(connection, own(held)):
        raise lost(held)


def lost(held: Claim) -> ClaimLostError:
    """Return the error for a claim that is no longer its owner's."""
    return ClaimLostError(
        f"the claim of {held.owner} on volume {held.case.volume_id} (fence {held.fence}) ran out"
    )


def renewed(held: Claim, now: datetime, lease_seconds: float) -> dict[str, Any]:
    """Say whose lease lasts how long, for ``RENEWAL``."""
    return own(held) | {"held_now": now, "held_until": now + timedelta(seconds=lease_seconds)}


def own(held: Claim) -> dict[str, Any]:
    """Name the row that is this claim's as long as it holds, for ``OWN``."""
    return {
        "held_cloud": held.case.cloud,
        "held_volume_id": held.case.volume_id,
        "held_owner": held.owner,
        "held_fence": held.fence,
    }
