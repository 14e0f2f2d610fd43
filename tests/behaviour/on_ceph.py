"""The lab as a ground whose volumes are RBD images: who has access is who has the image open."""

from __future__ import annotations

from tests.behaviour.ground import HOSTS
from tests.behaviour.on_lab import LabGround
from tests.lab.ceph_backend import CephBackend
from tests.lab.openstack import OpenStack, address_of


class CephGround(LabGround):
    """A running lab with a Ceph; see ``CephBackend``."""

    def __init__(self, lab: OpenStack, backend: CephBackend) -> None:
        super().__init__(lab)
        self.backend = backend
        self.wanted = backend.wanted

    def let_in(self, volume_id: str) -> tuple[str, ...]:
        """Return the hosts whose clients watch the image; none where there is no image."""
        image = self.backend.image(volume_id)
        addresses = {w["address"] for w in self.backend.ceph.watchers_of(image)}
        hosts = {address_of(host): host for host in HOSTS}
        return tuple(sorted(hosts.get(at.partition(":")[0], at) for at in addresses))
