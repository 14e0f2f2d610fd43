"""Late calls: calls on a volume that may still act although their callers may have given up.

1. They are found in what the ledger has anyway: our own intents for every case of the volume, and
   the start notifications. Both go to the archive with their case, days after it was closed. A call
   that old does not act any more (``consumer/settings/configuration.py`` refuses a longer horizon).
2. A notification of one try that arrives again, by a replay or a second bus, is neither another try
   nor a later one.
3. The end that answers the start of a detach has both its request ids, because Cinder makes one
   request for each try.
4. A call of ours that was given up and whose thread still runs is under way: its row says so again
   every few seconds, as long as that process lives. Its end (``result_at``) moves on with the clock
   until the thread has returned, so that its late horizon cannot be over before. No claim is needed
   for that: nothing is decided, and the time only grows. The result stays what it was; a fresh look
   shows what the call has done. When it has returned, it wakes the open cases of its volume, as a
   signal does.
5. A start without an end does not prove that its call is in progress. Usually the opposite can be
   proven: if the backend refuses at once, Nova reports an error within a moment. It has then made
   five tries, and Cinder had answered each of them before the next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases, intents, notifications
from handlers.case import CaseState, LateCalls, StepResult
from handlers.intents import ACTS_LATE, UNANSWERED
from handlers.notification import Operation, Phase, Source

NOVA_TRIES = 5
"""How often Nova asks for one detach (Nova, nova/volume/cinder.py ``attachment_delete``)."""
SHORTEST_RPC_TIMEOUT = timedelta(seconds=2)
"""No sensible RPC timeout is shorter."""

NOVA_NAMES = frozenset({Source.NOVA_VERSIONED.value, Source.NOVA_LEGACY.value})
OWN_CALL, ATTACH, DETACH = "own", Operation.ATTACH.value, Operation.DETACH.value

_end = notifications.alias("ended")
_before = notifications.alias("before")
_VOLUMES = (
    cases.c.cloud == sa.bindparam("cloud"),
    cases.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
)


def _of_same_try(other: sa.FromClause) -> Iterator[sa.ColumnElement[bool]]:
    names = ("cloud", "request_id", "own_request_id", "volume_id")
    yield from (other.c[name] == notifications.c[name] for name in names)
    yield other.c.source == Source.CINDER.value


_ENDED = sa.exists().where(
    *_of_same_try(_end),
    _end.c.operation == DETACH,
    _end.c.phase == Phase.END.value,
)
# Of two messages of one try the first counts, by receipt, and then by id so that one of them is
# first.
_RECEIVED_BEFORE = sa.exists().where(
    *_of_same_try(_before),
    _before.c.operation == notifications.c.operation,
    _before.c.phase == Phase.START.value,
    sa.or_(
        _before.c.received_at < notifications.c.received_at,
        sa.and_(
            _before.c.received_at == notifications.c.received_at,
            _before.c.message_id < notifications.c.message_id,
        ),
    ),
)


def _line(what: str, request: sa.ColumnElement[Any], at: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(
        sa.literal(what).label("what"),
        cases.c.volume_id,
        request.label("request_id"),
        sa.func.max(at).label("at"),
        sa.func.count().label("times"),
    ).where(*_VOLUMES)


def _starts(operation: str, request: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        _line(operation, request, notifications.c.received_at)
        .join(notifications, notifications.c.case_id == cases.c.case_id)
        .where(
            notifications.c.volume_id == cases.c.volume_id,
            notifications.c.source == Source.CINDER.value,
            notifications.c.operation == operation,
            notifications.c.phase == Phase.START.value,
            ~_RECEIVED_BEFORE,
        )
    )


_NO_REQUEST = sa.literal("")
_UNANSWERED = sorted(result.value for result in UNANSWERED)
_LATE = sa.union_all(
    _line(OWN_CALL, _NO_REQUEST, sa.func.coalesce(intents.c.result_at, intents.c.intended_at))
    .join(intents, intents.c.case_id == cases.c.case_id)
    .where(
        intents.c.kind.in_(sorted(kind.value for kind in ACTS_LATE)),
        intents.c.result.in_(_UNANSWERED),
        # What a claim is about to do is not under way.
        sa.or_(
            intents.c.result != StepResult.INTENDED.value,
            intents.c.case_id != sa.bindparam("intending"),
            intents.c.fence != sa.bindparam("intending_fence"),
        ),
    )
    .group_by(cases.c.volume_id),
    _starts(ATTACH, _NO_REQUEST).group_by(cases.c.volume_id),
    _starts(DETACH, sa.func.coalesce(notifications.c.request_id, ""))
    .where(~_ENDED)
    .group_by(cases.c.volume_id, notifications.c.request_id),
)
_OF_REQUESTS = sa.select(notifications).where(
    notifications.c.cloud == sa.bindparam("cloud"),
    notifications.c.request_id.in_(sa.bindparam("requests", expanding=True)),
)


def late_calls(
    connection: sa.Connection,
    cloud: str,
    volumes: Collection[str],
    *,
    intending: tuple[str, int] = ("", 0),
) -> Mapping[str, LateCalls]:
    """Return the late calls of each volume. Runs at most two statements.

    ``intending`` is the case and the fence of a claim whose open intents do not count: it asks
    whether it may make that call.
    """
    if not volumes:
        return {}
    case_id, fence = intending
    asked: dict[str, Any] = {"cloud": cloud, "volumes": sorted(volumes)}
    asked |= {"intending": case_id, "intending_fence": fence}
    lines = connection.execute(_LATE, asked).all()
    # Only five tries can be all of Nova's; most volumes have none, and the second statement is not
    # run.
    requests = sorted({line.request_id for line in lines if line.times == NOVA_TRIES} - {""})
    messages: Sequence[Row] = ()
    if requests:
        messages = connection.execute(_OF_REQUESTS, {"cloud": cloud, "requests": requests}).all()
    latest: dict[tuple[str, str], datetime] = {}
    for line in lines:
        if not _all_answered(line, messages):
            of = line.volume_id, line.what
            latest[of] = max(line.at, latest.get(of, line.at))
    kinds = (OWN_CALL, DETACH, ATTACH)
    return {v: LateCalls(*(latest.get((v, kind)) for kind in kinds)) for v in volumes}


def _all_answered(tries: Row, messages: Sequence[Row]) -> bool:
    """Tell whether Nova made all its tries of this detach and failed within a moment.

    The time is measured by Nova's clock, from the start to the error of the same operation.
    """
    if tries.what != DETACH or tries.times != NOVA_TRIES:
        return False
    of_request = [n for n in messages if n.request_id == tries.request_id]
    if any(_is_end(n, tries.volume_id) for n in of_request):
        return False  # more than five tries, or more than one detach
    own = [n for n in of_request if n.source in NOVA_NAMES]
    starts = [n for n in own if n.phase == Phase.START.value]
    # Two detaches under one request id cannot be told apart.
    if len(starts) != 1 or not _began(starts[0], tries.volume_id):
        return False
    errors = [n for n in own if n.phase == Phase.ERROR.value and _same_work(starts[0], n)]
    durations: list[timedelta] = [
        n.published_at - starts[0].published_at for n in errors if n.published_at
    ]
    if not durations:
        return False
    # Both by Nova's clock, which may have been set back.
    return timedelta(0) <= min(durations) and max(durations) < SHORTEST_RPC_TIMEOUT


def _is_end(message: Row, volume_id: str) -> bool:
    of_cinder = message.source == Source.CINDER.value and message.volume_id == volume_id
    return of_cinder and (message.operation, message.phase) == (DETACH, Phase.END.value)


def _began(start: Row, volume_id: str) -> bool:
    detach = start.operation == DETACH and start.volume_id == volume_id
    return detach and start.published_at is not None and start.own_request_id is not None


def _same_work(start: Row, error: Row) -> bool:
    """Tell whether an error is of the same request and host; it may name no volume."""
    return (
        error.operation in (DETACH, None)
        and error.volume_id in (start.volume_id, None)
        and error.own_request_id == start.own_request_id
        and _host(error.publisher_id) == _host(start.publisher_id)
    )


def _host(publisher_id: str) -> str:
    """Return the host of ``nova-compute:HOST``, or of ``compute.HOST`` in the legacy format."""
    _, colon, host = publisher_id.partition(":")
    return host if colon else publisher_id.partition(".")[2]


# --- calls of ours that hang ---------------------------------------------------------------------

_CASE_OF = (
    sa.select(cases.c.case_id, cases.c.cloud, cases.c.volume_id)
    .join(intents, intents.c.case_id == cases.c.case_id)
    .where(intents.c.request_id == sa.bindparam("request_id"))
)


def keep_under_way(connection: sa.Connection, request_ids: Collection[str]) -> int:
    """Record that these calls are still under way now; return how many are on record."""
    now = database_now(connection)
    under_way = intents.update().where(
        intents.c.request_id.in_(sorted(request_ids)), intents.c.result.in_(_UNANSWERED)
    )
    return connection.execute(under_way.values(result_at=now)).rowcount


def came_back(connection: sa.Connection, owner: str, request_id: str, how: str) -> str | None:
    """Record that a call which was given up has returned; return its case, None if it is gone.

    Its late horizon begins now.
    """
    # First: the call acted until now, so its horizon begins now.
    keep_under_way(connection, [request_id])
    of = connection.execute(_CASE_OF, {"request_id": request_id}).first()
    if of is None:
        return None
    now = database_now(connection)
    note(
        connection, of.case_id, HistoryKind.RETURNED_LATE, owner, now,
        reason=how, detail={"request_id": request_id},
    )  # fmt: skip
    due = {"next_attempt_at": now, "updated_at": now, "signal_seq": cases.c.signal_seq + 1}
    looked_at = (
        cases.c.cloud == of.cloud,
        cases.c.volume_id == of.volume_id,
        # A closed case stays closed, and one that waits for its end has a deadline of its own.
        cases.c.state.not_in([CaseState.CLOSED.value, CaseState.WAITING.value]),
    )
    connection.execute(cases.update().where(*looked_at).values(due))
    return str(of.case_id)
