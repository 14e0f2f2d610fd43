"""Drivers that break the contract: in what they list."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from drivers.base import Connection, Export
from drivers.simulator import SimulatorDriver

SEES = SimulatorDriver.capabilities
MADE_UP = Connection("the target itself")


class Lists(SimulatorDriver):
    """Lists something else than there is: ``altered`` says what."""

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        return self.altered(super().list_exports(timeout_seconds=timeout_seconds))

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        raise NotImplementedError


class ListsNothing(SimulatorDriver):
    """Declares a list and always returns an empty one."""

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        return ()


class ListsNames(SimulatorDriver):
    """Lists volumes without the ids that are in their names."""

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        listed = super().list_exports(timeout_seconds=timeout_seconds)
        return tuple(dataclasses.replace(export, volume_id=None) for export in listed)


class ListsWithoutConnections(SimulatorDriver):
    """Lists volumes as if nobody were connected to them."""

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        listed = super().list_exports(timeout_seconds=timeout_seconds)
        return tuple(dataclasses.replace(export, connections=()) for export in listed)


class TidiesUpWhileListing(SimulatorDriver):
    """Drops what it lists."""

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        listed = super().list_exports(timeout_seconds=timeout_seconds)
        for export in listed:
            self._cloud.unexport(export.volume_id, "host-a")
        return listed


class ListsUndeclared(ListsNothing):
    """Has no list, and returns an empty one instead of refusing."""

    capabilities = dataclasses.replace(SEES, lists_exports=False)


class ListsThree(Lists):
    """Reads one page of the backend's list."""

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        return listed[:3]


def thinned(listed: tuple[Export, ...], kept: Callable[[Connection], bool]) -> tuple[Export, ...]:
    """Return the list with some of the connections."""
    return tuple(
        dataclasses.replace(export, connections=tuple(c for c in export.connections if kept(c)))
        for export in listed
    )


class ListsSessionsOnly(Lists):
    """Makes its list of the sessions alone."""

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        return thinned(listed, lambda c: c.sessions > 0)


class ListsAccessOnly(Lists):
    """Makes its list of the access lists alone."""

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        return thinned(listed, lambda c: c.access)


class ListsEachHost(Lists):
    """Has an entry for each host, so that the last one of a volume hides the others."""

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        return tuple(
            dataclasses.replace(export, connections=(connection,))
            for export in listed
            for connection in export.connections
        )


class ListsInTurns(Lists):
    """Goes on where its last list ended, as if one call were a page."""

    turn = 0

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        self.turn += 1
        return listed[self.turn % 2 :: 2]


class ListsIdleOnes(Lists):
    """Names every volume that has a target, and somebody for each."""

    def altered(self, listed: tuple[Export, ...]) -> tuple[Export, ...]:
        named = {export.volume_id for export in listed}
        with self._cloud._estate.lock:
            known = list(self._cloud._estate.volumes)
        idle = (Export(v, v, (MADE_UP,)) for v in known if v not in named)
        return (*listed, *idle)
