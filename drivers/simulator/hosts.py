"""The storage side of scene-setting: who is let in, who logs in, what the backend then holds."""

from __future__ import annotations

import dataclasses

from drivers.base import Connection, Connector
from drivers.simulator.estate import Estate
from drivers.simulator.state import Link


@dataclasses.dataclass(frozen=True, slots=True)
class AccessChange:
    """One host was let in to a volume, or no longer is. ``request_id``: whose call did it, if ours.

    ``volume`` is the backend's name of it, ``number`` the estate's running count.
    """

    number: int
    backend: str
    volume: str
    host: str
    granted: bool
    request_id: str | None


class Hosts:
    """The part of ``Cloud`` that stands for the hosts at its backends. Thread-safe."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._changes: list[AccessChange] = []

    def export(
        self,
        volume_id: str,
        host: str,
        *,
        connector: Connector | None = None,
        sessions: int = 0,
        stuck: bool = False,
        instance_id: str | None = None,
        purpose: str | None = None,
    ) -> None:
        """Let a host in on the backend, unknown to Cinder and Nova; its own connector or another.

        ``purpose`` says in words whose healthy use it is (a backup's mapping); ``stuck`` sessions
        stay when access is revoked, until ``release_stuck_session``.
        """
        connector = connector or self._estate.connector_of(host)
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            link = Link(
                connector.initiator or host, host, connector.ip, sessions=sessions, stuck=stuck,
                instance_id=instance_id, purpose=purpose, granted=next(self._estate.counter),
            )  # fmt: skip
            self._estate.backend_of(volume).initialize(volume.name, link)

    def unexport(self, volume_id: str, host: str) -> None:
        """Take a host's access on the backend, unknown to Cinder and Nova."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            self._estate.backend_of(volume).revoke((volume.name,), self._estate.connector_of(host))

    def hang_session(self, volume_id: str, connector: Connector) -> None:
        """Make a host's I/O hang: its session stays when access is revoked."""
        with self._estate.lock:
            for link in self._links(volume_id):
                link.stuck = link.stuck or link.seen().belongs_to(connector)

    def release_stuck_session(self, volume_id: str, host: str) -> None:
        """End the hanging I/O of a host, and with it a session whose access is revoked."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            links = self._estate.backend_of(volume).export((volume.name,)).links
            for link in [k for k in links.values() if k.host == host]:
                link.stuck = False
                if not link.access:
                    del links[link.name]

    def log_in(self, volume_id: str, connector: Connector) -> bool:
        """Have a host without a session open one; tell whether the backend let it in."""
        with self._estate.lock:
            for link in self._links(volume_id):
                if link.seen().belongs_to(connector) and link.access:
                    link.sessions = link.sessions or 1
                    return True
            return False

    def withdraw(self, volume_id: str, connector: Connector) -> None:
        """Take a host's access and leave its sessions, as an entry deleted by hand does."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            for link in self._links(volume_id):
                if link.access and link.seen().belongs_to(connector):
                    link.access = False
                    self._note(volume.backend, volume.name, link, granted=False)

    def exported_to(self, volume_id: str) -> tuple[str, ...]:
        """Return the hosts that the backend lets in or holds a session with: the truth."""
        with self._estate.lock:
            return tuple(sorted(link.host for link in self._links(volume_id)))

    def has_target(self, volume_id: str) -> bool:
        """Tell whether the backend still has a target for the volume, let in or not."""
        with self._estate.lock:
            volume = self._estate.volume(volume_id)
            return self._estate.backend_of(volume).export((volume.name,)).target

    def connections(self, volume_id: str) -> tuple[Connection, ...]:
        """Return what the backend holds for the volume, with no call in the journal: the truth."""
        with self._estate.lock:
            return tuple(link.seen() for link in self._links(volume_id))

    def access_log(self) -> tuple[AccessChange, ...]:
        """Every access given or taken so far: who could write, and when."""
        with self._estate.lock:
            return tuple(self._changes)

    def _links(self, volume_id: str) -> tuple[Link, ...]:
        volume = self._estate.volume(volume_id)
        record = self._estate.backend_of(volume).exports.get(volume.name)
        return tuple(record.links.values()) if record else ()

    def _note(self, backend: str, volume: str, link: Link, granted: bool) -> None:
        number = next(self._estate.counter)
        asked = self._asked_by()
        self._changes.append(AccessChange(number, backend, volume, link.host, granted, asked))

    def _asked_by(self) -> str | None:
        """Return the request id of the service's call under way, if there is one."""
        return None
