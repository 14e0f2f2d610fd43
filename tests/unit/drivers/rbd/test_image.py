"""What the cluster tells is read strictly; what is not of the known form is no answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from drivers.base import Connection, Connector, VolumeRef
from drivers.errors import NotFoundError
from drivers.rbd.image import (
    KERNEL_COOKIES,
    Sighting,
    UnreadableError,
    Watcher,
    connections_of,
    exports_of,
    ip_of,
    names_of,
    nonce_of,
    observation,
    read_sighting,
    require_image,
)
from drivers.rbd.options import OPTS, RbdOptions
from drivers.registry import parsed

VOLUME = "7b6f8f8a-33f0-4b4e-a3a5-52b0c28eb3a5"
OPTIONS = RbdOptions.read(parsed(OPTS, {}))
A, B = "192.0.2.5:0/2992418896", "192.0.2.6:0/17"


def answer(**changes: Any) -> dict[str, Any]:
    """Return an answer about one image that client 4167 has open and locked."""
    image = {
        "place": ["volumes", ""], "name": f"volume-{VOLUME}", "id": "1017b1ec7773",
        "watchers": [[A, 4167, 140436639336688]],
        "locks": [["client.4167", "auto 140436639336688", A]],
    } | changes  # fmt: skip
    return {"fsid": "f", "images": [image], "trash": [], "fences": {}, "done": ""}


def sighting(fences: dict[str, str] | None = None, **changes: Any) -> Sighting:
    """Return the same, read."""
    return read_sighting(answer(**changes) | {"fences": fences or {}})


def test_owner_of_lock_and_watch_is_one_connection() -> None:
    """A client watches an image and has its lock -> one connection, by address and client."""
    (connection,) = connections_of(sighting())
    assert connection == Connection(
        "client.4167",
        address=A,
        access=True,
        sessions=1,
        host_ip="192.0.2.5",
        cookies=(140436639336688,),
    )


def test_every_watch_is_counted_and_every_client_told() -> None:
    """A client has an image open twice, another once -> two connections, three sessions."""
    watchers = [[A, 4167, 1], [A, 4167, 2], [B, 4168, 1]]
    assert {c.name: c.sessions for c in connections_of(sighting(watchers=watchers))} == {
        "client.4167": 2,
        "client.4168": 1,
    }


def test_orphan_lock_is_a_connection_without_session() -> None:
    """A lock without a watcher, its owner not fenced -> shown: the owner may come back to it."""
    (connection,) = connections_of(sighting(watchers=[]))
    assert (connection.access, connection.sessions) == (True, 0)


def test_fenced_client_has_no_access() -> None:
    """A client is fenced and still listed -> its session is shown, access it has none."""
    (connection,) = connections_of(sighting(fences={A: "2029-11-22T12:23:52+0000"}))
    assert (connection.access, connection.sessions) == (False, 1)


def test_fence_of_another_client_of_the_host_is_not_this_one_s() -> None:
    """Another nonce of the same host is fenced, or another port -> this client has access."""
    for other in ("192.0.2.5:0/1", "192.0.2.5:1/2992418896", "192.0.2.5:0/0"):
        (connection,) = connections_of(sighting(fences={other: "2029-11-22T12:23:52+0000"}))
        assert connection.access


def test_lock_of_a_fenced_client_is_nobody_s() -> None:
    """The owner of the last lock is fenced -> nobody, and the control tells of the lock."""
    left = sighting(watchers=[], fences={A: "2029-11-22T12:23:52+0000"})
    seen = observation(left)
    assert seen.connections == ()
    assert "client.4167 at" in seen.control
    assert "fenced until 2029-11-22T12:23:52+0000" in seen.control


def test_lock_of_a_client_that_is_fenced_for_an_hour_is_a_connection() -> None:
    """The owner of the last lock is fenced, not for long -> shown: it may write when that ends."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    (connection,) = connections_of(sighting(watchers=[], fences={A: soon}))
    assert (connection.access, connection.sessions) == (True, 0)


@pytest.mark.parametrize(
    ("address", "ip", "nonce"),
    [
        (A, "192.0.2.5", 2992418896),
        ("[FD00:0::1]:0/123", "fd00::1", 123),
        ("v1:192.0.2.5:0/7", "192.0.2.5", 7),
        ("192.0.2.5:6789/0", "192.0.2.5", 0),
    ],
)
def test_address_of_a_client_is_read(address: str, ip: str, nonce: int) -> None:
    """An address in a form that Ceph shows -> its IP in the usual form, and its nonce."""
    assert (ip_of(address), nonce_of(address)) == (ip, nonce)


