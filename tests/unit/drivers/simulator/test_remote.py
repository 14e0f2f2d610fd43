"""A cloud in another process: same answers, same errors, and honest about a broken connection."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivers
from drivers.base import Attachment
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.simulator import Cloud, Fault, Landing, SimulatorDriver
from drivers.simulator.remote import CloudServer, RemoteCloud, connect_cloud, serve_cloud
from drivers.simulator.wire import RemoteCloudError, parse_address
from tests.bus import until

KEY = b"a key of the test"
CALL = {"request_id": "req-test", "timeout_seconds": 2.0}
SERVE = """
import sys
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
with Cloud() as cloud, serve_cloud(cloud, authkey=sys.argv[1].encode()) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server(cloud: Cloud) -> Iterator[CloudServer]:
    """Serve the cloud from this process."""
    with serve_cloud(cloud, authkey=KEY) as server:
        yield server


@pytest.fixture
def remote(server: CloudServer) -> Iterator[RemoteCloud]:
    """Return the same cloud at the far end of a connection."""
    with contextlib.closing(connect_cloud(server.address, KEY)) as remote:
        yield remote


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Return a process that serves a cloud, and its address."""
    served = subprocess.Popen(
        [sys.executable, "-c", SERVE, KEY.decode()],
        cwd=Path(drivers.__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with served:
        yield served, served.stdout.readline().strip()
        served.send_signal(signal.SIGCONT)
        served.kill()


def test_faces_answer_as_in_process(cloud: Cloud, remote: RemoteCloud) -> None:
    """The same questions near and far -> equal answers, by value."""
    scene = remote.scenes.attached(host="compute-3")
    ids = (scene.instance_id, scene.volume_id)
    near = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    assert remote.cinder.volume(scene.volume_id, timeout_seconds=1) == near
    assert remote.nova.server(*ids, timeout_seconds=1) == cloud.nova.server(*ids, timeout_seconds=1)
    assert remote.driver().observe(near.ref, timeout_seconds=1) == cloud.driver().observe(
        near.ref, timeout_seconds=1
    )
    assert remote.cinder.volume("nobody's", timeout_seconds=1) is None


def test_far_calls_act_and_are_journalled(cloud: Cloud, remote: RemoteCloud) -> None:
    """A leak is mended from afar -> the cloud has changed, and its journal tells by whom."""
    scene = remote.scenes.uc5(host="compute-3")
    ref = remote.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    connector = remote.scene.connector("compute-3")
    stale = Attachment(scene.volume_id, None, None, connector)
    remote.driver().force_detach(ref, stale, **CALL)
    assert cloud.exported_to(scene.volume_id) == ()
    assert [c.asked.request_id for c in cloud.calls(writes=True)] == ["req-test", "req-test"]
    assert remote.scene.calls() == cloud.calls()
    assert remote.scene.hazards() == ()


@pytest.mark.parametrize(
    "kind",
    [TransientError, IndeterminateError, PermanentError, NotFoundError, ConflictError],
)
def test_errors_keep_their_class(remote: RemoteCloud, kind: type[OutsideError]) -> None:
    """The cloud raises one of the kinds -> exactly that class, with its words, comes out here."""
    volume = remote.scene.create_volume()
    remote.scene.script(Fault.before("cinder.reserve", kind))
    with pytest.raises(OutsideError) as caught:
        remote.cinder.reserve(volume, **CALL)
    assert type(caught.value) is kind
    assert "scripted fault" in str(caught.value)


def test_driver_from_its_options(cloud: Cloud, server: CloudServer) -> None:
    """The options address and authkey, as a configuration gives them -> the driver is connected."""
    volume = cloud.create_volume()
    cloud.export(volume, "compute-1")
    options = {"address": server.address, "authkey": KEY.decode()}
    driver = SimulatorDriver("storage-1@tgt", options)
    ref = cloud.cinder.volume(volume, timeout_seconds=1).ref
    assert len(driver.observe(ref, timeout_seconds=1).connections) == 1


def test_wrong_key_is_refused(server: CloudServer) -> None:
    """Another key -> PermanentError that says so; the server goes on."""
    stranger = connect_cloud(server.address, b"another key")
    with pytest.raises(PermanentError, match="authkey"):
        stranger.cinder.volume("v", timeout_seconds=1)
    with contextlib.closing(connect_cloud(server.address, KEY)) as friend:
        assert friend.cinder.volume("v", timeout_seconds=1) is None


def test_nobody_listens() -> None:
    """No server at the address -> surely nothing was done: TransientError."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
    with pytest.raises(TransientError):
        connect_cloud(address, KEY).cinder.reserve("v", **CALL)


