"""The fences that stand: which client of which backend is refused, for which case, and until when.

1. A fence is written down with the intent to make it, in the same transaction, so that none is made
   that is on no record.
2. It is over when it has run out and is needed no more, when a person has lifted it, when somebody
   has removed it in the cluster, or when it turns out that it was never made.
3. A call and a lift of the same client exclude one another: the cluster may carry them out in
   either order, and would refuse a client of which no record says so, or let in one that a case
   relies on.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.engine import PartOfLedger, database_now
from consumer.ledger.database.records import Stored
from consumer.ledger.database.tables import fences
from consumer.ledger.decisions.decisions import DecisionKind, Word, decide
from consumer.ledger.errors import NoSuchFenceError, WrongStateError
from handlers.case import Case, PausedError, StepResult

CLIENT = "client"
"""The name in a step's target of the address of the client that it ends."""


class FenceState(enum.Enum):
    """Whether it stands."""

    INTENDED = "intended"
    STANDING = "standing"
    LIFTING = "lifting"
    OVER = "over"


@dataclasses.dataclass(frozen=True, slots=True)
class Fence:
    """A fence on record; database times, but for ``until``, which is the cluster's.

    ``trouble``: why it is not as it is meant to be, lifted or made again, where it is not.
    """

    fence_id: int
    backend: str
    cluster: str | None
    address: str
    client: str | None
    host: str | None
    volume_id: str
    attachment_id: str | None
    case_id: str
    state: FenceState
    reason: str
    fenced_at: datetime
    until: datetime | None
    renewed_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    ended_why: str | None
    trouble: str | None = None

    @property
    def began_at(self) -> datetime:
        """When its present span began."""
        return self.renewed_at or self.fenced_at


