"""What is under way when something dies, and what must come of it; the blows are in test_dying."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.case import CaseState
from tests.lab.openstack import until
from tests.lab_service.arrangements import HERE, cleaned_up_by_nova, still_writes
from tests.lab_service.befalling import Victim
from tests.lab_service.playing import CUT_OFF
from tests.lab_service.situations import holds
from tests.lab_service.stage import CASE_SECONDS, INITIALIZE, TERMINATE, Stage, other_host
from tests.lab_service.use_cases import DELETE, FREE, TERMINATED

NOVA_DETACH = ("cinder.roll_detaching", "nova.detach")
RELEASE = ("backend.force_detach", DELETE)
NOBODY = ("available", (), (), ())
DOWN = ("in-flight", "B4.compute-down", "due")


# -- on a compute host ---------------------------------------------------------------------------


def detach_in_hand(stage: Stage) -> None:
    """Have the hypervisor take its time with a detach: the guest still has the disk."""
    stage.attach()
    stage.guest_hangs("detach_volume")
    stage.begin_detach()
    stage.hypervisor_hangs()


def attach_in_hand(stage: Stage) -> None:
    """Have the hypervisor take its time with an attach: the backend lets the host in."""
    stage.guest_hangs("attach_volume")
    stage.begin_attach()
    stage.hypervisor_hangs()


def cinder_at_the_detach(stage: Stage) -> None:
    """Have Cinder take its time with a detach: the guest has let go."""
    stage.attach()
    stage.hangs(TERMINATE)
    stage.begin_detach()
    until(lambda: stage.faults.hanging(stage.volume_id), "Cinder is at it")


def cinder_goes_on(stage: Stage) -> None:
    """Let Cinder end the detach; nobody is there to write it down in Nova."""
    stage.faults.release(stage.volume_id)
    stage.becomes(FREE)


def taken_for_dead(stage: Stage) -> None:
    """Wait until Nova takes the host for down; before that it asks the host and waits."""
    up = stage.site.ground.servers.is_up
    until(lambda: not up(stage.host), "Nova takes the host for down")


def attach_asked_for(stage: Stage) -> None:
    """Ask for an attach, which waits for the host when Nova has given it up and cleaned up."""
    stage.site.ground.servers.attach_in_vain(stage.volume_id, stage.server_id)


def comes_to_nova_alone(stage: Stage) -> None:
    """Wait until the host has made a block device of it, and have a person ask for a look.

    Nobody says a word of it: neither Cinder nor Nova knows that anything went wrong.
    """
    until(lambda: holds(stage)[3] == ("gone",), "the host has made a block device of it")
    stage.replay()
    until(lambda: stage.case().case.state is CaseState.PARKED, "a person has it", CASE_SECONDS)


def attached_and_writing(stage: Stage) -> None:
    """Attach it; its guest writes, whatever becomes of nova-compute."""
    stage.attach()
    stage.writes()


def deleted(stage: Stage) -> None:
    """Delete the server by nova-api alone; the backend fails, which Nova swallows."""
    taken_for_dead(stage)
    stage.breaks(TERMINATE)
    stage.delete_server()
    stage.faults.withdraw(stage.volume_id)


def nova_cleans_up(stage: Stage) -> None:
    """Wait until the nova-compute that is back has ended the guest whose server is deleted."""
    stage.becomes(FREE)
    assert stage.site.writers[stage.volume_id].ended() == CUT_OFF
    stage.reaches(CaseState.CLOSED)


def evacuated(stage: Stage) -> None:
    """Evacuate the server; ending the old host's connection fails."""
    taken_for_dead(stage)
    stage.breaks(TERMINATE)
    stage.site.ground.servers.begin_evacuate(stage.server_id, other_host(stage.host))
    stage.nova_failed("rebuild_instance")
    stage.faults.withdraw(stage.volume_id)


