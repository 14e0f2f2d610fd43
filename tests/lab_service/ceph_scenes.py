"""UC1 to UC5 on Cinder's RBD driver, whose own detach does nothing, with clients that really write.

Each scene is played twice: with the blind driver, trusted as its operator may trust it, and with
the one that sees. What came of it is told by the disk and by Cinder, not by detachd.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence

from tests.behaviour.ground import HOSTS, State
from tests.lab.inside.faults import Fault, How, When
from tests.lab.openstack import until
from tests.lab_service import use_cases
from tests.lab_service.ceph_guests import CephGuests
from tests.lab_service.lab_site import TRIES, Eyes
from tests.lab_service.stage import INITIALIZE, TERMINATE, Stage, other_host

BLIND, SEEING = Eyes.BLIND, Eyes.SEEING_CEPH


class Outcome(enum.Enum):
    """What came of a volume. The text is for the table of docs/drivers-rbd.md."""

    FREED = "available again; the next guest writes alone"
    KEPT = "left in use; its guest writes on"
    WITHHELD = "not given away while the client writes"
    TOLD = "a person is told; Cinder had called it available before"
    UNTOLD = "nobody is told; Cinder had called it available before"
    TWO_WRITERS = "**available while a client writes: the next guest and it write at once**"


@dataclasses.dataclass(frozen=True, slots=True)
class CephScene:
    """How it comes about, while no case is worked, and what comes of it by the service's eyes.

    ``later`` lets go on what was held up, and sees how it ends.
    """

    name: str
    title: str
    arrange: Callable[[Stage, CephGuests], None]
    outcomes: Mapping[Eyes, Outcome]
    later: Callable[[Stage, CephGuests], None] | None = None

    def allows(self, outcome: Outcome, eyes: Eyes) -> bool:
        """Tell whether it may end so.

        What is withheld from others may also be freed: when the client that has it was fenced, by
        which the next guest writes alone.
        """
        expected = self.outcomes[eyes]
        return outcome is expected or (expected, outcome) == (Outcome.WITHHELD, Outcome.FREED)


def unfinished_attach(stage: Stage, guests: CephGuests) -> None:
    """UC1: the guest did not take the disk; Nova's clean-up fails."""
    use_cases.unfinished_attach(stage)


def attach_that_failed_too_late(stage: Stage, guests: CephGuests) -> None:
    """UC1: the guest has opened the image when the attach fails, and Nova forgets it."""
    fault = Fault("attach_volume", when=When.AFTER, error="NovaException", subject=stage.volume_id)
    stage.site.lab.compute_faults[stage.host].add(fault)
    stage.breaks(TERMINATE)
    stage.begin_attach()
    stage.nova_gave_up()
    guests.uses(stage.volume_id, stage.host, stays=True)
    stage.faults.clear(stage.volume_id)


def put_back_by_a_late_try(stage: Stage, guests: CephGuests) -> None:
    """UC2: the first try times out, the second wins, and then the first one finishes."""
    stage.hangs(INITIALIZE)
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    stage.faults.release(stage.volume_id)
    until(lambda: stage.look().status == "attaching", "the late try puts it back")


def retry_wins(stage: Stage, guests: CephGuests) -> None:
    """Let the backend fail once; Nova's second try goes well."""
    stage.breaks(INITIALIZE, times=1)
    stage.attach()
    guests.uses(stage.volume_id, stage.host)


def guest_refuses(stage: Stage, guests: CephGuests) -> None:
    """Let the guest refuse to let go; Nova takes the wish back."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    stage.guest_fails("detach_volume", "DeviceDetachFailed")
    stage.begin_detach()
    until(lambda: not stage.guest_faults_left(), "the guest has refused")
    until(lambda: stage.look().status == "in-use", "Nova has taken the wish back")


def migration_under_way(stage: Stage, guests: CephGuests) -> None:
    """Have a live migration wait: the guest writes, and the destination has the image open too."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    there = other_host(stage.host)
    stage.hypervisor("pre_live_migration", How.HANG, there)
    stage.site.ground.servers.begin_migrate(stage.server_id, there)
    until(lambda: stage.look().attachments == ("attached", "attaching"), "the destination's row")
    guests.opens(stage.volume_id, there, writes=0)
    assert stage.look().let_in == HOSTS


def migration_goes_on(stage: Stage, guests: CephGuests) -> None:
    """Let the destination get ready: the source lets go, and the guest writes on there."""
    there = other_host(stage.host)
    stage.lets_go(there)
    stage.becomes(State("in-use", "attached", ("attached",), (there,)))
    assert guests.first[stage.volume_id].ended() == 0
    assert guests.opens(stage.volume_id, there).makes_progress()


def released_but_detaching(stage: Stage, guests: CephGuests) -> None:
    """UC3: the guest lets go, Cinder's driver fails; then the server is deleted."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    _detach_fails_and_server_goes(stage)


def detaching_with_a_client_left(stage: Stage, guests: CephGuests) -> None:
    """UC3: the same, and the client does not end."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host, stays=True)
    _detach_fails_and_server_goes(stage)


