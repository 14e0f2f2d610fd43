"""Asks a Ceph cluster one thing. A program of its own: ``python3 -I asking.py``.

The Python that runs it is the system's, which has Ceph's bindings; it imports nothing of detachd.
Ceph's library blocks for ever where a monitor or an OSD hangs; this process can be killed then. It
also ends by itself after ``seconds`` of the question: whoever asked may have died, and what was
asked must not be done hours later, when the cluster answers again.

The question comes as one JSON object on stdin. The answer goes to stdout, an object on a line. The
line ``{"acting": true}`` comes before it where something may be changed from then on. Images are
opened to be read, which leaves no watch and takes no lock. The exit code is 0 wherever there is an
answer, also ``{"failed": WHY}``.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

LOCK = "rbd_lock"  # RBD_LOCK_NAME, src/librbd/internal.h
CLIENT = 8  # CEPH_ENTITY_TYPE_CLIENT

Answer = dict[str, Any]


def main() -> None:
    """Answer the one question."""
    asked: dict[str, Any] = json.load(sys.stdin)
    # Nothing handles SIGALRM, so that the kernel ends the process, whatever the library waits for.
    signal.setitimer(signal.ITIMER_REAL, asked["seconds"])
    try:
        import rados
        import rbd
    except ImportError as error:
        tell({"failed": "bindings", "words": str(error)})
        return
    try:
        cluster = rados.Rados(conffile=asked["conf"], rados_id=asked["user"])
        cluster.connect()
        answer = ASKED[asked["op"]](cluster, rbd, asked)
    except (rados.Error, rbd.Error, RefusedError) as error:
        number = getattr(error, "errno", None)
        answer = {"failed": number or type(error).__name__, "words": str(error)}
    tell(answer)


def tell(answer: Answer) -> None:
    """Write one line, at once."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def look(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Look at the images of these names, and for these names in the trash."""
    return _seen(cluster, rbd, asked["places"], asked["names"])


def listing(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Look at every image."""
    return _seen(cluster, rbd, asked["places"], None)


def release(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Fence one client by its full address, then remove these locks, then look.

    What comes after the fence carries the map of OSDs that has it, so that an OSD which has not
    heard of the fence yet learns of it first (as src/librbd/managed_lock/BreakRequest.cc does).
    """
    tell({"acting": True})
    if asked["address"] is not None:
        words = {"blocklistop": "add", "addr": asked["address"], "expire": asked["expire"]}
        _commanded(cluster, "osd blocklist", words)
        cluster.wait_for_latest_osdmap()
    for lock in asked["locks"]:
        _unlock(cluster, lock)
    return look(cluster, rbd, asked)


def about(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Return which cluster it is, and what asks it."""
    del asked
    rados = cluster.version()
    return {
        "fsid": cluster.get_fsid(),
        "python": sys.version.split()[0],
        "librados": f"{rados.major}.{rados.minor}.{rados.extra}",
        "librbd": ".".join(map(str, rbd.RBD().version())),
    }


def fences(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Return whom the cluster refuses; first refuse one client, or let it in again, if asked to.

    To remove an entry that is not there is success (``isn't blocklisted``).
    """
    del rbd
    if (change := asked.get("change")) is not None:
        tell({"acting": True})
        _commanded(cluster, "osd blocklist", change)
    return {"fsid": cluster.get_fsid(), "fences": _fences(cluster)}


def _unlock(cluster: Any, lock: Answer) -> None:
    """Remove a lock from an image's header, without opening the image; gone already is success.

    Opened to be written it would be watched by us, and librbd would fence the owner by itself. The
    request is ``cls_lock_break_op`` (src/cls/lock/cls_lock_ops.h), the first and only version.
    """
    import rados

    number = int(lock["locker"].partition(".")[2])
    op = _text(LOCK) + struct.pack("<Bq", CLIENT, number) + _text(lock["cookie"])
    request = struct.pack("<BBI", 1, 1, len(op)) + op
    with contextlib.suppress(rados.ObjectNotFound):
        _opened(cluster, lock["place"]).execute(
            "rbd_header." + lock["id"], "lock", "break_lock", request
        )


def _seen(cluster: Any, rbd: Any, places: list[list[str]], names: list[str] | None) -> Answer:
    """Look at the images of these names, or at every image where there are none."""
    images: list[Answer] = []
    trash: list[list[str]] = []
    for place in places:
        if not _exists(cluster, rbd, *place):
            return {"failed": "pool", "words": "/".join(filter(None, place))}
    fences = _fences(cluster)
    for place in places:
        ioctx = _opened(cluster, place)
        for name in rbd.RBD().list(ioctx) if names is None else names:
            try:
                images.append({"place": place, "name": name, **_image(rbd, ioctx, name)})
            except rbd.ImageNotFound:
                continue
        if names is not None:
            deleted = {entry["name"] for entry in rbd.RBD().trash_list(ioctx)}
            trash += [[*place, name] for name in names if name in deleted]
    return {"fsid": cluster.get_fsid(), "images": images, "trash": trash, "fences": fences}


def _exists(cluster: Any, rbd: Any, pool: str, namespace: str) -> bool:
    if not cluster.pool_exists(pool):
        return False
    return not namespace or bool(rbd.RBD().namespace_exists(cluster.open_ioctx(pool), namespace))


def _opened(cluster: Any, place: list[str]) -> Any:
    pool, namespace = place
    ioctx = cluster.open_ioctx(pool)
    ioctx.set_namespace(namespace)
    return ioctx


def _image(rbd: Any, ioctx: Any, name: str) -> Answer:
    with rbd.Image(ioctx, name=name, read_only=True) as image:
        locks = image.list_lockers() or {"lockers": []}
        return {
            "id": image.id(),
            "watchers": [[w["addr"], w["id"], w["cookie"]] for w in image.watchers_list()],
            "locks": [list(lock) for lock in locks["lockers"]],
        }


def _fences(cluster: Any) -> dict[str, str]:
    """Return until when each address is fenced; the answer's second document is of ranges."""
    shown = _commanded(cluster, "osd blocklist ls", {"format": "json"}).decode().strip()
    entries = json.JSONDecoder().raw_decode(shown)[0]
    return {entry["addr"]: entry["until"] for entry in entries}


class RefusedError(Exception):
    """A monitor answered a command with an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.errno = -code


def _commanded(cluster: Any, prefix: str, words: Answer) -> bytes:
    code, output, told = cluster.mon_command(json.dumps({"prefix": prefix, **words}), b"")
    if code:
        raise RefusedError(code, told)
    return bytes(output)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


ASKED: dict[str, Callable[[Any, Any, Answer], Answer]] = {
    "look": look, "list": listing, "release": release, "fences": fences, "fence": fences,
    "lift": fences, "about": about,
}  # fmt: skip

if __name__ == "__main__":
    main()
