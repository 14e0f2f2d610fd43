"""Replays: one transaction for each, and one effect, however often a replay is delivered.

1. A case is replayed by its id or by a notification. It is due at once, and passes the same
   diagnosis and guards as any other case.
2. A case that is closed, parked or awaits approval starts again: its counters, its clean look and
   its approval are reset, and its age counts from now.
3. Any other case is only due earlier.
4. The history keeps everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import exc

from consumer.ledger.database.cases import HistoryKind, add, note, of_case, one_case, rewrite
from consumer.ledger.database.engine import Database, cause, database_now
from consumer.ledger.database.locks import lock_volumes, pass_gate
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.records import CASES, NOTIFICATIONS
from consumer.ledger.database.tables import cases, connectors, history, intents, notifications
from consumer.ledger.history.archive import bring_back
from consumer.ledger.intake.accept import of_the_data
from handlers.case import Case, CaseState
from handlers.correlation.matching import Signal
from handlers.correlation.rearming import (
    ReplayRefusedError,
    chosen,
    opened_by_replay,
    rearmed,
    reminded,
)
from handlers.correlation.transitions import learned
from handlers.notification import Notification

REPLAY_KINDS = (HistoryKind.OPENED.value, HistoryKind.REARMED.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Replay:
    """One replay, as delivered.

    ``delivery_id`` is the id of the delivery, at most 64 characters. A redelivery that is
    recognised as one has the same id. ``maybe_repeated``: this may be a redelivery that is not
    recognised. It then counts as the same replay if a replay with the same ``body_sha256`` still
    waits for its first look.
    """

    delivery_id: str
    body_sha256: str
    bus: str
    actor: str
    reason: str
    maybe_repeated: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay. ``before``: the state of the case, None if the replay opened it.

    ``repeated``: it had been accepted before, and nothing was done.
    """

    case_id: str
    before: CaseState | None
    repeated: bool = False


def accept_replay(
    database: Database, cloud: str, replay: Replay, what: str | Notification
) -> Replayed:
    """Replay a case, by its id or by a notification; see ``Ledger.replay``."""
    try:
        if isinstance(what, str):
            return database.write(lambda c: _replay_case(c, cloud, replay, what))
        return database.write(lambda c: _replay_notification(c, cloud, replay, what))
    except (exc.StatementError, ValueError, TypeError, OverflowError) as error:
        if not of_the_data(error):
            raise
        raise ReplayRefusedError(f"the ledger refuses the replay: {cause(error)}") from error


def _replay_case(connection: sa.Connection, cloud: str, replay: Replay, case_id: str) -> Replayed:
    found = one_case(connection, cloud, case_id)
    # No lock is needed: nothing is changed, and history is never changed.
    if found.archived and _in_history(connection, found.case.case_id, replay):
        return Replayed(found.case.case_id, found.case.state, repeated=True)
    # As accept does it, and first: a volume that is locked before the gate can be waited for in a
    # circle.
    pass_gate(connection, cloud, exclusive=False)
    lock_volumes(connection, cloud, [found.case.volume_id])
    # Read again under the lock: it may have been changed, archived or replayed meanwhile.
    current = one_case(connection, cloud, found.case.case_id)
    case = current.case
    if _in_history(connection, case.case_id, replay):
        return Replayed(case.case_id, case.state, repeated=True)
    if current.archived:
        bring_back(connection, case.case_id)
    now = database_now(connection)
    rewrite(connection, [(case, rearmed(case, now))], now)
    _note(connection, replay, case.case_id, case.state, now)
    return Replayed(case.case_id, case.state)


def _replay_notification(
    connection: sa.Connection, cloud: str, replay: Replay, notification: Notification
) -> Replayed:
    # Before the locks, to know what to lock; what is decided is read again under them.
    filed = _filed(connection, cloud, notification)
    volumes = _volumes(connection, cloud, notification, filed)
    candidates = _locked(connection, cloud, volumes, exclusive=notification.volume_id is None)
    if (stored := _stored(connection, replay)) is not None:
        return Replayed(stored, None, repeated=True)
    before = chosen(candidates, notification, filed)
    if before is not None and _in_history(connection, before.case_id, replay):
        return Replayed(before.case_id, before.state, repeated=True)
    now = database_now(connection)
    if before is None:
        case = opened_by_replay(notification, cloud, now)
        add(connection, [case], now)
    else:
        case = rearmed(reminded(before, notification), now)
        rewrite(connection, [(before, case)], now)
    _store(connection, cloud, replay, notification, case_id=case.case_id, now=now)
    state = before.state if before else None
    _note(connection, replay, case.case_id, state, now, original=notification.message_id)
    return Replayed(case.case_id, state)


# --- what is read -------------------------------------------------------------------------------


