"""The other open cases of a volume, as far as they matter to a case that is claimed.

One cause is told to a person once, so a case has to know what another case of its volume has told.
And the wish that Cinder has on record, to attach or to detach, may come from another case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases
from handlers.case import CaseState, OtherCase
from handlers.notification import Operation

# Not by state: SQLite would then walk all cases that are parked.
_OF_VOLUMES = sa.select(
    cases.c.volume_id,
    cases.c.case_id,
    cases.c.state,
    cases.c.operation,
    cases.c.attachment_id,
    cases.c.end_seen,
    cases.c.rule,
    cases.c.reason,
).where(
    cases.c.cloud == sa.bindparam("cloud"),
    cases.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
)


def open_cases_beside(
    connection: sa.Connection, cloud: str, volume_of: Mapping[str, str]
) -> dict[str, tuple[OtherCase, ...]]:
    """Return for each case id the other open cases of its volume.

    One statement, none for no case.
    """
    still_open: dict[str, list[Row]] = {volume_id: [] for volume_id in volume_of.values()}
    parameters = {"cloud": cloud, "volumes": sorted(still_open)}
    found: Iterable[Row] = connection.execute(_OF_VOLUMES, parameters) if still_open else ()
    for row in found:
        # Here and not in the statement, see above: a volume has few cases.
        if row.state != CaseState.CLOSED.value:
            still_open[row.volume_id].append(row)
    return {
        case_id: tuple(_case(row) for row in still_open[volume_id] if row.case_id != case_id)
        for case_id, volume_id in volume_of.items()
    }


def _case(row: Row) -> OtherCase:
    return OtherCase(
        case_id=row.case_id,
        state=CaseState(row.state),
        operation=Operation(row.operation),
        attachment_id=row.attachment_id,
        end_seen=row.end_seen,
        rule=row.rule,
        reason=row.reason,
    )
