"""Asks a Ceph cluster one thing after the other. A program: ``python3 -I asking.py``.

The Python that runs it is the system's, which has Ceph's bindings; it imports nothing of detachd.
Ceph's library blocks for ever where a monitor or an OSD hangs; this process can be killed then. It
also ends by itself, when stdin ends and when a question takes too long: whoever asked may have
died, and what was asked must not be done hours later, when the cluster answers again. (The signal
of a parent's death would not do: Linux sends it at the end of the thread that started us.)

A question is one JSON object on a line of stdin, with a ``number``. What is told of it goes to
stdout, an object with the same number on a line. One with ``acting`` comes before the answer where
something may be changed from then on; if nobody reads it any more, we end there. An answer is also
``failed`` WHY. One connection serves all questions, as long as the configuration and the keyrings
stay as they were; ``changed`` says that they have not, and that nothing was asked. Images are
opened to be read, which leaves no watch and takes no lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import signal
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LOCK = "rbd_lock"  # RBD_LOCK_NAME, src/librbd/internal.h
CLIENT = 8  # CEPH_ENTITY_TYPE_CLIENT
# A pool that our user may not look at is told of, and is no failure: nobody's key has to see all
# pools.
DENIED = frozenset({errno.EPERM, errno.EACCES})
NO_IMAGES = frozenset({errno.EOPNOTSUPP})  # of a pool that keeps data alone, erasure-coded
# A look has three names at most, and needs no threads.
FEW, AT_ONCE = 8, 8
IDLE_SECONDS = 300.0
"""After so long without a question it ends. Whoever asks has given it up before that."""

Answer = dict[str, Any]
Files = dict[str, tuple[int, ...] | None]


@dataclasses.dataclass(frozen=True)
class Connection:
    """A connection to the cluster, and the files that it was made from, as they were then."""

    cluster: Any
    conf: str
    user: str
    files: Files

    def is_of(self, asked: Answer) -> bool:
        """Tell whether a new connection would be made from the same."""
        same = (self.conf, self.user) == (asked["conf"], asked["user"])
        return same and signed(list(self.files)) == self.files


def main() -> None:
    """Answer questions until stdin ends, or until a new connection is needed."""
    # May go to all processes of the service, which ends its calls first.
    # A release must not be cut in the middle by what is meant for the service.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = None
    for line in sys.stdin:
        asked: Answer = json.loads(line)
        # Whoever asked has given up: done now, it would come after the last look.
        if not _limited(asked):
            tell(asked, {"failed": "late", "words": "the question came after its time"})
            return
        if connection is not None and not connection.is_of(asked):
            tell(asked, {"changed": True})
            return
        connection, answer = answered(connection, asked)
        tell(asked, answer)
        # Also the end of the question's own timer.
        signal.setitimer(signal.ITIMER_REAL, IDLE_SECONDS)


def answered(connection: Connection | None, asked: Answer) -> tuple[Connection | None, Answer]:
    """Answer one question, and connect for it first where that is needed."""
    try:
        import rados
        import rbd
    except ImportError as error:
        # An answer and not a crash, so that the operator is told which package is missing.
        return None, {"failed": "bindings", "words": str(error)}
    try:
        connection = connection or connected(rados, asked)
        # A connection of before has the map of OSDs of before, and we may be fenced by now. What
        # is asked with the newest map waits for the OSD to have that too.
        connection.cluster.wait_for_latest_osdmap()
        return connection, ASKED[asked["op"]](connection.cluster, rbd, asked)
    except (rados.Error, rbd.Error, RefusedError) as error:
        # Not each error of the bindings has a number.
        number = getattr(error, "errno", None)
        return connection, {"failed": number or type(error).__name__, "words": str(error)}


def _limited(asked: Answer) -> bool:
    """Have the kernel end this process when the question's time is up; False if it is already.

    ``until`` is of the machine's monotonic clock: a question may lie in the pipe while we are
    stopped. Nothing handles SIGALRM, so that we end whatever the library waits for.
    """
    seconds = min(asked["seconds"], asked["until"] - time.monotonic())
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.0))
    return bool(seconds > 0)


def connected(rados: Any, asked: Answer) -> Connection:
    """Connect; each file is signed before it is read."""
    conf, user = asked["conf"], asked["user"]
    files = signed([conf])
    cluster = rados.Rados(conffile=conf, rados_id=user)
    files |= signed([path.strip() for path in cluster.conf_get("keyring").split(",")])
    # No limit of its own: the library may wait for ever, and ``_limited`` ends us then.
    cluster.connect()
    return Connection(cluster, conf, user, files)


def signed(paths: list[str]) -> Files:
    """Return by what a change of each file shows; None for one that is not there."""
    files: Files = {}
    for path in paths:
        files[path] = None
        with contextlib.suppress(OSError):
            s = Path(path).stat()
            files[path] = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return files


def tell(asked: Answer, what: Answer) -> None:
    """Write one line about a question, at once."""
    sys.stdout.write(json.dumps({"number": asked["number"], **what}) + "\n")
    # A line that stays in our buffer when we are killed would say that nothing was begun.
    sys.stdout.flush()


def look(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Look at the images of these names, and for these names in the trash."""
    return _seen(cluster, rbd, asked["places"], asked["names"])


