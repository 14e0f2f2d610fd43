"""What recovery is tried on: how each comes about on the simulated cloud, and how it must end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from drivers.errors import PermanentError
from drivers.simulator import Cloud, Fault, scenes
from drivers.simulator.scenes import TERMINATE, Scene
from handlers.case import Grounds, Intent, StepKind, StepResult
from handlers.judgement.rule import Verdict
from handlers.notification import Operation
from tests.unit.handlers.judgement.pictures import OPENED_AT
from tests.unit.handlers.recovery.trial import Trial

ATTACH, DETACH = Operation.ATTACH, Operation.DETACH
TERMINATE_STEPS = ["cinder.reserve", "backend.force_detach", "cinder.unreserve"]
RELEASE_STEPS = ["backend.force_detach", "cinder.delete_attachment"]
NOVA_STEPS = ["cinder.roll_detaching", "nova.detach"]


@contextlib.contextmanager
def named(*words: str) -> Iterator[None]:
    """Say of which of many trials it was that one failed."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the trial: {', '.join(words)}")
        raise


@dataclasses.dataclass(frozen=True)
class Stuck:
    """A stuck attachment: its story, its case, and how all three sides must be in the end."""

    name: str
    story: Callable[[Cloud], Scene]
    operation: Operation
    rule: str
    steps: list[str]
    status: str
    hosts: tuple[str, ...] = ()
    devices: int = 0
    facts: tuple[tuple[str, Any], ...] = ()
    before_the_crash: StepKind | None = None

    def trial(self, cloud: Cloud) -> Trial:
        """Play the story and open the case; what a crash left behind is on its record."""
        scene = self.story(cloud)
        facts = dict(self.facts)
        if kind := self.before_the_crash:
            attachment = scene.attachment_id
            why = Grounds(Verdict.RELEASE.value, self.rule, None)
            made = Intent(kind, StepResult.DONE, "req-before", 1, attachment, OPENED_AT, why)
            facts |= {"intents": (made,), "attempts": 1}
        return Trial(scene, self.operation, **facts)

    @property
    def steps_left(self) -> list[str]:
        """The steps that are made after the crash, all without one."""
        return self.steps[1:] if self.before_the_crash else self.steps

    def assert_recovered(self, cloud: Cloud, trial: Trial) -> None:
        """Fail unless all three sides are as they must be."""
        volume = cloud.cinder.volume(trial.case.volume_id, timeout_seconds=1)
        server = cloud.nova.server(
            trial.case.instance_id or "", trial.case.volume_id, timeout_seconds=1
        )
        assert volume is not None
        assert volume.status == self.status
        assert cloud.exported_to(trial.case.volume_id) == self.hosts
        assert len(server.block_devices if server else ()) == self.devices


def released_in_nova(cloud: Cloud) -> Scene:
    """Make UC3 with the server living: Nova let go, Cinder was not told, access is left."""
    scene = scenes.attached(cloud)
    cloud.begin_detaching(scene.volume_id)
    cloud.guest_lets_go(scene.instance_id, scene.volume_id)
    cloud.drop_block_device(scene.instance_id, scene.volume_id)
    return scene


def stray_destination(cloud: Cloud) -> Scene:
    """Time out on a live migration's destination, which finishes late: l4."""
    scene = scenes.attached(cloud)
    attachment = cloud.add_attachment(
        scene.volume_id, "attaching", scene.instance_id, host="compute-2"
    )
    cloud.export(scene.volume_id, "compute-2")
    cloud.set_status(scene.volume_id, "attaching", "attaching")
    return dataclasses.replace(scene, attachment_id=attachment, host="compute-2")


def left_on_source(cloud: Cloud) -> Scene:
    """Migrate well, but fail to end the source's connection: l5."""
    scene = scenes.attached(cloud)
    cloud.begin_migration(scene.volume_id, scene.instance_id, "compute-2")
    cloud.script(Fault.before(TERMINATE, volume_id=scene.volume_id, times=5))
    cloud.finish_migration(scene.volume_id, scene.instance_id)
    return scene


def deleted_while_failing(cloud: Cloud) -> Scene:
    """Delete the server while the backend fails; Nova swallows it, the row stays, exported: k3."""
    scene = scenes.attached(cloud)
    cloud.delete_server(scene.instance_id)
    return scene


def deleted_while_detaching(cloud: Cloud) -> Scene:
    """Delete the server whose detach the backend failed before: k."""
    scene = scenes.uc4(cloud)
    cloud.delete_server(scene.instance_id)
    return scene


def leaked_beside(cloud: Cloud) -> Scene:
    """Hang in the second attach of a multiattach volume: n4."""
    volume_id = cloud.create_volume(multiattach=True)
    cloud.attach(volume_id, cloud.boot_server(host="compute-2"))
    server = cloud.boot_server(host="compute-1")
    cloud.script(Fault.late(scenes.INITIALIZE, volume_id=volume_id, times=5))
    attach = cloud.begin_attach(volume_id, server)
    with contextlib.suppress(PermanentError):
        attach.finish()
    cloud.land_late(volume_id)
    return Scene(volume_id, server, attach.attachment_id, "compute-1")


def held(cloud: Cloud) -> Scene:
    """Make UC5, reserved by us in an attempt that crashed."""
    scene = scenes.uc5(cloud)
    cloud.cinder.reserve(scene.volume_id, request_id="req-before", timeout_seconds=1)
    return scene


