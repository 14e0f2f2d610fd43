"""How a volume's two statuses follow from its attachment rows (Cinder, ``volume_detached``)."""

import pytest

from drivers.simulator import Cloud
from drivers.simulator.estate import recompute
from drivers.simulator.state import AttachmentRecord, VolumeRecord


@pytest.mark.parametrize(
    ("attachments", "status", "attach_status"),
    [
        ((), "available", "detached"),
        (("attached",), "in-use", "attached"),
        (("attaching",), "attaching", "attaching"),
        (("reserved",), "reserved", "reserved"),
        (("detaching",), "detaching", "detaching"),
        (("reserved", "attaching", "attached"), "in-use", "attached"),
        (("reserved", "detaching", "attaching"), "attaching", "attaching"),
        (("reserved", "detaching"), "detaching", "detaching"),
        (("error_attaching",), "available", "detached"),
        (("error_detaching", "reserved"), "reserved", "reserved"),
    ],
)
def test_first_attachment_in_the_alphabet_decides(
    attachments: tuple[str, ...], status: str, attach_status: str
) -> None:
    """Live rows that are in no error -> the alphabetically first gives both statuses."""
    volume = _volume(attachments)
    recompute(volume)
    assert (volume.status, volume.attach_status) == (status, attach_status)


@pytest.mark.parametrize(
    ("status", "migration_status", "attachments", "after"),
    [
        ("uploading", None, (), "uploading"),
        ("uploading", None, ("attached",), "in-use"),
        ("retyping", "migrating", (), "retyping"),
        ("retyping", "migrating", ("attached",), "in-use"),
        ("retyping", "success", (), "available"),
        ("retyping", "error", (), "available"),
        ("backing-up", None, (), "available"),
        ("deleting", None, (), "available"),
    ],
)
def test_another_flow_owns_the_status(
    status: str, migration_status: str | None, attachments: tuple[str, ...], after: str
) -> None:
    """A migration or an upload is under way -> available is not written, anything else is."""
    volume = _volume(attachments)
    volume.status, volume.migration_status = status, migration_status
    recompute(volume)
    assert volume.status == after
    assert volume.attach_status == ("attached" if attachments else "detached")


def test_dropped_attachment_is_kept_as_deleted(cloud: Cloud) -> None:
    """A row is dropped -> gone for the API, kept with its connector as Cinder soft-deletes it."""
    volume, server = cloud.create_volume(), cloud.boot_server()
    attachment = cloud.attach(volume, server)
    cloud.drop_attachment(attachment)
    record = cloud._estate.volume(volume)
    assert not record.attachments
    assert [(r.attachment_id, r.status) for r in record.deleted_attachments] == [
        (attachment, "detached")
    ]
    assert record.deleted_attachments[0].connector == cloud.connector("compute-1")


def _volume(statuses: tuple[str, ...]) -> VolumeRecord:
    volume = VolumeRecord("v", "b", status="before", attach_status="before")
    volume.attachments = {
        str(n): AttachmentRecord(str(n), "v", status) for n, status in enumerate(statuses)
    }
    return volume
