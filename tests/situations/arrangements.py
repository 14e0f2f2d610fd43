"""Thirty situations in which a volume is stuck, or only looks so: how each comes about.

The numbers are those of the tests. Each is arranged as it really arises, through the simulated
Cinder, Nova and backend, and returns what the bus tells of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from consumer.demo import scenes
from consumer.demo.scenes import Stage
from consumer.demo.wire import Message, SentAttachment
from drivers.simulator import Fault, Guest, Service
from tests.situations import telling

INITIALIZE, TERMINATE = "backend.initialize_connection", "backend.terminate_connection"


def slow_initialize_retry_wins(stage: Stage) -> Sequence[Message]:
    """Let the backend fail once; the second try goes well."""
    stage.cloud.script(Fault.before(INITIALIZE, volume_id=stage.volume_id))
    return telling.attach_ends(stage, stage.attached(), tries=2)


uc5_modern_leak = scenes.leaked_by_a_timeout


def attach_and_cleanup_fail(stage: Stage) -> Sequence[Message]:
    """Take cinder-api away in the midst of the attach, so that Nova cannot clean up."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up(reaches_cinder=False)
    return telling.attach_fails(stage, attach.attachment_id)


def finished_late_and_cleaned_up(stage: Stage) -> Sequence[Message]:
    """Let the attach get through and the guest not take the disk; Nova deletes the attachment."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up()
    return telling.attach_cleaned_up(stage, attach.attachment_id)


def detach_terminate_fails(stage: Stage) -> Sequence[Message]:
    """Let the guest let go and the backend fail five times; Nova keeps its record."""
    attachment_id = stage.attached()
    stage.cloud.script(Fault.before(TERMINATE, volume_id=stage.volume_id, times=5))
    stage.cloud.detach(stage.volume_id, stage.instance_id)
    return telling.detach_fails(stage, attachment_id, tries=5)


def compute_dies_after_begin_detaching(stage: Stage) -> Sequence[Message]:
    """Let the compute die with the wish in hand; its guest runs on, and nobody says a word."""
    stage.attached()
    stage.cloud.detach(stage.volume_id, stage.instance_id, Guest.COMPUTE_DIES)
    return ()


def guest_refuses(stage: Stage) -> Sequence[Message]:
    """Let the guest refuse; Nova takes the wish back."""
    attachment_id = stage.attached()
    stage.cloud.detach(stage.volume_id, stage.instance_id, Guest.REFUSES)
    return telling.detach_fails(stage, attachment_id, tries=0, fault="DeviceDetachFailed")


def live_migration_under_way(stage: Stage) -> Sequence[Message]:
    """Be in the midst of a live migration: two rows of one server, both right."""
    stage.attached()
    to = f"{stage.host}-destination"
    attachment = stage.cloud.begin_migration(stage.volume_id, stage.instance_id, to)
    return telling.attachment_begins(stage, attachment, to)


def live_migration_destination_times_out(stage: Stage) -> Sequence[Message]:
    """Let the destination time out and finish late; Nova, which has rolled back, knows nothing."""
    cloud = stage.cloud
    stage.attached()
    to = f"{stage.host}-destination"
    stray = cloud.add_attachment(stage.volume_id, "attaching", stage.instance_id, host=to)
    cloud.set_status(stage.volume_id, "attaching", "attaching")
    cloud.export(stage.volume_id, to)
    return telling.attachment_begins(stage, stray, to)


def live_migration_source_attachment_stays(stage: Stage) -> Sequence[Message]:
    """Move the guest; deleting the source's row fails, and Nova goes on."""
    cloud, source = stage.cloud, stage.attached()
    to = f"{stage.host}-destination"
    moved = cloud.begin_migration(stage.volume_id, stage.instance_id, to)
    cloud.script(Fault.before(TERMINATE, volume_id=stage.volume_id, times=5))
    cloud.finish_migration(stage.volume_id, stage.instance_id)
    destination = SentAttachment(moved, "attached", cloud.connector(to))
    return telling.attachment_goes(stage, source, destination, tries=5)


def shelved(stage: Stage) -> Sequence[Message]:
    """Shelve and offload: a reserved row, by which the server gets its volume back."""
    stage.attached()
    stage.cloud.shelve(stage.volume_id, stage.instance_id)
    return ()


