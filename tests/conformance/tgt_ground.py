"""A private tgtd with real hosts at it, as the ground that the conformance suite stands on."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from drivers.base import Connection, Connector, StorageDriver, VolumeRef
from drivers.conformance import Ground
from tests.fallible import Fallible
from tests.iscsi import BACKEND, CONTROL_TARGET, Iscsi, Volume, connector_of
from tests.services.fuse_disk import FuseDisk
from tests.services.initiator import Initiator

ABSENT = "2f9a1d52-0b6c-4c0e-9a53-3f6f4b1d2c10"
OLD_ID = "5e0a7c1b-7f3e-4d55-8c7c-6a1f0e5b9d02"
APART = 4096  # blocks between where two sessions write


class TgtGround(Ground):
    """Every volume is on the one disk that can be made to hang; nobody reads what is written.

    ``other`` is a second daemon, whose targets are those of another backend.
    """

    def __init__(self, iscsi: Iscsi, other: Iscsi, disk: FuseDisk, *, control: bool) -> None:
        self.iscsi, self.other, self.disk = iscsi, other, disk
        self._control_target = CONTROL_TARGET if control else None
        self._control_tid = iscsi.add_control_target() if control else None
        self._fallible = Fallible(iscsi.directory, iscsi.tgtd.tgtadm)
        self._volumes: dict[str, Volume] = {}
        self._hosts: list[Initiator] = []

    def driver(self) -> StorageDriver:
        """Make one for the daemon; its tgtadm is one that can be made to fail."""
        return self.iscsi.driver(
            control_target=self._control_target, tgtadm=str(self._fallible.program)
        )

    def failing_once(self, way: int) -> AbstractContextManager[Callable[[], bool]]:
        """Have one run of tgtadm fail, without and with effect, the first run, the second, ..."""
        return self._fallible.failing_once(*divmod(way, 2))

    def elsewhere(self) -> StorageDriver:
        """Make one for the other daemon, which has a volume that a host writes to."""
        self.other.log_in(self.other.volume("host-x"), "host-x").logged_in()
        return self.other.driver(control_target=self._control_target)

    def volume(self) -> VolumeRef:
        """Create a target that lets nobody in."""
        return self._made(self.iscsi.volume(disk=self.disk.disk))

    def migrated(self) -> VolumeRef:
        """Create a target that has the name of the volume's name_id."""
        name_id = "c4a1c0de-2b1a-4a8e-9d2f-0f6d3c7e8b03"
        return self._made(self.iscsi.volume(disk=self.disk.disk, volume_id=OLD_ID, name_id=name_id))

    def missing(self) -> VolumeRef:
        """Return a volume without a target, on a daemon that is then not the backend's own."""
        if self._control_tid is not None:
            self.iscsi.tgtd.remove_target(self._control_tid)
            self._control_tid = None
        return VolumeRef(ABSENT, BACKEND)

    def connector(self, host: str) -> Connector:
        """Return what os-brick would."""
        return connector_of(host)

    def connect(self, volume: VolumeRef, connector: Connector, *, sessions: int = 1) -> None:
        """Let the initiator in and have it write from that many processes."""
        made = self._volumes[volume.volume_id]
        self.iscsi.tgtd.let_in(made.tid, connector.initiator or "")
        for _ in range(sessions):
            self._log_in(made, connector, for_ever=False)

    def truth(self, volume: VolumeRef) -> tuple[Connection, ...]:
        """Ask tgtd itself."""
        tid = self._volumes[volume.volume_id].tid
        entries = self.iscsi.tgtd.access_list(tid)
        sessions = Counter(self.iscsi.tgtd.sessions(tid))
        return tuple(
            Connection(name=name, access=name in entries, sessions=sessions[name])
            for name in dict.fromkeys([*entries, *sessions])
        )

    def withdraw(self, volume: VolumeRef, connector: Connector) -> None:
        """Take the entry from the access list, which ends no session."""
        tid, name = str(self._volumes[volume.volume_id].tid), connector.initiator or ""
        self.iscsi.tgtd.adm("target", "unbind", "--tid", tid, "--initiator-name", name)

    @contextlib.contextmanager
    def comes_back(self, volume: VolumeRef, connector: Connector) -> Iterator[None]:
        """Add a host of the same name that logs in again at once, for ever."""
        host = self._log_in(self._volumes[volume.volume_id], connector, for_ever=True)
        try:
            yield
        finally:
            host.kill()

    @contextlib.contextmanager
    def stuck(self, volume: VolumeRef, connector: Connector) -> Iterator[None]:
        """Freeze the disk in the middle of a write."""
        del volume, connector  # everybody is on the one disk
        self.disk.pause()
        try:
            while any(host.makes_progress(0.2) for host in self._hosts):
                pass
            yield
        finally:
            self.disk.resume()

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Stop the daemon; what it was asked it has done when it answers again."""
        with self.iscsi.frozen():
            yield
        self.iscsi.tgtd.adm("target", "show")
        time.sleep(0.05)

    def _made(self, volume: Volume) -> VolumeRef:
        self._volumes[volume.ref.volume_id] = volume
        return volume.ref

    def _log_in(self, volume: Volume, connector: Connector, *, for_ever: bool) -> Initiator:
        self._hosts.append(
            self.iscsi.initiators.start(
                self.iscsi.tgtd.url,
                volume.target,
                connector.initiator or "",
                for_ever=for_ever,
                first_block=len(self._hosts) * APART % (7 * APART),
            ).logged_in()
        )
        return self._hosts[-1]
