"""A machine of its own whose process 1 is a real systemd, with detachd installed in /opt/detachd.

It has this machine's kernel, network and root file system. Its processes, mounts, cgroups and host
name are in namespaces of its own. What it writes goes to an overlay, which the kernel takes away
with its last process. /etc/systemd/system is empty but for what a test puts there, so that nothing
starts which this machine is set up to start.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from tests.services.service import PrivateService, ServiceFailedError, ServiceMissingError

SYSTEMD = Path("/lib/systemd/systemd")
USER = "detachd"
USER_ID = 42710
TARGET = "trial.target"
START_SERVICE_SECONDS = 60.0

# In a cgroup of its own, which is the root of the tree that systemd sees. In the working directory.
_ENTER = """
mkdir -p cgroups root writes/upper writes/work
mount -t cgroup2 cgroups cgroups
cgroup="cgroups$(sed -n 's/^0:://p' /proc/self/cgroup)/${PWD##*/}"
mkdir -p "$cgroup"
echo 0 > "$cgroup/cgroup.procs"
exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child \
    /bin/sh -ec "$1" machine "$2" "$3"
"""

# As process 1. $1 is where the interpreter of the tests is, $2 where its packages are. It has a
# /dev of its own, because systemd makes links there. The root is pivoted to: a process in a chroot
# may not make a namespace of users, which the unit asks for.
_BOOT = """
mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/writes/upper,workdir=$PWD/writes/work" root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroups sys/fs/cgroup
for each in run tmp var/tmp etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$each"; done
chmod 1777 tmp var/tmp
mount -t tmpfs -o mode=755 tmpfs dev
for each in null zero full random urandom tty; do
    : > "dev/$each"
    mount --bind "/dev/$each" "dev/$each"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$1" opt/python
mount --bind "$2" opt/packages
echo /opt/python/lib > etc/ld.so.conf.d/000-python.conf
chroot . /sbin/ldconfig
for each in systemd-journald-audit.socket systemd-modules-load.service modprobe@.service; do
    ln -s /dev/null "etc/systemd/system/$each"  # no business of ours with the kernel
done
printf '[Unit]\\nRequires=sysinit.target\\nAfter=sysinit.target\\n' \\
    > etc/systemd/system/trial.target
mkdir tmp/old
pivot_root . tmp/old
umount -l /tmp/old
rmdir /tmp/old
exec env -i container=tests PATH="$PATH" /lib/systemd/systemd --unit=trial.target \
    --log-target=journal --show-status=no
