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
from handlers import sweep
from handlers.sweep import Sighting

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Ghosts:
    """What one search found, by backend. ``unseen`` are the backends that did not answer."""

    found: Mapping[str, tuple[Sighting, ...]]
    unseen: frozenset[str]


def seek(
    available: Iterable[ListedVolume],
    driver_of: Callable[[str], StorageDriver],
    *,
    timeout_seconds: float,
) -> Ghosts:
    """Ask each backend of these volumes whether it exports them to somebody.

    Backends whose driver cannot list are left out. Blocks for each of the others in turn; one that
    fails is logged, and stops no other.
    """
    by_backend: dict[str, list[ListedVolume]] = {}
    for volume in available:
        if volume.backend is not None:
            by_backend.setdefault(volume.backend, []).append(volume)
    found: dict[str, tuple[Sighting, ...]] = {}
    unseen: set[str] = set()
    for backend, volumes in by_backend.items():
        try:
            driver = driver_of(backend)
            if driver.capabilities.lists_exports:
                exports = driver.list_exports(timeout_seconds=timeout_seconds)
                found[backend] = tuple(_of_volumes(volumes, exports))
        except (OutsideError, RegistryError) as error:
            LOG.warning("backend %s does not say what it exports: %s", backend, error)
            unseen.add(backend)
    return Ghosts(found, frozenset(unseen))


def _of_volumes(volumes: Iterable[ListedVolume], exports: Iterable[Export]) -> Iterable[Sighting]:
    connected = {e.volume_id: e for e in exports if e.volume_id is not None and e.connections}
    for volume in volumes:
        export = connected.get(volume.name_id or volume.volume_id)
        if export is not None:
            yield sweep.of_export(volume, export)