OF_A_COMPUTE_HOST: Sequence[Victim] = (
    Victim(
        "06 in the midst of a detach",
        detach_in_hand,
        DOWN,
        ("nova-detach", "UC4.wish-on-record", "closed"),
        NOVA_DETACH,
        NOBODY,
    ),
    Victim(
        "in the midst of an attach",
        attach_in_hand,
        DOWN,
        ("roll-forward", "UC2.attached", "closed"),
        ("cinder.complete", "nova.detach"),
        NOBODY,
    ),
    Victim(
        "while Cinder detaches",
        cinder_at_the_detach,
        DOWN,
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", (), (), ("gone",)),
        cinder_goes_on,
    ),
    Victim(
        "an attach that is asked for meanwhile",
        cleaned_up_by_nova,
        ("clean", "C1.nothing-left", "closed"),
        ("park", "P6.guest-holds", "parked"),
        (),
        ("available", (), (), ("gone",)),
        attach_asked_for,
        comes_to_nova_alone,
    ),
    Victim(
        "16 its server is deleted",
        attached_and_writing,
        ("park", "P5.server-deleted", "parked"),
        ("park", "P5.server-deleted", "closed"),
        (),
        NOBODY,
        deleted,
        nova_cleans_up,
        still_writes,
    ),
    Victim(
        "17 its server cannot be evacuated",
        Stage.attach,
        DOWN,
        ("park", "P9.unfinished-sibling", "parked"),
        (),
        ("in-use", ("attached", "reserved"), (HERE,), ("attached",)),
        evacuated,
    ),
    Victim(
        "a detach that is asked for meanwhile",
        Stage.attach,
        DOWN,
        ("clean", "C1.nothing-left", "closed"),
        (),
        NOBODY,
        Stage.begin_detach,
    ),
)

# -- behind cinder-volume ------------------------------------------------------------------------


def driver_has_let_in(stage: Stage) -> None:
    """Have the driver let the host in and then take its time to say so."""
    stage.hangs(INITIALIZE, acts=True)
    stage.begin_attach()
    until(lambda: stage.look().let_in, "the driver has let the host in")


def driver_has_let_go(stage: Stage) -> None:
    """Have the driver shut the host out and then take its time to say so."""
    stage.attach()
    stage.hangs(TERMINATE, acts=True)
    stage.begin_detach()
    until(lambda: not stage.look().let_in, "the driver has shut the host out")


def nova_gives_the_attach_up(stage: Stage) -> None:
    """Wait until Nova has cleaned up, for which Cinder's API alone is enough."""
    stage.nova_gave_up()
    until(lambda: not stage.look().attachments, "Nova has cleaned up")


def nova_gives_the_detach_up(stage: Stage) -> None:
    """Wait until Nova has failed."""
    stage.nova_failed("detach_volume")


OF_CINDER_VOLUME: Sequence[Victim] = (
    Victim(
        "19 when the driver has let the host in",
        driver_has_let_in,
        None,
        ("terminate", "UC5.leaked", "closed"),
        TERMINATED,
        NOBODY,
        nova_gives_the_attach_up,
    ),
    Victim(
        "when the driver has shut the host out",
        driver_has_let_go,
        None,
        ("nova-detach", "UC4.wish-on-record", "closed"),
        NOVA_DETACH,
        NOBODY,
        nova_gives_the_detach_up,
    ),
)

# -- behind cinder-api ---------------------------------------------------------------------------


def guest_takes_the_disk(stage: Stage) -> None:
    """Let Nova's last call fail, by which the attach would be complete, and its clean-up too."""
    stage.lets_go(stage.host)
    stage.nova_gave_up()


OF_CINDER_API: Sequence[Victim] = (
    Victim(
        "03 when the guest takes the disk",
        attach_in_hand,
        ("unknown", "X1.cinder-unknown", "due"),
        ("release", "UC1.unfinished", "closed"),
        RELEASE,
        NOBODY,
        guest_takes_the_disk,
    ),
)
