"""What the bus tells of a situation, in the order in which Nova and Cinder were seen to tell it."""

from __future__ import annotations

import dataclasses

from consumer.demo.scenes import Stage
from consumer.demo.wire import API_PUBLISHER, Message, SentAttachment


def attach_begins(stage: Stage, attachment_id: str, *, tries: int = 1) -> list[Message]:
    """Tell that Nova starts, and Cinder once for each of Nova's tries."""
    story = stage.story()
    attachment = stage.shown(attachment_id, "reserved")
    starts = [story.cinder("attach.start", "reserved", attachment) for _ in range(tries)]
    return [story.nova("attach.start"), *starts]


def attach_fails(stage: Stage, attachment_id: str, *, tries: int = 1) -> list[Message]:
    """Tell that Nova starts and fails, its clean-up too: compute.exception is the last word."""
    story = stage.story()
    attachment = stage.shown(attachment_id, "reserved")
    return [
        story.nova("attach.start"),
        *(story.cinder("attach.start", "reserved", attachment) for _ in range(tries)),
        story.nova_legacy_error("attach_volume", "ClientException", attachment_id),
        story.nova_exception("ClientException"),
    ]


def volume_deleted(stage: Stage) -> list[Message]:
    """Tell that Cinder deleted the volume."""
    story = stage.story()
    return [story.cinder("delete.start", "deleting"), story.cinder("delete.end", "deleting")]


def attach_cleaned_up(stage: Stage, attachment_id: str, status: str = "attaching") -> list[Message]:
    """Tell that Nova fails and cleans up; ``status`` is the row's as its deletion shows it."""
    story = stage.story()
    attachment = stage.shown(attachment_id, status)
    publisher = {"publisher": API_PUBLISHER} if status == "reserved" else {}
    return [
        story.nova("attach.start"),
        story.cinder("attach.start", "reserved", stage.shown(attachment_id, "reserved")),
        *story.attachment_dropped(attachment, status, **publisher),
        story.nova("attach.error", fault="ClientException"),
        story.nova_exception("ClientException"),
    ]


def attach_ends(stage: Stage, attachment_id: str, *, tries: int = 1) -> list[Message]:
    """Tell that Nova and Cinder start, and that the last try goes well."""
    story = stage.story()
    attachment = stage.shown(attachment_id, "reserved")
    attached = stage.shown(attachment_id, "attached")
    return [
        story.nova("attach.start"),
        *(story.cinder("attach.start", "reserved", attachment) for _ in range(tries)),
        story.cinder("attach.end", "in-use", attached, publisher=API_PUBLISHER),
        story.nova("attach.end"),
    ]


def attachment_begins(stage: Stage, attachment_id: str, host: str | None = None) -> list[Message]:
    """Tell of Cinder's start alone: migration, unshelving and building have none of Nova's."""
    story = dataclasses.replace(stage.story(), host=host or stage.host)
    attachment = stage.shown(attachment_id, "reserved")
    return [story.cinder("attach.start", "reserved", attachment)]


def attachment_goes(
    stage: Stage, attachment_id: str, *beside: SentAttachment, tries: int = 1
) -> list[Message]:
    """Tell that Cinder begins to delete a row, as after a migration or with its server.

    It lists every row that the volume has, those ``beside`` it too, and does not say which one.
    """
    story = stage.story()
    attachment, status = stage.shown(attachment_id, "attached"), "in-use" if beside else "detaching"
    return [story.cinder("detach.start", status, attachment, *beside) for _ in range(tries)]


def detach_fails(
    stage: Stage, attachment_id: str, *, tries: int, fault: str = "ClientException"
) -> list[Message]:
    """Tell that Nova starts, Cinder once for each of Nova's tries, and that Nova fails."""
    story = stage.story()
    attachment = stage.shown(attachment_id, "attached")
    return [
        story.nova("detach.start"),
        *(story.cinder("detach.start", "detaching", attachment) for _ in range(tries)),
        story.nova_legacy_error("detach_volume", fault, attachment_id),
        story.nova_exception(fault),
    ]
