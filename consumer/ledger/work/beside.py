"""The other cases of a volume, as far as they matter to a case that is claimed.

1. Those that a person has already: the same finding need not be told twice.
2. Those about a detach whose end was not heard: the wish that Cinder has on record may be theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa

from consumer.ledger.database.records import Row
from consumer.ledger.database.tables import cases
from handlers.case import Case, CaseState, Parked
from handlers.notification import Operation

# Not by state: SQLite would then walk all cases that are parked.
_OF_VOLUMES = sa.select(
    cases.c.volume_id,
    cases.c.case_id,
    cases.c.operation,
    cases.c.attachment_id,
    cases.c.rule,
    cases.c.reason,
    cases.c.state,
    cases.c.end_seen,
).where(
    cases.c.cloud == sa.bindparam("cloud"),
    cases.c.volume_id.in_(sa.bindparam("volumes", expanding=True)),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """The open cases of some volumes."""

    lines: Sequence[Row] = ()

    def parked(self, case: Case) -> tuple[Parked, ...]:
        """Return the other cases of its volume that are parked."""
        return tuple(
            Parked(
                line.case_id, Operation(line.operation), line.attachment_id, line.rule, line.reason
            )
            for line in self._others(case)
            if line.state == CaseState.PARKED.value
        )

    def wished(self, case: Case) -> tuple[str | None, ...]:
        """Return the attachments of its volume whose detach another case waits for."""
        return tuple(
            line.attachment_id
            for line in self._others(case)
            if line.operation == Operation.DETACH.value and not line.end_seen
        )

    def _others(self, case: Case) -> Iterable[Row]:
        return (
            line
            for line in self.lines
            if line.volume_id == case.volume_id and line.case_id != case.case_id
        )


def cases_beside(connection: sa.Connection, cloud: str, volumes: Collection[str]) -> Beside:
    """Read the open cases of these volumes. One statement, none for no volume."""
    if not volumes:
        return Beside()
    found: Iterable[Row] = connection.execute(
        _OF_VOLUMES, {"cloud": cloud, "volumes": sorted(volumes)}
    )
    return Beside(tuple(line for line in found if line.state != CaseState.CLOSED.value))
