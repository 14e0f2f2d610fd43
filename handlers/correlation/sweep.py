"""What Cinder's lists show in transition, and what of it becomes a case. Pure.

No notification reports a reserve, a begin_detaching or half of all failures (Cinder,
cinder/volume/api.py). So Cinder's lists are read too: that is slow, but it misses nothing. What a
sweep finds is given to the ledger as a notification of our own and is handled as every other.

1. A sweep proves nothing. It only asks for a diagnosis.
2. A list that suddenly shows far less than before is not taken for the whole (``implausible``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from drivers.base import Export
from drivers.control_plane import CinderAttachment, ListedAttachment, ListedVolume, Volume
from handlers.notification.event_type import Operation, Phase, Source
from handlers.notification.types import Notification

VOLUME_STATUSES = ("attaching", "detaching", "reserved")
ROW_STATUSES = ("attaching", "detaching", "reserved", "error_attaching", "error_detaching")
DETACHING_ROWS = frozenset({"detaching", "error_detaching"})
PUBLISHER = "detachd.sweep"
FIRST_PUBLISHER = "detachd.sweep.first"
"""Who tells of what the first sweep saw, which may be older than the installation."""
FIRST_ROUND = 1
FAR_LESS = 0.5
FREE = ("available", "awaiting-transfer")
"""The statuses of a volume that others may get, now or when they accept it."""
EXPORTED = "exported"
OCCUPIED = "occupied"
SHARED = "shared"
"""Statuses of sightings that are none of Cinder's: a volume that others may get, and that is
exported all the same, or has a row that is attached; a volume that several hosts have access to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sighting:
    """A volume, or one of its rows, that a list showed in transition.

    ``attachment_id`` is None for the volume itself. ``version`` is what changes when it moves:
    while it is the same, it is the same sighting. ``peers`` are the names by which a backend knows
    those that it exports an available volume to.
    """

    volume_id: str
    attachment_id: str | None
    status: str
    version: str
    peers: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str | None]:
        """Volume and row, of which there is one sighting at a time."""
        return self.volume_id, self.attachment_id


def latest(seen: Iterable[Sighting]) -> tuple[Sighting, ...]:
    """Return what was seen last of each: what moves on between two lists is in both. Pure."""
    return tuple({sighting.key: sighting for sighting in seen}.values())


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """A sighting and what the ledger knows of it, by database time.

    ``age_seconds`` is how long it has been the same, 0 for one that this sweep saw first.
    ``offers`` counts how often it was made a case of, ``offered_seconds`` ago the last time.
    ``old``: the first whole sweep saw it, and it has not changed since.
    """

    sighting: Sighting
    first_seen_at: datetime
    age_seconds: float
    offers: int = 0
    offered_seconds: float | None = None
    old: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long each may stay as it is before it is looked at, and then looked at again."""

    attaching_seconds: float
    detaching_seconds: float
    reserved_seconds: float
    error_seconds: float
    again_seconds: float

    def of(self, status: str) -> float:
        """Return the patience with this status of a volume or row."""
        by_status = {
            "attaching": self.attaching_seconds,
            "detaching": self.detaching_seconds,
            "reserved": self.reserved_seconds,
        }
        return by_status.get(status, self.error_seconds)


def of_volume(listed: ListedVolume) -> Sighting:
    """Return the sighting of a listed volume."""
    version = f"{listed.status} {listed.updated_at or ''}"
    return Sighting(listed.volume_id, None, listed.status, _digest(version))


def of_attachment(listed: ListedAttachment) -> Sighting:
    """Return the sighting of a listed row, which has no time of its own: its status is all."""
    return Sighting(listed.volume_id, listed.attachment_id, listed.status, _digest(listed.status))


def of_export(listed: ListedVolume, export: Export) -> Sighting:
    """Return the sighting of an available volume that some host has access to."""
    peers = tuple(sorted(connection.name for connection in export.connections))
    version = _digest(f"{peers} {listed.updated_at or ''}")
    return Sighting(listed.volume_id, None, EXPORTED, version, peers)


def of_occupied(listed: ListedVolume) -> Sighting:
    """Return the sighting of a volume that others may get although a row of it is attached."""
    version = f"{listed.status} {listed.updated_at or ''}"
    return Sighting(listed.volume_id, None, OCCUPIED, _digest(version))


def of_shared(volume_id: str, export: Export) -> Sighting:
    """Return the sighting of a volume that a backend exports to several hosts."""
    peers = tuple(sorted(connection.name for connection in export.connections))
    return Sighting(volume_id, None, SHARED, _digest(repr(peers)), peers)


def implausible(counted: int, before: int | None) -> str | None:
    """Return why a list must not be taken for the whole of it, or None.

    An API that suddenly lists no volumes, or far fewer, cannot see them (a lost role, a database
    that failed over to an empty one); it does not mean that the cloud was cleared.
    """
    if before is None or counted >= before * FAR_LESS:
        return None
    return f"Cinder lists {counted} volumes in all, after {before} before"


def ripe(standing: Standing, patience: Patience) -> bool:
    """Tell whether it was seen before, has not moved for too long, and was not looked at lately."""
    # Not at the first sight, whatever the patience: one list may have caught a healthy transition.
    if standing.age_seconds <= 0 or standing.age_seconds < patience.of(standing.sighting.status):
        return False
    return standing.offered_seconds is None or standing.offered_seconds >= patience.again_seconds


def suspects(
    volume: Volume, standings: Collection[Standing], hosts: Mapping[str, str]
) -> Iterator[Notification]:
    """Yield a notification for each attachment of a freshly read volume that is suspected.

    ``standings`` are the volume's ripe sightings. What is no longer as it was seen is left out; a
    row is taken before the volume, which does not say whose transition it is in. ``hosts`` are the
    compute hosts known by the name of their initiator.
    """
    by_attachment = {s.sighting.attachment_id: s for s in standings}
    for attachment in volume.attachments:
        standing = by_attachment.get(attachment.attachment_id)
        if standing is not None and standing.sighting.status == attachment.status:
            yield _in_transition(volume, attachment, _operation(attachment.status), standing)
    whole = by_attachment.get(None)
    if (
        whole is not None
        and whole.sighting.status == volume.status
        and not _attachment_in_transition(volume)
    ):
        yield _in_transition(volume, _detached_attachment(volume), _operation(volume.status), whole)
    moving = any(attachment.status in ROW_STATUSES for attachment in volume.attachments)
    if whole is not None and not moving:
        yield from _at_rest(volume, whole, hosts)


def _at_rest(volume: Volume, whole: Standing, hosts: Mapping[str, str]) -> Iterator[Notification]:
    """Yield what is suspected of a volume of which Cinder has nothing in transition."""
    rows, seen, free = volume.attachments, whole.sighting, volume.status in FREE
    if seen.status == EXPORTED and free and not rows:
        found = _in_transition(volume, None, Operation.ATTACH, whole)
        yield dataclasses.replace(found, host=_host(seen.peers, hosts))
        return
    open_to_others = free and bool(rows) and seen.status in (EXPORTED, OCCUPIED)
    more_hosts = seen.status == SHARED and len(hosts_of(seen.peers, hosts)) > len(rows) > 0
    if open_to_others or more_hosts:
        yield _in_transition(volume, _only(rows), Operation.ATTACH, whole)


def _only(rows: Sequence[CinderAttachment]) -> CinderAttachment | None:
    return rows[0] if len(rows) == 1 else None


def hosts_of(peers: Iterable[str], hosts: Mapping[str, str]) -> frozenset[str]:
    """Return the learned hosts that have these names: a host may have several of them."""
    return frozenset(hosts[peer] for peer in peers if peer in hosts)


def found_apart(
    volume: Volume,
    attachment: CinderAttachment | None,
    instance_id: str | None,
    what: str,
    round_: int,
) -> Notification:
    """Return the notification for a record that Cinder has and Nova has not, or the reverse.

    It is the same message as long as it is of the same round.
    """
    row = attachment.attachment_id if attachment else None
    facts = (volume.ref.volume_id, row, instance_id, what, round_)
    told = _Told(
        f"sweep-{_digest(repr(facts))}", what, Operation.ATTACH, instance_id, round_ == FIRST_ROUND
    )
    return _notification(volume, attachment, told)


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What a message of the sweep says besides its volume and attachment."""

    message_id: str
    what: str
    operation: Operation
    instance_id: str | None
    first: bool


