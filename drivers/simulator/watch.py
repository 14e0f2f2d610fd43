"""Draws the pictures that the judge compares, and keeps what it found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drivers.simulator.estate import Estate
from drivers.simulator.hazards import Hazard, HazardKind, LinkView, Picture, RowView, judge
from drivers.simulator.journal import Asked
from drivers.simulator.state import Link, Reservation, RowRecord, VolumeRecord

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
        """Note an attach that let a second host in where one of our calls came in between.

        A host that got in only after our last call is the doing of whoever let it in.
        """
        server = self._estate.server(instance_id)
        if volume.multiattach or server.migrating_to or volume.touched is None:
            return
        for link in self._links(volume):
            if link.host != host and link.access and link.granted < volume.touched:
                self.hazards.append(self._two_writers(volume, host, link))

    def _two_writers(self, volume: VolumeRecord, host: str, link: Link) -> Hazard:
        words = f"{host} was let in while {link.host} still is"
        return Hazard(HazardKind.TWO_WRITERS, volume.volume_id, "attach", None, words)

    def _compare(self, volume: VolumeRecord, before: Picture, asked: Asked) -> None:
        after = self._picture(volume)
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
        links = (LinkView(k.host, k.access, k.sessions > 0, k.purpose) for k in self._links(volume))
        rows = (
            RowView(r.attachment_id, r.host, self._awaited(volume, r)) for r in volume.rows.values()
        )
        return Picture(
            status=volume.status,
            attach_status=volume.attach_status,
            rows=frozenset(rows),
            links=frozenset(links),
            users=self._users(volume),
        )

    def _links(self, volume: VolumeRecord) -> tuple[Link, ...]:
        record = self._estate.backend_of(volume).exports.get(volume.name)
        return tuple(record.links.values()) if record else ()

    def _users(self, volume: VolumeRecord) -> dict[str, str]:
        users = dict.fromkeys(volume.connecting, "an attach under way")
        for instance_id in volume.held_by:
            server = self._estate.servers[instance_id]
            if not server.guest_running:
                continue
            if server.guest_host:
                users[server.guest_host] = f"the running guest of {instance_id}"
            if server.migrating_to:
                users[server.migrating_to] = f"the live migration of {instance_id}"
        return users

    def _awaited(self, volume: VolumeRecord, row: RowRecord) -> bool:
        server = self._estate.known_server(row.instance_id)
        if server is None or server.vm_state not in SHELVED:
            return False
        devices = server.devices_of(volume.volume_id)
        return any(d.attachment_id == row.attachment_id for d in devices)


def _fingerprint(picture: Picture) -> frozenset[tuple[str, bool, bool]]:
    return frozenset((k.host, k.access, k.sessions) for k in picture.links)
