"""The rbd driver looks at a real Ceph: who has an image open, who left a lock, what is unknown."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
import uuid

import pytest

from drivers.base import Connection, VolumeRef
from drivers.errors import IndeterminateError, NotFoundError, PermanentError
from drivers.rbd.cluster import NoBindingsError, NoPoolError
from drivers.rbd.program import PROGRAM
from tests.bus import until
from tests.rbd import BACKEND, Rbd, address_of, connector_of
from tests.services.ceph import PYTHON, Ceph
from tests.services.fixtures import installed
from tests.services.rbd_clients import RbdClients

A, B = "compute-a", "compute-b"
LIMIT_SECONDS = 1.0

pytestmark = pytest.mark.parallel


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend on the shared cluster."""
    return Rbd(ceph, rbd_clients)


def seen(rbd: Rbd, volume: VolumeRef, **options: object) -> tuple[Connection, ...]:
    """Return what the driver sees of a volume."""
    return rbd.driver(**options).observe(volume, timeout_seconds=30).connections


# -- who is there ----------------------------------------------------------------------------------


def test_hosts_are_told_by_the_address_of_their_clients(rbd: Rbd) -> None:
    """Two hosts have an image open -> each is found by its connector, whatever its names."""
    volume = rbd.volume()
    rbd.opened(volume, A, writes=1)
    rbd.opened(volume, B, writes=0)
    watchers = {
        w["address"]: f"client.{w['client']}" for w in rbd.ceph.watchers_of(rbd.spec(volume))
    }
    observed = rbd.driver().observe(volume, timeout_seconds=30)
    assert {c.address: c.name for c in observed.connections} == watchers
    (one,) = observed.of(connector_of(A))
    assert (one.host_ip, one.access, one.sessions) == (address_of(A), True, 1)
    assert len(observed.of(connector_of(B))) == 1
    assert observed.of(connector_of("compute-c")) == ()
    assert rbd.ceph.fsid in observed.control


def test_look_leaves_no_trace(rbd: Rbd) -> None:
    """Looked at again and again -> the image is not watched, not locked, not written by us."""
    volume = rbd.volume()
    before = rbd.ceph.rbd("info", rbd.spec(volume))
    driver = rbd.driver()
    for _ in range(3):
        assert driver.observe(volume, timeout_seconds=30).connections == ()
        assert rbd.ceph.watchers_of(rbd.spec(volume)) == []
    driver.list_exports(timeout_seconds=30)
    assert rbd.ceph.rbd("info", rbd.spec(volume)) == before
    assert rbd.ceph.locks_of(rbd.spec(volume)) == []


def test_reader_is_not_seen_and_the_control_says_so(rbd: Rbd) -> None:
    """A host only reads the image -> nobody is shown; that readers are not listed is said."""
    volume = rbd.volume()
    assert rbd.opened(volume, A, reads=True).running
    observed = rbd.driver().observe(volume, timeout_seconds=30)
    assert observed.connections == ()
    assert "only read it are not listed" in observed.control


def test_killed_client_is_seen_on_and_then_its_lock(rbd: Rbd) -> None:
    """Kill -9 of a writer -> its watch is shown at first; without it, its lock still is."""
    volume = rbd.volume()
    with rbd.ceph.forgetful(3):
        client = rbd.opened(volume, A)
    client.kill()
    (connection,) = seen(rbd, volume)
    assert (connection.sessions, connection.access) == (1, True)
    until(lambda: rbd.ceph.watchers_of(rbd.spec(volume)) == [], seconds=60)
    (connection,) = seen(rbd, volume)
    assert (connection.sessions, connection.access) == (0, True)
    assert connection.belongs_to(connector_of(A))


def test_spent_lock_of_a_fenced_client_is_nobody_s(rbd: Rbd) -> None:
    """The owner of a lock is fenced -> no connection; the control tells until when."""
    volume = rbd.volume()
    client = rbd.opened(volume, A)
    (watcher,) = rbd.ceph.watchers_of(rbd.spec(volume))
    rbd.ceph.ceph("osd", "blocklist", "add", watcher["address"], "94608000")
    assert client.ended() == 4
    until(lambda: rbd.ceph.watchers_of(rbd.spec(volume)) == [])
    assert len(rbd.ceph.locks_of(rbd.spec(volume))) == 1
    observed = rbd.driver().observe(volume, timeout_seconds=30)
    assert observed.connections == ()
    assert f"{watcher['address']} left a lock and is fenced until" in observed.control


# -- where it looks --------------------------------------------------------------------------------


def test_migrated_volume_is_looked_for_under_both_names(rbd: Rbd) -> None:
    """An image of the name_id, and the old one still there -> the clients of both are shown."""
    volume = rbd.volume(name_id=str(uuid.uuid4()))
    old = f"volumes/volume-{volume.volume_id}"
    rbd.ceph.create(old)
    rbd.opened(volume, A, writes=1)
    rbd.opened(volume, B, writes=1, spec=old)
    assert {c.host_ip for c in seen(rbd, volume)} == {address_of(A), address_of(B)}


def test_volume_in_the_trash_is_unknown(rbd: Rbd) -> None:
    """The image was moved to the trash -> NotFoundError that says so, never "nobody"."""
    volume = rbd.volume()
    rbd.ceph.rbd("trash", "mv", rbd.spec(volume))
    with pytest.raises(NotFoundError, match="is in the trash"):
        seen(rbd, volume)


