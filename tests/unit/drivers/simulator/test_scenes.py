"""Each story leaves what its name says: Cinder's status, the backend, Nova's block device."""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import pytest

from drivers.errors import PermanentError
from drivers.simulator import Cloud, Fault, scenes
from drivers.simulator.scenes import Scene


@dataclasses.dataclass(frozen=True)
class Left:
    """What a look finds afterwards; ``hosts`` are those that the backend lets in."""

    status: str
    attachments: tuple[str, ...]
    hosts: tuple[str, ...]
    device: bool
    held: bool


DESTINATION = "compute-1-destination"
STORIES: dict[Callable[[Cloud], Scene], Left] = {
    scenes.attached: Left("in-use", ("attached",), ("compute-1",), device=True, held=True),
    scenes.uc1: Left("attaching", ("attaching",), (), device=False, held=False),
    scenes.orphaned_attach: Left(
        "attaching", ("attaching",), ("compute-1",), device=False, held=False
    ),
    scenes.uc2: Left("attaching", ("attaching",), ("compute-1",), device=True, held=True),
    scenes.uc3: Left("detaching", ("attached",), (), device=False, held=False),
    scenes.uc4: Left("detaching", ("attached",), ("compute-1",), device=True, held=False),
    scenes.uc5: Left("available", (), ("compute-1",), device=False, held=False),
    scenes.uc5_before_the_export: Left("available", (), (), device=False, held=False),
    scenes.backend_still_busy: Left("reserved", ("reserved",), (), device=True, held=False),
    scenes.retry_won: Left("in-use", ("attached",), ("compute-1",), device=True, held=True),
    scenes.live_migration: Left(
        "in-use", ("attached", "attached"), ("compute-1", DESTINATION), device=True, held=True
    ),
    scenes.shelved: Left("reserved", ("reserved",), (), device=True, held=False),
    scenes.guest_holds: Left("detaching", ("attached",), ("compute-1",), device=True, held=True),
    scenes.compute_came_back: Left(
        "detaching", ("attached",), ("compute-1",), device=True, held=True
    ),
}


@pytest.mark.parametrize(
    ("story", "left"), STORIES.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_story_leaves_what_it_says(
    cloud: Cloud, story: Callable[[Cloud], Scene], left: Left
) -> None:
    """A story is played -> what a look finds is what its docstring says, and no call is ours."""
    scene = story(cloud)
    assert (cloud.journal, cloud.hazards(), cloud.faults_left()) == ((), (), ())
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert left == Left(
        status=volume.status,
        attachments=tuple(r.status for r in volume.attachments),
        hosts=cloud.exported_to(scene.volume_id),
        device=bool(server and server.block_devices),
        held=bool(cloud.guests_holding(scene.volume_id)),
    )


def test_every_story_is_told_and_offered() -> None:
    """The module's stories -> all are in SCENES and in the table above."""
    told = {
        name: story
        for name, story in inspect.getmembers(scenes, inspect.isfunction)
        if story.__module__ == scenes.__name__
    }
    assert dict(scenes.SCENES) == told
    assert set(STORIES) == set(told.values())


def test_uc2_attachment_has_connection_info_of_the_winner(cloud: Cloud) -> None:
    """The late first try undoes the statuses only -> the winner's connection info stays."""
    scene = scenes.uc2(cloud)
    (attachment,) = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).attachments
    assert attachment.has_connection_info


def test_guest_holds_with_compute_down(cloud: Cloud) -> None:
    """The compute died -> Nova says down until it comes back."""
    scene = scenes.guest_holds(cloud)
    look = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert look.compute_up is False
    back = scenes.compute_came_back(cloud, host="compute-7")
    look = cloud.nova.server(back.instance_id, back.volume_id, timeout_seconds=1)
    assert look.compute_up is True


def test_live_migration_names_the_destination(cloud: Cloud) -> None:
    """A migration is under way -> Nova names the destination's row, the guest is on the source."""
    scene = scenes.live_migration(cloud)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    (device,) = server.block_devices
    assert device.attachment_id != scene.attachment_id
    assert (server.host, server.task_state) == ("compute-1", "migrating")