"""

_TRY = """
mkdir upper work root
mount -t tmpfs tmpfs upper && mkdir upper/upper upper/work
mount -t overlay overlay -o lowerdir=/,upperdir=upper/upper,workdir=upper/work root
mount -t cgroup2 cgroups work
"""

PROGRAM = """#!/opt/detachd/bin/python
import sys
from consumer.cli.app import main
sys.exit(main())
"""


class UnfitError(Exception):
    """No systemd can be started here: this user is not root, or may not mount."""


class Machine(PrivateService):
    """One systemd with a journal, and nothing else.

    Raises UnfitError when made where the machine itself does not allow it.
    """

    name = "machine"
    stop_signal = signal.SIGKILL  # nothing of it is wanted afterwards; its processes end with it
    last_words = """
        unshare --mount sh -c 'mount -t cgroup2 cgroups cgroups
            for _ in 1 2 3 4 5; do
                find cgroups -depth -type d -path "*/$0*" -exec rmdir {} + && break
                sleep 0.1
            done' "${PWD##*/}" 2> /dev/null
    """

    def __init__(self) -> None:
        if not SYSTEMD.exists():
            raise ServiceMissingError("systemd", "systemd")
        if why := _unfit():
            raise UnfitError(why)
        self.port = 0

    @property
    def url(self) -> str:
        """Nobody connects to it."""
        return ""

    @property
    def _systemd(self) -> int:
        """The number, seen from here, of its process 1."""
        unshare = self._children[-1].pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return int(children[0]) if children else 0

    def path(self, name: str) -> Path:
        """Return where a file of the machine is, seen from here."""
        return Path(f"/proc/{self._systemd}/root{name}")

    def install(self, wheel: Path) -> None:
        """Make /opt/detachd: detachd comes from the wheel, all else is what the tests have."""
        own = f"/opt/detachd/lib/python{sysconfig.get_python_version()}/site-packages"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.path(own))
        self.write(f"{own}/others.pth", "/opt/packages\n")
        self.write("/opt/detachd/pyvenv.cfg", "home = /opt/python/bin\n")
        self.write("/opt/detachd/bin/detachd", PROGRAM, 0o755)
        interpreter = f"/opt/python/bin/{Path(sys.executable).resolve().name}"
        self.path("/opt/detachd/bin/python").symlink_to(interpreter)
        self.run("/opt/detachd/bin/python", "-m", "compileall", "-q", own)

    def write(self, name: str, text: str, mode: int = 0o644, group: int = 0) -> None:
        """Make or replace a file of the machine."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, 0, group)

    def run(self, *words: str, fails: bool = False) -> str:
        """Give a command on the machine, as root; return what it printed."""
        done = self._nsenter(*words)
        if bool(done.returncode) is not fails:
            raise ServiceFailedError(f"{words}: {done.stdout}{done.stderr}", self._log)
        return done.stdout + done.stderr

    def does(self, *words: str) -> bool:
        """Give a command on the machine, as root; tell whether it ended well."""
        return not self._nsenter(*words).returncode

    def as_detachd(self, *words: str) -> str:
        """Give a command on the machine, as the user detachd; return what it printed."""
        return self.run("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words)

    def detachd(self, *words: str) -> str:
        """Give a command of detachd, as its user."""
        return self.as_detachd("/opt/detachd/bin/detachd", *words)

    def shown(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """Return what a unit has logged, and what systemd says of it."""
        return self.run("journalctl", "--no-pager", "--output=short-monotonic", f"--unit={unit}")

    def _nsenter(self, *words: str) -> subprocess.CompletedProcess[str]:
        enter = ("nsenter", f"--target={self._systemd}", "-m", "-p", "-u", "-i", "-C", "-r", "-w")
        return subprocess.run(
            [*enter, *words], check=False, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, env=dict(self._environment()), timeout=START_SERVICE_SECONDS,
        )  # fmt: skip

    def _prepare(self) -> None:
        upper = self.directory / "writes" / "upper"
        (upper / "etc").mkdir(parents=True)
        person = f"{USER}:x:{USER_ID}:{USER_ID}::/var/lib/detachd:/bin/false"
        _append(Path("/etc/passwd"), upper, person)
        _append(Path("/etc/group"), upper, f"{USER}:x:{USER_ID}:")
        for name in ("python", "packages"):
            (upper / "opt" / name).mkdir(parents=True)
        upper.chmod(0o755)

    def _launch(self) -> None:
        packages = sysconfig.get_path("purelib")
        enter = ("unshare", "--mount", "/bin/sh", "-ec", _ENTER, "machine")
        self._spawn(*enter, _BOOT, sys.base_prefix, packages)

    def _answers(self) -> bool:
        if not self._systemd:
            return False
        told = self._nsenter("systemctl", "is-active", TARGET)
        return told.stdout.strip() == "active"


def _append(file: Path, upper: Path, line: str) -> None:
    copy = upper / file.relative_to("/")
    shutil.copy(file, copy)
    copy.write_text(f"{copy.read_text().rstrip()}\n{line}\n")


@functools.cache
def _unfit() -> str:
    """Return why this machine, and not what is installed on it, cannot start a systemd; or ""."""
    if os.geteuid() != 0:
        return "starting a systemd needs root"
    words = (
        "unshare",
        "--pid",
        "--mount",
        "--cgroup",
        "--uts",
        "--ipc",
        "--fork",
        "/bin/sh",
        "-ec",
    )
    with tempfile.TemporaryDirectory() as directory:
        tried = subprocess.run(
            [*words, _TRY], check=False, capture_output=True, text=True, cwd=directory
        )
    return f"this root may not mount: {tried.stderr.strip()}" if tried.returncode else ""
