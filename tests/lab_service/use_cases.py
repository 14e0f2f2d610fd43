"""The five use cases of the 2015 specification, each provoked on the lab by faults of its parts.

Each is left as it was found in real clouds, and nobody is told but by what Cinder and Nova publish.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from consumer.demo.wire import Story
from drivers.errors import OutsideError
from handlers.case import CaseState
from tests.behaviour.ground import State
from tests.behaviour.states import call
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES, Eyes
from tests.lab_service.stage import INITIALIZE, TERMINATE, Stage

FREE = State("available", "detached")
SETTLED = (CaseState.SETTLING, CaseState.CLOSED)

DELETE, FORCE = "cinder.delete_attachment", "cinder.force_detach"
BACKEND = "backend.force_detach"
TERMINATED = ("cinder.reserve", BACKEND, "cinder.unreserve")
MENDED = ("start", "end")


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """How a scene must come out: ``before`` is what was arranged, ``after`` what is left.

    ``steps`` are those that were done, in order; ``told`` is what was announced. Where a fault
    strikes meanwhile, nobody can say how often a step is tried and what is told of that: ``told``
    is None, and the steps are those that were tried at all.
    """

    before: State
    rule: str
    steps: tuple[str, ...]
    after: State = FREE
    told: tuple[str, ...] | None = MENDED


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What is arranged while no case is worked, what happens later, and how it must end."""

    name: str
    title: str
    arrange: Callable[[Stage], Stage | None]
    expected: Callable[[Eyes, str], Expected]
    later: Callable[[Stage], None] | None = None
    eyes: tuple[Eyes, ...] = tuple(Eyes)


def _attachment(status: str, attach_status: str, attachment: str, *let_in: str) -> State:
    return State(status, attach_status, (attachment,), let_in)


def unfinished_attach(stage: Stage, *, acts: bool = True) -> None:
    """UC1: the guest did not take the disk; Nova's clean-up fails after the backend let go."""
    stage.guest_fails("attach_volume")
    stage.breaks(TERMINATE, acts=acts)
    stage.begin_attach()
    stage.nova_gave_up()
    stage.faults.clear(stage.volume_id)


def put_back_by_a_late_try(stage: Stage) -> None:
    """UC2: the first try times out, the second wins, and then the first one finishes."""
    stage.hangs(INITIALIZE)
    stage.attach()
    stage.faults.release(stage.volume_id)
    until(lambda: stage.look().status == "attaching", "the late try puts it back")


def released_but_detaching(stage: Stage) -> None:
    """UC3: the backend lets go and fails all the same; then the server is deleted, just so."""
    stage.attach()
    stage.breaks(TERMINATE, acts=True)
    stage.begin_detach()
    stage.was_called(TERMINATE)
    stage.delete_server()
    stage.faults.clear(stage.volume_id)


def detach_not_carried_out(stage: Stage) -> None:
    """UC4: the backend fails each of Nova's tries; Nova keeps its record and gives up."""
    stage.attach()
    stage.writes()
    stage.breaks(TERMINATE, times=TRIES)
    stage.begin_detach()
    stage.was_called(TERMINATE)


def deleted_with_its_login_left(stage: Stage) -> None:
    """Delete the server while the backend fails; its host's login outlives it and writes on."""
    stage.attach()
    stage.writes()
    stage.breaks(TERMINATE, times=TRIES)
    stage.delete_server()


def leaked(stage: Stage) -> None:
    """UC5: the row is deleted while the driver is busy with the first try, which then finishes."""
    given_up_while_busy(stage)
    finishes(stage)


def given_up_while_busy(stage: Stage, *, busy: int = 1) -> None:
    """Let Nova give up and delete the row while the driver is busy with so many tries."""
    stage.hangs(INITIALIZE, times=busy)
    stage.breaks(INITIALIZE)
    stage.begin_attach()
    stage.nova_gave_up()
    until(lambda: not stage.look().attachments, "Nova has cleaned up")
    stage.faults.withdraw(stage.volume_id)


def finishes(stage: Stage) -> None:
    """Let the driver finish one try: the backend lets the host in."""
    stage.faults.release(stage.volume_id, at_most=1)
    until(lambda: stage.look().let_in, "the driver has let the host in")


def finishes_after_the_first_look(stage: Stage) -> None:
    """Let the driver finish when the case was looked at and nothing was there yet."""
    until(lambda: any(c.case.attempts for c in stage.site.cases(stage.volume_id)), "it was seen")
    finishes(stage)


def finishes_after_the_mending(stage: Stage) -> None:
    """Let the driver finish the second try when what the first one left was mended."""
    stage.has_told(*MENDED)
    assert not stage.look().let_in
    finishes(stage)


