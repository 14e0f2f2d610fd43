"""The watch finds what endangers data, and keeps silent about what does not.

Each violation is really committed here, by the calls that a careless service would make: a watch
that finds nothing in the other tests is one that would have found it.
"""

from collections.abc import Callable

import pytest

from drivers.base import Attachment
from drivers.errors import IndeterminateError, OutsideError
from drivers.simulator import Cloud, Exporting, Fault, HazardKind, Service, scenes
from drivers.simulator.scenes import Scene

CALL = {"request_id": "req-ours", "timeout_seconds": 1.0}
LVM = "storage-2@lvm"


def kinds(cloud: Cloud) -> list[HazardKind]:
    """Return what the watch found, by kind."""
    return [h.kind for h in cloud.hazards()]


def release_on_backend(cloud: Cloud, scene: Scene) -> None:
    """Revoke the scene's host by the storage driver, as the service would."""
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    connector = cloud.connector(scene.host)
    attachment = Attachment(scene.volume_id, scene.attachment_id, scene.instance_id, connector)
    cloud.driver(ref.backend).force_detach(ref, attachment, **CALL)


def test_force_detach_under_a_running_guest_is_a_cut(cloud: Cloud) -> None:
    """The guest has the disk open, its access is taken -> HEALTHY_ACCESS_CUT, with our call."""
    release_on_backend(cloud, scenes.attached(cloud))
    (hazard,) = cloud.hazards()
    assert hazard.kind is HazardKind.HEALTHY_ACCESS_CUT
    assert (hazard.call, hazard.request_id) == ("driver.terminate_connection", "req-ours")


def test_guest_of_a_deleted_record_counts(cloud: Cloud) -> None:
    """Nova's record is gone, the guest runs on -> cutting it is a hazard still."""
    scene = scenes.attached(cloud)
    cloud.delete_server(scene.instance_id, guest_keeps_running=True)
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]


def test_stopped_guest_is_no_hazard(cloud: Cloud) -> None:
    """The guest has really stopped -> its access may be taken."""
    scene = scenes.attached(cloud)
    cloud.stop_guest(scene.instance_id)
    release_on_backend(cloud, scene)
    assert kinds(cloud) == []


@pytest.mark.parametrize("host", ["compute-1", "compute-1-destination"])
def test_neither_side_of_a_migration_may_be_cut(cloud: Cloud, host: str) -> None:
    """A live migration is under way -> cutting the source or the destination is a hazard."""
    scene = scenes.live_migration(cloud)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    attachment = Attachment(scene.volume_id, None, scene.instance_id, cloud.connector(host))
    cloud.driver().terminate_connection(ref, attachment, **CALL)
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]


def test_attach_under_way_may_not_be_cut(cloud: Cloud) -> None:
    """Nova is attaching at this moment -> cutting that host is a hazard; after it gave up, not."""
    volume, server = cloud.create_volume(), cloud.boot_server()
    under_way = cloud.begin_attach(volume, server).advance()
    scene = Scene(volume, server, under_way.attachment_id, "compute-1")
    release_on_backend(cloud, scene)
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]
    cloud.export(volume, "compute-1")
    under_way.abandon()
    release_on_backend(cloud, scene)
    assert len(cloud.hazards()) == 1


def test_backup_mapping_may_not_be_cut(cloud: Cloud) -> None:
    """A backup has the volume mapped -> terminating that mapping is a hazard."""
    volume = cloud.create_volume()
    cloud.begin_backup(volume)
    connector = cloud.connector("cinder-backup-1")
    cloud.cinder.terminate_connection(volume, connector, **CALL)
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]


def test_second_server_on_the_host_may_not_be_cut(cloud: Cloud) -> None:
    """Two servers of a multiattach volume on one host -> releasing the host cuts the other."""
    volume = cloud.create_volume(multiattach=True)
    first, second = cloud.boot_server(), cloud.boot_server()
    attachment = cloud.attach(volume, first)
    cloud.attach(volume, second)
    cloud.stop_guest(first)
    release_on_backend(cloud, Scene(volume, first, attachment, "compute-1"))
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]


def test_late_effect_of_our_call_is_ours(cloud: Cloud) -> None:
    """Our terminate timed out and lands after a re-attach -> the cut is found, and is ours."""
    scene = scenes.uc5(cloud)
    cloud.script(Fault.late("driver.terminate_connection"))
    with pytest.raises(IndeterminateError):
        release_on_backend(cloud, scene)
    cloud.attach(scene.volume_id, scene.instance_id)
    assert kinds(cloud) == []
    cloud.land_late()
    (hazard,) = cloud.hazards()
    assert hazard.kind is HazardKind.HEALTHY_ACCESS_CUT
    assert hazard.request_id == "req-ours"


def test_nova_detach_cuts_nobody(cloud: Cloud) -> None:
    """Nova's own detach, in which the guest lets go first -> no hazard."""
    scene = scenes.attached(cloud)
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)
    assert kinds(cloud) == []


