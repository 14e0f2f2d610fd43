"""The hypervisor of the lab: Nova's own fake one, with a host's real-looking name and with faults.

Guests and the disks that they hold are kept in a file, so that they survive a kill -9 of
nova-compute as real ones do. Nothing is connected: the guests' disks are words in that file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nova.conf
from nova import exception
from nova.virt import fake
from oslo_config import cfg

from tests.lab.inside.faults import Fault, Faults
from tests.lab.inside.struck import struck

OPTIONS = [
    cfg.StrOpt("lab_faults", help="Directory that faults are read from."),
    cfg.StrOpt("lab_guests", help="File that the guests are kept in."),
]
CONF = nova.conf.CONF
CONF.register_opts(OPTIONS)
ERRORS: dict[str, dict[str, str]] = {
    "DeviceDetachFailed": {"device": "vdb", "reason": "the lab's guest does not let go"},
    "DiskNotFound": {"location": "vdb"},
    "NovaException": {"message": "the lab's fault"},
}


def _volume(connection_info: Any) -> str | None:
    data = connection_info.get("data", {})
    return data.get("volume_id") or connection_info.get("serial")


def _connected(_context: Any, connection_info: Any, *_: Any, **__: Any) -> str | None:
    return _volume(connection_info)


def _guest(_context: Any, instance: Any, *_: Any, **__: Any) -> str:
    return str(instance.uuid)


class LabDriver(fake.FakeDriverWithoutFakeNodes):  # type: ignore[misc]  # Nova is not typed
    """See the module."""

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self.faults = Faults(Path(CONF.lab_faults))
        self._file = Path(CONF.lab_guests)
        self._disks: dict[str, dict[str, str]] = {}

    def raise_fault(self, fault: Fault) -> None:
        """Raise the exception that the fault names."""
        name = fault.error or "NovaException"
        raise getattr(exception, name)(**ERRORS.get(name, {}))

    def init_host(self, host: str) -> None:
        """Take up the guests that were there before."""
        super().init_host(host)
        known = json.loads(self._file.read_text()) if self._file.exists() else {}
        for uuid, guest in known.items():
            self.instances[uuid] = fake.FakeInstance(guest["name"], guest["state"], uuid)
            self._disks[uuid] = guest["disks"]

    def get_volume_connector(self, instance: Any) -> dict[str, str]:
        """Name this host as os-brick would."""
        initiator = f"iqn.1993-08.org.debian:01:{self._host}"
        return {"ip": CONF.my_block_storage_ip, "initiator": initiator, "host": self._host}

    @struck(_guest)
    def spawn(
        self,
        context: Any,
        instance: Any,
        *args: Any,
        block_device_info: Any = None,
        **kwargs: Any,
    ) -> None:
        """Start a guest with the disks of its block devices."""
        super().spawn(context, instance, *args, block_device_info=block_device_info, **kwargs)
        for disk in (block_device_info or {}).get("block_device_mapping", []):
            self._hold(instance, disk["mount_device"], _volume(disk["connection_info"]))
        self._keep()

    @struck(_guest)
    def destroy(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        """End a guest."""
        super().destroy(context, instance, *args, **kwargs)
        self._disks.pop(instance.uuid, None)
        self._keep()

    @struck(_connected)
    def attach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Give the guest the disk."""
        super().attach_volume(context, connection_info, instance, mountpoint, *args, **kwargs)
        self._hold(instance, mountpoint, _volume(connection_info))
        self._keep()

    @struck(_connected)
    def detach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Take the disk from the guest."""
        super().detach_volume(context, connection_info, instance, mountpoint, *args, **kwargs)
        self._disks.get(instance.uuid, {}).pop(mountpoint, None)
        self._keep()

    @struck(_guest)
    def pre_live_migration(
        self, context: Any, instance: Any, block_device_info: Any, *args: Any
    ) -> Any:
        """Get ready on the destination; what the guest will hold there is noted when it comes."""
        return super().pre_live_migration(context, instance, block_device_info, *args)

    @struck(_guest)
    def live_migration(self, *args: Any, **kwargs: Any) -> None:
        """Move the guest; a fault here leaves the server in error, too late to be undone."""
        super().live_migration(*args, **kwargs)

    def post_live_migration(self, context: Any, instance: Any, *_: Any, **__: Any) -> None:
        """Forget the guest on the source."""
        LabDriver.destroy.__wrapped__(self, context, instance, None)

    def post_live_migration_at_destination(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_migration: bool = False,
        block_device_info: Any = None,
    ) -> None:
        """Have the guest on the destination, with its disks."""
        LabDriver.spawn.__wrapped__(
            self, context, instance, None, None, None, None, block_device_info=block_device_info
        )

    def _hold(self, instance: Any, mountpoint: str, volume_id: str | None) -> None:
        self._disks.setdefault(instance.uuid, {})[mountpoint] = volume_id or ""

    def _keep(self) -> None:
        guests = {
            uuid: {"name": guest.name, "state": guest.state, "disks": self._disks.get(uuid, {})}
            for uuid, guest in self.instances.items()
        }
        half = self._file.with_suffix(".half")
        half.write_text(json.dumps(guests))
        half.replace(self._file)