def listing(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Look at every image."""
    return _seen(cluster, rbd, asked["places"], None)


def everywhere(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Look at every image of every pool and namespace; say where we may not look (``unseen``)."""
    import rados

    del asked
    images: list[Answer] = []
    unseen: list[str] = []
    # In order, so that two answers can be compared.
    for pool in sorted(cluster.list_pools()):
        for looking in (_of_pool, _of_namespaces):
            try:
                images += looking(cluster, rbd, pool)
            except (rados.Error, rbd.Error) as error:
                if error.errno in DENIED:
                    what = "" if looking is _of_pool else "namespaces of "
                    unseen.append(f"{what}{pool}")
                elif error.errno not in NO_IMAGES:
                    raise
    found = {"images": images, "trash": [], "unseen": unseen}
    return {"fsid": cluster.get_fsid(), "fences": _fences(cluster), **found}


def _of_pool(cluster: Any, rbd: Any, pool: str) -> list[Answer]:
    ioctx = _opened(cluster, [pool, ""])
    return _images(rbd, ioctx, [pool, ""], rbd.RBD().list(ioctx))


def _of_namespaces(cluster: Any, rbd: Any, pool: str) -> list[Answer]:
    found: list[Answer] = []
    for namespace in rbd.RBD().namespace_list(cluster.open_ioctx(pool)):
        ioctx = _opened(cluster, [pool, namespace])
        found += _images(rbd, ioctx, [pool, namespace], rbd.RBD().list(ioctx))
    return found


def release(cluster: Any, rbd: Any, asked: Answer) -> Answer:
    """Fence one client by its full address, then remove these locks, then look.

    What comes after the fence carries the map of OSDs that has it, so that an OSD which has not
    heard of the fence yet learns of it first (as src/librbd/managed_lock/BreakRequest.cc does).
    """
    tell(asked, {"acting": True})
    if asked["address"] is not None:
        words = {"blocklistop": "add", "addr": asked["address"], "expire": asked["expire"]}
        # The fence comes first: a lock that is taken from a client that can still write lets two
        # write.
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

    To remove an entry that is not there is success (``isn't blocklisted``). ``as_of`` is when this
    map of OSDs was made, by the monitors' clock: an entry was taken out of it no later.
    """
    del rbd
    if (change := asked.get("change")) is not None:
        tell(asked, {"acting": True})
        _commanded(cluster, "osd blocklist", change)
    now = json.loads(_commanded(cluster, "osd dump", {"format": "json"}))
    return {"fsid": now["fsid"], "fences": now["blocklist"], "as_of": now["modified"]}


def _unlock(cluster: Any, lock: Answer) -> None:
    """Remove a lock from an image's header, without opening the image; gone already is success.

    Opened to be written it would be watched by us, and librbd would fence the owner by itself. The
    request is ``cls_lock_break_op`` (src/cls/lock/cls_lock_ops.h), the first and only version.
    """
    import rados

    # "client.4711", as the bindings list it; the class wants the number.
    number = int(lock["locker"].partition(".")[2])
    op = _text(LOCK) + struct.pack("<Bq", CLIENT, number) + _text(lock["cookie"])
    # Version, the oldest reader that understands it, and the length: Ceph's frame of an encoded
    # struct.
    request = struct.pack("<BBI", 1, 1, len(op)) + op
    # Raised for a lock and for an image that is gone: in both cases there is no lock.
    with contextlib.suppress(rados.ObjectNotFound):
        _opened(cluster, lock["place"]).execute(
            "rbd_header." + lock["id"], "lock", "break_lock", request
        )


def _seen(cluster: Any, rbd: Any, places: list[list[str]], names: list[str] | None) -> Answer:
    """Look at the images of these names, or at every image where there are none."""
    images: list[Answer] = []
    trash: list[list[str]] = []
    for place in places:
        # Before all else: in a pool that is not there no image is found, which would look like a
        # deleted volume.
        if not _exists(cluster, rbd, *place):
            return {"failed": "pool", "words": "/".join(filter(None, place))}
    fences = _fences(cluster)
    for place in places:
        ioctx = _opened(cluster, place)
        images += _images(rbd, ioctx, place, rbd.RBD().list(ioctx) if names is None else names)
        # A list of all images needs no trash: nobody asks there whether one name is gone.
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


def _images(rbd: Any, ioctx: Any, place: list[str], names: list[str]) -> list[Answer]:
    """Look at the images of these names that are there; several at once, as each mostly waits."""

    def one(name: str) -> list[Answer]:
        try:
            return [{"place": place, "name": name, **_image(rbd, ioctx, name)}]
        except rbd.ImageNotFound:
            return []

    if len(names) <= FEW:
        return [image for name in names for image in one(name)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [image for found in pool.map(one, names) for image in found]


def _image(rbd: Any, ioctx: Any, name: str) -> Answer:
    # ``read_only``: opened to write, we would be a watcher ourselves, and could get the lock.
    with rbd.Image(ioctx, name=name, read_only=True) as image:
        # The bindings return an empty list, not a dictionary, where there is no lock.
        locks = image.list_lockers() or {"lockers": []}
        return {
            "id": image.id(),
            "watchers": [[w["addr"], w["id"], w["cookie"]] for w in image.watchers_list()],
            "locks": [list(lock) for lock in locks["lockers"]],
        }


def _fences(cluster: Any) -> dict[str, str]:
    """Return until when each address is fenced; the answer's second document is of ranges."""
    shown = _commanded(cluster, "osd blocklist ls", {"format": "json"}).decode().strip()
    # Ceph prints two documents one after the other, which json.loads refuses.
    entries = json.JSONDecoder().raw_decode(shown)[0]
    return {entry["addr"]: entry["until"] for entry in entries}


class RefusedError(Exception):
    """A monitor answered a command with an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.errno = -code


def _commanded(cluster: Any, prefix: str, words: Answer) -> bytes:
    # A monitor's refusal is a code here and no exception.
    code, output, told = cluster.mon_command(json.dumps({"prefix": prefix, **words}), b"")
    if code:
        raise RefusedError(code, told)
    return bytes(output)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


ASKED: dict[str, Callable[[Any, Any, Answer], Answer]] = {
    "look": look, "list": listing, "everywhere": everywhere, "release": release, "fences": fences,
    "fence": fences, "lift": fences, "about": about,
}  # fmt: skip

if __name__ == "__main__":
    main()
