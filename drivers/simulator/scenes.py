"""The stuck attachments of the field, and healthy look-alikes, made the way they really arise.

Each function plays its story on a cloud and returns who was in it; none of the calls in it is the
service's, so the journal and the hazards stay empty. "Left:" says what a look then finds, as
Cinder's status / the backend / Nova's block device.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from drivers.errors import PermanentError
from drivers.simulator.cloud import Cloud
from drivers.simulator.faults import Fault, Landing
from drivers.simulator.state import DEFAULT_BACKEND, Guest

INITIALIZE, TERMINATE = "backend.initialize_connection", "backend.terminate_connection"


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """Who is in a scene; ``attachment_id`` is the row that it is about, perhaps gone by now."""

    volume_id: str
    instance_id: str
    attachment_id: str
    host: str


def attached(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Attach a volume, all healthy. Left: in-use / attached / present."""
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    return Scene(volume_id, instance_id, cloud.attach(volume_id, instance_id), host)


def uc1(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Fail an attach and its clean-up, the export taken away by hand. Left: attaching / - / none.

    cinder-api went away between the export and Nova's clean-up.
    """
    scene = orphaned_attach(cloud, host, backend)
    cloud.unexport(scene.volume_id, host)
    return scene


def orphaned_attach(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Fail an attach and its clean-up. Left: attaching / attached / none."""
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    under_way = cloud.begin_attach(volume_id, instance_id).advance()
    # So Nova has forgotten the volume, and Cinder still has the row.
    under_way.give_up(reaches_cinder=False)
    return Scene(volume_id, instance_id, under_way.attachment_id, host)


def uc2(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Attach with a retry that won, then the first try lands. Left: attaching / attached / present.

    The guest has the disk and is healthy; only Cinder's record went back.
    """
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    cloud.script(Fault.late(INITIALIZE, volume_id=volume_id))
    attachment_id = cloud.attach(volume_id, instance_id)
    cloud.land_late(volume_id)
    return Scene(volume_id, instance_id, attachment_id, host)


def uc3(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Delete a server whose detach hangs in the backend. Left: detaching / - / none.

    Cinder timed out each time; the backend finished afterwards.
    """
    scene = attached(cloud, host, backend)
    cloud.script(Fault.late(TERMINATE, volume_id=scene.volume_id, times=5))
    cloud.detach(scene.volume_id, scene.instance_id)
    cloud.delete_server(scene.instance_id)
    cloud.land_late(scene.volume_id)
    return scene


def uc4(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Detach with a failing backend. Left: detaching / attached / present; the disk is closed."""
    scene = attached(cloud, host, backend)
    cloud.script(Fault.before(TERMINATE, volume_id=scene.volume_id, times=5))
    cloud.detach(scene.volume_id, scene.instance_id)
    return scene


def uc5(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Time out five times in initialize_connection. Left: available / attached / none.

    Nova has cleaned up; the backend finished its work only afterwards.
    """
    scene = uc5_before_the_export(cloud, host, backend)
    cloud.land_late(scene.volume_id)
    return scene


def uc5_before_the_export(
    cloud: Cloud,
    host: str = "compute-1",
    backend: str = DEFAULT_BACKEND,
    landing: Landing | None = None,
) -> Scene:
    """Make UC5, with the five exports still to land. Left, for now: available / - / none."""
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    cloud.script(Fault.late(INITIALIZE, landing, volume_id=volume_id, times=5))
    under_way = cloud.begin_attach(volume_id, instance_id)
    with contextlib.suppress(PermanentError):
        under_way.finish()
    return Scene(volume_id, instance_id, under_way.attachment_id, host)


def backend_still_busy(
    cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND
) -> Scene:
    """Kill the compute while initialize_connection hangs. Left: reserved / - / present.

    The export is still to land: on the row, if that is there then, else as a leak.
    """
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    cloud.script(Fault.late(INITIALIZE, volume_id=volume_id, times=5))
    under_way = cloud.begin_attach(volume_id, instance_id)
    with contextlib.suppress(PermanentError):
        under_way.advance(cleans_up=False)
    return Scene(volume_id, instance_id, under_way.attachment_id, host)


def retry_won(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Attach at the second try, the first having failed. Left: in-use / attached / present."""
    volume_id, instance_id = cloud.create_volume(backend=backend), cloud.boot_server(host=host)
    cloud.script(Fault.before(INITIALIZE, volume_id=volume_id))
    return Scene(volume_id, instance_id, cloud.attach(volume_id, instance_id), host)


def live_migration(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Stop in the middle of a live migration: two rows, two hosts, one guest. All healthy.

    ``attachment_id`` is the source's row; Nova's block device names the destination's.
    """
    scene = attached(cloud, host, backend)
    cloud.begin_migration(scene.volume_id, scene.instance_id, f"{host}-destination")
    return scene


def shelved(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Shelve and offload a server. Left: reserved / - / present; healthy for months."""
    scene = attached(cloud, host, backend)
    reservation = cloud.shelve(scene.volume_id, scene.instance_id)
    return dataclasses.replace(scene, attachment_id=reservation)


def guest_holds(cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND) -> Scene:
    """Kill the compute in a detach; its guest goes on. Left: detaching / attached / present.

    The compute service stays down: the guest cannot be asked, so nothing may be done.
    """
    scene = attached(cloud, host, backend)
    cloud.detach(scene.volume_id, scene.instance_id, Guest.COMPUTE_DIES)
    return scene


def compute_came_back(
    cloud: Cloud, host: str = "compute-1", backend: str = DEFAULT_BACKEND
) -> Scene:
    """Make ``guest_holds``, then bring the compute service back: a detach can be asked again."""
    scene = guest_holds(cloud, host, backend)
    cloud.set_compute(host, up=True)
    return scene


SCENES: Mapping[str, Callable[..., Scene]] = {
    story.__name__: story
    for story in (
        attached, uc1, orphaned_attach, uc2, uc3, uc4, uc5, uc5_before_the_export,
        backend_still_busy, retry_won, live_migration, shelved, guest_holds, compute_came_back,
    )
}  # fmt: skip
