"""A private Ceph: one monitor and one OSD that keeps everything in memory, and its commands."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services import chroot, rbd_admin
from tests.services.chroot import Debian
from tests.services.ports import free_port
from tests.services.service import PrivateService, ServiceFailedError, executable

PACKAGES = "ceph-mon ceph-osd ceph-common python3-rbd python3-rados"
PYTHON = "/usr/bin/python3"  # whose bindings Debian's packages are
ADMINISTRATOR = Path(rbd_admin.__file__)
PORTS = 60  # above the monitor's: the OSD takes the first four that are free
SIZE_MIB = 16

# The intervals are for a start in two seconds instead of eight, and for fences that end in time.
# One OSD keeps one copy.
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = {first_port}
ms_bind_port_max = {last_port}
keyring = {directory}/$name.keyring
log_file = {directory}/$name.log
admin_socket = {directory}/$name.asok
run_dir = {directory}
crash_dir = {directory}
pid_file =
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
[mon]
mon_data = {directory}/mon
mon_cluster_log_file = {directory}/cluster.log
mon_data_avail_warn = 1
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_tick_interval = 1
[osd]
osd_class_dir = {classes}
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 1073741824
"""

# What a read of an image's header needs, and nothing of what is in the image. The last is by the
# names of Cinder's volumes: where there is no image, Ceph looks for one of the old format.
METADATA = (
    "rbd_id.", "rbd_header.", "rbd_directory", "rbd_namespace", "rbd_trash", "rbd_info",
    "rbd_object_map.", "volume-",
)  # fmt: skip
FULL_ADDRESS = "^[^/]+:[0-9]+/[1-9][0-9]*$"  # of one client: never a host's whole address

KEYS: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    # What Cinder's documentation gives to Nova and Cinder.
    "client.compute": {"mon": "profile rbd", "osd": "profile rbd"},
    # What docs/drivers-rbd.md gives to whoever lifts fences, and to detachd.
    "client.lifter": {
        "mon": (
            'allow r, allow command "osd blocklist" with blocklistop=rm '
            f'addr regex "{FULL_ADDRESS}"'
        ),
    },
    "client.detachd": {
        "mon": (
            'allow r, allow command "osd blocklist" with blocklistop=add '
            f'addr regex "{FULL_ADDRESS}"'
        ),
        "osd": ", ".join(
            [
                *(f"allow r class-read object_prefix {prefix}" for prefix in METADATA),
                "allow class lock break_lock pool=volumes object_prefix rbd_header.",
            ]
        ),
    },
}


# The program is given as a text, because its file is not seen in a chroot.
_PYTHON = """#!/bin/sh
cd "${{0%/*}}" && exec {inside} -I -c "$(cat "$2")"
"""