def rolled(cloud: Cloud) -> Scene:
    """Make UC4, rolled back by us in an attempt that crashed."""
    scene = scenes.compute_came_back(cloud)
    cloud.cinder.roll_detaching(scene.volume_id, request_id="req-before", timeout_seconds=1)
    return scene


def reserved_without_attachment(cloud: Cloud) -> Scene:
    """Reserve the old way and connect, then nothing: UC1 as it was in 2015."""
    volume_id, server = cloud.create_volume(), cloud.boot_server()
    cloud.set_status(volume_id, "attaching")
    cloud.export(volume_id, "compute-1")
    return Scene(volume_id, server, "unknown", "compute-1")


def ghost(cloud: Cloud) -> Scene:
    """Export an available volume to a compute host that has a server, and tell nobody."""
    volume_id, server = cloud.create_volume(), cloud.boot_server()
    cloud.export(volume_id, "compute-1")
    return Scene(volume_id, server, "unknown", "compute-1")


def held_ghost(cloud: Cloud) -> Scene:
    """Make a ghost, reserved by us in an attempt that crashed."""
    scene = ghost(cloud)
    cloud.cinder.reserve(scene.volume_id, request_id="req-before", timeout_seconds=1)
    return scene


def overwritten(cloud: Cloud) -> Scene:
    """Let a detach fail when the host is shut out, and the attach's first try end late."""
    scene = scenes.uc4(cloud)
    cloud.unexport(scene.volume_id, scene.host)
    cloud.set_status(scene.volume_id, "attaching", "attaching")
    cloud.set_attachment(scene.attachment_id, status="attaching")
    return scene


NOBODY_S = (("attachment_id", None), ("instance_id", None))

STUCK: tuple[Stuck, ...] = (
    Stuck("UC1", scenes.orphaned_attach, ATTACH, "UC1.unfinished", RELEASE_STEPS, "available"),
    Stuck("UC1, clean", scenes.uc1, ATTACH, "UC1.unfinished", RELEASE_STEPS, "available"),
    Stuck(
        "UC1, no row", reserved_without_attachment, ATTACH, "UC1.bare-reserve",
        ["backend.force_detach", "cinder.unreserve"], "available",
        facts=(("attachment_id", None),),
    ),
    Stuck(
        "UC2", scenes.uc2, ATTACH, "UC2.attached", ["cinder.complete"], "in-use", ("compute-1",), 1
    ),
    Stuck("UC3", released_in_nova, DETACH, "UC3.released-in-nova", RELEASE_STEPS, "available"),
    Stuck("UC3, deleted", scenes.uc3, DETACH, "UC3.released-in-nova", RELEASE_STEPS, "available"),
    Stuck("UC4", scenes.uc4, DETACH, "UC4.wish-on-record", NOVA_STEPS, "available"),
    Stuck(
        "UC4, guest runs", scenes.compute_came_back, DETACH, "UC4.wish-on-record", NOVA_STEPS,
        "available",
    ),
    Stuck(
        "UC4, overwritten", overwritten, DETACH, "UC4.overwritten",
        ["cinder.complete", "nova.detach"], "available",
    ),
    Stuck(
        "UC4, rolled", rolled, DETACH, "UC4.rolled", NOVA_STEPS, "available",
        before_the_crash=StepKind.CINDER_ROLL_DETACHING,
    ),
    Stuck("UC5", scenes.uc5, ATTACH, "UC5.leaked", TERMINATE_STEPS, "available"),
    Stuck(
        "UC5, held", held, ATTACH, "UC5.held", TERMINATE_STEPS, "available",
        before_the_crash=StepKind.CINDER_RESERVE,
    ),
    Stuck(
        "ghost", ghost, ATTACH, "UC5.ghost", TERMINATE_STEPS, "available", facts=NOBODY_S,
    ),
    Stuck(
        "ghost, held", held_ghost, ATTACH, "UC5.held", TERMINATE_STEPS, "available",
        facts=NOBODY_S, before_the_crash=StepKind.CINDER_RESERVE,
    ),
    Stuck(
        "UC5, beside others", leaked_beside, ATTACH, "UC5.leaked-beside-others",
        ["backend.force_detach"], "in-use", ("compute-2",),
    ),
    Stuck(
        "stray row", stray_destination, ATTACH, "S1.stray-row", RELEASE_STEPS, "in-use",
        ("compute-1",), 1,
    ),
    Stuck(
        "server deleted", deleted_while_failing, DETACH, "S3.deleted-with-server", RELEASE_STEPS,
        "available",
    ),
    Stuck(
        "server deleted, detaching", deleted_while_detaching, DETACH, "UC3.released-in-nova",
        RELEASE_STEPS, "available",
    ),
    Stuck(
        "left on the source", left_on_source, DETACH, "S2.left-on-source", RELEASE_STEPS, "in-use",
        ("compute-2",), 1,
    ),
    Stuck(
        "left on the source, row untold", left_on_source, DETACH, "S2.left-on-source",
        RELEASE_STEPS, "in-use", ("compute-2",), 1, facts=(("attachment_id", None), ("host", None)),
    ),
)  # fmt: skip
STUCK_BY_NAME = {stuck.name: stuck for stuck in STUCK}


def name_of(stuck: Stuck) -> str:
    """Return what a test of it is called by."""
    return stuck.name
