"""The private Ceph is a real one: clients watch and lock, a fence stops one of them, keys bind."""

from __future__ import annotations

import json
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.base import Attachment
from tests.bus import until
from tests.rbd import Rbd, connector_of
from tests.services.ceph import PYTHON, Ceph
from tests.services.fixtures import installed
from tests.services.rbd_client import FENCED
from tests.services.rbd_clients import RbdClients

A, B = "127.0.0.2", "127.0.0.3"
SECONDS = 30.0

AS_DETACHD = """
import json, sys, rados
cluster = rados.Rados(conffile=sys.argv[1], rados_id="detachd"); cluster.connect()
pool, found = cluster.open_ioctx("volumes"), {}
def tried(name, call):
    try: found[name] = call() or "done"
    except rados.Error as error: found[name] = type(error).__name__
def fence(address):
    words = {"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": 60.0}
    return cluster.mon_command(json.dumps(words), b"")[0]
tried("write", lambda: pool.write_full("mine", b"x"))
tried("read", lambda: pool.read(sys.argv[2], 4))
for address in ("127.0.0.9", "127.0.0.9:0/0", "127.0.0.9:0/123"):
    tried(address, lambda: fence(address))
print(json.dumps(found))
"""


@pytest.fixture
def image(ceph: Ceph) -> str:
    """Make an image."""
    name = f"volumes/{uuid.uuid4()}"
    ceph.create(name)
    return name


def test_client_watches_from_the_address_of_its_host(
    ceph: Ceph, rbd_clients: RbdClients, image: str
) -> None:
    """Two clients from two addresses -> two watchers, by these; one of them has the lock."""
    rbd_clients.start(image, address=A, writes=1).opened()
    rbd_clients.start(image, address=B, writes=0).opened()
    addresses = [watcher["address"] for watcher in ceph.watchers_of(image)]
    assert sorted(address.partition(":")[0] for address in addresses) == [A, B]
    (lock,) = ceph.locks_of(image)
    assert lock["address"].startswith(A)


def test_fenced_client_gets_its_error_and_the_other_goes_on(
    ceph: Ceph, rbd_clients: RbdClients, image: str, tmp_path: Path
) -> None:
    """One client's address is blocklisted -> its write fails; another image's writer writes on."""
    second = f"volumes/{uuid.uuid4()}"
    ceph.create(second)
    fenced = rbd_clients.start(image, address=A, name="fenced").opened()
    other = rbd_clients.start(second, address=A, name="other").opened()
    (watcher,) = ceph.watchers_of(image)
    ceph.ceph("osd", "blocklist", "add", watcher["address"], "60")
    assert fenced.ended() == 4
    assert "ConnectionShutdown" in fenced.said
    assert other.makes_progress()
    assert watcher["address"] in ceph.blocklist()
    content = tmp_path / "content"
    ceph.rbd("export", image, str(content), "--no-progress")
    assert fenced.missing_writes(content) == []


def test_reader_leaves_no_watch(ceph: Ceph, rbd_clients: RbdClients, image: str) -> None:
    """An image is opened to be read -> nobody watches it: "no watcher" is not "no reader"."""
    reader = rbd_clients.start(image, reads=True).opened()
    assert reader.running
    assert ceph.watchers_of(image) == []


def test_detachd_s_key_neither_reads_nor_writes_nor_fences_a_host(ceph: Ceph, image: str) -> None:
    """The documented key -> no block of a volume, no whole address; one full address: yes."""
    data = json.loads(ceph.rbd("info", image, "--format", "json"))["block_name_prefix"]
    words = [str(ceph.configuration), f"{data}.0000000000000000"]
    done = subprocess.run([PYTHON, "-Ic", AS_DETACHD, *words], capture_output=True, check=True)
    assert json.loads(done.stdout) == {
        "write": "PermissionError",
        "read": "PermissionError",
        "127.0.0.9": -13,
        "127.0.0.9:0/0": -13,
        "127.0.0.9:0/123": "done",
    }


def test_frozen_parts_go_on(ceph: Ceph, rbd_clients: RbdClients, image: str) -> None:
    """The OSD is frozen -> no write is acknowledged; thawed -> it goes on."""
    writer = rbd_clients.start(image).opened()
    with ceph.frozen("osd"):
        until(lambda: not writer.makes_progress(0.3))
    assert writer.makes_progress()
    with ceph.frozen("mon"):
        assert writer.makes_progress()


def test_driver_by_the_bindings_of_the_cluster_s_release(
    ceph: Ceph, rbd_clients: RbdClients
) -> None:
    """The driver's Python is that of this Ceph -> it sees the client of a host, and fences it."""
    rbd = Rbd(ceph, rbd_clients)
    driver, volume, connector = rbd.driver(python=str(ceph.python)), rbd.volume(), connector_of("a")
    writer = rbd.opened(volume, "a")
    seen = driver.observe(volume, timeout_seconds=SECONDS)
    learned = seen.client_of(connector, datetime.now(UTC))
    assert learned is not None
    driver.force_detach(
        volume,
        Attachment(volume.volume_id, "row", "server", connector, learned),
        request_id="req-test",
        timeout_seconds=SECONDS,
    )
    assert writer.ended() == FENCED
    assert learned.address in ceph.blocklist()
    assert driver.observe(volume, timeout_seconds=SECONDS).connections == ()


def test_two_clusters_are_apart(ceph: Ceph, image: str) -> None:
    """A second cluster -> its own images; stopped -> nothing of it is left."""
    with installed(Ceph) as second:
        assert image.rpartition("/")[2] not in second.rbd("ls", "volumes")
        assert image.rpartition("/")[2] in ceph.rbd("ls", "volumes")
    assert not second.directory.exists()
    assert second.processes() == []
