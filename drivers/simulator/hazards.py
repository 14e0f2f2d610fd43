"""The judge of "what may never happen": whether a call of the service endangered data.

Pure: two pictures of a volume, before and after a call, and who asked. The simulation knows what
no API tells - which guest really has the disk open - so a test that finds no hazard has seen that
the service was safe, not merely that it meant to be.

The journal has every call that reached the simulated cloud, in order, with its outcome. The watch
draws the pictures that the judge compares, and keeps what it found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

from drivers.simulator.estate import Estate
from drivers.simulator.state import AttachmentRecord, Link, Reservation, VolumeRecord

UNDER_WAY = "under way"
OK = "ok"


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One call as it was asked. ``arguments`` are ids and host names, nothing secret.

    It is a write if it has a request id: every write of the service carries one.
    """

    actor: str
    method: str
    volume_id: str | None
    request_id: str | None
    timeout_seconds: float
    arguments: tuple[tuple[str, str | None], ...] = ()

    @property
    def name(self) -> str:
        """``actor.method``, as faults and tests name it."""
        return f"{self.actor}.{self.method}"

    @property
    def writes(self) -> bool:
        """Tell whether it may change anything."""
        return self.request_id is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One entry of the journal.

    ``outcome`` is "ok", the name of the error's class, or "under way". The two times are
    ``time.monotonic`` seconds of the cloud's process; ``ended_seconds`` is None while under way.
    """

    number: int
    asked: Asked
    thread: str
    began_seconds: float
    ended_seconds: float | None = None
    outcome: str = UNDER_WAY

    @property
    def name(self) -> str:
        """``actor.method``."""
        return self.asked.name

    @property
    def volume_id(self) -> str | None:
        """The volume that the call was about."""
        return self.asked.volume_id

    def argument(self, name: str) -> str | None:
        """Return one of the ids that went with the call."""
        return dict(self.asked.arguments).get(name)


class Journal:
    """Thread-safe, append-only; entries are in the order in which the calls began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def begin(self, asked: Asked) -> int:
        """Note a call that has begun; return its number."""
        thread = threading.current_thread().name
        with self._lock:
            number = len(self._calls)
            self._calls.append(Call(number, asked, thread, time.monotonic()))
        return number

    def end(self, number: int, outcome: str) -> None:
        """Note how it ended."""
        with self._lock:
            self._calls[number] = dataclasses.replace(
                self._calls[number], ended_seconds=time.monotonic(), outcome=outcome
            )

    def calls(
        self, name: str | None = None, *, volume_id: str | None = None, writes: bool = False
    ) -> tuple[Call, ...]:
        """Return the entries, all or those of one ``actor.method``, one volume, only writes."""
        with self._lock:
            calls = tuple(self._calls)
        return tuple(
            c
            for c in calls
            if name in (None, c.name)
            and volume_id in (None, c.volume_id)
            and (c.asked.writes or not writes)
        )