def given_up_while_busy_twice(stage: Stage) -> None:
    """Let Nova give up while the driver is busy with two tries, the first of which finishes."""
    given_up_while_busy(stage, busy=2)
    finishes(stage)


def leaked_the_old_way(stage: Stage) -> None:
    """UC5 without a row: reserve, a connection that times out, unreserve; then it is made.

    That is what Nova did in 2015, and its two messages are put on the bus by hand: today's Nova
    asks for an attachment. All else is as it is.
    """
    backend = stage.site.lab.backend_name
    story = Story(stage.volume_id, stage.server_id, stage.host, backend)
    _publish(stage, story, "attach.start")
    leaked_untold(stage)
    _publish(stage, story, "attach.error", fault="MessagingTimeout")


def leaked_untold(stage: Stage) -> None:
    """Do the same, and nobody says a word: Cinder has no message for any of its three calls."""
    ground = stage.site.ground
    stage.hangs(INITIALIZE)
    ground.cinder.reserve(stage.volume_id, **call())
    with contextlib.suppress(OutsideError):
        ground.others.initialize_connection(stage.volume_id, ground.connector(stage.host))
    ground.cinder.unreserve(stage.volume_id, **call())
    finishes(stage)


def _publish(stage: Stage, story: Story, suffix: str, *, fault: str | None = None) -> None:
    message = story.nova(suffix, fault=fault)
    with stage.site.bus() as peer:
        peer.put(message.body, message.exchange, message.routing_key)


def _release(eyes: Eyes) -> tuple[str, ...]:
    return (BACKEND, DELETE) if eyes is Eyes.SEEING else (DELETE,)


SCENES: tuple[Scene, ...] = (
    Scene(
        "UC1 attach never finished",
        "the guest failed, and cleaning up did",
        unfinished_attach,
        lambda eyes, host: Expected(
            _attachment("attaching", "attaching", "attaching"), "UC1.unfinished", _release(eyes)
        ),
    ),
    Scene(
        "UC2 put back by a late try",
        "attached, then set to attaching by a first try that finished late",
        put_back_by_a_late_try,
        lambda eyes, host: Expected(
            _attachment("attaching", "attaching", "attaching", host),
            "UC2.late-first-try",
            ("cinder.complete",),
            _attachment("in-use", "attached", "attached", host),
        ),
    ),
    Scene(
        "UC3 detach never ended",
        "let go by all, and Cinder says detaching",
        released_but_detaching,
        lambda eyes, host: Expected(
            _attachment("detaching", "attached", "attached"), "UC3.released-in-nova", _release(eyes)
        ),
    ),
    Scene(
        "UC4 detach not carried out",
        "the backend failed all of Nova's tries",
        detach_not_carried_out,
        lambda eyes, host: Expected(
            _attachment("detaching", "attached", "attached", host),
            "UC4.wish-on-record",
            ("cinder.roll_detaching", "nova.detach"),
        ),
    ),
    Scene(
        "UC5 export left over",
        "the row was deleted while the driver was busy",
        leaked,
        lambda eyes, host: Expected(
            State("available", "detached", let_in=(host,)), "UC5.leaked", TERMINATED
        ),
    ),
    Scene(
        "UC5 finishing late",
        "as before, and the driver finishes after the first look",
        given_up_while_busy,
        lambda eyes, host: Expected(FREE, "UC5.leaked", TERMINATED),
        finishes_after_the_first_look,
    ),
    Scene(
        "UC5 finishing again",
        "as before, and a second try finishes after the mending",
        given_up_while_busy_twice,
        lambda eyes, host: Expected(
            State("available", "detached", let_in=(host,)),
            "UC5.leaked",
            TERMINATED * 2,
            told=MENDED * 2,
        ),
        finishes_after_the_mending,
        (Eyes.SEEING,),
    ),
    Scene(
        "deleted server's login",
        "row, access and a session that writes outlived the server",
        deleted_with_its_login_left,
        lambda eyes, host: Expected(
            _attachment("in-use", "attached", "attached", host),
            "S3.deleted-with-server",
            _release(eyes),
        ),
    ),
    Scene(
        "UC5 the old way",
        "no row at all: reserve, a connection that timed out, unreserve",
        leaked_the_old_way,
        lambda eyes, host: Expected(
            State("available", "detached", let_in=(host,)), "UC5.leaked", TERMINATED
        ),
        eyes=(Eyes.SEEING,),
    ),
    Scene(
        "UC5 the old way, untold",
        "the same without a message: the sweep finds what the backend exports",
        leaked_untold,
        lambda eyes, host: Expected(
            State("available", "detached", let_in=(host,)), "UC5.ghost", TERMINATED
        ),
        eyes=(Eyes.SEEING,),
    ),
)
