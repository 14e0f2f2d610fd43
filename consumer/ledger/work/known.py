"""What shows that this Cinder had a volume: the control of its 404.

1. A look for any case of the volume saw it there (``cases.volume_seen``).
2. A sweep saw it there: what a sweep reports, it has read from this Cinder.
3. Cinder told that it was deleted or unmanaged (``volume.delete.end``, ``volume.unmanage.end``).
   Whichever Cinder that was, the volume is gone. A deletion that only began proves nothing, as
   another region's may still fail.

What has gone to the archive is not asked: it has no index of the volume.

Beside it, which cases only a sweep has told of (``unseen_findings``): they wait for a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from consumer.ledger.database.tables import cases, notifications, sweeps
from handlers.correlation.sweep import FIRST_PUBLISHER
from handlers.notification import VOLUME_GONE, Source


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """Whether a volume was seen in Cinder, and whether Cinder told that it has it no more."""

    seen: bool
    deleted: bool


_OLD = notifications.c.publisher_id == FIRST_PUBLISHER
_BY_BUS = ~notifications.c.event_type.like("sweep.%")
_OF_CASES = (
    sa.select(
        notifications.c.case_id,
        sa.func.max(sa.case((_OLD, 1), else_=0)).label("old"),
        sa.func.max(sa.case((_BY_BUS, 1), else_=0)).label("bus"),
    )
    .join(cases, cases.c.case_id == notifications.c.case_id)
    .where(
        notifications.c.case_id.in_(sa.bindparam("case_ids", expanding=True)),
        # A person, or a signal, has begun a new round of it: it is no old finding then.
        cases.c.rearmed_at.is_(None),
    )
    .group_by(notifications.c.case_id)
)
_NOT_ACKNOWLEDGED = sa.select(sweeps.c.cloud).where(
    sweeps.c.cloud == sa.bindparam("cloud"), sweeps.c.acknowledged_at.is_(None)
)


def unseen_findings(
    connection: sa.Connection, cloud: str, case_ids: Collection[str]
) -> frozenset[str]:
    """Return those of these cases that only a sweep has told of, and that may be old.

    One statement once a person has acknowledged the list, or where there never was a sweep.
    """
    # Without such a row there never was a sweep, or a person has acknowledged its list: nothing is
    # an old finding then.
    if not case_ids or not connection.execute(_NOT_ACKNOWLEDGED, {"cloud": cloud}).first():
        return frozenset()
    lines = connection.execute(_OF_CASES, {"case_ids": sorted(case_ids)})
    return frozenset(line.case_id for line in lines if line.old and not line.bus)


_VOLUMES: sa.BindParameter[str] = sa.bindparam("volumes", expanding=True)
_OF_VOLUMES = (cases.c.cloud == sa.bindparam("cloud"), cases.c.volume_id.in_(_VOLUMES))
_SEEN, _DELETED = sa.literal("seen").label("what"), sa.literal("deleted").label("what")
_TOLD = (
    notifications.c.source == Source.CINDER.value,
    notifications.c.event_type.in_(VOLUME_GONE),
)
# Four parts and no OR over them, so that each is read by an index of its own.
_KNOWN = sa.union_all(
    sa.select(cases.c.volume_id, _SEEN).where(*_OF_VOLUMES, cases.c.volume_seen.is_(sa.true())),
    sa.select(cases.c.volume_id, _SEEN)
    .join(notifications, notifications.c.case_id == cases.c.case_id)
    .where(*_OF_VOLUMES, notifications.c.source == Source.SWEEP.value),
    sa.select(cases.c.volume_id, _DELETED)
    .join(notifications, notifications.c.case_id == cases.c.case_id)
    .where(*_OF_VOLUMES, *_TOLD),
    sa.select(notifications.c.volume_id, _DELETED).where(
        notifications.c.cloud == sa.bindparam("cloud"),
        # The deletion of a volume without a case is filed with none; this index begins with
        # case_id.
        notifications.c.case_id.is_(None),
        notifications.c.volume_id.in_(_VOLUMES),
        *_TOLD,
    ),
)


def known_volumes(
    connection: sa.Connection, cloud: str, volumes: Collection[str]
) -> Mapping[str, Known]:
    """Return what is known of each of these volumes. One statement, none for no volume."""
    if not volumes:
        return {}
    lines = connection.execute(_KNOWN, {"cloud": cloud, "volumes": sorted(volumes)})
    found = {(line.volume_id, line.what) for line in lines}
    return {v: Known((v, "seen") in found, (v, "deleted") in found) for v in volumes}