def unshelve_breaks_off(stage: Stage) -> Sequence[Message]:
    """Begin to unshelve: the row attaching and exported to the new host, and no task goes on."""
    cloud = stage.cloud
    stage.attached()
    attachment = cloud.shelve(stage.volume_id, stage.instance_id)
    cloud.set_server(stage.instance_id, vm_state="shelved_offloaded", host=stage.host)
    cloud.set_attachment(attachment, status="attaching", connector=cloud.connector(stage.host))
    cloud.set_status(stage.volume_id, "attaching", "attaching")
    cloud.export(stage.volume_id, stage.host)
    return telling.attachment_begins(stage, attachment)


def boot_from_volume_fails(stage: Stage) -> Sequence[Message]:
    """Fail a build, cleaned up; the ERROR server keeps the record of a row that is gone."""
    cloud, attachment = stage.cloud, stage.attached()
    cloud.guest_lets_go(stage.instance_id, stage.volume_id)
    cloud.unexport(stage.volume_id, stage.host)
    cloud.drop_attachment(attachment)
    cloud.set_status(stage.volume_id, "available", "detached")
    cloud.stop_guest(stage.instance_id)
    cloud.set_server(
        stage.instance_id, vm_state="error", launched=False, host=None, guest_host=None
    )
    return telling.attachment_begins(stage, attachment)


def server_deleted_while_detach_fails(stage: Stage) -> Sequence[Message]:
    """Delete the server; Nova swallows Cinder's errors, and the row stays, exported."""
    attachment_id = stage.attached()
    stage.cloud.delete_server(stage.instance_id)
    return telling.attachment_goes(stage, attachment_id, tries=5)


def server_deleted_with_compute_down(stage: Stage) -> Sequence[Message]:
    """Delete the server while its compute is down: the guest runs on, and nobody can ask."""
    attachment_id = stage.attached()
    stage.cloud.set_compute(stage.host, up=False)
    stage.cloud.delete_server(stage.instance_id, guest_keeps_running=True)
    return telling.attachment_goes(stage, attachment_id)


def evacuated_old_host_left(stage: Stage) -> Sequence[Message]:
    """Evacuate the server; the dead host's row cannot be deleted."""
    cloud, old = stage.cloud, stage.attached()
    to = f"{stage.host}-other"
    cloud.set_compute(stage.host, up=False)
    cloud.stop_guest(stage.instance_id)
    new = cloud.add_attachment(stage.volume_id, "attached", stage.instance_id, host=to)
    cloud.export(stage.volume_id, to)
    cloud.drop_block_device(stage.instance_id, stage.volume_id)
    cloud.add_block_device(stage.instance_id, stage.volume_id, new)
    cloud.set_server(stage.instance_id, host=to, guest_host=to, guest_running=True)
    return telling.attachment_goes(stage, old, tries=5)


def cinder_volume_down(stage: Stage) -> Sequence[Message]:
    """Take cinder-volume down: every call is dropped after its timeout, Nova's clean-up too."""
    cloud = stage.cloud
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id)
    cloud.set_service(Service.DOWN, BACKENDS[cinder_volume_down])
    attach.give_up(reaches_cinder=False)
    return telling.attach_fails(stage, attach.attachment_id)


def cinder_volume_crashes_in_the_call(stage: Stage) -> Sequence[Message]:
    """Let cinder-volume die when its driver has exported: the row still says reserved."""
    cloud = stage.cloud
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id)
    attach.give_up(reaches_cinder=False)
    cloud.export(stage.volume_id, stage.host)
    return telling.attach_fails(stage, attach.attachment_id)


def multiattach_second_fails(stage: Stage) -> Sequence[Message]:
    """Attach one server well and a second not: Cinder says attaching of both."""
    cloud = stage.cloud
    cloud.set_volume(stage.volume_id, multiattach=True)
    healthy = cloud.boot_server(host=f"{stage.host}-other")
    cloud.attach(stage.volume_id, healthy)
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up(reaches_cinder=False)
    return telling.attach_fails(stage, attach.attachment_id)


def multiattach_same_host_twice(stage: Stage) -> Sequence[Message]:
    """Attach two servers of one host, which share its connection; the second breaks off."""
    cloud = stage.cloud
    cloud.set_volume(stage.volume_id, multiattach=True)
    cloud.attach(stage.volume_id, cloud.boot_server(host=stage.host))
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up(reaches_cinder=False)
    return telling.attach_fails(stage, attach.attachment_id)