@pytest.mark.parametrize(
    "changes",
    [
        {"watchers": [["192.0.2.5", 1, 1]]},
        {"watchers": [["192.0.2.5:0", 1, 1]]},
        {"watchers": [["-", 1, 1]]},
        {"watchers": [["192.0.2.5:0/1 x", 1, 1]]},
        {"watchers": [["999.0.2.5:0/1", 1, 1]]},
        {"watchers": [[A, 1]]},
        {"watchers": None},
        {"locks": [["client.1", "auto 1", "somewhere"]]},
        {"place": ["volumes"], "id": None, "locks": 7},
    ],
)
def test_unknown_form_is_no_answer(changes: dict[str, Any]) -> None:
    """A watcher or lock that cannot be read -> UnreadableError: it could be the last one."""
    with pytest.raises(UnreadableError):
        read_sighting(answer(**changes))


@pytest.mark.parametrize("missing", ["fsid", "images", "trash", "fences"])
def test_incomplete_answer_is_none(missing: str) -> None:
    """An answer lacks a part -> UnreadableError, never an empty part."""
    with pytest.raises(UnreadableError):
        read_sighting({k: v for k, v in answer().items() if k != missing})


def test_kernel_s_watch_is_told_from_librbd_s() -> None:
    """A cookie from where the kernel counts -> a kernel's; an address in memory -> librbd's."""
    assert Watcher(A, "client.1", KERNEL_COOKIES + 1).is_kernel
    assert Watcher(A, "client.1", 18446462598732840961).is_kernel
    assert not Watcher(A, "client.1", 140436639336688).is_kernel


def test_names_are_all_that_cinder_may_mean() -> None:
    """A migrated volume with a location -> three names, the likeliest first, each once."""
    ref = VolumeRef(VOLUME, "h@b", name_id="n", provider_location="volumes/other")
    assert names_of(ref, OPTIONS) == ("volume-n", f"volume-{VOLUME}", "other")
    assert names_of(VolumeRef(VOLUME, "h@b"), OPTIONS) == (f"volume-{VOLUME}",)


@pytest.mark.parametrize("location", ["rbd://fsid/images/image/snap", "", "a b", "x/y/z/u", "i@s"])
def test_location_of_another_form_is_no_name(location: str) -> None:
    """A location that is no image's name, as a snapshot of Glance's -> not looked for."""
    ref = VolumeRef(VOLUME, "h@b", provider_location=location)
    assert names_of(ref, OPTIONS) == (f"volume-{VOLUME}",)


def test_no_image_is_unknown_and_the_trash_is_told() -> None:
    """No image -> NotFoundError; in the trash: its text says so."""
    none = Sighting("f", (), (), {}, frozenset())
    with pytest.raises(NotFoundError, match="no image volume-"):
        require_image(VolumeRef(VOLUME, "h@b"), none, OPTIONS)
    trashed = Sighting("f", (), (f"volumes/volume-{VOLUME}",), {}, frozenset())
    with pytest.raises(NotFoundError, match="is in the trash"):
        require_image(VolumeRef(VOLUME, "h@b"), trashed, OPTIONS)


def test_listing_has_ids_of_the_template_only() -> None:
    """An image of another form is open -> listed by its name, without an id."""
    (export,) = exports_of(sighting(), OPTIONS)
    assert (export.name, export.volume_id) == (f"volumes/volume-{VOLUME}", VOLUME)
    (export,) = exports_of(sighting(name="backup"), OPTIONS)
    assert (export.name, export.volume_id) == ("volumes/backup", None)
    assert exports_of(sighting(watchers=[], locks=[]), OPTIONS) == ()


def test_host_is_known_by_address_where_the_backend_has_no_other_name() -> None:
    """A connection with a host's IP -> its own, whatever initiators there are."""
    connection = Connection("client.1", host_ip="fd00::1")
    assert connection.belongs_to(Connector(host="a", initiator="iqn.x:a", ip="FD00:0::1"))
    assert connection.belongs_to(Connector(host="a", host_ips=("192.0.2.1", "fd00::1")))
    assert not connection.belongs_to(Connector(host="a", initiator="client.1", ip="fd00::2"))
    assert not connection.belongs_to(Connector(host="a"))
