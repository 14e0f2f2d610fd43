"""A program that stays connected to a real Ceph: what it sees, and when it is replaced.

It must see what a new one would. Whatever happens to it, a look has an answer, or none in time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.base import Connection, VolumeRef
from drivers.errors import IndeterminateError, NotFoundError
from drivers.rbd import RbdDriver
from drivers.rbd.cluster import RefusedError
from tests.bus import until
from tests.rbd import Rbd, make_key, own_user
from tests.services.ceph import Ceph
from tests.services.rbd_clients import RbdClients

A = "compute-a"
LIMIT_SECONDS = 1.0
TIMES = 10

pytestmark = pytest.mark.parallel


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend on the shared cluster."""
    return Rbd(ceph, rbd_clients)


def seen(driver: RbdDriver, volume: VolumeRef, seconds: float = 30.0) -> tuple[Connection, ...]:
    """Return what the driver sees of a volume."""
    return driver.observe(volume, timeout_seconds=seconds).connections


def program_of(driver: RbdDriver) -> int:
    """Return the process of the one program that is kept."""
    (free,) = driver._cluster.programs._free
    return free.one.pid


def warm(rbd: Rbd, volume: VolumeRef, **options: object) -> tuple[RbdDriver, int]:
    """Return a driver that has looked, and the program that it keeps."""
    driver = rbd.driver(**options)
    seen(driver, volume)
    return driver, program_of(driver)


# -- it sees what a new one would ------------------------------------------------------------------


def test_what_changes_is_seen_at_once(rbd: Rbd) -> None:
    """Opened, fenced, deleted since the look before -> the same program shows each of these."""
    volume = rbd.volume()
    driver, pid = warm(rbd, volume)
    client = rbd.opened(volume, A)
    (connection,) = seen(driver, volume)
    assert (connection.access, connection.sessions) == (True, 1)
    assert connection.address is not None
    rbd.ceph.ceph("osd", "blocklist", "add", connection.address, "94608000")
    assert not any(each.access for each in seen(driver, volume))
    client.ended()
    until(lambda: rbd.ceph.watchers_of(rbd.spec(volume)) == [])
    assert seen(driver, volume) == ()
    rbd.ceph.rbd("rm", "--no-progress", rbd.spec(volume))
    with pytest.raises(NotFoundError):
        seen(driver, volume)
    assert program_of(driver) == pid


def test_each_fence_is_seen_by_a_client_that_knew_the_map_before(rbd: Rbd) -> None:
    """Ten clients are fenced, a look after each -> none is shown to have access any more.

    The program's map of OSDs is of before each time.
    """
    volume = rbd.volume()
    driver, pid = warm(rbd, volume)
    for number in range(TIMES):
        rbd.opened(volume, f"{A}-{number}", writes=0)
    for connection in seen(driver, volume):
        assert connection.address is not None
        rbd.ceph.ceph("osd", "blocklist", "add", connection.address, "94608000")
        left = {c.address for c in seen(driver, volume) if c.access}
        assert connection.address not in left
    assert program_of(driver) == pid


# -- it is replaced --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["mon", "osd"])
def test_frozen_part_is_no_answer_in_time(rbd: Rbd, part: str) -> None:
    """It is connected when monitor or OSD freezes -> no answer in time, ended; thawed: seen."""
    volume = rbd.volume()
    rbd.opened(volume, A, writes=0)
    driver, pid = warm(rbd, volume)
    with rbd.ceph.frozen(part):
        began = time.monotonic()
        with pytest.raises(IndeterminateError, match="no answer in time"):
            seen(driver, volume, LIMIT_SECONDS)
        assert time.monotonic() - began < LIMIT_SECONDS + 30
        assert not is_running(pid)
        assert driver._cluster.programs.at_work == 0
    assert len(seen(driver, volume)) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_program_that_is_killed_or_stopped_is_replaced(rbd: Rbd, how: signal.Signals) -> None:
    """Killed or stopped between two looks -> the second has its answer from another one."""
    volume = rbd.volume()
    driver, pid = warm(rbd, volume)
    os.kill(pid, how)
    assert seen(driver, volume, 4.0) == ()
    assert program_of(driver) != pid
    assert not is_running(pid)


def test_program_that_was_fenced_itself_is_replaced(rbd: Rbd) -> None:
    """Somebody fences detachd's own client -> the next look has its answer from another one."""
    volume = rbd.volume()
    rbd.opened(volume, A, writes=0)
    before = own_addresses(rbd)
    driver, pid = warm(rbd, volume)
    (address,) = own_addresses(rbd) - before
    rbd.ceph.ceph("osd", "blocklist", "add", address, "600")
    assert len(seen(driver, volume)) == 1
    assert program_of(driver) != pid


def own_addresses(rbd: Rbd) -> set[str]:
    """Return the addresses of detachd's clients, those of earlier tests too, as the monitor has."""
    sessions = json.loads(rbd.ceph.ceph("tell", "mon.a", "sessions"))
    ours = [s["addrs"]["addrvec"][0] for s in sessions if s["entity_name"] == "client.detachd"]
    return {f"{address['addr']}/{address['nonce']}" for address in ours}


def test_new_key_is_used_at_once(rbd: Rbd, tmp_path: Path) -> None:
    """The keyring has a new key, the old one is void -> seen; a wrong key -> refused at once."""
    volume = rbd.volume()
    conf, keyring = own_user(rbd, tmp_path, "rotated")
    driver, pid = warm(rbd, volume, conf=conf, user="rotated")
    rbd.ceph.ceph("auth", "rm", "client.rotated")
    keyring.write_text(make_key(rbd, "rotated"))
    assert seen(driver, volume) == ()
    assert program_of(driver) != pid
    rbd.ceph.ceph("auth", "rm", "client.rotated")
    make_key(rbd, "rotated")
    keyring.write_text(keyring.read_text() + "\n")
    with pytest.raises(RefusedError):
        seen(driver, volume)


def test_right_that_came_later_is_noticed(rbd: Rbd, tmp_path: Path) -> None:
    """Connected while it might not look, and allowed to since -> seen, by another program."""
    volume = rbd.volume()
    conf, _ = own_user(rbd, tmp_path, "limited", osd="allow r pool=images")
    driver = rbd.driver(conf=conf, user="limited")
    with pytest.raises(RefusedError):
        seen(driver, volume)
    driver.how_reached(timeout_seconds=30)
    pid = program_of(driver)
    rbd.ceph.ceph("auth", "caps", "client.limited", "mon", "allow r", "osd", "allow rx")
    assert seen(driver, volume) == ()
    assert program_of(driver) != pid


def test_program_ends_with_the_service(rbd: Rbd, tmp_path: Path) -> None:
    """The process that asks is killed -> the program that it kept ends too."""
    volume = rbd.volume()
    script = tmp_path / "asks.py"
    script.write_text(SERVICE.format(options=rbd.driver().options, volume=volume))
    asking = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    pid = int(asking.stdout.readline())
    assert is_running(pid)
    asking.kill()
    asking.communicate()
    until(lambda: not is_running(pid))


SERVICE = """
import time
from drivers.base import VolumeRef
from drivers.rbd import RbdDriver
driver = RbdDriver("storage-1@rbd", {options!r})
driver.observe({volume!r}, timeout_seconds=30)
print(driver._cluster.programs._free[0].one.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, which has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