def _detach_fails_and_server_goes(stage: Stage) -> None:
    stage.breaks(TERMINATE)
    stage.begin_detach()
    stage.was_called(TERMINATE)
    stage.delete_server()
    stage.faults.clear(stage.volume_id)


def detach_not_carried_out(stage: Stage, guests: CephGuests) -> None:
    """UC4: Cinder's driver fails each of Nova's tries; Nova keeps its record and gives up."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    stage.breaks(TERMINATE, times=TRIES)
    stage.begin_detach()
    stage.was_called(TERMINATE)


def given_up_while_busy(stage: Stage, guests: CephGuests) -> None:
    """UC5: Nova deletes the row while the driver is busy with the first try, which then ends."""
    use_cases.given_up_while_busy(stage)
    stage.faults.release(stage.volume_id)
    stage.was_called(INITIALIZE)


def given_up_with_a_client_left(stage: Stage, guests: CephGuests) -> None:
    """UC5: the same, and a client of the host has the image open."""
    given_up_while_busy(stage, guests)
    guests.uses(stage.volume_id, stage.host, stays=True)


def deleted_with_its_client_left(stage: Stage, guests: CephGuests) -> None:
    """Delete the server while Cinder's driver fails; its client outlives it and writes on."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host, stays=True)
    stage.breaks(TERMINATE, times=TRIES)
    stage.delete_server()
    stage.faults.clear(stage.volume_id)


def client_that_nobody_knows(stage: Stage, guests: CephGuests) -> None:
    """Have a client open the image of a volume that is available, without any record."""
    guests.uses(stage.volume_id, stage.host, stays=True)


def reset_while_it_writes(stage: Stage, guests: CephGuests) -> None:
    """Reset the status by hand as many do: available and detached, while the guest writes."""
    stage.attach()
    guests.uses(stage.volume_id, stage.host)
    stage.site.ground.others.reset_status(stage.volume_id, "available", "detached")


def _both(outcome: Outcome) -> Mapping[Eyes, Outcome]:
    return {BLIND: outcome, SEEING: outcome}


def _by(blind: Outcome, seeing: Outcome) -> Mapping[Eyes, Outcome]:
    return {BLIND: blind, SEEING: seeing}


SCENES: Sequence[CephScene] = (
    CephScene(
        "UC1 attach never finished",
        "the guest did not take the disk, and cleaning up failed",
        unfinished_attach,
        _both(Outcome.FREED),
    ),
    CephScene(
        "UC1 with a client left",
        "the attach failed after the guest had opened the image",
        attach_that_failed_too_late,
        _by(Outcome.TWO_WRITERS, Outcome.WITHHELD),
    ),
    CephScene(
        "UC2 put back by a late try",
        "attached, then set to attaching by a first try that finished late",
        put_back_by_a_late_try,
        _both(Outcome.KEPT),
    ),
    CephScene(
        "UC3 detach never ended",
        "let go by all, and Cinder says detaching",
        released_but_detaching,
        _both(Outcome.FREED),
    ),
    CephScene(
        "UC3 with a client left",
        "the server was deleted, and its client goes on",
        detaching_with_a_client_left,
        _by(Outcome.TWO_WRITERS, Outcome.WITHHELD),
    ),
    CephScene(
        "UC4 detach not carried out",
        "Cinder's driver failed each of Nova's tries",
        detach_not_carried_out,
        _both(Outcome.FREED),
    ),
    CephScene(
        "UC5 given up while the driver was busy",
        "nothing is left, as this backend makes nothing for an attachment",
        given_up_while_busy,
        _both(Outcome.FREED),
    ),
    CephScene(
        "UC5 with a client left",
        "the same, and a client has the image open",
        given_up_with_a_client_left,
        _by(Outcome.TWO_WRITERS, Outcome.TOLD),
    ),
    CephScene(
        "deleted server's client",
        "in-use, and a client that writes outlived the server",
        deleted_with_its_client_left,
        _by(Outcome.TWO_WRITERS, Outcome.WITHHELD),
    ),
    CephScene(
        "client that nobody knows",
        "available, no record anywhere, and no message",
        client_that_nobody_knows,
        _by(Outcome.UNTOLD, Outcome.TOLD),
    ),
    CephScene(
        "reset by hand while its guest writes",
        "available and detached by `reset-state`",
        reset_while_it_writes,
        _both(Outcome.TOLD),
    ),
    CephScene(
        "live migration",
        "two clients have the image open, and both are right",
        migration_under_way,
        _both(Outcome.KEPT),
        migration_goes_on,
    ),
    CephScene(
        "guest that refuses",
        "a detach was asked for, and the guest did not let go",
        guest_refuses,
        _both(Outcome.KEPT),
    ),
    CephScene(
        "retry that won",
        "the first try failed, the second attached it",
        retry_wins,
        _both(Outcome.KEPT),
    ),
)


def table() -> str:
    """Return the scenes with what comes of them as the table of docs/drivers-rbd.md."""
    head = ["case", "what is left", "blind (`cinder_managed`)", "seeing (`rbd`)"]
    rows = [
        [scene.name, scene.title, scene.outcomes[BLIND].value, scene.outcomes[SEEING].value]
        for scene in SCENES
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
