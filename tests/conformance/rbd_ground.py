"""A private Ceph with real clients at it, as the ground that the conformance suite stands on."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from drivers.base import Attachment, ClientInstance, Connection, Connector, StorageDriver, VolumeRef
from drivers.conformance import Ground
from drivers.conformance.ground import cannot
from drivers.rbd import RbdDriver
from drivers.rbd.driver import OPTS
from drivers.registry import parsed
from tests.bus import until
from tests.fallible import Fallible
from tests.rbd import BACKEND, Rbd, connector_of
from tests.services.ceph import PYTHON
from tests.services.rbd_clients import RbdClient

FORGETFUL_SECONDS = 2


class RbdGround(Ground):
    """Every host has a client of its own for each volume, as QEMU has for each disk.

    The images are in a namespace of their own, so that a list has those of the clause alone.
    """

    def __init__(self, rbd: Rbd, directory: Path, kind: type[RbdDriver] = RbdDriver) -> None:
        self.rbd, self.kind = rbd, kind
        self._fallible = Fallible(directory, Path(PYTHON))
        self._clients: dict[tuple[str, str | None], RbdClient] = {}

    @classmethod
    def on(cls, rbd: Rbd, directory: Path, kind: type[RbdDriver] = RbdDriver) -> RbdGround:
        """Make one in a namespace of its own."""
        place = f"volumes/{uuid.uuid4()}"
        rbd.ceph.create_namespace(place)
        return cls(Rbd(rbd.ceph, rbd.clients, place), directory, kind)

    def driver(self) -> StorageDriver:
        """Make one whose Python can be made to fail."""
        return self._made(self.rbd.place)

    def elsewhere(self) -> StorageDriver:
        """Make one for another pool of the same cluster."""
        return self._made("images")

    def _made(self, pools: str) -> StorageDriver:
        python, conf = str(self._fallible.program), str(self.rbd.ceph.configuration)
        mine = {"pools": pools, "conf": conf, "python": python, "lift_user": "lifter"}
        return self.kind(BACKEND, parsed(OPTS, mine))

    def volume(self) -> VolumeRef:
        """Create an image."""
        return self.rbd.volume()

    def migrated(self) -> VolumeRef:
        """Create an image that has the name of the volume's name_id."""
        return self.rbd.volume(name_id=str(uuid.uuid4()))

    def missing(self) -> VolumeRef:
        """Return a volume without an image."""
        return VolumeRef(str(uuid.uuid4()), BACKEND)

    def connector(self, host: str) -> Connector:
        """Return what os-brick would."""
        return connector_of(host)

    def connect(self, volume: VolumeRef, connector: Connector, *, sessions: int = 1) -> None:
        """Have a client of the host open the image that often, and write a block.

        Without a session: it was killed, its watch has ended, and its lock is left.
        """
        if sessions:
            self._open(volume, connector, sessions)
            return
        with self.rbd.ceph.forgetful(FORGETFUL_SECONDS):
            self._open(volume, connector, 1).kill()
        until(lambda: not self.rbd.ceph.watchers_of(self.rbd.spec(volume)))

    def _open(self, volume: VolumeRef, connector: Connector, sessions: int) -> RbdClient:
        name, address = connector.host or "", connector.ip
        client = self.rbd.opened(volume, name, address=address, opens=sessions, writes=1)
        self._clients[volume.volume_id, address] = client
        return client

    def attachment(self, volume: VolumeRef, connector: Connector) -> Attachment:
        """Learn the client from ``rbd status``, or from the lock that it has left."""
        spec, address = self.rbd.spec(volume), f"{connector.ip}:"
        learned = [
            ClientInstance(w["address"], f"client.{w['client']}", w["cookie"], datetime.now(UTC))
            for w in self.rbd.ceph.watchers_of(spec)
        ] + [
            ClientInstance(k["address"], k["locker"], int(k["id"].split()[1]), datetime.now(UTC))
            for k in self.rbd.ceph.locks_of(spec)
        ]
        own = [client for client in learned if client.address.startswith(address)]
        return Attachment(volume.volume_id, None, None, connector, own[0] if own else None)

    def fenced(self) -> frozenset[str]:
        """Ask the monitor for its list."""
        return frozenset(self.rbd.ceph.blocklist())

    def whole_host(self, address: str) -> str:
        """Return the address without the nonce, which Ceph takes for the whole host."""
        return f"{address.rpartition('/')[0]}/0"

    def replace_client(self, volume: VolumeRef, connector: Connector) -> None:
        """Have the host's client close the image, and start another one."""
        self._clients[volume.volume_id, connector.ip].close()
        self._open(volume, connector, 1)

    def truth(self, volume: VolumeRef) -> tuple[Connection, ...]:
        """Ask ``rbd``: who watches has access, and so has the owner of any lock that is left."""
        spec = self.rbd.spec(volume)
        watches = [(f"client.{w['client']}", w["address"]) for w in self.rbd.ceph.watchers_of(spec)]
        locks = [(lock["locker"], lock["address"]) for lock in self.rbd.ceph.locks_of(spec)]
        sessions = Counter(watches)
        return tuple(
            Connection(
                name,
                address=address,
                sessions=sessions[name, address],
                host_ip=address.partition(":")[0],
            )
            for name, address in dict.fromkeys([*watches, *locks])
        )

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Stop monitor and OSD; the block ends when they answer again."""
        with self.rbd.ceph.frozen("osd"), self.rbd.ceph.frozen("mon"):
            yield
        self.rbd.ceph.create(f"{self.rbd.place}/{uuid.uuid4()}")

    def failing_once(self, way: int) -> AbstractContextManager[Callable[[], bool]]:
        """Have one run of the Python fail, without and with effect, the first, the second, ..."""
        return self._fallible.failing_once(*divmod(way, 2))

    def another_name(self, connector: Connector) -> Connector:
        """Return the same host at another address, by which it goes here."""
        return connector_of(f"{connector.host}-elsewhere")

    def another_case(self, connector: Connector) -> Connector:
        """Skip: an address has no case."""
        cannot("hosts are known by their addresses here")

    def secrets(self) -> tuple[str, ...]:
        """Return the key of detachd's user."""
        keyring = self.rbd.ceph.directory / "client.detachd.keyring"
        return (keyring.read_text().partition("key = ")[2].split()[0],)