def _filed(connection: sa.Connection, cloud: str, notification: Notification) -> set[str]:
    """Return the cases of the original notification, or of our own call that caused it."""
    stored = sa.select(notifications.c.case_id).where(
        notifications.c.cloud == cloud,
        notifications.c.message_id == notification.message_id,
        notifications.c.case_id.is_not(None),
    )
    ours = sa.select(intents.c.case_id).where(
        intents.c.request_id.in_(Signal.of(notification).request_ids)
    )
    return {*connection.execute(stored).scalars(), *connection.execute(ours).scalars()}


def _volumes(
    connection: sa.Connection, cloud: str, notification: Notification, filed: Collection[str]
) -> set[str]:
    """Return the volumes whose cases the notification may be about."""
    own = sa.select(cases.c.volume_id).where(cases.c.cloud == cloud)
    found = set(connection.execute(own.where(cases.c.case_id.in_(sorted(filed)))).scalars())
    if notification.volume_id is not None:
        return found | {notification.volume_id}
    requests = Signal.of(notification).request_ids
    of_request = own.join(notifications, notifications.c.case_id == cases.c.case_id).where(
        notifications.c.cloud == cloud, notifications.c.request_id.in_(requests)
    )
    return found | set(connection.execute(of_request).scalars())


def _locked(
    connection: sa.Connection, cloud: str, volumes: Collection[str], *, exclusive: bool
) -> list[Case]:
    """Lock the volumes; return all their cases, oldest first."""
    pass_gate(connection, cloud, exclusive=exclusive)
    lock_volumes(connection, cloud, volumes)
    own = sa.select(cases).where(cases.c.cloud == cloud, cases.c.volume_id.in_(sorted(volumes)))
    rows = connection.execute(own.order_by(cases.c.opened_at, cases.c.case_id))
    return [CASES.read(row) for row in rows]


def _stored(connection: sa.Connection, replay: Replay) -> str | None:
    """Return the case of a notification that was replayed with this delivery id, or None."""
    own = sa.select(notifications.c.case_id).where(notifications.c.message_id == replay.delivery_id)
    return connection.execute(own).scalar_one_or_none()


def _in_history(connection: sa.Connection, case_id: str, replay: Replay) -> bool:
    """Tell whether this replay has been applied to the case before."""
    found = of_case(connection, case_id, history, "history_id")
    sent = [row for row in found if row.kind in REPLAY_KINDS]
    looks = [row.history_id for row in found if row.kind == HistoryKind.CONCLUDED.value]
    for row in sent:
        detail = row.detail or {}
        if detail.get("delivery_id") == replay.delivery_id:
            return True
        same = replay.maybe_repeated and detail.get("body_sha256") == replay.body_sha256
        # No look since that replay, so this one would order nothing new.
        if same and row.history_id > max(looks, default=0):
            return True
    return False


# --- what is written ----------------------------------------------------------------------------


def _store(
    connection: sa.Connection,
    cloud: str,
    replay: Replay,
    notification: Notification,
    *,
    case_id: str,
    now: datetime,
) -> None:
    own = {
        "message_id": replay.delivery_id,
        "cloud": cloud,
        "case_id": case_id,
        "received_at": now,
        "bus": replay.bus,
        "body_sha256": replay.body_sha256,
    }
    # Under the id of the delivery: that of the original may be stored, and a second replay of it is
    # another one.
    connection.execute(notifications.insert(), NOTIFICATIONS.values(notification) | own)
    waiting = notifications.update().where(  # the original, where it was kept without a case
        notifications.c.cloud == cloud,
        notifications.c.message_id == notification.message_id,
        notifications.c.case_id.is_(None),
    )
    connection.execute(waiting.values(case_id=case_id))
    _learn(connection, cloud, notification, now)


def _learn(
    connection: sa.Connection, cloud: str, notification: Notification, now: datetime
) -> None:
    """Store connectors of hosts without one: a stored connector is never older."""
    rows = [
        {
            "cloud": cloud,
            "host": host,
            "connector": found.connector.to_mapping(),
            "attachment_id": found.attachment_id,
            "learned_at": now,
        }
        for host, found in sorted(learned([notification]).items())
    ]
    if rows:
        absent = insert_absent(connection.dialect.name, connectors, ("cloud", "host"))
        connection.execute(absent, rows)


def _note(
    connection: sa.Connection,
    replay: Replay,
    case_id: str,
    before: CaseState | None,
    now: datetime,
    *,
    original: str | None = None,
) -> None:
    detail = {
        "trigger": "replay",
        "delivery_id": replay.delivery_id,
        "body_sha256": replay.body_sha256,
        "before": before.value if before else None,
    }
    if original is not None:
        detail["original_message_id"] = original
    note(
        connection, case_id, HistoryKind.REARMED if before else HistoryKind.OPENED, replay.actor,
        now, state=CaseState.DUE.value, reason=replay.reason, detail=detail,
    )  # fmt: skip