def test_legacy_attachment_deleted_while_exported(cloud: Cloud) -> None:
    """A row without connector is deleted -> available while exported: RELEASED_WHILE_EXPORTED."""
    volume = cloud.create_volume()
    attachment = cloud.add_attachment(volume, "attached")
    cloud.set_status(volume, "in-use", "attached")
    cloud.export(volume, "compute-1")
    cloud.cinder.delete_attachment(attachment, **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_swallowed_remove_export_after_delete(cloud: Cloud) -> None:
    """DELETE alone, on a backend whose remove_export fails unheard -> RELEASED_WHILE_EXPORTED."""
    cloud.add_backend(LVM, Exporting.WHOLE_VOLUME)
    scene = scenes.orphaned_attach(cloud, backend=LVM)
    cloud.script(Fault.before("backend.remove_export"))
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_backend_first_then_delete_is_safe_there_too(cloud: Cloud) -> None:
    """The same, with the backend released and only then the row deleted -> no hazard."""
    cloud.add_backend(LVM, Exporting.WHOLE_VOLUME)
    scene = scenes.orphaned_attach(cloud, backend=LVM)
    release_on_backend(cloud, scene)
    cloud.script(Fault.before("backend.remove_export"))
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert cloud.cinder.volume(scene.volume_id, timeout_seconds=1).status == "available"
    assert kinds(cloud) == []


def test_stuck_session_counts_as_exported(cloud: Cloud) -> None:
    """Access is revoked but the session hangs on -> calling it available is a hazard."""
    scene = scenes.orphaned_attach(cloud)
    cloud.unexport(scene.volume_id, scene.host)
    cloud.export(scene.volume_id, scene.host, sessions=1, stuck=True)
    release_on_backend(cloud, scene)
    assert kinds(cloud) == []
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_attachment_dropped_while_its_host_stays_exported(cloud: Cloud) -> None:
    """One of two rows is deleted, its host stays exported -> a hazard though still in-use."""
    volume = cloud.create_volume(multiattach=True)
    first = cloud.attach(volume, cloud.boot_server(host="compute-1"))
    cloud.attach(volume, cloud.boot_server(host="compute-2"))
    cloud.set_attachment(first, status="reserved", has_connection_info=False)
    cloud.cinder.delete_attachment(first, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "in-use"
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_giving_back_our_own_reservation_is_no_hazard(cloud: Cloud) -> None:
    """UC5 is reserved and, nothing done, unreserved -> as we found it; no hazard."""
    scene = scenes.uc5(cloud)
    cloud.cinder.reserve(scene.volume_id, **CALL)
    cloud.cinder.unreserve(scene.volume_id, **CALL)
    assert kinds(cloud) == []
    cloud.attach(scene.volume_id, cloud.boot_server(host="compute-2"))
    assert kinds(cloud) == []


def test_giving_back_something_else_than_we_took(cloud: Cloud) -> None:
    """A second host got in while we had it reserved -> unreserving is a hazard."""
    scene = scenes.uc5(cloud)
    cloud.cinder.reserve(scene.volume_id, **CALL)
    cloud.export(scene.volume_id, "compute-2")
    cloud.cinder.unreserve(scene.volume_id, **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_unreserving_what_we_never_reserved_is_a_hazard(cloud: Cloud) -> None:
    """A volume somebody else left attaching and exported is unreserved -> a hazard."""
    volume = cloud.create_volume()
    cloud.set_status(volume, "attaching")
    cloud.export(volume, "compute-1")
    cloud.cinder.unreserve(volume, **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_terminate_of_the_wrong_host_is_a_hazard(cloud: Cloud) -> None:
    """UC5 reserved, then another host terminated -> available again while exported."""
    scene = scenes.uc5(cloud)
    cloud.cinder.reserve(scene.volume_id, **CALL)
    cloud.cinder.terminate_connection(scene.volume_id, cloud.connector("compute-9"), **CALL)
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED]


def test_second_host_after_our_release(cloud: Cloud) -> None:
    """We released it while exported, a user attaches elsewhere -> TWO_WRITERS on top."""
    scene = scenes.orphaned_attach(cloud)
    cloud.set_attachment(scene.attachment_id, status="reserved")
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    cloud.attach(scene.volume_id, cloud.boot_server(host="compute-2"))
    assert kinds(cloud) == [HazardKind.RELEASED_WHILE_EXPORTED, HazardKind.TWO_WRITERS]


def test_second_host_that_is_none_of_our_doing(cloud: Cloud) -> None:
    """UC5, nothing done by us, a user attaches elsewhere -> not ours: no hazard."""
    scene = scenes.uc5(cloud)
    cloud.attach(scene.volume_id, cloud.boot_server(host="compute-2"))
    assert cloud.exported_to(scene.volume_id) == ("compute-1", "compute-2")
    assert kinds(cloud) == []


def test_late_export_after_our_mend_is_not_ours(cloud: Cloud) -> None:
    """Mended clean, then an old attach lands late and a user attaches -> not our call's doing."""
    scene = scenes.uc5(cloud)
    release_on_backend(cloud, scene)
    cloud.export(scene.volume_id, scene.host)
    cloud.attach(scene.volume_id, cloud.boot_server(host="compute-2"))
    assert kinds(cloud) == []


def test_two_attachments_of_a_migration_are_legal(cloud: Cloud) -> None:
    """A migration begins after a call of ours on the volume -> two hosts are no hazard."""
    scene = scenes.uc2(cloud)
    cloud.cinder.complete(scene.attachment_id, **CALL)
    cloud.begin_migration(scene.volume_id, scene.instance_id, "compute-2")
    cloud.finish_migration(scene.volume_id, scene.instance_id)
    assert cloud.exported_to(scene.volume_id) == ("compute-2",)
    assert kinds(cloud) == []


def test_shelved_reservation_lost(cloud: Cloud) -> None:
    """The row that a shelved server comes back by is deleted -> RESERVATION_LOST."""
    scene = scenes.shelved(cloud)
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert kinds(cloud) == [HazardKind.RESERVATION_LOST]


def test_hazards_survive_an_error(cloud: Cloud) -> None:
    """The call acted and its answer was lost -> the hazard is found all the same."""
    scene = scenes.attached(cloud)
    cloud.script(Fault.after("driver.terminate_connection"))
    with pytest.raises(IndeterminateError):
        release_on_backend(cloud, scene)
    assert kinds(cloud) == [HazardKind.HEALTHY_ACCESS_CUT]


def mend_uc1_or_3(cloud: Cloud, scene: Scene) -> None:
    """Release the backend, then delete the row."""
    release_on_backend(cloud, scene)
    cloud.cinder.delete_attachment(scene.attachment_id, **CALL)


def mend_uc2(cloud: Cloud, scene: Scene) -> None:
    """Roll forward, then let Nova detach."""
    cloud.cinder.complete(scene.attachment_id, **CALL)
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)


def mend_uc4(cloud: Cloud, scene: Scene) -> None:
    """Roll back to in-use, then let Nova detach."""
    cloud.cinder.roll_detaching(scene.volume_id, **CALL)
    cloud.nova.detach(scene.instance_id, scene.volume_id, **CALL)


def mend_uc5(cloud: Cloud, scene: Scene) -> None:
    """Keep others out, release the backend, let them in."""
    cloud.cinder.reserve(scene.volume_id, **CALL)
    release_on_backend(cloud, scene)
    cloud.cinder.unreserve(scene.volume_id, **CALL)


@pytest.mark.parametrize(
    ("story", "mend"),
    [
        (scenes.uc1, mend_uc1_or_3),
        (scenes.orphaned_attach, mend_uc1_or_3),
        (scenes.uc2, mend_uc2),
        (scenes.uc3, mend_uc1_or_3),
        (scenes.uc4, mend_uc4),
        (scenes.compute_came_back, mend_uc4),
        (scenes.uc5, mend_uc5),
    ],
)
def test_safe_mend_leaves_no_hazard(
    cloud: Cloud, story: Callable[[Cloud], Scene], mend: Callable[[Cloud, Scene], None]
) -> None:
    """A use case mended in the safe order -> available, detached, nobody let in, no hazard."""
    scene = story(cloud)
    assert (cloud.journal, cloud.hazards()) == ((), ())
    mend(cloud, scene)
    assert cloud.statuses(scene.volume_id) == ("available", "detached")
    assert cloud.cinder.volume(scene.volume_id, timeout_seconds=1).attachments == ()
    assert cloud.exported_to(scene.volume_id) == ()
    assert kinds(cloud) == []


def test_access_log_tells_who_let_whom_in_and_out(cloud: Cloud) -> None:
    """A leak, then our mend -> let in by nobody of ours, let out by our request."""
    scene = scenes.uc5(cloud)
    release_on_backend(cloud, scene)
    told = [(c.host, c.granted, c.request_id) for c in cloud.access_log()]
    assert told == [(scene.host, True, None), (scene.host, False, "req-ours")]


@pytest.mark.parametrize("frozen", [False, True])
def test_what_cinder_does_late_for_us_is_ours(cloud: Cloud, frozen: bool) -> None:
    """Our DELETE hangs below Cinder and lands later -> the access log names our request."""
    scene = scenes.orphaned_attach(cloud)
    if frozen:
        cloud.set_service(Service.FROZEN)
    else:
        cloud.script(Fault.late("backend.terminate_connection"))
    with pytest.raises(IndeterminateError):
        cloud.cinder.delete_attachment(scene.attachment_id, **CALL)
    assert cloud.access_log()[-1].granted
    cloud.set_service(Service.UP)
    cloud.land_late()
    last = cloud.access_log()[-1]
    assert (last.granted, last.request_id) == (False, "req-ours")


def test_nova_keeps_the_other_volume_out(cloud: Cloud) -> None:
    """A user attaches what Cinder calls in-use -> refused, so no second writer arises."""
    scene = scenes.attached(cloud)
    with pytest.raises(OutsideError):
        cloud.attach(scene.volume_id, cloud.boot_server(host="compute-2"))
    assert cloud.exported_to(scene.volume_id) == (scene.host,)
