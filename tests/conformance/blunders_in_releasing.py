"""Drivers that break the contract: in whom they release and whom they spare."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from drivers.base import Attachment, Capabilities, Connector, Observation, VolumeRef
from drivers.errors import NotFoundError
from drivers.simulator import SimulatorDriver

LOG = logging.getLogger(__name__)


class Terminates(SimulatorDriver):
    """Releases in another way: ``released`` says in which. ``act`` is the right one."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        def act(volume: VolumeRef = volume, connector: Connector | None = None) -> None:
            on = dataclasses.replace(attachment, connector=connector or attachment.connector)
            super(Terminates, self).terminate_connection(
                volume, on, request_id=request_id, timeout_seconds=timeout_seconds
            )

        self.released(volume, attachment, act)

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        raise NotImplementedError


class SaysDoneAndDoesNothing(Terminates):
    """Succeeds without asking the backend."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        return


class RemembersConnections(Terminates):
    """Releases, but tells from a cache what was there before."""

    cache: Observation | None = None

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        self.cache = super().observe(volume, timeout_seconds=1.0)
        act()

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return self.cache or super().observe(volume, timeout_seconds=timeout_seconds)


class RemembersReleases(Terminates):
    """Does nothing for a host that it has released before."""

    def __init__(self, backend: str, options: Mapping[str, Any], **cloud: Any) -> None:
        super().__init__(backend, options, **cloud)
        self._released: set[object] = set()

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if (volume, attachment.connector) not in self._released:
            act()
        self._released.add((volume, attachment.connector))


class MakesUpRequestIds(SimulatorDriver):
    """Sends a request id of its own, so that nobody finds what the call did."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().terminate_connection(
            volume, attachment, request_id="req-of-its-own", timeout_seconds=timeout_seconds
        )


class LogsAnotherRequestId(SimulatorDriver):
    """Sends the right one, and logs another."""

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        LOG.info("detaching volume %s (req-%d)", volume.volume_id, id(attachment))
        super().detach(volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds)


class CutsEveryCase(Terminates):
    """Releases whoever's name is the same but for case."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        wanted = attachment.connector or Connector()
        for link in self._cloud.connections(volume.volume_id):
            if link.name.lower() == (wanted.initiator or "").lower():
                act(connector=Connector(initiator=link.name))


class ReleasesLowerCase(Terminates):
    """Asks the backend in lower case, by which it finds nobody, or another."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        wanted = attachment.connector or Connector()
        act(connector=Connector(initiator=(wanted.initiator or "").lower()))


class InsistsOnAConnection(Terminates):
    """Calls it an error when there is nothing to release, as some arrays do."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if attachment.connector is None:
            act()
        elif not self.observe(volume, timeout_seconds=1.0).of(attachment.connector):
            raise NotFoundError("The initiator group does not exist.")
        act()


class ReleasesSessionsOnly(Terminates):
    """Acts only on hosts that have a session."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if any(c.sessions for c in self._cloud.connections(volume.volume_id)):
            act()


class ReleasesAccessOnly(Terminates):
    """Acts only on hosts that are let in, and leaves a session whose access is gone."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if any(c.access for c in self._cloud.connections(volume.volume_id)):
            act()


class EndsOneSession(Terminates):
    """Revokes, then ends the first session that it finds."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        several = [c for c in self._cloud.connections(volume.volume_id) if c.sessions > 1]
        if not several:
            act()
        for link in several:
            self._cloud.withdraw(volume.volume_id, Connector(initiator=link.name))


class EndsSessionsOnly(Terminates):
    """Ends the session and leaves the access: the host is back before anybody looks."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        act()
        connector = attachment.connector
        if connector is not None:
            self._cloud.export(volume.volume_id, connector.host or "", connector=connector)


class TrustsItsOwnOrder(Terminates):
    """Cannot end a stuck session, and takes it for ended from then on."""

    done = False

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        act()
        self.done = True

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        if self.done:
            return Observation((), control="it was told to go")
        return super().observe(volume, timeout_seconds=timeout_seconds)


class BlindToWhatIsLeft(SimulatorDriver):
    """Acts by itself, cannot see, and reports a stuck session as released."""

    capabilities = Capabilities(sees_connections=False, revokes_access=True, ends_sessions=True)


class ReleasesUnderOneName(Terminates):
    """Takes the volume's first id, and "not there" for success."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        with contextlib.suppress(NotFoundError):
            act(dataclasses.replace(volume, name_id=None))


class ReleasesTheUnknown(Terminates):
    """Takes "no such volume" for "already released", in both halves."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        with contextlib.suppress(NotFoundError):
            act()

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        with contextlib.suppress(NotFoundError):
            super().detach(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )


class CutsEveryHost(Terminates):
    """Drops the whole target."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        for link in self._cloud.connections(volume.volume_id):
            act(connector=Connector(initiator=link.name))


class CutsEveryNameOfTheHost(Terminates):
    """Goes by the host's name where it does not find the initiator."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        act(connector=Connector(host=attachment.connector.host if attachment.connector else None))


class CutsTheHost(Terminates):
    """Ends every session of the host, whichever volume it is for."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        act()
        for export in self._cloud.storage.list_exports(self.backend, timeout_seconds=1.0):
            other = dataclasses.replace(volume, volume_id=export.volume_id or "", name_id=None)
            act(other)


class TakesNoConnectorForAll(CutsEveryHost):
    """Drops the whole target only when no connector was given."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if attachment.connector is not None:
            act()
        else:
            super().released(volume, attachment, act)


class TakesEverybody(TakesNoConnectorForAll):
    """Means every host where no connector is given, and says so."""

    capabilities = dataclasses.replace(SimulatorDriver.capabilities, accepts_no_connector=True)


class DetachesEveryHost(SimulatorDriver):
    """Drops the target in ``detach``, whoever is connected."""

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        for link in self._cloud.connections(volume.volume_id):
            self._cloud.withdraw(volume.volume_id, Connector(initiator=link.name))


class AcceptsAndRefuses(SimulatorDriver):
    """Declares to take no connector, and refuses it."""

    capabilities = dataclasses.replace(SimulatorDriver.capabilities, accepts_no_connector=True)


class AcceptsAndIgnores(SaysDoneAndDoesNothing):
    """Declares to take no connector, and does nothing then."""

    capabilities = dataclasses.replace(SimulatorDriver.capabilities, accepts_no_connector=True)
