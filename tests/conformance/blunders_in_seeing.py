"""Drivers that break the contract: in what they see, list and declare."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from oslo_config import cfg

from drivers.base import Connection, Export, Observation, VolumeRef
from drivers.conformance.clause import GRACE_SECONDS
from drivers.errors import IndeterminateError, NotFoundError
from drivers.simulator import SimulatorDriver

SEES = SimulatorDriver.capabilities


class Sees(SimulatorDriver):
    """Sees something else than there is: ``altered`` says what."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        return dataclasses.replace(seen, connections=self.altered(seen.connections))

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        raise NotImplementedError


class SeesNoConnection(Sees):
    """Answers "nobody" whatever the backend holds."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return ()


class SeesTheFirstOnly(Sees):
    """Stops reading after the first host."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return connections[:1]


class SeesThreeHosts(Sees):
    """Reads one page of the backend's answer."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return connections[:3]


class FoldsCase(Sees):
    """Takes names that differ by case for one."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple({c.name.lower(): c for c in connections}.values())


class RemembersLooks(SimulatorDriver):
    """Spares the backend: what it saw it tells again for 200 ms."""

    kept_seconds = 0.2

    def __init__(self, backend: str, options: Mapping[str, Any], **cloud: Any) -> None:
        super().__init__(backend, options, **cloud)
        self._kept: dict[object, tuple[float, Any]] = {}

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        look = super().observe
        return self._remembered(volume, lambda: look(volume, timeout_seconds=timeout_seconds))

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        look = super().list_exports
        return self._remembered(None, lambda: look(timeout_seconds=timeout_seconds))

    def _remembered(self, key: object, look: Callable[[], Any]) -> Any:
        at, seen = self._kept.get(key, (0.0, None))
        if not at or time.monotonic() - at > self.kept_seconds:
            at, seen = time.monotonic(), look()
            self._kept[key] = at, seen
        return seen


class RemembersInTrouble(RemembersLooks):
    """Tells what it saw last where the backend gives no answer."""

    def _remembered(self, key: object, look: Callable[[], Any]) -> Any:
        with contextlib.suppress(IndeterminateError):
            self._kept[key] = 0.0, look()
        return self._kept[key][1]


class CountsHosts(Sees):
    """Tells that a host has a session, not how many."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(dataclasses.replace(c, sessions=min(c.sessions, 1)) for c in connections)


class SeesSessionsOnly(Sees):
    """Looks at sessions and not at who is let in."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(c for c in connections if c.sessions)


class SeesAccessOnly(Sees):
    """Looks at who is let in and not at sessions."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(c for c in connections if c.access)


class SeesItself(Sees):
    """Opens the volume to look at it, and sees that."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return (*connections, Connection("detachd", sessions=1))


class SeesWhomTheRecordsName(Sees):
    """Leaves out every initiator that it has not seen before."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(c for c in connections if not c.name.endswith("-renamed"))


class SeesNamesOnly(Sees):
    """Tells connections by a name that no connector has."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(
            dataclasses.replace(c, name=f"client.{n}", host=None) for n, c in enumerate(connections)
        )


class SeesUnseen(SimulatorDriver):
    """Declares to be blind, and tells what it sees all the same."""

    capabilities = dataclasses.replace(
        SEES, sees_connections=False, sees_hosts=False, sees_sessions=False
    )


class SeesNoSessions(Sees):
    """Tells who is let in, and of everybody that he uses it not."""

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(dataclasses.replace(c, sessions=0) for c in connections if c.access)


class DoesNotDeclareThatItSeesSessions(SimulatorDriver):
    """Tells sessions, and declares that it does not see any."""

    capabilities = dataclasses.replace(SEES, sees_sessions=False)


class SeesAccessAndSaysSo(Sees):
    """Tells who is let in, and declares that it sees no sessions: no blunder."""

    capabilities = dataclasses.replace(SEES, sees_sessions=False)

    def altered(self, connections: tuple[Connection, ...]) -> tuple[Connection, ...]:
        return tuple(dataclasses.replace(c, sessions=0) for c in connections)


class DoesNotDeclareHosts(SimulatorDriver):
    """Tells hosts, and declares that it cannot."""

    capabilities = dataclasses.replace(SEES, sees_hosts=False)


class WithoutControl(SimulatorDriver):
    """Tells the connections, but not what makes the answer trustworthy."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        return Observation(seen.connections, control=" ")


class TidiesUpWhileLooking(SimulatorDriver):
    """Drops what it finds when it only should look."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        self._cloud.unexport(volume.volume_id, "host-a")
        return seen


class KnowsOneName(SimulatorDriver):
    """Looks for a volume under the id that it was created with."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        volume = dataclasses.replace(volume, name_id=None)
        return super().observe(volume, timeout_seconds=timeout_seconds)


class CallsTheUnknownClean(SimulatorDriver):
    """Takes "no such volume" for "nobody is connected"."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError:
            return Observation((), control="there is nothing there")


class NotFoundByAnotherName(SimulatorDriver):
    """Raises its own kind of error for a volume that is not there."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError:
            raise KeyError(volume.volume_id) from None


class KeepsTheVolume(SimulatorDriver):
    """Keeps the volume of the call under way where every thread can reach it."""

    _volume: VolumeRef

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        self._volume = volume
        time.sleep(0.01)
        return super().observe(self._volume, timeout_seconds=timeout_seconds)


class SwallowsTimeoutsOfLooks(SimulatorDriver):
    """Takes a timeout for "nobody"."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        with contextlib.suppress(IndeterminateError):
            return super().observe(volume, timeout_seconds=timeout_seconds)
        return Observation((), control="nobody said otherwise")

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        with contextlib.suppress(IndeterminateError):
            return super().list_exports(timeout_seconds=timeout_seconds)
        return ()


class AsksWhenMade(SimulatorDriver):
    """Asks the backend in its constructor, which then waits for it."""

    def __init__(self, backend: str, options: Mapping[str, Any], **cloud: Any) -> None:
        super().__init__(backend, options, **cloud)
        with contextlib.suppress(IndeterminateError):
            self.list_exports(timeout_seconds=GRACE_SECONDS + 0.3)


class OptionWithoutHelp(SimulatorDriver):
    """Has an option that the sample cannot explain."""

    opts = (*SimulatorDriver.opts, cfg.StrOpt("pool"))


class PasswordInTheOpen(SimulatorDriver):
    """Has a password that logs would show."""

    opts = (*SimulatorDriver.opts, cfg.StrOpt("password", help="What the array asks for."))


class DoesNotDeclareSessions(SimulatorDriver):
    """Ends sessions, and declares that it does not."""

    capabilities = dataclasses.replace(SEES, ends_sessions=False)


class DoesNotDeclareAccess(SimulatorDriver):
    """Revokes access, and declares that it does not."""

    capabilities = dataclasses.replace(SEES, revokes_access=False)
