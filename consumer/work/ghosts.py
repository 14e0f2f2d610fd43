"""Volumes that Cinder says are available and a backend exports all the same: nobody tells of them.

A swallowed remove_export failure, a call that finished after everybody had given up (UC5), a status
reset by hand: the volume can be given to the next server while somebody still has it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping

from drivers.base import Export, StorageDriver
from drivers.control_plane import ListedVolume
from drivers.errors import OutsideError
from drivers.registry import RegistryError
from handlers.correlation import sweep
from handlers.correlation.sweep import Sighting

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Ghosts:
    """What one search found, by backend. ``unseen`` are the backends that did not answer."""

    found: Mapping[str, tuple[Sighting, ...]]
    unseen: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Listing:
    """What a backend exports to somebody, by volume, and which of those volumes are available."""

    connected: Mapping[str, Export]
    found: list[Sighting] = dataclasses.field(default_factory=list)

    def match(self, volume: ListedVolume) -> None:
        """Keep the volume if it is one of them."""
        export = self.connected.get(volume.name_id or volume.volume_id)
        if export is not None:
            self.found.append(sweep.of_export(volume, export))


def seek(
    available: Iterable[ListedVolume],
    driver_of: Callable[[str], StorageDriver],
    *,
    timeout_seconds: float,
) -> Ghosts:
    """Ask each backend of these volumes whether it exports them to somebody.

    Backends whose driver cannot list are left out. Blocks for each of the others in turn; one that
    fails is logged, and stops no other. The volumes, which are most of those that a cloud has, are
    not kept.
    """
    listings: dict[str, _Listing | None] = {}
    unseen: set[str] = set()
    for volume in available:
        if (backend := volume.backend) is None:
            continue
        if backend not in listings:
            try:
                listings[backend] = _listed(driver_of(backend), timeout_seconds)
            except (OutsideError, RegistryError) as error:
                LOG.warning("backend %s does not say what it exports: %s", backend, error)
                listings[backend] = None
                unseen.add(backend)
        if (listing := listings[backend]) is not None:
            listing.match(volume)
    found = {b: tuple(listing.found) for b, listing in listings.items() if listing is not None}
    return Ghosts(found, frozenset(unseen))


def _listed(driver: StorageDriver, timeout_seconds: float) -> _Listing | None:
    """Ask for the list; None where the driver cannot list."""
    if not driver.capabilities.lists_exports:
        return None
    exports = driver.list_exports(timeout_seconds=timeout_seconds)
    return _Listing({e.volume_id: e for e in exports if e.volume_id is not None and e.connections})
