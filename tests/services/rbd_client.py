"""A real client of Ceph on librbd, run as a program of its own: ``python rbd_client.py ...``.

It opens an image, as often as it is told, and writes one signed and numbered block after the other
through the first of these, as QEMU would. It counts what was acknowledged into a file that anybody
can read while it is stopped, killed or fenced. The bindings are Debian's and for Debian's Python,
so that one runs it; it imports nothing of this project.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import signal
import struct
import sys
import time
from pathlib import Path

BLOCK = 512
PACE_SECONDS = 0.002
DIE_WITH_PARENT = 1  # prctl PR_SET_PDEATHSIG
COUNTS = struct.Struct("<Q")
FENCED, REFUSED = 4, 3


def block_of(name: str, number: int) -> bytes:
    """Return what the client of that name writes as its block of that number."""
    return f"{name} {number}\n".encode().ljust(BLOCK, b"\0")


def main() -> int:
    """Open, tell, write until the end; 4 where a write was refused, 3 where the open was."""
    import rados
    import rbd

    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    told = _arguments()
    cluster = rados.Rados(conffile=told.conf, rados_id=told.user)
    # As QEMU with cache=none. With librbd's cache a write and its flush were once acknowledged that
    # the fence had kept from the disk.
    cluster.conf_set("rbd_cache", "false")
    try:
        cluster.connect()
        own = "/".join((told.pool, told.namespace, told.image))
        images = []
        for spec in [own] * told.opens + told.also:
            place, _, name = spec.rpartition("/")
            pool, _, namespace = (place or f"{told.pool}/{told.namespace}").partition("/")
            ioctx = cluster.open_ioctx(pool)
            ioctx.set_namespace(namespace)
            images.append(rbd.Image(ioctx, name, read_only=told.reads))
    except (rados.Error, rbd.Error) as error:
        print(f"refused: {error!r}", flush=True)
        return REFUSED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("open", flush=True)
    try:
        _write(images[0], told)
    except rbd.Error as error:
        print(f"ended: {error!r}", flush=True)
        return FENCED
    finally:
        if sys.exc_info()[0] is SystemExit:
            for image in images:
                image.close()
    return 0


def _write(image: object, told: argparse.Namespace) -> None:
    with told.tally.open("r+b") as file:
        tally = mmap.mmap(file.fileno(), COUNTS.size)
    number = 0
    while not told.reads:
        if number < told.writes or told.writes < 0:
            number += 1
            place = told.first_block + number % told.blocks
            image.write(block_of(told.name, number), place * BLOCK)  # type: ignore[attr-defined]
            image.flush()  # type: ignore[attr-defined]
            tally[:] = COUNTS.pack(number)
        time.sleep(told.pace if told.writes < 0 else 0.05)
    sys.stdin.read()  # one that only reads stays until its parent hangs up


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("conf", "user", "pool", "namespace", "image", "name"):
        parser.add_argument(name)
    parser.add_argument("tally", type=Path)
    parser.add_argument("--opens", type=int, default=1)
    parser.add_argument("--also", action="append", default=[])
    parser.add_argument("--writes", type=int, default=-1)
    parser.add_argument("--first-block", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=1024)
    parser.add_argument("--pace", type=float, default=PACE_SECONDS)
    parser.add_argument("--reads", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
