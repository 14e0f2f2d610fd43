"""How each situation of ``situations.py`` comes about on the lab, by its own services' faults."""

from __future__ import annotations

import dataclasses
import uuid

from handlers.announcement import Event
from handlers.case import CaseState, Priority
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS, State
from tests.lab.inside.faults import How
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES
from tests.lab_service.stage import INITIALIZE, TERMINATE, Stage, other_host
from tests.lab_service.use_cases import unfinished_attach

HERE, THERE = HOSTS
CONFIRMED = 2  # looks
SECOND_HALF = 8192  # in blocks; each writer has its own


def retry_wins(stage: Stage) -> None:
    """Let the backend fail once; Nova's second try goes well."""
    stage.breaks(INITIALIZE, times=1)
    stage.attach()


def cleaned_up_by_nova(stage: Stage) -> None:
    """Let the guest not take the disk; Nova deletes the attachment."""
    stage.guest_fails("attach_volume")
    stage.begin_attach()
    stage.nova_gave_up()


def guest_refuses(stage: Stage) -> None:
    """Let the guest refuse; Nova takes the wish back."""
    stage.attach()
    stage.guest_fails("detach_volume", "DeviceDetachFailed")
    stage.begin_detach()
    until(lambda: not stage.guest_faults_left(), "the guest has refused")
    until(lambda: stage.look().status == "in-use", "Nova has taken the wish back")


def destination_times_out(stage: Stage) -> None:
    """Migrate; the destination's connection times out and is made late, when Nova has given up."""
    stage.attach()
    stage.hangs(INITIALIZE)
    stage.migrate(other_host(stage.host))
    stage.faults.release(stage.volume_id)
    until(lambda: len(stage.look().let_in) == 2, "the destination is let in")


def migration_under_way(stage: Stage) -> None:
    """Have a live migration wait for its destination, where the volume is connected already."""
    stage.attach()
    stage.hypervisor("pre_live_migration", How.HANG, other_host(stage.host))
    stage.site.ground.servers.begin_migrate(stage.server_id, other_host(stage.host))
    until(lambda: len(stage.look().let_in) == 2, "the destination is let in")


def migration_goes_on(stage: Stage) -> None:
    """Let the destination get ready: the server moves, and its volume with it."""
    stage.lets_go(other_host(stage.host))
    stage.becomes(State("in-use", "attached", ("attached",), (other_host(stage.host),)))


def destination_fails(stage: Stage) -> None:
    """Migrate; connecting the destination fails, and Cinder's clean-up drops the whole target."""
    stage.attach()
    stage.breaks(INITIALIZE, times=1)
    stage.migrate(other_host(stage.host))


def migration_undone_badly(stage: Stage) -> None:
    """Migrate; the destination fails, and undoing fails too: Nova goes on naming its row."""
    stage.attach()
    stage.breaks(TERMINATE)
    stage.hypervisor("pre_live_migration", host=other_host(stage.host))
    stage.migrate(other_host(stage.host))
    stage.faults.withdraw(stage.volume_id)


def source_attachment_stays(stage: Stage) -> None:
    """Migrate; the source's row cannot be deleted, and Nova goes on."""
    stage.attach()
    stage.breaks(TERMINATE, times=TRIES)
    stage.migrate(other_host(stage.host))


def shelved(stage: Stage) -> None:
    """Shelve and offload: a reserved row, by which the server gets its volume back."""
    stage.attach()
    stage.site.ground.servers.shelve(stage.server_id)


def shelving_broken_off(stage: Stage) -> None:
    """Shelve; the guest is ended and the backend lets nobody go, so that Nova breaks off."""
    stage.attach()
    stage.breaks(TERMINATE)
    stage.site.ground.servers.begin_shelve(stage.server_id)
    stage.nova_failed("shelve_offload_instance")
    stage.faults.withdraw(stage.volume_id)


def unshelving_broken_off(stage: Stage) -> None:
    """Shelve, bring back, and fail to start the guest."""
    shelved(stage)
    stage.hypervisor("spawn", host=HERE)
    stage.hypervisor("spawn", host=THERE)
    stage.site.ground.servers.begin_unshelve(stage.server_id)
    stage.nova_failed("unshelve_instance")


def boot_in_vain(stage: Stage) -> Stage:
    """Boot another server with the volume; its guest does not start, and Nova cleans up well.

    All that began has ended, as far as Cinder tells; so a person asks for a look.
    """
    server_id = stage.site.ground.servers.boot_in_vain(stage.host, stage.volume_id)
    stage.reaches(CaseState.CLOSED)
    stage.replay()
    return dataclasses.replace(stage, server_id=server_id)


def detach_hangs(stage: Stage) -> None:
    """Let each of Nova's tries to detach time out; the backend carries them out late."""
    stage.attach()
    stage.hangs(TERMINATE, times=TRIES)
    stage.begin_detach()
    stage.nova_failed("detach_volume")
    stage.faults.release(stage.volume_id)
    until(lambda: not stage.look().let_in, "the backend has let go")


def second_of_two_fails(stage: Stage) -> None:
    """Attach one server on another host well, and this one not; cleaning up fails too."""
    _attached_elsewhere(stage, other_host(stage.host))
    unfinished_attach(stage, acts=False)


