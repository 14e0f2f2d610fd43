"""The judge of "what may never happen": whether a call of the service endangered data.

Pure: two pictures of a volume, before and after a call, and who asked. The simulation knows what
no API tells - which guest really has the disk open - so a test that finds no hazard has seen that
the service was safe, not merely that it meant to be.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping

from drivers.simulator.journal import Asked


class HazardKind(enum.Enum):
    """What went wrong.

    RELEASED_WHILE_EXPORTED: one of our calls made Cinder say available or detached, or drop a row,
    while the backend still let that host in.
    HEALTHY_ACCESS_CUT: one of our calls took access that a running guest, a migration, an attach
    under way or Cinder itself was using.
    TWO_WRITERS: after one of our calls a second host was let in beside one that was in already.
    RESERVATION_LOST: one of our calls dropped the row that a shelved server comes back by.
    """

    RELEASED_WHILE_EXPORTED = "released while exported"
    HEALTHY_ACCESS_CUT = "healthy access cut"
    TWO_WRITERS = "two writers"
    RESERVATION_LOST = "reservation lost"


@dataclasses.dataclass(frozen=True, slots=True)
class Hazard:
    """One violation. ``call`` and ``request_id`` name the call that did it, ours."""

    kind: HazardKind
    volume_id: str
    call: str
    request_id: str | None
    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class RowView:
    """What matters of an attachment row; ``awaited`` says that a shelved server needs it."""

    attachment_id: str
    host: str | None
    awaited: bool


@dataclasses.dataclass(frozen=True, slots=True)
class LinkView:
    """What matters of a host's way to the volume; ``purpose`` where Cinder itself uses it."""

    host: str
    access: bool
    sessions: bool
    purpose: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A volume at one moment. ``users`` says in words what it serves on which host."""

    status: str
    attach_status: str
    rows: frozenset[RowView]
    links: frozenset[LinkView]
    users: Mapping[str, str]

    @property
    def exported_to(self) -> frozenset[str]:
        """The hosts that the backend lets in, or that hold a session."""
        return frozenset(k.host for k in self.links if k.access or k.sessions)

    def same_record(self, other: Picture) -> bool:
        """Tell whether Cinder and the backend hold the same as in the other picture."""
        mine = (self.status, self.attach_status, self.rows, self.links)
        return mine == (other.status, other.attach_status, other.rows, other.links)


def judge(volume_id: str, before: Picture, after: Picture, asked: Asked) -> tuple[Hazard, ...]:
    """Return what the call did that may never happen.

    Nova's own detach is not judged for what Cinder says afterwards: Nova writes that, not we.
    """

    def hazard(kind: HazardKind, words: str) -> Hazard:
        return Hazard(kind, volume_id, asked.name, asked.request_id, words)

    found = [hazard(HazardKind.HEALTHY_ACCESS_CUT, w) for w in _cut(before, after)]
    found += [hazard(HazardKind.RESERVATION_LOST, w) for w in _reservations_lost(before, after)]
    if asked.actor != "nova":
        found += [hazard(HazardKind.RELEASED_WHILE_EXPORTED, w) for w in _released(before, after)]
    return tuple(found)


def _cut(before: Picture, after: Picture) -> Iterator[str]:
    """Find users that had a way in before the call, use it still, and have it no more.

    A guest that let go within the call (Nova's own detach) is no user afterwards.
    """
    still_in = {k.host for k in after.links if k.access}
    in_session = {k.host for k in after.links if k.sessions}
    for link in before.links:
        lost = (link.access and link.host not in still_in) or (
            link.sessions and link.host not in in_session
        )
        user = after.users.get(link.host) or link.purpose
        if lost and user:
            yield f"{link.host} lost its access, which served {user}"


def _released(before: Picture, after: Picture) -> Iterator[str]:
    if not after.exported_to:
        return
    hosts = ", ".join(sorted(after.exported_to))
    if after.status == "available" != before.status:
        yield f"Cinder says available while the backend lets in {hosts}"
    elif after.attach_status == "detached" != before.attach_status:
        yield f"Cinder says detached while the backend lets in {hosts}"
    else:
        yield from _rows_dropped(before, after)


def _rows_dropped(before: Picture, after: Picture) -> Iterator[str]:
    covered = {row.host for row in after.rows}
    for row in before.rows - after.rows:
        if row.host in after.exported_to and row.host not in covered:
            yield f"row {row.attachment_id} is gone while the backend lets in {row.host}"


def _reservations_lost(before: Picture, after: Picture) -> Iterator[str]:
    kept = {row.attachment_id for row in after.rows}
    for row in before.rows:
        if row.awaited and row.attachment_id not in kept:
            yield f"row {row.attachment_id} is gone, by which a shelved server gets its volume back"
