"""The scenes of the demo: each arranges a situation of a real cloud, and its notifications.

Every scene has its own volume, server and compute host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Callable, Sequence

from consumer.demo.wire import API_PUBLISHER, Message, SentAttachment, Story
from drivers.errors import PermanentError
from drivers.simulator import DEFAULT_BACKEND, Cloud, Fault, Landing


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """The expected result of a scene: its row is ok only if all of it matches."""

    verdict: str
    rule: str
    steps: tuple[str, ...]
    announced: tuple[str, ...]
    cinder: str
    backend: tuple[str, ...]
    state: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """The volume, server and host of one scene, on a simulated cloud."""

    cloud: Cloud
    volume_id: str
    instance_id: str
    host: str

    def story(self) -> Story:
        """Return what the messages of a new operation have in common."""
        return Story(self.volume_id, self.instance_id, self.host, DEFAULT_BACKEND)

    def attached(self) -> str:
        """Attach the volume without any failure; return the attachment id."""
        return self.cloud.attach(self.volume_id, self.instance_id)

    def shown(self, attachment_id: str, status: str) -> SentAttachment:
        """Return a row as Cinder shows it, with the host's connector once it is attached."""
        is_attached = status == "attached"
        return SentAttachment(
            attachment_id, status, self.cloud.connector(self.host) if is_attached else None
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """A scene: its name, what it shows, how it is arranged, and the expected result."""

    name: str
    title: str
    arrange: Callable[[Stage], Sequence[Message]]
    expected: Expected

    @property
    def key(self) -> str:
        """The name in small letters and hyphens, for a command line: uc1-attach-never-finished."""
        return re.sub("[^a-z0-9]+", "-", self.name.lower())


def new_stage(cloud: Cloud, number: int) -> Stage:
    """Make a volume, a server and a host of its own, which the number names."""
    host = f"compute-{number}"
    return Stage(cloud, cloud.create_volume(), cloud.boot_server(host=host), host)


def last_attach(stage: Stage) -> Message:
    """Return the end of an earlier attach on this host, which contains its connector."""
    story = Story(str(uuid.uuid4()), str(uuid.uuid4()), stage.host, DEFAULT_BACKEND)
    row = SentAttachment(str(uuid.uuid4()), "attached", stage.cloud.connector(stage.host))
    return story.cinder("attach.end", "in-use", row, publisher=API_PUBLISHER)


def _attach_begins(stage: Stage, attachment_id: str) -> list[Message]:
    story, row = stage.story(), stage.shown(attachment_id, "reserved")
    return [story.nova("attach.start"), story.cinder("attach.start", "reserved", row)]


def unfinished_attach(stage: Stage) -> Sequence[Message]:
    """UC1: initialize_connection timed out, and cinder-api was down when Nova cleaned up."""
    cloud, volume_id = stage.cloud, stage.volume_id
    attach = cloud.begin_attach(volume_id, stage.instance_id).advance()
    attach.abandon()
    cloud.drop_block_device(stage.instance_id, volume_id)
    cloud.unexport(volume_id, stage.host)
    story = stage.story()
    return [
        story.nova("attach.start"),
        story.cinder("attach.start", "reserved", stage.shown(attach.attachment_id, "reserved")),
        story.nova_legacy_error("attach_volume", "CinderConnectionFailed", attach.attachment_id),
        story.nova_exception("CinderConnectionFailed"),
    ]


def attach_not_recorded(stage: Stage) -> Sequence[Message]:
    """UC2: attached in the guest and on the backend; the call that completes it was lost."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance(2)
    attach.abandon()
    return _attach_begins(stage, attach.attachment_id)


def released_but_detaching(stage: Stage) -> Sequence[Message]:
    """UC3: detached in Nova and on the backend; Cinder still says detaching."""
    cloud, attachment_id = stage.cloud, stage.attached()
    cloud.begin_detaching(stage.volume_id)
    cloud.guest_lets_go(stage.instance_id, stage.volume_id)
    cloud.unexport(stage.volume_id, stage.host)
    cloud.drop_block_device(stage.instance_id, stage.volume_id)
    story = stage.story()
    return [
        story.nova("detach.start"),
        story.cinder("detach.start", "detaching", stage.shown(attachment_id, "attached")),
    ]


def detach_never_carried_out(stage: Stage) -> Sequence[Message]:
    """UC4: nova-compute stopped before the detach; the guest still has the disk."""
    stage.attached()
    stage.cloud.begin_detaching(stage.volume_id)
    return [stage.story().nova("detach.start")]


def leaked_by_a_timeout(stage: Stage) -> Sequence[Message]:
    """UC5: every try timed out, Nova gave up, and then the backend finished the call."""
    cloud = stage.cloud
    # Five, as Nova tries: one fewer, and the last try would win.
    fault = Fault.late("backend.initialize_connection", volume_id=stage.volume_id, times=5)
    cloud.script(fault)
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id)
    with contextlib.suppress(PermanentError):
        attach.finish()
    cloud.land_late(stage.volume_id)
    return _failed_attach(stage, attach.attachment_id)


def _failed_attach(stage: Stage, attachment_id: str) -> list[Message]:
    story = stage.story()
    attachment = stage.shown(attachment_id, "reserved")
    return [
        story.nova("attach.start"),
        *(story.cinder("attach.start", "reserved", attachment) for _ in range(5)),
        *story.attachment_dropped(attachment, publisher=API_PUBLISHER),
        story.nova("attach.error", fault="ClientException"),
        story.nova_exception("ClientException"),
    ]


def retry_won(stage: Stage) -> Sequence[Message]:
    """Healthy: the first try timed out, the second succeeded."""
    attachment_id = stage.attached()
    return _second_try_succeeded(stage, attachment_id)


def _second_try_succeeded(stage: Stage, attachment_id: str) -> list[Message]:
    story = stage.story()
    attachment = stage.shown(attachment_id, "reserved")
    return [
        story.nova("attach.start"),
        story.cinder("attach.start", "reserved", attachment),
        story.cinder("attach.start", "reserved", attachment),
        story.cinder(
            "attach.end", "in-use", stage.shown(attachment_id, "attached"), publisher=API_PUBLISHER
        ),
        story.nova("attach.end"),
    ]


def live_migration(stage: Stage) -> Sequence[Message]:
    """Healthy: two attachments of one server, on two hosts, during a live migration."""
    stage.attached()
    destination = f"{stage.host}-destination"
    attachment = stage.cloud.begin_migration(stage.volume_id, stage.instance_id, destination)
    story = dataclasses.replace(stage.story(), host=destination)
    return [story.cinder("attach.start", "reserved", stage.shown(attachment, "reserved"))]


def late_first_try(stage: Stage) -> Sequence[Message]:
    """Healthy, but set to attaching: the second try succeeded, then the first one finished."""
    cloud = stage.cloud
    cloud.script(Fault.late("backend.initialize_connection", volume_id=stage.volume_id))
    attachment_id = stage.attached()
    cloud.land_late(stage.volume_id)
    return _second_try_succeeded(stage, attachment_id)


def guest_writes_after_reset(stage: Stage) -> Sequence[Message]:
    """For a person: Cinder's status was reset by hand while the guest writes."""
    attachment_id = stage.attached()
    story = stage.story()
    stage.cloud.drop_attachment(attachment_id)
    return [
        story.nova("detach.start"),
        story.nova_legacy_error("detach_volume", "DeviceDetachFailed", attachment_id),
    ]


def late_completion(stage: Stage) -> Sequence[Message]:
    """UC5: recovered, and then a late call exports the volume again."""
    cloud = stage.cloud
    # The attempt looks first, before each of its three calls, and at the end.
    landing = Landing(after_method="driver.observe", after_calls=5)
    fault = "backend.initialize_connection"
    cloud.script(
        Fault.before(fault, volume_id=stage.volume_id, times=4),
        Fault.late(fault, landing, volume_id=stage.volume_id),
    )
    attach = cloud.begin_attach(stage.volume_id, stage.instance_id)
    with contextlib.suppress(PermanentError):
        attach.finish()
    cloud.export(stage.volume_id, stage.host)
    return _failed_attach(stage, attach.attachment_id)


START, END = "volume.force_detach.start", "volume.force_detach.end"
PARKED = "volume.force_detach.parked"
TERMINATE = ("cinder.reserve", "backend.force_detach", "cinder.unreserve")
RELEASE = ("backend.force_detach", "cinder.delete_attachment")

SCENES: tuple[Scene, ...] = (
    Scene(
        "UC1 attach never finished",
        "attaching in Cinder, not attached anywhere",
        unfinished_attach,
        Expected(
            "release", "UC1.unfinished", RELEASE, (START, END), "available", (), "closed"
        ),
    ),
    Scene(
        "UC2 attach not recorded",
        "attaching in Cinder, attached in Nova and on the backend",
        attach_not_recorded,
        Expected(
            "roll-forward", "UC2.attached", ("cinder.complete",), (START, END), "in-use",
            ("HOST",), "closed",
        ),
    ),
    Scene(
        "UC3 detach never ended",
        "detaching in Cinder, not attached in Nova or on the backend",
        released_but_detaching,
        Expected(
            "release", "UC3.released-in-nova", RELEASE, (START, END), "available", (), "closed"
        ),
    ),
    Scene(
        "UC4 detach never carried out",
        "detaching in Cinder, attached in Nova and on the backend",
        detach_never_carried_out,
        Expected(
            "nova-detach", "UC4.wish-on-record", ("cinder.roll_detaching", "nova.detach"),
            (START, END), "available", (), "closed",
        ),
    ),
    Scene(
        "UC5 export left over",
        "available in Cinder, exported by the backend",
        leaked_by_a_timeout,
        Expected("terminate", "UC5.leaked", TERMINATE, (START, END), "available", (), "closed"),
    ),
    Scene(
        "healthy: the retry won",
        "the first try timed out, the second succeeded",
        retry_won,
        Expected("healthy", "H2.attached", (), (), "in-use", ("HOST",), "closed"),
    ),
    Scene(
        "healthy: live migration",
        "two attachments of one server on two hosts",
        live_migration,
        Expected(
            "in-flight", "B2.server-busy", (), (), "in-use", ("HOST", "HOST-destination"), "due"
        ),
    ),
    Scene(
        "healthy, reset by a late try",
        "attached, then set to attaching by a first try that finished late",
        late_first_try,
        Expected(
            "roll-forward", "UC2.late-first-try", ("cinder.complete",), (START, END), "in-use",
            ("HOST",), "closed",
        ),
    ),
    Scene(
        "parked: the guest has the disk",
        "set to available by hand while the guest writes",
        guest_writes_after_reset,
        Expected("park", "P6.guest-holds", (), (PARKED,), "available", ("HOST",), "parked"),
    ),
    Scene(
        "late completion",
        "recovered, then exported again by a call that had timed out",
        late_completion,
        Expected(
            "terminate", "UC5.leaked", TERMINATE * 2, (START, END) * 2, "available", (), "closed"
        ),
    ),
)  # fmt: skip
