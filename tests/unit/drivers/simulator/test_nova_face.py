"""Nova's answers: what it refuses, and how a detach that it accepted can go on."""

import pytest

from drivers.control_plane import BlockDevice, DeletedServer
from drivers.errors import ConflictError, NotFoundError, OutsideError, TransientError
from drivers.simulator import Cloud, Detaching, Fault, Guest, Landing
from drivers.simulator.scenes import attached

CALL = {"request_id": "req-test", "timeout_seconds": 1.0}


def status(cloud: Cloud, volume: str) -> str:
    """Look at the volume without adding a call to the journal."""
    return cloud.statuses(volume)[0]


def test_detach_goes_all_the_way(cloud: Cloud) -> None:
    """A healthy server -> guest lets go, access ends, the volume is available, no hazard."""
    scene = attached(cloud)
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert status(cloud, scene.volume_id) == "available"
    assert cloud.exported_to(scene.volume_id) == ()
    assert cloud.guests_holding(scene.volume_id) == ()
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert server.block_devices == ()
    assert cloud.hazards() == ()


@pytest.mark.parametrize(
    ("columns", "volume_status", "error"),
    [
        ({"vm_state": "suspended"}, "in-use", ConflictError),
        ({"vm_state": "error"}, "in-use", ConflictError),
        ({"vm_state": "building"}, "in-use", ConflictError),
        ({"deleted": True}, "in-use", NotFoundError),
        ({}, "detaching", ConflictError),
        ({}, "attaching", ConflictError),
        ({}, "available", ConflictError),
    ],
)
def test_detach_is_refused(
    cloud: Cloud, columns: dict[str, object], volume_status: str, error: type[OutsideError]
) -> None:
    """The server's or the volume's state does not allow it -> refused, nothing changes."""
    scene = attached(cloud)
    cloud.set_server(scene.instance_id, **columns)
    cloud.set_status(scene.volume_id, volume_status)
    with pytest.raises(error):
        cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert status(cloud, scene.volume_id) == volume_status
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)


def test_detach_with_the_compute_down_is_refused(cloud: Cloud) -> None:
    """The compute service is down -> ConflictError, nothing changes."""
    scene = attached(cloud)
    cloud.set_compute(scene.host, up=False)
    with pytest.raises(ConflictError):
        cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert status(cloud, scene.volume_id) == "in-use"


def test_detach_of_a_volume_that_nova_does_not_have(cloud: Cloud) -> None:
    """No block device for the volume -> NotFoundError."""
    scene = attached(cloud)
    cloud.drop_block_device(scene.instance_id, scene.volume_id)
    with pytest.raises(NotFoundError):
        cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)


def test_guest_refuses(cloud: Cloud) -> None:
    """The guest refuses -> rolled back to in-use, the guest keeps the disk."""
    scene = attached(cloud)
    cloud.script_detach(scene.instance_id, Detaching(Guest.REFUSES))
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert status(cloud, scene.volume_id) == "in-use"
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)


def test_compute_dies(cloud: Cloud) -> None:
    """The compute dies with the order taken -> detaching for good, the guest keeps the disk."""
    scene = attached(cloud)
    cloud.script_detach(scene.instance_id, Detaching(Guest.COMPUTE_DIES))
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert status(cloud, scene.volume_id) == "detaching"
    assert server.compute_up is False
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)


def test_detach_takes_three_looks(cloud: Cloud) -> None:
    """Scripted to finish after three looks -> detaching for two, done right after the third."""
    scene = attached(cloud)
    landing = Landing(after_method="nova.server", after_calls=3)
    cloud.script_detach(scene.instance_id, Detaching(landing=landing))
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    seen = []
    for _ in range(3):
        cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
        seen.append(status(cloud, scene.volume_id))
    assert seen == ["detaching", "detaching", "available"]


def test_backend_fails_after_the_guest_let_go(cloud: Cloud) -> None:
    """Cinder fails five times -> the guest has let go, detaching and the block device stay."""
    scene = attached(cloud)
    cloud.script(Fault.before("backend.terminate_connection", times=5))
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert status(cloud, scene.volume_id) == "detaching"
    assert server.block_devices == (BlockDevice(scene.attachment_id, "/dev/vdb"),)
    assert cloud.guests_holding(scene.volume_id) == ()
    assert cloud.exported_to(scene.volume_id) == (scene.host,)


def test_nova_tries_five_times(cloud: Cloud) -> None:
    """Cinder fails four times -> the fifth try does it."""
    scene = attached(cloud)
    cloud.script(Fault.before("backend.terminate_connection", times=4))
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert status(cloud, scene.volume_id) == "available"
    assert cloud.faults_left() == ()