def second_on_one_host_fails(stage: Stage) -> None:
    """Do the same on one host, whose connection both use."""
    _attached_elsewhere(stage, stage.host)
    unfinished_attach(stage, acts=False)


def _attached_elsewhere(stage: Stage, host: str) -> None:
    servers = stage.site.ground.servers
    assert servers.attach(stage.volume_id, servers.shared(host))


def second_of_two_hangs(stage: Stage) -> None:
    """Do the same; each try times out, Nova cleans up, and then the backend lets the host in."""
    _attached_elsewhere(stage, other_host(stage.host))
    stage.hangs(INITIALIZE, times=TRIES)
    _attach_that_nova_gives_up(stage)
    stage.faults.release(stage.volume_id)
    until(lambda: stage.look().let_in == HOSTS, "both are let in")


def second_of_two_shuts_out_the_first(stage: Stage) -> None:
    """Do the same; the backend fails, and Cinder's clean-up drops the whole target."""
    _attached_elsewhere(stage, other_host(stage.host))
    stage.breaks(INITIALIZE, times=TRIES)
    _attach_that_nova_gives_up(stage)


def _attach_that_nova_gives_up(stage: Stage) -> None:
    stage.begin_attach()
    stage.nova_gave_up()
    until(lambda: stage.look().attachments == ("attached",), "Nova has cleaned up")


def attached_again_by_the_user(stage: Stage) -> None:
    """Fail an attach; before anybody looks the user has attached it to another server."""
    cleaned_up_by_nova(stage)
    _attached_elsewhere(stage, other_host(stage.host))


def half_reset(stage: Stage) -> None:
    """Reset the status alone, by hand: available, while the guest writes."""
    guest_refuses(stage)
    stage.writes()
    stage.site.ground.others.reset_status(stage.volume_id, "available")


def reset_while_it_writes(stage: Stage) -> None:
    """Reset the status by hand as many do: available and detached, while the guest writes."""
    stage.attach()
    stage.writes()
    stage.site.ground.others.reset_status(stage.volume_id, "available", "detached")


def volume_deleted(stage: Stage) -> None:
    """Fail an attach cleanly, then delete the volume."""
    cleaned_up_by_nova(stage)
    stage.site.ground.delete_volume(stage.volume_id)


def in_maintenance(stage: Stage) -> None:
    """Keep a half-attached volume in maintenance: Cinder refuses after it has terminated."""
    unfinished_attach(stage)
    stage.site.ground.others.reset_status(stage.volume_id, "maintenance")


def server_of_another_nova(stage: Stage) -> None:
    """Have a client that is not this Nova begin an attach, and its host use the disk."""
    _attaching_by_another_client(stage, stage.host)
    stage.writes()


def _attaching_by_another_client(stage: Stage, host: str) -> None:
    """Write an instance into Cinder's row of which this Nova never heard."""
    others = stage.site.ground.others
    attachment = others.create_attachment(stage.volume_id, str(uuid.uuid4()))
    others.update_attachment(attachment, stage.site.ground.connector(host))


def still_writes(stage: Stage) -> None:
    """See that the host which had the disk goes on writing in its one session."""
    writer = stage.site.writers[stage.volume_id]
    assert writer.makes_progress()
    assert writer.counts().logins == 1


def two_hosts_write(stage: Stage) -> None:
    """Reset an attachment by hand, its guest writing on, and let another host have the volume too.

    Nova itself refuses that while a block device of its own has it; another client does not ask.
    """
    stage.attach()
    stage.writes()
    stage.site.ground.others.reset_status(stage.volume_id, "available", "detached")
    _attaching_by_another_client(stage, other_host(stage.host))
    second = stage.log_in(other_host(stage.host), first_block=SECOND_HALF).logged_in()
    assert second.makes_progress()
    stage.site.second_writers[stage.volume_id] = second


def both_still_write(stage: Stage) -> None:
    """See that neither host was cut off, that the guest has its disk, and what a person is told."""
    still_writes(stage)
    second = stage.site.second_writers[stage.volume_id]
    assert second.makes_progress()
    assert second.counts().logins == 1
    assert stage.server_id in stage.site.ground.servers.holding(stage.volume_id)
    _told_of_both(stage)


def _told_of_both(stage: Stage) -> None:
    """See that it is told as critical, at once, with all that is on the volume, and alerts.

    Each of the two attachments has a case of its own, of which the reset one's is the first.
    """
    said = stage.site.said(stage.volume_id)
    assert {(s.event_type, s.priority) for s in said} == {(Event.PARKED.value, Priority.ERROR)}
    told = said[0]
    volume = stage.site.ground.cinder.volume(stage.volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert volume is not None
    (row,) = volume.attachments
    named = (*HOSTS, stage.server_id, row.attachment_id, row.instance_id)
    reason = str(told.payload["reason"])
    assert reason.startswith("critical: ")
    assert [name for name in named if str(name) not in reason] == []
    assert told.payload["attempts"] <= CONFIRMED, "told at once"
    assert stage.site.metric("detachd_cases_parked_total", rule="P15.two-writers") >= 1
