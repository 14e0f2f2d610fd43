"""Guests that really write to RBD images, each by a client of its own, as QEMU does.

Nova's hypervisor in the lab keeps words in a file. Here a real client of Ceph stands for the guest:
it has the image open from its host's address, writes numbered and signed blocks, and closes the
image when Nova's hypervisor takes the disk away. One that ``stays`` does not: its host hung, or
Nova lost sight of it.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.ceph_backend import CephBackend
from tests.lab.openstack import OpenStack, address_of
from tests.lab.servers import Servers
from tests.services.rbd_clients import RbdClient, RbdClients

BLOCKS = 16
PACE_SECONDS = 0.05  # many write at once, on two cores
LOOK_SECONDS = 0.05


class CephGuests:
    """The clients of one test module, as a context manager: each ends with it."""

    def __init__(self, backend: CephBackend, lab: OpenStack, directory: Path) -> None:
        self._backend, self._servers = backend, Servers(lab)
        self._clients = RbdClients(backend.ceph, directory)
        self._directory = directory
        self._over = threading.Event()
        self._followers: list[threading.Thread] = []
        self.first: dict[str, RbdClient] = {}

    def __enter__(self) -> Self:
        self._clients.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for follower in self._followers:
            follower.join()
        self._clients.__exit__(kind, error, trace)

    def opens(self, volume_id: str, host: str, *, writes: int = -1) -> RbdClient:
        """Have a client of a host open a volume's image and write to it; each has its own name.

        With ``writes=0`` it has the image open and writes nothing, as QEMU where a guest moves to.
        """
        name = f"{host}-{uuid.uuid4().hex[:6]}"
        image = self._backend.image(volume_id)
        client = self._clients.start(
            image,
            address=address_of(host),
            name=name,
            blocks=BLOCKS,
            pace_seconds=PACE_SECONDS,
            writes=writes,
        )
        return client.opened()

    def uses(self, volume_id: str, host: str, *, stays: bool = False) -> None:
        """Have a guest use its disk: the first client of this volume, until Nova takes the disk."""
        self.first[volume_id] = client = self.opens(volume_id, host)
        assert client.makes_progress()
        if not stays:
            follow = threading.Thread(target=self._follow, args=(volume_id, host, client))
            follow.start()
            self._followers.append(follow)

    def content(self, volume_id: str) -> Path:
        """Return a copy of what is in a volume's image now."""
        copy = self._directory / f"content-{uuid.uuid4()}"
        image = self._backend.image(volume_id)
        self._backend.ceph.rbd("export", image, str(copy), "--no-progress")
        return copy

    def _follow(self, volume_id: str, host: str, client: RbdClient) -> None:
        """Close the image when the hypervisor has taken the disk away."""
        while self._holds(volume_id, host):
            if self._over.wait(LOOK_SECONDS):
                return
        client.close()

    def _holds(self, volume_id: str, host: str) -> bool:
        guests = self._servers.guests(host).values()
        return any(volume_id in guest["disks"].values() for guest in guests)