def test_legacy_device_without_attachment_id(cloud: Cloud) -> None:
    """A block device without attachment id -> Nova's two legacy calls end access and row."""
    volume, server = cloud.create_volume(), cloud.boot_server()
    cloud.add_attachment(volume, "attached", server)
    cloud.set_status(volume, "in-use", "attached")
    cloud.export(volume, "compute-1", sessions=1)
    cloud.add_block_device(server, volume, None)
    cloud.nova.detach(server, volume, **CALL)
    assert status(cloud, volume) == "available"
    assert cloud.exported_to(volume) == ()


def test_server_tells_devices_of_one_volume_only(cloud: Cloud) -> None:
    """A server with two volumes -> only the asked one's devices, with and without attachment id."""
    scene = attached(cloud)
    cloud.attach(cloud.create_volume(), scene.instance_id)
    cloud.add_block_device(scene.instance_id, scene.volume_id, None, "/dev/vdz")
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert server.block_devices == (
        BlockDevice(scene.attachment_id, "/dev/vdb"),
        BlockDevice(None, "/dev/vdz"),
    )
    assert (server.host, server.compute_up, server.launched) == (scene.host, True, True)


def test_deleted_server_is_none(cloud: Cloud) -> None:
    """Nova has deleted the server -> None, though its guest may run on."""
    scene = attached(cloud)
    cloud.delete_server(scene.instance_id, guest_keeps_running=True)
    assert cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1) is None
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)


def test_compute_that_deleted_a_server_is_named(cloud: Cloud) -> None:
    """The compute ended the guest -> its host; deleted while it was down, or not at all -> none."""
    ended, outlived, there = attached(cloud), attached(cloud, "compute-2"), attached(cloud)
    cloud.delete_server(ended.instance_id)
    cloud.set_compute("compute-2", up=False)
    cloud.delete_server(outlived.instance_id)
    for scene, host in ((ended, "compute-1"), (outlived, None), (there, None)):
        told = cloud.nova.deleted_server(scene.instance_id, timeout_seconds=1)
        assert told == DeletedServer(scene.instance_id, host)


def test_server_that_this_nova_never_had(cloud: Cloud) -> None:
    """Another region's server, or none of Nova's -> nothing shown or on record; it runs."""
    scene = attached(cloud)
    cloud.set_server(scene.instance_id, on_record=False)
    assert cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1) is None
    assert cloud.nova.deleted_server(scene.instance_id, timeout_seconds=1) is None
    assert cloud.nova.deleted_server("nobody", timeout_seconds=1) is None
    assert cloud.nova.holders(scene.volume_id, scene.host, timeout_seconds=1) == ()
    assert cloud.guests_holding(scene.volume_id) == (scene.instance_id,)
    with pytest.raises(NotFoundError):
        cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)


def test_compute_service_of_a_host(cloud: Cloud) -> None:
    """A host's compute -> up until it is set down."""
    assert cloud.nova.compute_up("compute-1", timeout_seconds=1) is True
    cloud.set_compute("compute-1", up=False)
    assert cloud.nova.compute_up("compute-1", timeout_seconds=1) is False


def test_who_may_be_using_a_volume_on_a_host(cloud: Cloud) -> None:
    """By Nova's records -> on the host, or under migration; of an evacuated one whatever it has."""
    scene, elsewhere = attached(cloud), attached(cloud, "compute-2")

    def ask(host: str) -> tuple[str, ...]:
        return cloud.nova.holders(scene.volume_id, host, timeout_seconds=1)

    assert (ask("compute-1"), ask("compute-2")) == ((scene.instance_id,), ())
    cloud.set_server(scene.instance_id, task_state="migrating")
    assert ask("compute-2") == (scene.instance_id,)
    cloud.delete_server(scene.instance_id)
    assert ask("compute-1") == ()
    cloud.set_server(elsewhere.instance_id, evacuated_from="compute-1")
    assert ask("compute-1") == (elsewhere.instance_id,)


def test_host_that_is_no_compute(cloud: Cloud) -> None:
    """A backup's host -> Nova has no service of it, and does not say that nobody is there."""
    cloud.set_compute("backup-1", up=None)
    assert cloud.nova.compute_up("backup-1", timeout_seconds=1) is None
    with pytest.raises(NotFoundError):
        cloud.nova.holders(cloud.create_volume(), "backup-1", timeout_seconds=1)
    cloud.set_compute("backup-1", up=True)
    assert cloud.nova.compute_up("backup-1", timeout_seconds=1) is True


def test_nova_api_down_surely_did_nothing(cloud: Cloud) -> None:
    """nova-api refuses the connection -> TransientError."""
    scene = attached(cloud)
    cloud.set_apis(nova_up=False)
    with pytest.raises(TransientError):
        cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
