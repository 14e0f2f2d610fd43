"""A private tgtd: iSCSI targets in user space, and its own admin command beside it."""

from __future__ import annotations

import itertools
import re
import secrets
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.services.ports import free_port
from tests.services.service import (
    START_SECONDS,
    PrivateService,
    ServiceFailedError,
    executable,
)

LISTENING = "0A"
BUSY_SECONDS = 3.0


class Tgtd(PrivateService):
    """One daemon with its own control socket, control port and portal.

    It keeps nothing: killed and started again it has no target. Everything here goes through
    ``tgtadm`` by hand, so that what it says of a target is not what a driver made of it.
    """

    name = "tgtd"
    stop_signal = signal.SIGKILL  # SIGTERM it ignores while it has a target

    def __init__(self) -> None:
        self._server = executable("tgtd", "tgt", "/usr/sbin/tgtd")
        self.tgtadm = executable("tgtadm", "tgt", "/usr/sbin/tgtadm")
        self.port = free_port()
        self.control_port = 1 + secrets.randbelow(30_000)
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The portal."""
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        """What TGT_IPC_SOCKET names: tgtd and tgtadm add a dot and the control port."""
        return self.directory / "socket"

    def adm(self, mode: str, op: str, *arguments: str | Path) -> str:
        """Return what ``tgtadm`` prints; ServiceFailedError with its words when it fails."""
        which = ("-C", str(self.control_port), "--lld", "iscsi")
        return self._run(self.tgtadm, *which, "--mode", mode, "--op", op, *arguments)

    def admin(self, *arguments: str) -> str:
        """Return what ``tgt-admin`` prints, the command that reads tgtd's configuration files."""
        which = ("-C", str(self.control_port))
        return self._run(executable("tgt-admin", "tgt", "/usr/sbin/tgt-admin"), *which, *arguments)

    def add_target(self, target: str, *backing: Path, initiators: tuple[str, ...] = ()) -> int:
        """Make a target with a disk for each of the files; return its number."""
        tid = next(self._numbers)
        self.adm("target", "new", "--tid", str(tid), "--targetname", target)
        for lun, file in enumerate(backing, start=1):
            self.add_disk(tid, lun, file)
        for initiator in initiators:
            self.let_in(tid, initiator)
        return tid

    def add_disk(self, tid: int, lun: int, file: Path) -> None:
        """Put a file behind a target as one more disk."""
        where = ("--tid", str(tid), "--lun", str(lun))
        self.adm("logicalunit", "new", *where, "--backing-store", file)

    def let_in(self, tid: int, initiator: str) -> None:
        """Add an initiator's name to the access list."""
        self.adm("target", "bind", "--tid", str(tid), "--initiator-name", initiator)

    def let_in_address(self, tid: int, address: str) -> None:
        """Add an address, a network, or ALL to the access list."""
        self.adm("target", "bind", "--tid", str(tid), "--initiator-address", address)

    def remove_target(self, tid: int) -> None:
        """Drop a target with everybody's session, as Cinder's remove_export does.

        tgtd refuses while a command is under way in it, even with --force: tried for some seconds.
        """
        ends_at = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.adm("target", "delete", "--force", "--tid", str(tid))
            except ServiceFailedError as error:
                if "still active" not in str(error) or time.monotonic() > ends_at:
                    raise
            else:
                return

    def clear(self) -> None:
        """Drop every target; blocks until hanging I/O has ended, at most START_SECONDS."""
        ends_at = time.monotonic() + START_SECONDS
        while tids := re.findall(r"^Target (\d+):", self.adm("target", "show"), re.MULTILINE):
            for tid in tids:
                with suppress(ServiceFailedError):
                    self.remove_target(int(tid))
            if time.monotonic() > ends_at:
                raise ServiceFailedError(f"tgtd keeps targets {tids}", self._log)

    def tid(self, target: str) -> int | None:
        """Return a target's number, None where there is no such target."""
        told = self.adm("target", "show")
        found = re.search(rf"^Target (\d+): {re.escape(target)}$", told, re.MULTILINE)
        return int(found[1]) if found else None

    def sessions(self, tid: int) -> list[str]:
        """Return the initiator of each session, one entry for each."""
        lines = self.adm("conn", "show", "--tid", str(tid)).splitlines()
        return [line.split(": ", 1)[1] for line in lines if line.strip().startswith("Initiator:")]

    def access_list(self, tid: int) -> list[str]:
        """Return the entries of a target's access list as they are listed."""
        form = rf"^Target {tid}: .*?^    ACL information:\n((?: {{8}}[^\n]*\n)*)"
        found = re.search(form, self.adm("target", "show"), re.MULTILINE | re.DOTALL)
        if found is None:
            raise ServiceFailedError(f"tgtd has no target {tid}", self._log)
        return [line.strip() for line in found[1].splitlines()]

    def _prepare(self) -> None:
        pass

    def _launch(self) -> None:
        portal = f"portal={self.url}"
        self._spawn(self._server, "-f", "-C", str(self.control_port), "-t", "4", "--iscsi", portal)

    def _answers(self) -> bool:
        try:
            self.adm("target", "show")
        except ServiceFailedError:
            return False
        # A tgtd whose portal is taken says so in its log and serves on 0.0.0.0:3260 instead.
        if not self._holds_its_portal():
            raise ServiceFailedError(f"tgtd does not listen on {self.url} alone", self._log)
        return True

    def _holds_its_portal(self) -> bool:
        mine = {link for pid in self.processes() for link in _sockets(pid)}
        return {place for inode, place in _listening().items() if inode in mine} == {
            f"0100007F:{self.port:04X}"
        }

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "TGT_IPC_SOCKET": str(self.socket)}


def _sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets; what it opens and closes meanwhile is left out."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            link = str(entry.readlink())
            if link.startswith("socket:["):
                found.add(link.removeprefix("socket:[").removesuffix("]"))
    return found


def _listening() -> dict[str, str]:
    """Return where each listening TCP socket listens, as the kernel writes it, by inode."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[9]: row[1] for row in rows if row[3] == LISTENING}