class HazardKind(enum.Enum):
    """What went wrong.

    RELEASED_WHILE_EXPORTED: one of our calls made Cinder say available or detached, or drop a row,
    while that host still had access on the backend.
    HEALTHY_ACCESS_CUT: one of our calls took access that a running guest, a migration, an attach
    under way or Cinder itself was using.
    TWO_WRITERS: after one of our calls a second host got access beside one that had it already.
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
class AttachmentView:
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
    attachments: frozenset[AttachmentView]
    links: frozenset[LinkView]
    users: Mapping[str, str]

    @property
    def exported_to(self) -> frozenset[str]:
        """The hosts that the backend lets in, or that hold a session."""
        return frozenset(k.host for k in self.links if k.access or k.sessions)

    def same_record(self, other: Picture) -> bool:
        """Tell whether Cinder and the backend hold the same as in the other picture."""
        own = (self.status, self.attach_status, self.attachments, self.links)
        return own == (other.status, other.attach_status, other.attachments, other.links)


def judge(volume_id: str, before: Picture, after: Picture, asked: Asked) -> tuple[Hazard, ...]:
    """Return what the call did that may never happen.

    Nova's own detach is not judged for what Cinder says afterwards: Nova writes that, not we. Nor
    for the row of a shelved server that is still on its host: its user had asked for the detach.
    """

    def hazard(kind: HazardKind, words: str) -> Hazard:
        return Hazard(kind, volume_id, asked.name, asked.request_id, words)

    found = [hazard(HazardKind.HEALTHY_ACCESS_CUT, w) for w in _cut(before, after)]
    reserved = [r for r in before.attachments if asked.actor != "nova" or r.host is None]
    found += [hazard(HazardKind.RESERVATION_LOST, w) for w in _reservations_lost(reserved, after)]
    if asked.actor != "nova":
        found += [hazard(HazardKind.RELEASED_WHILE_EXPORTED, w) for w in _released(before, after)]
    return tuple(found)


def _cut(before: Picture, after: Picture) -> Iterator[str]:
    """Find users that had a way in before the call, use it still, and have it no more.

    A guest that closed the disk within the call (Nova's own detach) is no user afterwards.
    """
    still_in = {k.host for k in after.links if k.access}
    in_session = {k.host for k in after.links if k.sessions}
    for link in before.links:
        access_ended = (link.access and link.host not in still_in) or (
            link.sessions and link.host not in in_session
        )
        # Users after the call: a guest that gave the disk back within it loses nothing.
        user = after.users.get(link.host) or link.purpose
        if access_ended and user:
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
        yield from _attachments_dropped(before, after)


def _attachments_dropped(before: Picture, after: Picture) -> Iterator[str]:
    covered = {attachment.host for attachment in after.attachments}
    for attachment in before.attachments - after.attachments:
        if attachment.host in after.exported_to and attachment.host not in covered:
            which = f"row {attachment.attachment_id}"
            yield f"{which} is gone while the backend lets in {attachment.host}"


def _reservations_lost(before: Iterable[AttachmentView], after: Picture) -> Iterator[str]:
    kept = {attachment.attachment_id for attachment in after.attachments}
    for attachment in before:
        if attachment.awaited and attachment.attachment_id not in kept:
            which = f"row {attachment.attachment_id}"
            yield f"{which} is gone, by which a shelved server gets its volume back"


SHELVED = ("shelved", "shelved_offloaded")
RESERVE, UNRESERVE = "cinder.reserve", "cinder.unreserve"


class Watch:
    """Watches each of the service's writes; everything here runs under the estate's lock."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self.hazards: list[Hazard] = []
        self.current: Asked | None = None

    @contextlib.contextmanager
    def over(self, asked: Asked) -> Iterator[None]:
        """Compare the volume before and after what is done inside, whatever it raises."""
        volume = self._estate.volumes.get(asked.volume_id or "")
        outer, self.current = self.current, asked
        before = volume and self._picture(volume)
        try:
            yield
        finally:
            self.current = outer
            if volume and before:
                self._compare(volume, before, asked)

    def second_host(self, volume: VolumeRecord, host: str, instance_id: str) -> None:
        """Note an attach that gave a second host access where one of our calls came in between.

        Access that was given only after our last call is not our doing.
        """
        server = self._estate.server(instance_id)
        # Several hosts are right there; and what we never touched is not our doing.
        if volume.multiattach or server.migrating_to or volume.touched is None:
            return
        for link in self._estate.links(volume):
            if link.host != host and link.access and link.granted < volume.touched:
                self.hazards.append(self._two_writers(volume, host, link))

    def _two_writers(self, volume: VolumeRecord, host: str, link: Link) -> Hazard:
        words = f"{host} got access while {link.host} still has it"
        return Hazard(HazardKind.TWO_WRITERS, volume.volume_id, "attach", None, words)

    def _compare(self, volume: VolumeRecord, before: Picture, asked: Asked) -> None:
        after = self._picture(volume)
        # A call that changed nothing did no harm, and does not count as a touch.
        if after.same_record(before):
            return
        if asked.name == UNRESERVE and self._given_back(volume, after):
            return
        self.hazards += judge(volume.volume_id, before, after, asked)
        if asked.name == RESERVE:
            volume.reservation = Reservation(_fingerprint(after), volume.touched)
        volume.touched = next(self._estate.counter)

    def _given_back(self, volume: VolumeRecord, after: Picture) -> bool:
        """Tell whether an unreserve merely undid our own reserve, with nothing changed between."""
        reservation, volume.reservation = volume.reservation, None
        if reservation is None or reservation.links != _fingerprint(after):
            return False
        volume.touched = reservation.touched
        return True

    def _picture(self, volume: VolumeRecord) -> Picture:
        links = (
            LinkView(k.host, k.access, k.sessions > 0, k.purpose)
            for k in self._estate.links(volume)
        )
        attachments = (
            AttachmentView(r.attachment_id, r.host, self._awaited(volume, r))
            for r in volume.attachments.values()
        )
        return Picture(
            status=volume.status,
            attach_status=volume.attach_status,
            attachments=frozenset(attachments),
            links=frozenset(links),
            users=self._users(volume),
        )

    def _users(self, volume: VolumeRecord) -> dict[str, str]:
        users = dict.fromkeys(volume.connecting, "an attach under way")
        for instance_id in volume.opened_by:
            server = self._estate.servers[instance_id]
            if not server.guest_running:
                continue
            if server.guest_host:
                users[server.guest_host] = f"the running guest of {instance_id}"
            if server.migrating_to:
                users[server.migrating_to] = f"the live migration of {instance_id}"
        return users

    def _awaited(self, volume: VolumeRecord, attachment: AttachmentRecord) -> bool:
        server = self._estate.known_server(attachment.instance_id)
        if server is None or server.vm_state not in SHELVED:
            return False
        devices = server.devices_of(volume.volume_id)
        return any(d.attachment_id == attachment.attachment_id for d in devices)


def _fingerprint(picture: Picture) -> frozenset[tuple[str, bool, bool]]:
    return frozenset((k.host, k.access, k.sessions) for k in picture.links)
