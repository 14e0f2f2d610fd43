"""Reading what the ledger holds that new notifications may be about: few statements a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.records import known_case, signal
from consumer.ledger.database.tables import cases, intents, notifications
from handlers.correlation.correlated import Known
from handlers.correlation.matching import KnownCase, Signal, shares_request
from handlers.notification import Notification, Phase


def _any_of(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam(name, expanding=True))


# No ORDER BY: SQLite would walk the index of opened_at, and with it every case there ever was.
_CASES = sa.select(cases).where(
    cases.c.cloud == sa.bindparam("cloud"),
    _any_of(cases.c.volume_id, "volumes"),
    sa.or_(cases.c.closed_at.is_(None), cases.c.closed_at >= sa.bindparam("since")),
)
_ORPHANS = sa.select(notifications).where(
    notifications.c.cloud == sa.bindparam("cloud"),
    notifications.c.case_id.is_(None),
    notifications.c.received_at >= sa.bindparam("since"),
)
_ENDS = _ORPHANS.where(_any_of(notifications.c.volume_id, "volumes"))
# coalesce: not by the index of volume_id, where all errors without a volume are neighbours.
_ERRORS = _ORPHANS.where(
    sa.func.coalesce(notifications.c.volume_id, "") == "",
    _any_of(notifications.c.request_id, "requests"),
)
# Ends that name nothing and are filed under some case, for want of proof that they are another's.
_FILED_ENDS = sa.select(notifications).where(
    notifications.c.cloud == sa.bindparam("cloud"),
    _any_of(notifications.c.request_id, "requests"),
    _any_of(notifications.c.volume_id, "volumes"),
    notifications.c.phase == Phase.END.value,
    notifications.c.attachment_id.is_(None),
    notifications.c.instance_id.is_(None),
    notifications.c.case_id.is_not(None),
    notifications.c.received_at >= sa.bindparam("since"),
)
_INTENTS = sa.select(intents.c.request_id, intents.c.case_id).where(
    _any_of(intents.c.request_id, "requests")
)
_VOLUMES = (
    sa.select(cases.c.volume_id)
    .distinct()
    .join(notifications, notifications.c.case_id == cases.c.case_id)
    .where(
        notifications.c.cloud == sa.bindparam("cloud"),
        _any_of(notifications.c.request_id, "requests"),
        cases.c.closed_at.is_(None),
    )
)


def volumes_of_requests(
    connection: sa.Connection, cloud: str, requests: Collection[str]
) -> set[str]:
    """Return the volumes of the open cases that a message of one of these requests is about."""
    wanted = {"cloud": cloud, "requests": list(requests)}
    return set(connection.execute(_VOLUMES, wanted).scalars())


def read_known(
    connection: sa.Connection,
    cloud: str,
    batch: Sequence[Notification],
    *,
    claimed: Mapping[str, str | None],
    since: datetime,
) -> Known:
    """Read the cases, orphans and intents that a batch may be about.

    ``claimed`` names the volumes that were locked for it and the case in hand of each; ``since`` is
    how far back closed cases and orphans count.
    """
    requests = sorted({r for n in batch for r in Signal.of(n).request_ids})
    wanted = {
        "cloud": cloud, "volumes": list(claimed), "requests": requests, "since": since,
    }  # fmt: skip
    opens = any(n.phase is not Phase.END for n in batch)
    found = _cases(connection, wanted, claimed)
    return Known(
        cases=found,
        orphans=_orphans(connection, wanted, found) if opens else (),
        intents=_intents(connection, wanted),
    )


def _cases(
    connection: sa.Connection, wanted: Mapping[str, Any], claimed: Mapping[str, str | None]
) -> tuple[KnownCase, ...]:
    rows = connection.execute(_CASES, wanted).all()
    return tuple(
        known_case(row, claimed=claimed[row.volume_id] == row.case_id)
        for row in sorted(rows, key=lambda row: (row.opened_at, row.case_id))
    )


def _orphans(
    connection: sa.Connection, wanted: Mapping[str, Any], found: Sequence[KnownCase]
) -> tuple[Signal, ...]:
    by_id = {case.case_id: case for case in found}
    # Where the case knows of the request, the end was proven to be its own.
    misfiled = [
        row
        for row in connection.execute(_FILED_ENDS, wanted)
        if row.case_id in by_id and not shares_request(signal(row), by_id[row.case_id])
    ]
    rows = [*connection.execute(_ENDS, wanted), *connection.execute(_ERRORS, wanted), *misfiled]
    return tuple(signal(row) for row in sorted(rows, key=lambda row: row.received_at))


def _intents(connection: sa.Connection, wanted: Mapping[str, Any]) -> dict[str, str]:
    return {row.request_id: row.case_id for row in connection.execute(_INTENTS, wanted)}
