"""What the ledger knows of a volume, for a look that writes nothing. Nothing is claimed here."""

from __future__ import annotations

import dataclasses
from datetime import datetime

import sqlalchemy as sa

from consumer.ledger.database.cases import one_case
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.records import CASES
from consumer.ledger.database.tables import cases
from consumer.ledger.work.claims import gathered
from consumer.ledger.work.known import known_volumes
from consumer.ledger.work.late import late_calls
from handlers.case import Case, CaseState, LateCalls


@dataclasses.dataclass(frozen=True, slots=True)
class OnRecord:
    """A volume by database time: its cases as a worker would have them, and what may act late.

    ``volume_seen`` and ``deletion_told`` are the controls of a 404 of Cinder, as in ``Case``.
    """

    now: datetime
    cases: tuple[Case, ...]
    late: LateCalls
    volume_seen: bool
    deletion_told: bool


def on_record(
    connection: sa.Connection, cloud: str, volume_id: str, case_id: str | None
) -> OnRecord:
    """Return what is known of a volume: its open cases, or the one that is asked for."""
    if case_id is None:
        found = _open_cases(connection, cloud, volume_id)
    else:
        found = [one_case(connection, cloud, case_id).case]
    more = gathered(connection, cloud, {case.case_id: case.volume_id for case in found})
    known = known_volumes(connection, cloud, [volume_id])[volume_id]
    return OnRecord(
        now=database_now(connection),
        cases=tuple(dataclasses.replace(case, **more[case.case_id]) for case in found),
        late=late_calls(connection, cloud, [volume_id])[volume_id],
        volume_seen=known.seen,
        deletion_told=known.deleted,
    )


def _open_cases(connection: sa.Connection, cloud: str, volume_id: str) -> list[Case]:
    of_volume = (cases.c.cloud == cloud, cases.c.volume_id == volume_id)
    still_open = cases.c.state != CaseState.CLOSED.value
    rows = connection.execute(
        sa.select(cases).where(*of_volume, still_open).order_by(cases.c.opened_at)
    )
    return [CASES.read(row) for row in rows]
