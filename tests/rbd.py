"""A backend of real RBD: images in a private Ceph, and clients that have them open."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from pathlib import Path
from typing import Any

from drivers.base import Connector, VolumeRef
from drivers.rbd import RbdDriver
from drivers.registry import parsed
from tests.services.ceph import KEYS, PYTHON, Ceph
from tests.services.rbd_clients import RbdClient, RbdClients

BACKEND = "storage-1@rbd"


def address_of(host: str) -> str:
    """Return the address of a host: one of 127.0.0.0/8, the same one for the same name."""
    numbers = hashlib.sha256(host.encode()).digest()
    return f"127.{numbers[0]}.{numbers[1]}.{2 + numbers[2] % 250}"


def connector_of(host: str) -> Connector:
    """Return the connector of a compute host, as os-brick would give it."""
    return Connector(host=host, initiator=f"iqn.1994-05.com.redhat:{host}", ip=address_of(host))


@dataclasses.dataclass(frozen=True, slots=True)
class Rbd:
    """One backend. What it says of an image comes from ``rbd``, not through the driver."""

    ceph: Ceph
    clients: RbdClients
    place: str = "volumes"

    def driver(self, **changes: object) -> RbdDriver:
        """Make a driver for it, with the key that the documentation gives to detachd."""
        mine = {"conf": str(self.ceph.configuration), "python": PYTHON, "pools": self.place}
        return RbdDriver(BACKEND, parsed(RbdDriver.opts, {**mine, **changes}))

    def volume(self, **known: Any) -> VolumeRef:
        """Make a volume with an image; ``known`` is more of what Cinder says of it."""
        ref = VolumeRef(known.pop("volume_id", None) or str(uuid.uuid4()), BACKEND, **known)
        self.ceph.create(self.spec(ref))
        return ref

    def spec(self, volume: VolumeRef) -> str:
        """Return the name of the volume's image, as ``rbd`` takes it."""
        return f"{self.place}/{volume.names()[0]}"

    def opened(self, volume: VolumeRef, host: str, **how: Any) -> RbdClient:
        """Have a host open the volume's image, and write to it for ever unless told otherwise."""
        how = {"address": address_of(host), "name": host, **how}
        return self.clients.start(how.pop("spec", self.spec(volume)), **how).opened()


def own_user(rbd: Rbd, directory: Path, user: str, **rights: str) -> tuple[Path, Path]:
    """Make a user, and a configuration that has its keyring; return the paths of both."""
    keyring, conf = directory / "keyring", directory / "ceph.conf"
    keyring.write_text(make_key(rbd, user, **rights))
    text = rbd.ceph.configuration.read_text()
    conf.write_text(
        text.replace(f"keyring = {rbd.ceph.directory}/$name.keyring", f"keyring = {keyring}")
    )
    return conf, keyring


def make_key(rbd: Rbd, user: str, **rights: str) -> str:
    """Make a key of the user, with detachd's rights or others; return a keyring with it."""
    caps = {**KEYS["client.detachd"], **rights}
    words = [word for service, right in caps.items() for word in (service, right)]
    return rbd.ceph.ceph("auth", "get-or-create", f"client.{user}", *words)
