"""Another Debian in a directory, for the programs that Debian 12 has in an older release.

tools/install-debian makes the directory, once for this user and each list of packages. Nobody
writes to it: each program runs with mounts of its own, which the kernel takes away with its last
process.
"""

from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from tests.services.service import ServiceMissingError


class Debian(enum.Enum):
    """Those that the tool can make: the newest stable one when this was written, and the next."""

    THIRTEEN = "13"
    TESTING = "testing"

    @property
    def packages(self) -> Path:
        """The list of its packages."""
        return Path(__file__).with_name(f"debian-{self.value}-packages")


# $1 is that Debian, $2 where temporary files are; the rest is the command. The root is mounted
# inside the service's own directory, so that the working directory of each process is below it,
# seen from outside; and temporary files have inside the name that they have outside.
_ENTER = """
mkdir -p root "$1$2"
mount --bind "$1" root
mount -o remount,bind,ro root
mount --rbind /proc root/proc
mount --rbind /dev root/dev
mount --rbind "$2" "root$2"
root=$PWD/root
cd "root$PWD"
shift 2
exec chroot "$root" /usr/bin/env --chdir="${PWD#"$root"}" "$@"
"""


def place(debian: Debian) -> Path:
    """Return where the tool makes the directory, for the packages that are wanted in it now."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    packages = hashlib.sha256(debian.packages.read_bytes()).hexdigest()[:12]
    return Path(cache) / "detachd" / f"debian-{debian.value}-{packages}"


def entrance(debian: Debian, program: str) -> tuple[str | Path, ...]:
    """Return what a command begins with so that it runs there, in the working directory of here.

    The command keeps its process id. Raises ServiceMissingError, which names the program, where
    there is no such directory, or where this user may not mount.
    """
    if not (place(debian).is_dir() and _may_mount()):
        raise ServiceMissingError(f"{program} (in a chroot, which needs root)", "mmdebstrap")
    temporary = Path(tempfile.gettempdir()).resolve()
    return ("unshare", "--mount", "/bin/sh", "-ec", _ENTER, "chroot", place(debian), temporary)


def _may_mount() -> bool:
    tried = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return tried.returncode == 0