def _notification(volume: Volume, attachment: CinderAttachment | None, told: _Told) -> Notification:
    return Notification(
        message_id=told.message_id,
        source=Source.SWEEP,
        event_type=f"sweep.{told.what}",
        publisher_id=FIRST_PUBLISHER if told.first else PUBLISHER,
        operation=told.operation,
        phase=Phase.ERROR,
        volume_id=volume.ref.volume_id,
        instance_id=told.instance_id,
        attachment_id=attachment.attachment_id if attachment else None,
        request_id=None,
        own_request_id=None,
        host=None,
        backend=volume.ref.backend,
        volume_status=volume.status,
        project_id=volume.project_id,
        user_id=volume.user_id,
        fault=None,
        attachments=(),
        published_at=None,
    )


def left_by_server(left: ListedAttachment, event_type: str) -> Notification:
    """Return the signal for a row that still names a server to which this event happened."""
    return Notification(
        message_id=f"server-{uuid.uuid4()}",
        source=Source.SWEEP,
        event_type=f"left-by.{event_type}",
        publisher_id=PUBLISHER,
        operation=None,
        phase=Phase.SIGNAL,
        volume_id=left.volume_id,
        instance_id=left.instance_id,
        attachment_id=left.attachment_id,
        request_id=None,
        own_request_id=None,
        host=None,
        backend=None,
        volume_status=None,
        project_id=None,
        user_id=None,
        fault=None,
        attachments=(),
        published_at=None,
    )


def _host(peers: tuple[str, ...], hosts: Mapping[str, str]) -> str | None:
    """Return the only host that has access, by however many names; None where there are several."""
    found = {hosts.get(peer) for peer in peers}
    return found.pop() if len(found) == 1 else None


def _attachment_in_transition(volume: Volume) -> bool:
    """Tell whether a row in transition stands for the volume's own: it has a sighting itself."""
    operation = _operation(volume.status)
    return any(
        r.status in ROW_STATUSES and _operation(r.status) is operation for r in volume.attachments
    )


def _operation(status: str) -> Operation:
    detaching = status in DETACHING_ROWS
    return Operation.DETACH if detaching else Operation.ATTACH


def _detached_attachment(volume: Volume) -> CinderAttachment | None:
    """Return the row that a volume's own ``detaching`` is about, where there is only one."""
    alone = volume.status == "detaching" and len(volume.attachments) == 1
    return volume.attachments[0] if alone else None


def _in_transition(
    volume: Volume, attachment: CinderAttachment | None, operation: Operation, standing: Standing
) -> Notification:
    status, instance_id = standing.sighting.status, attachment.instance_id if attachment else None
    told = _Told(_message_id(standing), status, operation, instance_id, standing.old)
    return _notification(volume, attachment, told)


def _message_id(standing: Standing) -> str:
    """Return the same id for the same offer, so that one that is made twice is a duplicate."""
    seen = standing.sighting
    facts = (*seen.key, seen.version, standing.first_seen_at.isoformat(), standing.offers)
    return f"sweep-{_digest(repr(facts))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