def test_finished_migration(cloud: Cloud) -> None:
    """It ends well -> one row, the destination's; only that host is let in."""
    scene = scenes.live_migration(cloud)
    cloud.finish_migration(scene.volume_id, scene.instance_id)
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert [r.attachment_id for r in volume.attachments] == [server.block_devices[0].attachment_id]
    assert (volume.status, cloud.exported_to(scene.volume_id)) == ("in-use", (DESTINATION,))
    assert server.host == DESTINATION


def test_failed_migration(cloud: Cloud) -> None:
    """It fails cleanly -> one row, the source's, which Nova names again."""
    scene = scenes.live_migration(cloud)
    cloud.fail_migration(scene.volume_id, scene.instance_id)
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert [r.attachment_id for r in volume.attachments] == [scene.attachment_id]
    assert server.block_devices[0].attachment_id == scene.attachment_id
    assert cloud.exported_to(scene.volume_id) == ("compute-1",)


def test_failed_migration_that_names_the_wrong_attachment(cloud: Cloud) -> None:
    """Rollback with a failing terminate -> two rows; Nova names the one without the guest."""
    scene = scenes.live_migration(cloud)
    cloud.script(Fault.before("backend.terminate_connection", times=5))
    cloud.fail_migration(scene.volume_id, scene.instance_id, names_destination=True)
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    server = cloud.nova.server(scene.instance_id, scene.volume_id, timeout_seconds=1)
    assert len(volume.attachments) == 2
    assert server.block_devices[0].attachment_id != scene.attachment_id
    assert (server.host, server.task_state) == ("compute-1", None)


def test_attach_step_by_step(cloud: Cloud) -> None:
    """An attach, step by step -> reserved, attaching with access, the guest has it, in-use."""
    volume, server = cloud.create_volume(), cloud.boot_server()
    look = functools.partial(cloud.cinder.volume, volume, timeout_seconds=1)
    under_way = cloud.begin_attach(volume, server)
    assert (look().status, cloud.exported_to(volume)) == ("reserved", ())
    under_way.advance()
    assert (look().status, cloud.exported_to(volume)) == ("attaching", ("compute-1",))
    assert cloud.guests_holding(volume) == ()
    under_way.advance()
    assert cloud.guests_holding(volume) == (server,)
    assert (under_way.finish(), look().status) == (look().attachments[0].attachment_id, "in-use")


def test_failed_attach_is_cleaned_up(cloud: Cloud) -> None:
    """The backend fails all five tries -> PermanentError; available, no row, no block device."""
    volume, server = cloud.create_volume(), cloud.boot_server()
    cloud.script(Fault.before("backend.initialize_connection", times=5))
    with pytest.raises(PermanentError, match="gave up after 5 tries"):
        cloud.attach(volume, server)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"
    assert cloud.nova.server(server, volume, timeout_seconds=1).block_devices == ()
    assert cloud.attach(volume, server)


def test_columns_are_checked(cloud: Cloud) -> None:
    """A scene sets a column that does not exist -> AttributeError, not silence."""
    volume = cloud.create_volume()
    with pytest.raises(AttributeError, match="statos"):
        cloud.set_volume(volume, statos="in-use")


def test_export_that_finds_its_attachment(cloud: Cloud) -> None:
    """The backend ends its work, the row is still there -> attaching, no connection info."""
    scene = scenes.backend_still_busy(cloud)
    cloud.land_late()
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1)
    assert (volume.status, volume.attachments[0].status) == ("attaching", "attaching")
    assert not volume.attachments[0].has_connection_info
    assert cloud.exported_to(scene.volume_id) == (scene.host,)


@pytest.mark.parametrize("by_force", [False, True])
def test_export_that_comes_after_the_mend(cloud: Cloud, by_force: bool) -> None:
    """Mended while the backend is still busy -> available, then a new leak, whatever the mend."""
    scene = scenes.backend_still_busy(cloud)
    call = {"request_id": "req-ours", "timeout_seconds": 1.0}
    if by_force:
        ids = (scene.volume_id, scene.attachment_id)
        cloud.cinder.force_detach(*ids, cloud.connector(scene.host), **call)
    else:
        cloud.cinder.delete_attachment(scene.attachment_id, **call)
    assert cloud.exported_to(scene.volume_id) == ()
    cloud.land_late()
    assert cloud.cinder.volume(scene.volume_id, timeout_seconds=1).status == "available"
    assert cloud.exported_to(scene.volume_id) == (scene.host,)
