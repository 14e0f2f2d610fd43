"""The states that an attach or a detach can leave a volume in, each as it is really come by.

Nobody's server is named in the rows: Nova knows no such instance, so Cinder's guard lets pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable
from typing import Any

from drivers.errors import OutsideError
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS, Ground

Make = Callable[[Ground], "Scene"]


@dataclasses.dataclass(slots=True)
class Scene:
    """A volume in some state; calls are about ``attachment``, which need not be there.

    ``finish``, where there is one, lets the backend finish what it is still busy with.
    """

    volume_id: str
    attachment: str
    finish: Callable[[], None] | None = None


def call() -> dict[str, Any]:
    """Return what every write takes besides."""
    return {"request_id": f"req-{uuid.uuid4()}", "timeout_seconds": TIMEOUT_SECONDS}


def free(ground: Ground) -> Scene:
    """Leave it alone: nobody has it."""
    return Scene(ground.volume(), str(uuid.uuid4()))


def os_reserve(ground: Ground) -> Scene:
    """Call ``os-reserve`` and no more."""
    scene = free(ground)
    ground.cinder.reserve(scene.volume_id, **call())
    return scene


def reserved(ground: Ground) -> Scene:
    """Make a row without connector: Nova has asked for the volume and got no further."""
    volume = ground.volume()
    return Scene(volume, ground.others.create_attachment(volume, str(uuid.uuid4())))


def attaching(ground: Ground) -> Scene:
    """Let the host in at the backend; Nova did not complete."""
    scene = reserved(ground)
    ground.others.update_attachment(scene.attachment, ground.connector(HOSTS[0]))
    return scene


def in_use(ground: Ground) -> Scene:
    """Attach it."""
    scene = attaching(ground)
    ground.cinder.complete(scene.attachment, **call())
    return scene


def detaching(ground: Ground) -> Scene:
    """Record the wish to detach, and do nothing more."""
    scene = in_use(ground)
    ground.others.begin_detaching(scene.volume_id)
    return scene


def legacy_in_use(ground: Ground) -> Scene:
    """Attach it by the old API: the row has no connector."""
    scene = os_reserve(ground)
    ground.others.initialize_connection(scene.volume_id, ground.connector(HOSTS[0]))
    ground.others.attach(scene.volume_id, str(uuid.uuid4()))
    (attachment,) = _attachments(ground, scene.volume_id)
    return Scene(scene.volume_id, attachment)


def legacy_detaching(ground: Ground) -> Scene:
    """Do the same, and wish to detach."""
    scene = legacy_in_use(ground)
    ground.others.begin_detaching(scene.volume_id)
    return scene


def legacy_leak(ground: Ground) -> Scene:
    """Make UC5 by the old API: exported, and available again."""
    scene = os_reserve(ground)
    ground.others.initialize_connection(scene.volume_id, ground.connector(HOSTS[0]))
    ground.cinder.unreserve(scene.volume_id, **call())
    return scene


def legacy_leak_reserved(ground: Ground) -> Scene:
    """Make the same, then reserve the volume, as detachd does before it acts."""
    scene = legacy_leak(ground)
    ground.cinder.reserve(scene.volume_id, **call())
    return scene


def busy(ground: Ground) -> Scene:
    """Let Nova give up while the backend is still at it: the row is reserved."""
    scene = reserved(ground)

    def connect() -> None:
        ground.others.update_attachment(scene.attachment, ground.connector(HOSTS[0]))

    scene.finish = ground.impatient(scene.volume_id, connect)
    return scene


def late(ground: Ground) -> Scene:
    """Let the backend finish after that: exported and attaching, and nobody goes on."""
    scene = busy(ground)
    assert scene.finish is not None
    scene.finish()
    return Scene(scene.volume_id, scene.attachment)


def leak(ground: Ground) -> Scene:
    """Make UC5: Nova has given up and deleted the row while the backend was busy."""
    scene = busy(ground)
    ground.cinder.delete_attachment(scene.attachment, **call())
    assert scene.finish is not None
    scene.finish()
    return Scene(scene.volume_id, scene.attachment)


def two_attachments(ground: Ground) -> Scene:
    """Attach a multiattach volume to two hosts."""
    volume, attachments = ground.volume(multiattach=True), []
    for host in HOSTS:
        attachments.append(ground.others.create_attachment(volume, str(uuid.uuid4())))
        ground.others.update_attachment(attachments[-1], ground.connector(host))
        ground.cinder.complete(attachments[-1], **call())
    return Scene(volume, attachments[0])


def two_on_one_host(ground: Ground) -> Scene:
    """Attach a multiattach volume to one host, for two servers."""
    volume, attachments = ground.volume(multiattach=True), []
    for _ in range(2):
        attachments.append(ground.others.create_attachment(volume, str(uuid.uuid4())))
        ground.others.update_attachment(attachments[-1], ground.connector(HOSTS[0]))
        ground.cinder.complete(attachments[-1], **call())
    return Scene(volume, attachments[0])


def second_failed(ground: Ground) -> Scene:
    """Attach a multiattach volume; a second attach is refused by the backend."""
    volume = ground.volume(multiattach=True)
    first = ground.others.create_attachment(volume, str(uuid.uuid4()))
    ground.others.update_attachment(first, ground.connector(HOSTS[0]))
    ground.cinder.complete(first, **call())
    second = ground.others.create_attachment(volume, str(uuid.uuid4()))
    ground.break_backend("initialize_connection", volume)
    with contextlib.suppress(OutsideError):
        ground.others.update_attachment(second, ground.connector(HOSTS[1]))
    return Scene(volume, second)


def with_status(status: str) -> Make:
    """Return a maker of a volume without rows in a status that an administrator has set."""

    def make(ground: Ground) -> Scene:
        scene = free(ground)
        ground.others.reset_status(scene.volume_id, status)
        return scene

    return make


def attached_with_status(status: str) -> Make:
    """Return a maker of an attached volume in a status that an administrator has set."""

    def make(ground: Ground) -> Scene:
        scene = in_use(ground)
        ground.others.reset_status(scene.volume_id, status)
        return scene

    return make


def _attachments(ground: Ground, volume_id: str) -> list[str]:
    told = ground.cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert told is not None
    return [attachment.attachment_id for attachment in told.attachments]
