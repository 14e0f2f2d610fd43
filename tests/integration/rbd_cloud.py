"""A simulated cloud whose one backend is real: its volumes are images of a private Ceph.

Cinder's and Nova's part stays simulated. Cinder's RBD driver lets nobody in and shuts nobody out,
so that nothing is done on the backend; who has an image open is what Ceph says.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from drivers.base import Connector
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.backend import Backend
from drivers.simulator.state import ExportRecord, Link
from tests.rbd import Rbd, address_of, connector_of
from tests.services.rbd_clients import RbdClient


class Images(dict[str, ExportRecord]):
    """The backend's records, each brought up to date by Ceph whenever it is read."""

    def __init__(self, rbd: Rbd) -> None:
        super().__init__()
        self.rbd = rbd
        self.hosts: dict[str, str] = {}

    def __getitem__(self, name: str) -> ExportRecord:
        return self._current(super().__getitem__(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the record as it is now."""
        record = super().get(name)
        return default if record is None else self._current(record)

    def _current(self, record: ExportRecord) -> ExportRecord:
        watchers = self.rbd.ceph.watchers_of(f"{self.rbd.place}/volume-{record.name}")
        hosts = [self.hosts[watcher["address"].partition(":")[0]] for watcher in watchers]
        record.links.clear()
        for host in hosts:
            name = connector_of(host).initiator or ""
            record.links[name] = Link(name, host, access=True, sessions=hosts.count(host))
        return record


@dataclasses.dataclass(slots=True)
class RbdBackend(Backend):
    """What Cinder's driver does on such a backend: nothing, whatever it is asked."""

    def initialize(self, name: str, link: Link) -> None:
        """Do nothing: whoever has the key may open the image."""

    def revoke(self, names: Any, connector: Connector) -> None:
        """Do nothing."""

    def remove_export(self, name: str) -> None:
        """Do nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class RbdCloud:
    """A cloud on real images, and the clients that have them open."""

    cloud: Cloud
    rbd: Rbd
    images: Images

    def host(self, host: str) -> None:
        """Give a compute host the address from which its clients come."""
        self.cloud.set_connector(host, connector_of(host))
        self.images.hosts[address_of(host)] = host

    def volume(self) -> str:
        """Make a volume with its image."""
        volume_id = self.cloud.create_volume()
        self.rbd.ceph.create(self.spec(volume_id))
        return volume_id

    def spec(self, volume_id: str) -> str:
        """Return the name of a volume's image, as ``rbd`` takes it."""
        return f"{self.rbd.place}/volume-{volume_id}"

    def opened(self, volume_id: str, host: str, **how: Any) -> RbdClient:
        """Have a host open the image of a volume, and write to it."""
        how = {"address": address_of(host), "name": host, **how}
        return self.rbd.clients.start(self.spec(volume_id), **how).opened()


def put_on_images(cloud: Cloud, rbd: Rbd) -> RbdCloud:
    """Replace the cloud's one backend, which must be empty, by a real one."""
    simulated = cloud._estate.backends[DEFAULT_BACKEND]
    images = Images(rbd)
    real = RbdBackend(simulated.name, simulated.exporting, simulated.note, images)
    cloud._estate.backends[DEFAULT_BACKEND] = real
    return RbdCloud(cloud, rbd, images)
