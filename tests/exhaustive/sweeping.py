"""The sweep in the small world: what Cinder's lists and the backend's exports show for long."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.base import Connection, Export, VolumeRef
from drivers.control_plane import CinderAttachment, ListedAttachment, ListedVolume, Volume
from handlers.correlation import sweep
from handlers.correlation.sweep import Sighting, Standing
from handlers.notification import Notification
from tests.exhaustive.attempts import NOW
from tests.exhaustive.messages import connector
from tests.exhaustive.world import ATTACHED, BACKEND, RESERVED, VOLUME, World


def swept(world: World) -> tuple[Notification, ...]:
    """Return what a sweep makes of the world, which has been as it is for long."""
    standings = [Standing(sighting, NOW, 86_400.0) for sighting in _sightings(world)]
    hosts = {connector(host).initiator or "": host for host in ("h1", "h2")}
    return tuple(sweep.suspects(_volume(world), standings, hosts))


def _sightings(world: World) -> Iterator[Sighting]:
    if world.status in sweep.VOLUME_STATUSES:
        yield sweep.of_volume(ListedVolume(VOLUME, world.status, BACKEND, "then"))
    for row in world.rows:
        if row.status in sweep.ROW_STATUSES:
            yield sweep.of_attachment(ListedAttachment(row.name, VOLUME, row.status, row.server))
    let_in = tuple(Connection(connector(host).initiator or "") for host in world.access)
    if world.status == "available" and let_in and not world.blind:
        listed = ListedVolume(VOLUME, world.status, BACKEND, "then")
        yield sweep.of_export(listed, Export(VOLUME, VOLUME, let_in))


def _volume(world: World) -> Volume:
    rows = tuple(
        CinderAttachment(
            row.name, row.status, row.server, row.status != RESERVED,
            row.host if row.status == ATTACHED else None,
        )
        for row in world.rows
    )  # fmt: skip
    ref = VolumeRef(VOLUME, BACKEND, multiattach=world.multiattach)
    return Volume(ref, world.status, None, rows, service_up=True)
