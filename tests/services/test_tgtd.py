"""The iSCSI parts behave as real ones do; the driver's tests stand on what is shown here."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.fixtures import installed
from tests.services.fuse_disk import FuseDisk
from tests.services.initiator import Initiators
from tests.services.service import ServiceFailedError
from tests.services.tgtd import Tgtd

TARGET = "iqn.2010-10.org.openstack:volume-1"
HOST_A, HOST_B = "iqn.1994-05.com.redhat:a", "iqn.1994-05.com.redhat:b"

pytestmark = pytest.mark.integration


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give a sparse file of 16 MiB."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    return path


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds; fail when it takes longer."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


def test_named_initiator_logs_in_and_writes_and_another_is_refused(
    tgtd: Tgtd, image: Path, initiators: Initiators
) -> None:
    """In the access list -> a session, and each acknowledged write is on the disk; else 515."""
    tid = tgtd.add_target(TARGET, image, initiators=(HOST_A,))
    host = initiators.start(tgtd.url, TARGET, HOST_A, blocks=64).logged_in()
    stranger = initiators.start(tgtd.url, TARGET, HOST_B)
    assert stranger.ended() == 3
    assert "Target not found(515)" in stranger.said
    until(lambda: host.counts().writes > 100)
    host.pause()
    assert tgtd.sessions(tid) == [HOST_A]
    time.sleep(0.2)
    assert host.missing_writes(image) == []
    assert tgtd.access_list(tid) == [HOST_A]


def test_access_list_of_each_target_is_its_own(tgtd: Tgtd) -> None:
    """Three targets, the one between without an entry -> each list as it is; no target: told."""
    tids = [tgtd.add_target(f"{TARGET}{n}") for n in range(3)]
    tgtd.let_in(tids[0], HOST_A)
    tgtd.let_in(tids[2], HOST_B)
    assert [tgtd.access_list(tid) for tid in tids] == [[HOST_A], [], [HOST_B]]
    assert [tgtd.tid(f"{TARGET}{n}") for n in range(4)] == [*tids, None]
    with pytest.raises(ServiceFailedError, match="has no target 99"):
        tgtd.access_list(99)


def test_missing_writes_are_found(tgtd: Tgtd, image: Path, initiators: Initiators) -> None:
    """A disk that has lost what was acknowledged -> told: "none missing" means something."""
    tgtd.add_target(TARGET, image, initiators=(HOST_A,))
    host = initiators.start(tgtd.url, TARGET, HOST_A, blocks=8).logged_in()
    until(lambda: host.counts().writes > 20)
    host.kill()
    image.write_bytes(bytes(image.stat().st_size))
    assert len(host.missing_writes(image)) == 7


def test_one_that_goes_on_for_ever_is_back_at_once(
    tgtd: Tgtd, image: Path, initiators: Initiators
) -> None:
    """Its session is ended, its name still listed -> it has a new session; unlisted -> refused."""
    tid = tgtd.add_target(TARGET, image, initiators=(HOST_A,))
    host = initiators.start(tgtd.url, TARGET, HOST_A, for_ever=True).logged_in()
    tgtd.adm("conn", "delete", "--tid", str(tid), "--sid", "1", "--cid", "0")
    until(lambda: host.counts().logins == 2)
    assert host.makes_progress()
    tgtd.adm("target", "unbind", "--tid", str(tid), "--initiator-name", HOST_A)
    assert host.makes_progress(), "a session outlives its entry in the access list"
    tgtd.adm("conn", "delete", "--tid", str(tid), "--sid", "2", "--cid", "0")
    until(lambda: host.counts().refusals > 2)
    assert tgtd.sessions(tid) == []


def test_stopped_initiator_keeps_its_session(
    tgtd: Tgtd, image: Path, initiators: Initiators
) -> None:
    """SIGSTOP -> listed as before, nothing written; SIGCONT -> it goes on."""
    tid = tgtd.add_target(TARGET, image, initiators=(HOST_A,))
    host = initiators.start(tgtd.url, TARGET, HOST_A).logged_in()
    host.pause()
    time.sleep(0.2)
    assert not host.makes_progress(0.3)
    assert tgtd.sessions(tid) == [HOST_A]
    host.resume()
    assert host.makes_progress()


def test_frozen_disk_leaves_the_session_listed_whatever_is_done(
    fuse_disk: FuseDisk, tgtd: Tgtd, initiators: Initiators
) -> None:
    """I/O hangs -> ending the session succeeds and it stays listed; thawed -> gone by itself."""
    tid = tgtd.add_target(TARGET, fuse_disk.disk, initiators=(HOST_A,))
    host = initiators.start(tgtd.url, TARGET, HOST_A, blocks=64).logged_in()
    fuse_disk.pause()
    until(lambda: not host.makes_progress(0.3))
    for _ in range(2):
        tgtd.adm("conn", "delete", "--tid", str(tid), "--sid", "1", "--cid", "0")
        assert tgtd.sessions(tid) == [HOST_A]
    with pytest.raises(ServiceFailedError, match="this logical unit is still active"):
        tgtd.remove_target(tid)
    fuse_disk.resume()
    until(lambda: tgtd.sessions(tid) == [])
    assert host.missing_writes(fuse_disk.content) == []


def test_killed_and_started_again_knows_no_target(tgtd: Tgtd, image: Path) -> None:
    """Kill -9 -> every target is gone with its daemon."""
    tgtd.add_target(TARGET, image)
    with tgtd.killed():
        pass
    assert tgtd.adm("target", "show") == ""


def test_portal_that_is_taken_is_no_start(tgtd: Tgtd) -> None:
    """Tgtd would serve on every address instead -> refused, and nothing of it is left."""
    second = installed(Tgtd)
    second.port = tgtd.port
    with pytest.raises(ServiceFailedError, match="does not listen on"), second:
        pytest.fail("started on a port that was taken")
    assert not second.directory.exists()
    assert second.processes() == []


def test_two_daemons_are_apart(tgtd: Tgtd, image: Path) -> None:
    """A second one -> its own targets, and its own portal; stopped -> nothing of it is left."""
    with installed(Tgtd) as second:
        second.add_target(TARGET, image)
        assert TARGET in second.adm("target", "show")
        assert tgtd.adm("target", "show") == ""
        with socket.create_connection(("127.0.0.1", second.port), 5):
            pass
    assert not second.directory.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", second.port), 5)
