"""The other open cases of a volume, as far as they matter to a case that is claimed.

One cause is told to a person once, so a case has to know what another case of its volume has told.
And the wish that Cinder has on record, to attach or to detach, may come from another case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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


def open_cases(
    connection: sa.Connection, cloud: str, volumes: Collection[str]
) -> Mapping[str, tuple[OtherCase, ...]]:
    """Return the open cases of each of these volumes. One statement, none for no volume."""
    found: dict[str, tuple[OtherCase, ...]] = {}
    parameters = {"cloud": cloud, "volumes": sorted(volumes)}
    lines: Iterable[Row] = connection.execute(_OF_VOLUMES, parameters) if volumes else ()
    for line in lines:
        # Here and not in the statement, see above: a volume has few cases.
        if line.state != CaseState.CLOSED.value:
            found[line.volume_id] = (*found.get(line.volume_id, ()), _case(line))
    return found


def _case(line: Row) -> OtherCase:
    return OtherCase(
        case_id=line.case_id,
        state=CaseState(line.state),
        operation=Operation(line.operation),
        attachment_id=line.attachment_id,
        end_seen=line.end_seen,
        rule=line.rule,
        reason=line.reason,
    )
