"""A backend of real iSCSI: volumes behind a private tgtd, hosts that are let in and log in."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivers.base import Attachment, Connection, Connector, VolumeRef
from drivers.registry import parsed
from drivers.tgt import TgtDriver
from tests.services.initiator import Initiator, Initiators
from tests.services.tgtd import Tgtd

BACKEND = "storage-1@tgt"
TEMPLATE = "iqn.2010-10.org.openstack:volume-%s"
CONTROL_TARGET = "iqn.2026-01.org.example:storage-1"
SIZE = 16 * 1024 * 1024


def connector_of(host: str) -> Connector:
    """Return the connector of a compute host, as os-brick would give it."""
    return Connector(host=host, initiator=f"iqn.1994-05.com.redhat:{host}", ip="127.0.0.1")


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume that has a target: what Cinder says of it, and where it is."""

    ref: VolumeRef
    target: str
    tid: int
    disk: Path

    def attachment(self, host: str) -> Attachment:
        """Return an attachment of it to a host."""
        return Attachment(self.ref.volume_id, str(uuid.uuid4()), None, connector_of(host))


@dataclasses.dataclass(frozen=True, slots=True)
class Iscsi:
    """One backend. What it says of a target comes from tgtd, not through the driver."""

    tgtd: Tgtd
    initiators: Initiators
    directory: Path

    def options(self, **changes: object) -> dict[str, Any]:
        """Return the options of a driver for it."""
        mine = {"control_port": self.tgtd.control_port, "socket": str(self.tgtd.socket)}
        return dict(parsed(TgtDriver.opts, {**mine, **changes}))

    def driver(self, **changes: object) -> TgtDriver:
        """Make a driver for it."""
        return TgtDriver(BACKEND, self.options(**changes))

    def add_control_target(self) -> int:
        """Make the target that is always there; return its number."""
        return self.tgtd.add_target(CONTROL_TARGET)

    def image(self) -> Path:
        """Make a sparse file."""
        path = self.directory / f"image-{uuid.uuid4()}"
        with path.open("wb") as file:
            file.truncate(SIZE)
        return path

    def volume(self, *hosts: str, disk: Path | None = None, **known: Any) -> Volume:
        """Make a volume with a target that lets these hosts in; ``known`` is more of its ref."""
        ref = VolumeRef(known.pop("volume_id", None) or str(uuid.uuid4()), BACKEND, **known)
        target, file = TEMPLATE % ref.ids()[0], disk or self.image()
        names = tuple(connector_of(host).initiator or "" for host in hosts)
        return Volume(ref, target, self.tgtd.add_target(target, file, initiators=names), file)

    def let_in(self, volume: Volume, host: str) -> None:
        """Add a host to the volume's access list."""
        self.tgtd.let_in(volume.tid, connector_of(host).initiator or "")

    def log_in(self, volume: Volume, host: str, **how: Any) -> Initiator:
        """Start a host that logs in and writes; returns before it has."""
        name = connector_of(host).initiator or ""
        return self.initiators.start(self.tgtd.url, volume.target, name, **how)

    def may_enter(self, volume: Volume) -> list[str]:
        """Return the hosts that the access list names, and its other entries as they are."""
        return [_host(entry) for entry in self.tgtd.access_list(volume.tid)]

    def in_session(self, volume: Volume) -> list[str]:
        """Return the host of each session."""
        return sorted(_host(name) for name in self.tgtd.sessions(volume.tid))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the daemon while the block lasts."""
        self.tgtd.pause()
        try:
            yield
        finally:
            self.tgtd.resume()


def release(iscsi: Iscsi, volume: Volume, host: str, *, seconds: float = 30.0) -> None:
    """Have a driver that knows the control target let a host go."""
    iscsi.driver(control_target=CONTROL_TARGET).force_detach(
        volume.ref, volume.attachment(host), request_id="req-test", timeout_seconds=seconds
    )


def seen(iscsi: Iscsi, volume: Volume) -> tuple[Connection, ...]:
    """Return what a driver without a control target sees of a volume."""
    return iscsi.driver().observe(volume.ref, timeout_seconds=30).connections


def _host(initiator: str) -> str:
    return initiator.removeprefix("iqn.1994-05.com.redhat:")