def test_killed_in_the_middle_of_a_call(process: tuple[subprocess.Popen[str], str]) -> None:
    """The process is killed while it works on a call -> Indeterminate; the next: Transient."""
    served, address = process
    remote = connect_cloud(address, KEY)
    volume = remote.scene.create_volume()
    remote.scene.script(Fault.hang("cinder.reserve", 60))

    def kill() -> None:
        until(lambda: remote.scene.calls("cinder.reserve"))
        os.kill(served.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(IndeterminateError):
        remote.cinder.reserve(volume, request_id="r", timeout_seconds=30)
    killer.join()
    served.wait(timeout=60)
    with pytest.raises(TransientError):
        remote.cinder.reserve(volume, request_id="r", timeout_seconds=30)
    assert time.monotonic() - began < 30


def test_frozen_process_is_bounded(process: tuple[subprocess.Popen[str], str]) -> None:
    """The process is stopped -> a call ends in time, unknown; a new connection: surely nothing.

    After the thaw, the late answer is not taken for the next call's.
    """
    served, address = process
    with contextlib.closing(connect_cloud(address, KEY)) as remote:
        volume, other = remote.scene.create_volume(), remote.scene.create_volume()
        served.send_signal(signal.SIGSTOP)
        os.waitpid(served.pid, os.WUNTRACED)
        began = time.monotonic()
        with pytest.raises(IndeterminateError):
            remote.cinder.volume(volume, timeout_seconds=0.2)
        with pytest.raises(TransientError):
            connect_cloud(address, KEY).cinder.volume(volume, timeout_seconds=0.2)
        assert time.monotonic() - began < 30
        served.send_signal(signal.SIGCONT)
        assert remote.cinder.volume(other, timeout_seconds=60).ref.volume_id == other


def test_broken_call_breaks_no_other(remote: RemoteCloud, caplog: pytest.LogCaptureFixture) -> None:
    """A call that the cloud cannot make sense of -> told as such and logged; the next is fine."""
    with pytest.raises(RemoteCloudError, match="TypeError"):
        remote.scene.create_volume(nonsense=True)
    with pytest.raises(RemoteCloudError, match="private"):
        remote._caller.call("scene", "_note")
    with pytest.raises(RemoteCloudError, match="pickle"):
        remote.scene.begin_attach(remote.scene.create_volume(), remote.scene.boot_server())
    assert "could not answer scene.create_volume" in caplog.text
    assert remote.scene.create_volume()


def test_closed_server_hangs_up(cloud: Cloud) -> None:
    """The server is closed -> its threads end; a connected caller hears that nothing is known."""
    before = set(threading.enumerate())
    server = serve_cloud(cloud, authkey=KEY)
    remote = connect_cloud(server.address, KEY)
    remote.scene.create_volume()
    server.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises((IndeterminateError, TransientError)):
        remote.cinder.volume("v", timeout_seconds=1)
    remote.close()


def test_closed_while_somebody_connects(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is closed when a connection is accepted and not noted yet -> it ends all the same.

    It waited for that connection, on which nobody hung up.
    """
    server = serve_cloud(cloud, authkey=KEY)
    accepted, goes_on, noted = threading.Event(), threading.Event(), server.answering

    def late(request: socket.socket, *, begins: bool) -> None:
        if begins:
            accepted.set()
            goes_on.wait(60)
        noted(request, begins=begins)

    monkeypatch.setattr(server, "answering", late)
    with socket.create_connection(parse_address(server.address)):
        assert accepted.wait(60)
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        until(lambda: server._closing)
        goes_on.set()
        closing.join(10)
        assert not closing.is_alive()


def test_each_thread_has_its_own_connection(cloud: Cloud, remote: RemoteCloud) -> None:
    """Sixteen threads on a slow cloud -> not the ten seconds of one after another."""
    volume = remote.scene.create_volume()
    cloud.set_latency(0.2)

    def look() -> None:
        for _ in range(3):
            remote.cinder.volume(volume, timeout_seconds=60)

    threads = [threading.Thread(target=look) for _ in range(16)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.6 <= time.monotonic() - began < 9
    assert len(cloud.calls("cinder.volume")) == 48


def test_faults_with_landings_cross(cloud: Cloud, remote: RemoteCloud) -> None:
    """A late effect scripted and landed from afar -> it happens in the cloud."""
    volume = remote.scene.create_volume()
    landing = Landing(after_method="cinder.volume")
    remote.scene.script(Fault.late("cinder.reserve", landing))
    with pytest.raises(IndeterminateError):
        remote.cinder.reserve(volume, **CALL)
    assert remote.cinder.volume(volume, timeout_seconds=1).status == "available"
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "attaching"


@pytest.mark.parametrize("address", ["", "nonsense", ":80", "host:", "host:port"])
def test_wrong_address_is_explained(address: str) -> None:
    """Not host:port -> ValueError that says what it should be."""
    with pytest.raises(ValueError, match="host:port"):
        parse_address(address)
