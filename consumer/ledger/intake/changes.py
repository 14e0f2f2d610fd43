"""Writing what a batch of notifications came to: one statement a kind of row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.dialects import insert_or_update
from consumer.ledger.database.records import (
    Values,
    known_values,
    notification_values,
    opened_values,
)
from consumer.ledger.database.tables import cases, connectors, history, notifications
from consumer.ledger.intake.arrival import Arrival
from consumer.ledger.work.history import HistoryKind
from handlers.case import CaseState
from handlers.correlation.correlated import Changes, Move
from handlers.correlation.filling import learned

_CHANGED = cases.update().where(cases.c.case_id == sa.bindparam("changed_case"))
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
    _write(connection, cases.insert(), [opened_values(c, cloud, now) for c in changes.opened])
    changed = [known_values(c, now) | {"changed_case": c.case_id} for c in changes.changed]
    _write(connection, _CHANGED, changed)
    stored = [_stored(arrival, changes, cloud, now) for arrival in fresh]
    _write(connection, notifications.insert(), stored)
    adopted = [
        {"adopted_message": message_id, "adopting_case": case_id}
        for message_id, case_id in changes.adopted.items()
    ]
    _write(connection, _ADOPTED, adopted)
    _write(connection, history.insert(), [_moved(move, now) for move in changes.moves])
    _learn(connection, fresh, cloud, now)


def _write(
    connection: sa.Connection, statement: sa.Insert | sa.Update, rows: Sequence[Values]
) -> None:
    if rows:
        connection.execute(statement, rows)


def _stored(arrival: Arrival, changes: Changes, cloud: str, now: datetime) -> Values:
    return notification_values(arrival.notification) | {
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
