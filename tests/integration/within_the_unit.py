#!/opt/detachd/bin/python
"""What a process of detachd's unit can do, tried by one: for the tests of the unit.

It is run before detachd is, with all that the unit forbids, and writes what it found to FOUND.
"""

import ctypes
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.base import Observation, VolumeRef
from drivers.rbd import RbdDriver
from drivers.registry import parsed
from drivers.tgt import TgtDriver

FOUND = Path("/var/lib/detachd/found.json")
OTHERS = ("/home/other/file", "/tmp/of-another", "/dev/another")
OPEN_TO_ALL = "/srv/open-to-all"
NEW_USERS = 0x10000000
"""CLONE_NEWUSER of <sched.h>."""
DRIVERS = {"rbd": RbdDriver, "tgt": TgtDriver}


def reads(name: str) -> Callable[[], object]:
    """Return a read of a file."""
    return Path(name).read_bytes


def writes() -> None:
    """Write where every user may."""
    Path(OPEN_TO_ALL, "file").write_text("")


def listens_to_the_kernel() -> None:
    """Make a socket of a family that is neither IP nor Unix."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def writes_code() -> None:
    """Ask for memory that is writable and executable."""
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def makes_a_namespace() -> None:
    """Become root in a namespace of its own."""
    child = os.fork()
    if not child:
        os._exit(bool(ctypes.CDLL(None).unshare(NEW_USERS)))
    if os.waitpid(child, 0)[1]:
        raise OSError


def takes_resources() -> None:
    """Choose the processor that it runs on."""
    os.sched_setaffinity(0, os.sched_getaffinity(0))


TRIED: dict[str, Callable[[], object]] = {
    **{f"reads {name}": reads(name) for name in OTHERS},
    "sees other processes": reads("/proc/1/status"),
    "writes where all may": writes,
    "listens to the kernel": listens_to_the_kernel,
    "writes code": writes_code,
    "makes a namespace": makes_a_namespace,
    "takes resources": takes_resources,
}


def allowed() -> list[str]:
    """Try each, and return what could be done."""
    found = []
    for name, act in TRIED.items():
        try:
            act()
        except OSError:
            continue
        found.append(name)
    return found


def observed(driver: str, options: str, volume: str) -> list[str]:
    """Return who a storage driver sees at a volume; it runs a program for that."""
    kind: Any = DRIVERS[driver]
    made = kind("storage-1@within", parsed(kind.opts, json.loads(options)))
    seen: Observation = made.observe(VolumeRef(volume, "storage-1@within"), timeout_seconds=30.0)
    return [connection.host_ip or connection.name for connection in seen.connections]


if __name__ == "__main__":
    found = observed(*sys.argv[1:]) if sys.argv[1:] else allowed()
    FOUND.write_text(json.dumps(found))