def test_absent_image_is_unknown(rbd: Rbd) -> None:
    """No image has a name of the volume -> NotFoundError with the names and places."""
    volume = VolumeRef(str(uuid.uuid4()), BACKEND)
    with pytest.raises(NotFoundError, match=f"no image volume-{volume.volume_id} in volumes of"):
        seen(rbd, volume)


def test_namespaces_and_several_pools(rbd: Rbd) -> None:
    """An image is in a namespace of another pool -> found where the pools say so, else unknown."""
    rbd.ceph.rbd("namespace", "create", "images/blue")
    blue = dataclasses.replace(rbd, place="images/blue")
    volume = blue.volume()
    blue.opened(volume, A, writes=0)
    assert len(seen(rbd, volume, pools="volumes,images/blue")) == 1
    with pytest.raises(NotFoundError):
        seen(rbd, volume, pools="volumes,images")


@pytest.mark.parametrize("pools", ["nowhere", "volumes/nowhere"])
def test_missing_pool_is_no_clean_answer(rbd: Rbd, pools: str) -> None:
    """A pool or namespace of the options does not exist -> an error, though the image is there."""
    with pytest.raises(NoPoolError, match="nowhere"):
        seen(rbd, rbd.volume(), pools=f"volumes,{pools}")


def test_clone_of_an_image_is_seen(rbd: Rbd) -> None:
    """A volume made from an image of Glance, flattened or not -> its client is shown."""
    source = f"images/{uuid.uuid4()}"
    rbd.ceph.create(source)
    rbd.ceph.rbd("snap", "create", f"{source}@snap", "--no-progress")
    volume = VolumeRef(str(uuid.uuid4()), BACKEND)
    clone = ("clone", "--rbd-default-clone-format", "2", f"{source}@snap", rbd.spec(volume))
    rbd.ceph.rbd(*clone)
    rbd.opened(volume, A, writes=1)
    assert len(seen(rbd, volume)) == 1
    rbd.ceph.rbd("flatten", rbd.spec(volume), "--no-progress")
    assert len(seen(rbd, volume)) == 1


def test_list_has_what_is_in_use(rbd: Rbd) -> None:
    """Of two images one is open -> it is listed with its client and id, the idle one is not."""
    used, idle = rbd.volume(), rbd.volume()
    rbd.opened(used, A, writes=0)
    listed = {e.volume_id: e for e in rbd.driver().list_exports(timeout_seconds=30)}
    assert listed[used.volume_id].connections == seen(rbd, used)
    assert listed[used.volume_id].name == rbd.spec(used)
    assert idle.volume_id not in listed


# -- trouble ---------------------------------------------------------------------------------------


def test_request_is_not_made_later_where_who_asked_is_dead(rbd: Rbd) -> None:
    """The service dies while the monitor hangs -> its program ends, before the monitor goes on."""
    asked: dict[str, object] = {
        "op": "look",
        "conf": str(rbd.ceph.configuration),
        "user": "detachd",
    }
    asked |= {
        "number": 1,
        "seconds": 1.0,
        "until": time.monotonic() + 60,
        "places": [],
        "names": [],
    }
    question = json.dumps(asked).encode() + b"\n"
    with rbd.ceph.frozen("mon"):
        program = subprocess.Popen(
            [PYTHON, "-I", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert program.stdin is not None
        with program.stdin:
            program.stdin.write(question)
        assert program.wait(60) == -signal.SIGALRM


@pytest.mark.parametrize("part", ["mon", "osd"])
def test_frozen_part_is_no_answer_in_time(rbd: Rbd, part: str) -> None:
    """The monitor or the OSD is frozen -> IndeterminateError within the limit; thawed: seen."""
    volume = rbd.volume()
    rbd.opened(volume, A, writes=0)
    with rbd.ceph.frozen(part):
        began = time.monotonic()
        for look in (
            lambda: rbd.driver().observe(volume, timeout_seconds=LIMIT_SECONDS),
            lambda: rbd.driver().list_exports(timeout_seconds=LIMIT_SECONDS),
        ):
            with pytest.raises(IndeterminateError, match="no answer in time"):
                look()
        assert time.monotonic() - began < 2 * LIMIT_SECONDS + 30
    assert len(seen(rbd, volume)) == 1


def test_another_cluster_is_no_clean_answer(rbd: Rbd) -> None:
    """The configuration is that of another cluster -> NotFoundError, not "nobody"."""
    volume = rbd.volume()
    with installed(Ceph) as other, pytest.raises(NotFoundError):
        seen(rbd, volume, conf=str(other.configuration))


def test_user_without_a_key_is_refused(rbd: Rbd) -> None:
    """No keyring has the user -> PermanentError that names it."""
    with pytest.raises(PermanentError, match=r"refused client\.nobody"):
        seen(rbd, rbd.volume(), user="nobody")


def test_python_without_the_bindings_says_what_to_install(rbd: Rbd) -> None:
    """A Python that cannot import them -> PermanentError that names the packages."""
    with pytest.raises(NoBindingsError, match="install python3-rados and python3-rbd"):
        seen(rbd, rbd.volume(), python=sys.executable)