class Ceph(PrivateService):
    """One cluster with the pools ``volumes`` and ``images``. Killed, it forgets what it held."""

    name = "ceph"
    stop_signal = signal.SIGKILL  # nothing of it is wanted afterwards

    def __init__(self) -> None:
        programs = "ceph-mon", "ceph-osd", "ceph", "rbd"
        self._mon, self._osd, self._ceph, self._rbd = (program(name) for name in programs)
        self._asking = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.fsid = str(uuid.uuid4())

    @property
    def url(self) -> str:
        """Where the monitor is."""
        return f"127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Path:
        """The file that a client is given; it names the keyring of each user."""
        return self.directory / "ceph.conf"

    @property
    def version(self) -> str:
        """The version that the monitor tells: 18.2.7."""
        told = json.loads(self.ceph("version", "--format", "json"))["version"]
        return str(told).split()[2].partition("-")[0]

    @property
    def python(self) -> Path:
        """A Python with the bindings of this very release, to run one program with ``-I``."""
        return self.directory / "python"

    def ceph(self, *words: str) -> str:
        """Return what the administrator's ``ceph`` prints."""
        return self._run(*self._ceph, "-c", self.configuration, *words)

    def rbd(self, *words: str) -> str:
        """Return what the administrator's ``rbd`` prints."""
        return self._run(*self._rbd, "-c", self.configuration, *words)

    def create(self, image: str) -> None:
        """Make an image, named POOL/IMAGE or POOL/NAMESPACE/IMAGE."""
        self._admin("create", image, SIZE_MIB * 1024 * 1024)

    def create_namespace(self, place: str) -> None:
        """Make a namespace, named POOL/NAMESPACE."""
        self._admin("namespace", place)

    def watchers_of(self, image: str) -> list[dict[str, Any]]:
        """Return the watchers of an image: address, client and cookie of each."""
        watchers: list[dict[str, Any]] = self._admin("watchers", image)
        return watchers

    def locks_of(self, image: str) -> list[dict[str, Any]]:
        """Return the locks of an image: id, locker and address of each."""
        locks: list[dict[str, Any]] = self._admin("locks", image)
        return locks

    def _admin(self, op: str, *about: object) -> Any:
        """Ask the administrator's own program, which runs as long as the cluster."""
        with self._asking:
            process = self._administrator()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"op": op, "about": about}).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the administrator's program ended"}
        if "error" in answer:
            raise ServiceFailedError(f"{op} {about}: {answer['error']}", self._log)
        return answer["answer"]

    def _administrator(self) -> subprocess.Popen[bytes]:
        if self._program is None:
            with self._log.open("ab") as log:
                self._program = subprocess.Popen(
                    [PYTHON, "-I", ADMINISTRATOR, self.configuration],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self.directory,  # by which it ends with the cluster, whatever happens
                    env=self._environment(),
                )
        return self._program

    def _stop(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.communicate()
        super()._stop()

    def blocklist(self) -> dict[str, str]:
        """Return until when each address is fenced."""
        shown = self.ceph("osd", "blocklist", "ls", "--format", "json").strip()
        entries, _ = json.JSONDecoder().raw_decode(shown)  # the ranges follow, by themselves
        return {entry["addr"]: entry["until"] for entry in entries}

    @contextmanager
    def forgetful(self, seconds: int) -> Iterator[None]:
        """Have a watch end so soon after its client's end, instead of half a minute.

        It holds for what opens an image while the block lasts.
        """
        name = "osd_client_watch_timeout"
        self.ceph("tell", "osd.0", "config", "set", name, str(seconds))
        try:
            yield
        finally:
            self.ceph("tell", "osd.0", "config", "set", name, "30")

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """Freeze the ``mon`` or the ``osd`` (SIGSTOP) while the block lasts."""
        process = self._children[0 if part == "mon" else -1]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # each of its threads: a look takes 3 ms
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _prepare(self) -> None:
        ports = {"first_port": self.port + 1, "last_port": self.port + PORTS}
        where = {"fsid": self.fsid, "port": self.port, "directory": self.directory}
        where |= {"classes": self._classes()}
        self._write("ceph.conf", CONFIGURATION.format(**where, **ports))
        for part in ("mon", "osd"):
            (self.directory / part).mkdir()
        self._write("python", _PYTHON.format(inside=shlex.join(map(str, program(PYTHON)))))
        self.python.chmod(0o700)
        self._write("all.keyring", "")
        for user, rights in KEYS.items():
            self._add_key(user, rights)
        monmap = self.directory / "monmap"
        place = f"[v2:127.0.0.1:{self.port}/0]"
        make = ("--create", "--fsid", self.fsid, "--addv", "a", place, monmap)
        self._run(*program("monmaptool"), *make)
        every_key = self.directory / "all.keyring"
        self._mon_run("--mkfs", "--monmap", monmap, "--keyring", every_key)

    def _classes(self) -> Path:
        """Return where the OSD's classes are, without which there are no images.

        Debian 13 has built it in as a path below /usr that does not begin with a slash.
        """
        ask = ("--no-mon-config", "-c", "/dev/null", "--show-config-value", "osd_class_dir")
        return Path("/usr") / self._run(*self._osd, *ask).strip()

    def _launch(self) -> None:
        self._spawn(*self._mon, "-c", self.configuration, "-i", "a", "-f")
        number = str(uuid.uuid4())
        self.ceph("--connect-timeout", "60", "osd", "new", number)
        osd = ("-c", self.configuration, "-i", "0")
        self._run(*self._osd, *osd, "--mkfs", "--osd-uuid", number)
        self._spawn(*self._osd, *osd, "-f")
        for pool in ("volumes", "images"):
            self.ceph("osd", "pool", "create", pool, "8", "8")
            self.ceph("osd", "pool", "application", "enable", pool, "rbd")

    def _answers(self) -> bool:
        for pool in ("volumes", "images"):
            image = f"{pool}/{uuid.uuid4()}"
            try:
                self.rbd("--rados-osd-op-timeout", "20", "create", image, "--size", "1M")
                self.rbd("rm", "--no-progress", image)
            except ServiceFailedError:
                return False
        return True

    def _add_key(self, user: str, rights: Mapping[str, str]) -> None:
        tool = program("ceph-authtool")
        keyring = self.directory / f"{'mon.a' if user == 'mon.' else user}.keyring"
        caps = [word for service, right in rights.items() for word in ("--cap", service, right)]
        self._run(*tool, "--create-keyring", keyring, "--gen-key", "-n", user, *caps)
        keyring.chmod(0o600)
        self._run(*tool, self.directory / "all.keyring", "--import-keyring", keyring)

    def _mon_run(self, *words: str | Path) -> None:
        self._run(*self._mon, "-c", self.configuration, "-i", "a", *words)


def program(name: str) -> tuple[str | Path, ...]:
    """Return the command of a program of the Ceph that DETACHD_CEPH chooses.

    That is ``installed`` (the default) or ``18``, which is that of Debian 13 in a chroot. Raises
    ServiceMissingError where it is not here, ValueError for any other word.
    """
    match os.environ.get("DETACHD_CEPH") or "installed":
        case "installed":
            return (executable("Ceph", PACKAGES, name),)
        case "18":
            return (*chroot.entrance(Debian.THIRTEEN, "Ceph 18"), name)
        case other:
            raise ValueError(f"DETACHD_CEPH is installed or 18, not {other!r}")
