"""The Cinder driver of the lab: sparse files behind a real tgtd, one target a volume.

``initialize_connection`` lets one initiator in, ``terminate_connection`` shuts it out again,
``remove_export`` drops the whole target with everybody's sessions, as LVM's driver does on tgt.
CHAP secrets, where wanted, are real. Each method can be struck by a fault (``faults.py``).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from cinder import exception, interface
from cinder.volume import configuration, driver
from oslo_concurrency import lockutils, processutils
from oslo_config import cfg

from tests.lab.inside.faults import Fault, Faults
from tests.lab.inside.struck import first_volume, second_volume, struck

OPTIONS = [
    cfg.StrOpt("lab_disks", help="Directory of the volumes' files."),
    cfg.StrOpt("lab_faults", help="Directory that faults are read from."),
    cfg.StrOpt("lab_tgtadm", help="The program tgtadm."),
    cfg.StrOpt("lab_tgt_socket", help="TGT_IPC_SOCKET of the private tgtd."),
    cfg.IntOpt("lab_tgt_control_port", help="Its control port."),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)
PREFIX = "iqn.2010-10.org.openstack:"
END_SECONDS = 2.0
SESSION = re.compile(r"Session: (\d+)\s+Connection: (\d+)\s+Initiator: (\S+)")
ACCESS = re.compile(r"^    ACL information:\n((?: {8}.*\n)*)", re.MULTILINE)
TARGET = re.compile(r"^Target (\d+): (\S+)$", re.MULTILINE)


def _nothing(*_: Any, **__: Any) -> None:
    return None


@interface.volumedriver
class LabDriver(driver.ISCSIDriver):  # type: ignore[misc]  # Cinder is not typed
    """See the module."""

    VERSION = "1.0.0"
    CI_WIKI_NAME = "none"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self.disks = Path(self.configuration.lab_disks)
        self.faults = Faults(Path(self.configuration.lab_faults))

    def raise_fault(self, fault: Fault) -> None:
        """Raise what a driver would raise."""
        raise exception.VolumeBackendAPIException(data=f"the lab's fault in {fault.method}")

    def do_setup(self, context: Any) -> None:
        """Make the place for the files."""
        self.disks.mkdir(parents=True, exist_ok=True)

    @struck(_nothing)
    def check_for_setup_error(self) -> None:
        """Ask tgtd whether it is there; a fault here leaves the driver uninitialised."""
        self._targets()

    def _update_volume_stats(self) -> None:
        self._stats = {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "detachd",
            "driver_version": self.VERSION,
            "storage_protocol": "iSCSI",
            "total_capacity_gb": "infinite",
            "free_capacity_gb": "infinite",
            "multiattach": True,
            "shared_targets": False,
        }

    @struck(first_volume)
    def create_volume(self, volume: Any) -> None:
        """Make a sparse file."""
        with self._disk(volume).open("wb") as disk:
            disk.truncate(volume["size"] << 30)

    @struck(first_volume)
    def delete_volume(self, volume: Any) -> None:
        """Remove the file, and a target that was left."""
        self._drop_target(volume)
        self._disk(volume).unlink(missing_ok=True)

    @struck(second_volume)
    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        """Make the target, which lets nobody in; the same one where it is there already."""
        auth = volume["provider_auth"] or self._credentials()
        with self._alone(volume):
            if self._number(volume) is None:
                self._make_target(volume, auth)
        portal = f"{self.configuration.target_ip_address}:{self.configuration.target_port}"
        return {"provider_location": f"{portal},1 {_name(volume)} 1", "provider_auth": auth}

    @struck(second_volume)
    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        """Make the target again after a restart of tgtd, with those let in who were."""
        update: dict[str, Any] = self.create_export.__wrapped__(self, context, volume, None)
        for attachment in volume.volume_attachment:
            if attachment.connector:
                self._let_in(volume, attachment.connector["initiator"])
        return update

    @struck(second_volume)
    def remove_export(self, context: Any, volume: Any) -> None:
        """Drop the target and with it everybody's access and sessions."""
        self._drop_target(volume)

    @struck(first_volume)
    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Let the connector's initiator in."""
        self._let_in(volume, connector["initiator"])
        return super().initialize_connection(volume, connector)

    @struck(first_volume)
    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> bool:
        """Shut the initiator out, all of them without a connector; say whether others remain.

        A host that a second attachment of the volume is on stays in.
        """
        if connector and _attachments_there(volume, connector) > 1:
            return True
        with self._alone(volume):
            number = self._number(volume)
            inside = self._initiators(number) if number is not None else []
            leaving = [connector["initiator"]] if connector else list(inside)
            for initiator in leaving:
                if number is not None and initiator in inside:
                    self._shut_out(number, initiator)
        return bool(set(inside) - set(leaving))

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        """Make an empty one: nobody reads from a clone here."""
        self.create_volume(volume)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Make the file longer."""
        os.truncate(self._disk(volume), new_size << 30)

    def _disk(self, volume: Any) -> Path:
        return self.disks / str(volume["name"])

    def _alone(self, volume: Any) -> Any:
        return lockutils.lock(f"lab-{volume['id']}")

    def _tgtadm(self, mode: str, op: str, *arguments: object) -> str:
        """Run tgtadm; a target or rule that is there or gone already raises as anything else."""
        out, _ = processutils.execute(
            self.configuration.lab_tgtadm,
            *("-C", str(self.configuration.lab_tgt_control_port), "--lld", "iscsi"),
            *("--mode", mode, "--op", op, *(str(a) for a in arguments)),
            env_variables={"TGT_IPC_SOCKET": self.configuration.lab_tgt_socket},
        )
        return str(out)

    def _targets(self) -> dict[str, int]:
        return {
            name: int(number) for number, name in TARGET.findall(self._tgtadm("target", "show"))
        }

    def _number(self, volume: Any) -> int | None:
        return self._targets().get(_name(volume))

    def _credentials(self) -> str | None:
        words = secrets.token_hex(8), secrets.token_hex(8)
        return f"CHAP {' '.join(words)}" if self.configuration.use_chap_auth else None

    def _make_target(self, volume: Any, auth: str | None) -> int:
        with lockutils.lock("lab-target-numbers"):
            number = max(self._targets().values(), default=0) + 1
            self._tgtadm("target", "new", "--tid", number, "--targetname", _name(volume))
        disk = ("--tid", number, "--lun", 1, "--backing-store", self._disk(volume))
        self._tgtadm("logicalunit", "new", *disk)
        if auth:
            _, user, password = auth.split()
            self._tgtadm("account", "new", "--user", user, "--password", password)
            self._tgtadm("account", "bind", "--tid", number, "--user", user)
        return number

    def _drop_target(self, volume: Any) -> None:
        with self._alone(volume):
            if (number := self._number(volume)) is None:
                return
            for initiator in self._initiators(number):
                self._shut_out(number, initiator)
            self._tgtadm("target", "delete", "--force", "--tid", number)
            if auth := volume["provider_auth"]:
                self._tgtadm("account", "delete", "--user", auth.split()[1])

    def _let_in(self, volume: Any, initiator: str) -> None:
        with self._alone(volume):
            number = self._number(volume)
            if number is None:  # removed while we were busy: as an array would, map it all the same
                number = self._make_target(volume, volume["provider_auth"])
            if initiator not in self._initiators(number):
                self._bind("bind", number, initiator)

    def _shut_out(self, number: int, initiator: str) -> None:
        """Take an initiator from the list, then end its sessions: it cannot come back.

        A session with I/O under way stays listed until that is done, and the target cannot be
        deleted until then (tgt 1.0.85).
        """
        self._bind("unbind", number, initiator)
        ends_at = time.monotonic() + END_SECONDS
        while sessions := self._sessions(number, initiator):
            for sid, cid in sessions:
                with contextlib.suppress(processutils.ProcessExecutionError):  # gone by itself
                    where = ("--tid", number, "--sid", sid, "--cid", cid)
                    self._tgtadm("conn", "delete", *where)
            if time.monotonic() > ends_at:
                raise exception.VolumeBackendAPIException(data=f"{initiator} is still connected")
            time.sleep(0.01)

    def _sessions(self, number: int, initiator: str) -> list[tuple[str, str]]:
        told = self._tgtadm("conn", "show", "--tid", number)
        return [(sid, cid) for sid, cid, name in SESSION.findall(told) if name == initiator]

    def _initiators(self, number: int) -> list[str]:
        told = self._tgtadm("target", "show").split(f"Target {number}: ", 1)[1]
        rules = ACCESS.search(told)  # of the first target, which is ours
        return [line.strip() for line in rules[1].splitlines()] if rules else []

    def _bind(self, op: str, number: int | None, initiator: str) -> None:
        self._tgtadm("target", op, "--tid", number, "--initiator-name", initiator)


def _name(volume: Any) -> str:
    return f"{PREFIX}{volume['name']}"


def _attachments_there(volume: Any, connector: Any) -> int:
    there = connector["initiator"]
    return sum(
        bool(a.connector and a.connector.get("initiator") == there)
        for a in volume.volume_attachment
    )