_FENCE = Stored(Fence, fences)


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a call is about to make: the step's target, the call's request id, and the reason."""

    target: Mapping[str, Any]
    request_id: str
    reason: str


class Fences(PartOfLedger):
    """The fences of one cloud."""

    def standing(self) -> tuple[Fence, ...]:
        """Return those that are not over, the oldest first."""
        wanted = fences.c.state != FenceState.OVER.value
        return self._read(_read, wanted)

    def ages(self) -> Mapping[str, tuple[int, float]]:
        """Return for each backend that has fences how many, and the age of the oldest in seconds.

        Those that are being lifted count: the cluster may not have answered.
        """

        def count(connection: sa.Connection) -> dict[str, tuple[int, float]]:
            standing = _read(connection, self._cloud, fences.c.state != FenceState.OVER.value)
            now = database_now(connection)
            ages: dict[str, tuple[int, float]] = {}
            for fence in reversed(standing):  # the oldest one last
                number = ages.get(fence.backend, (0, 0.0))[0] + 1
                ages[fence.backend] = (number, (now - fence.fenced_at).total_seconds())
            return ages

        return self._database.read(count)

    def every(self, limit: int) -> tuple[Fence, ...]:
        """Return those on record, also those that are over, the newest first."""
        return self._read(_read, sa.true(), newest=limit)

    def one(self, fence_id: int) -> Fence:
        """Return one. Raises NoSuchFenceError."""
        return self._read(_one, fence_id)

    def seen(self, fence_id: int, cluster: str, until: datetime) -> None:
        """Note that the cluster refuses the client, and until when."""

        def note(connection: sa.Connection) -> None:
            # What the cluster shows was made. A fence that a person is lifting stays one that is
            # being lifted.
            made = sa.case(
                (fences.c.state == FenceState.INTENDED.value, FenceState.STANDING.value),
                else_=fences.c.state,
            )
            _change(connection, fence_id, cluster=cluster, until=until, state=made, trouble=None)

        self._database.write(note)

    def renewed(self, fence_id: int, cluster: str, until: datetime) -> None:
        """Note that it was renewed, until when."""
        self._database.write(
            lambda c: _change(
                c, fence_id, cluster=cluster, until=until, renewed_at=database_now(c), trouble=None
            )
        )

    def note_trouble(self, fence_id: int, trouble: str | None) -> None:
        """Note why it is not as it is meant to be, or that it is; nothing of one that is over."""
        self._database.write(lambda c: _change(c, fence_id, trouble=trouble))

    def over(self, fence_id: int, by: str, why: str) -> None:
        """Note that it is over."""
        self._database.write(lambda c: _end(c, fence_id, by, why))

    def begin_lift(self, fence_id: int, actor: str, reason: str) -> Fence:
        """Write down a person's decision to lift it: from now on nobody renews it.

        It may be called again, where the cluster did not answer then. Raises NoSuchFenceError, and
        WrongStateError for one that is over, or of which it is not known yet whether it was made.
        """
        return self._write(_begin_lift, fence_id, Word(actor, reason))


def intend(connection: sa.Connection, case: Case, backend: str, made: Made, now: datetime) -> None:
    """Write down the fence that a call is about to make, unless one of that client stands.

    Raises PausedError while a person lifts one of that client, of another backend too: both may be
    of one cluster.
    """
    target, address = made.target, made.target[CLIENT]
    open_ = _open_of(connection, case.cloud, address)
    for fence in open_:
        _refuse_while_lifted(fence)
    # One record for each client and backend: it stands until it is lifted, whatever calls come.
    if any(fence.backend == backend for fence in open_):
        return
    row = {
        "cloud": case.cloud, "backend": backend, "address": address,
        "client": target.get("client_number"), "host": target.get("host"),
        "volume_id": case.volume_id, "attachment_id": target.get("attachment_id"),
        "case_id": case.case_id, "request_id": made.request_id, "reason": made.reason,
        "state": FenceState.INTENDED.value, "fenced_at": now,
    }  # fmt: skip
    connection.execute(fences.insert(), row)


def _open_of(connection: sa.Connection, cloud: str, address: str) -> tuple[Fence, ...]:
    """Return the fences of a client that are not over, of any backend."""
    its = sa.and_(fences.c.address == address, fences.c.state != FenceState.OVER.value)
    return _read(connection, cloud, its)


def _refuse_while_lifted(fence: Fence) -> None:
    if fence.state is FenceState.LIFTING:
        raise PausedError(
            f"a person lifts fence {fence.fence_id} of this client, and the cluster has not let it "
            f"in yet; `detachd fence lift {fence.fence_id}` asks it again"
        )


def ended(
    connection: sa.Connection, cloud: str, request_id: str, address: str, result: StepResult
) -> None:
    """Write down how the call ended: where it did nothing for sure, it has made no fence.

    An earlier call that gave no answer may have made it: that one's record stays.
    """
    intended = sa.and_(fences.c.cloud == cloud, fences.c.state == FenceState.INTENDED.value)
    match result:
        case StepResult.DONE:
            # By the address and not the request: an earlier call may have made the record for the
            # same client.
            made = fences.update().where(intended, fences.c.address == address)
            connection.execute(made.values(state=FenceState.STANDING.value))
            _reopen(connection, cloud, address)
        case StepResult.TRANSIENT | StepResult.REFUSED | StepResult.WITHHELD:
            own = sa.and_(intended, fences.c.request_id == request_id)
            # It was never a fence, so nothing is to be kept of it. The intent of the call stays.
            connection.execute(fences.delete().where(own))
        case StepResult.INTENDED | StepResult.INDETERMINATE:
            pass  # it may stand; the watch over the fences sees


def _reopen(connection: sa.Connection, cloud: str, address: str) -> None:
    """Have the newest fence of a client stand, where the watch ended it before the call acted."""
    its = sa.and_(fences.c.cloud == cloud, fences.c.address == address)
    stands = sa.select(fences.c.fence_id).where(its, fences.c.state != FenceState.OVER.value)
    newest = connection.execute(sa.select(sa.func.max(fences.c.fence_id)).where(its)).scalar()
    if newest is None or connection.execute(stands).first() is not None:
        return
    again = {
        "state": FenceState.STANDING.value,
        # The watch reads from the cluster until when.
        "until": None,
        "renewed_at": database_now(connection),
    }
    over = dict.fromkeys(("ended_at", "ended_by", "ended_why"))
    connection.execute(fences.update().where(fences.c.fence_id == newest).values(again | over))


def _read(
    connection: sa.Connection,
    cloud: str,
    wanted: sa.ColumnElement[bool],
    newest: int | None = None,
) -> tuple[Fence, ...]:
    ordered = sa.select(fences).where(fences.c.cloud == cloud, wanted)
    if newest is None:
        ordered = ordered.order_by(fences.c.fence_id)
    else:
        ordered = ordered.order_by(fences.c.fence_id.desc()).limit(newest)
    return tuple(_FENCE.read(row) for row in connection.execute(ordered))


def _one(connection: sa.Connection, cloud: str, fence_id: int) -> Fence:
    found = _read(connection, cloud, fences.c.fence_id == fence_id)
    if not found:
        raise NoSuchFenceError(f"there is no fence {fence_id}; `detachd fence list` shows them")
    return found[0]


def _change(connection: sa.Connection, fence_id: int, **values: Any) -> None:
    open_ = sa.and_(fences.c.fence_id == fence_id, fences.c.state != FenceState.OVER.value)
    connection.execute(fences.update().where(open_).values(values))


def _end(connection: sa.Connection, fence_id: int, by: str, why: str) -> None:
    now = database_now(connection)
    _change(
        connection, fence_id, state=FenceState.OVER.value, ended_at=now, ended_by=by,
        ended_why=why, trouble=None,
    )  # fmt: skip


def _begin_lift(connection: sa.Connection, cloud: str, fence_id: int, said: Word) -> Fence:
    fence = _one(connection, cloud, fence_id)
    if fence.state is FenceState.OVER:
        raise WrongStateError(f"fence {fence_id} is over: {fence.ended_why}")
    for one in (its := _open_of(connection, cloud, fence.address)):
        if one.state is FenceState.INTENDED:
            raise WrongStateError(
                f"the call that is to make fence {one.fence_id} may still act; the cluster's list "
                "tells within an hour whether it did"
            )
    for one in its:
        # What another backend of the same cluster has on record is the same entry there.
        if one.fence_id == fence_id or one.cluster == fence.cluster is not None:
            _change(connection, one.fence_id, state=FenceState.LIFTING.value)
    detail = {"fence": fence_id, "address": fence.address, "backend": fence.backend}
    now = database_now(connection)
    decide(connection, cloud, DecisionKind.LIFTED, said, now, case_id=fence.case_id, detail=detail)
    return _one(connection, cloud, fence_id)