def encrypted_key_cannot_be_had(stage: Stage) -> Sequence[Message]:
    """Connect, then lack the key of an encrypted volume; Nova cleans up well."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up()
    return telling.attach_cleaned_up(stage, attach.attachment_id)


def in_use_migration(stage: Stage) -> Sequence[Message]:
    """Retype the volume under its server: rows come and go, and it is Cinder's business."""
    attachment_id = stage.attached()
    stage.cloud.set_volume(stage.volume_id, status="retyping", migration_status="migrating")
    return telling.attachment_goes(stage, attachment_id)


def backup(stage: Stage) -> Sequence[Message]:
    """Back the volume up, mapped to a Cinder host, after an attach that failed cleanly."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up()
    stage.cloud.begin_backup(stage.volume_id)
    return telling.attach_cleaned_up(stage, attach.attachment_id)


def attached_again_by_the_user(stage: Stage) -> Sequence[Message]:
    """Fail an attach; before anybody looks the user has attached it to another server."""
    cloud = stage.cloud
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up()
    told = telling.attach_cleaned_up(stage, attach.attachment_id)
    cloud.attach(stage.volume_id, cloud.boot_server(host=f"{stage.host}-other"))
    return told


def duplicated_and_reordered(stage: Stage) -> Sequence[Message]:
    """Tell of a healthy attach twice and in any order."""
    told = telling.attach_ends(stage, stage.attached(), tries=2)
    return random.Random(26).sample(told * 2, len(told) * 2)


def half_reset(stage: Stage) -> Sequence[Message]:
    """Reset the status alone, by hand: available, while the guest writes."""
    attachment_id = stage.attached()
    stage.cloud.set_status(stage.volume_id, "available")
    return telling.detach_fails(stage, attachment_id, tries=0)


def legacy_attachment(stage: Stage) -> Sequence[Message]:
    """Attach as before Cinder had attachment ids: Nova's record names none. A guest refuses."""
    cloud, attachment = stage.cloud, stage.attached()
    cloud.drop_block_device(stage.instance_id, stage.volume_id)
    cloud.add_block_device(stage.instance_id, stage.volume_id, None)
    cloud.set_attachment(
        attachment, connector=None, has_connection_info=False, attached_host=stage.host
    )
    return telling.detach_fails(stage, attachment, tries=0, fault="DeviceDetachFailed")


def volume_deleted(stage: Stage) -> Sequence[Message]:
    """Fail an attach cleanly, then delete the volume."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id)
    attach.give_up()
    told = telling.attach_fails(stage, attach.attachment_id)
    stage.cloud.delete_volume(stage.volume_id)
    return [*told, *telling.volume_deleted(stage)]


def in_maintenance(stage: Stage) -> Sequence[Message]:
    """Keep a half-attached volume in maintenance: Cinder refuses after it has terminated."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.give_up(reaches_cinder=False)
    stage.cloud.set_status(stage.volume_id, "maintenance")
    return telling.attach_fails(stage, attach.attachment_id)


def remove_export_swallowed(stage: Stage) -> Sequence[Message]:
    """End a detach for everybody but the backend, whose failure is only logged."""
    attachment_id = stage.attached()
    cloud = stage.cloud
    cloud.guest_lets_go(stage.instance_id, stage.volume_id)
    cloud.drop_block_device(stage.instance_id, stage.volume_id)
    cloud.drop_attachment(attachment_id)
    cloud.set_status(stage.volume_id, "available", "detached")
    return ()


BACKENDS = {cinder_volume_down: "storage-down@tgt"}
"""Situations that befall a whole backend, and so have one of their own."""

ALL = (
    slow_initialize_retry_wins,
    uc5_modern_leak,
    attach_and_cleanup_fail,
    finished_late_and_cleaned_up,
    detach_terminate_fails,
    compute_dies_after_begin_detaching,
    remove_export_swallowed,
    guest_refuses,
    live_migration_under_way,
    live_migration_destination_times_out,
    live_migration_source_attachment_stays,
    shelved,
    unshelve_breaks_off,
    boot_from_volume_fails,
    server_deleted_while_detach_fails,
    server_deleted_with_compute_down,
    evacuated_old_host_left,
    cinder_volume_down,
    cinder_volume_crashes_in_the_call,
    multiattach_second_fails,
    multiattach_same_host_twice,
    encrypted_key_cannot_be_had,
    in_use_migration,
    backup,
    attached_again_by_the_user,
    duplicated_and_reordered,
    half_reset,
    legacy_attachment,
    volume_deleted,
    in_maintenance,
)
