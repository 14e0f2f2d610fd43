"""What an administrator asks of a Ceph, without a program for each question.

``python rbd_admin.py CONF``: takes one JSON object a line on stdin and answers with one on stdout.
Debian's Python runs it, whose bindings Debian's packages are; it imports nothing of this project.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Answer until stdin ends."""
    import rados
    import rbd

    cluster = rados.Rados(conffile=sys.argv[1], rados_id="admin")
    cluster.connect()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": ANSWERS[asked["op"]](cluster, rbd, *asked["about"])}
        except (rados.Error, rbd.Error) as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


def _split(cluster, spec):  # type: ignore[no-untyped-def]
    place, _, image = spec.rpartition("/")
    pool, _, namespace = place.partition("/")
    ioctx = cluster.open_ioctx(pool)
    ioctx.set_namespace(namespace)
    return ioctx, image


def _create(cluster, rbd, spec, size):  # type: ignore[no-untyped-def]
    ioctx, image = _split(cluster, spec)
    rbd.RBD().create(ioctx, image, size)


def _namespace(cluster, rbd, place):  # type: ignore[no-untyped-def]
    pool, _, namespace = place.partition("/")
    rbd.RBD().namespace_create(cluster.open_ioctx(pool), namespace)


def _watchers(cluster, rbd, spec):  # type: ignore[no-untyped-def]
    ioctx, name = _split(cluster, spec)
    with rbd.Image(ioctx, name, read_only=True) as image:
        return [
            {"address": w["addr"], "client": w["id"], "cookie": w["cookie"]}
            for w in image.watchers_list()
        ]


def _locks(cluster, rbd, spec):  # type: ignore[no-untyped-def]
    ioctx, name = _split(cluster, spec)
    with rbd.Image(ioctx, name, read_only=True) as image:
        lockers = (image.list_lockers() or {"lockers": []})["lockers"]
        return [{"locker": who, "id": cookie, "address": at} for who, cookie, at in lockers]


ANSWERS = {"create": _create, "namespace": _namespace, "watchers": _watchers, "locks": _locks}

if __name__ == "__main__":
    main()
