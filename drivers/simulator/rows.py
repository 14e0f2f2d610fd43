"""Cinder's attachment rows, and how a volume's two statuses follow from them.

Follows Cinder's database layer: ``volume_attached``, ``volume_detached`` and
``_get_statuses_from_attachments``.
"""

from __future__ import annotations

from drivers.base import Connector
from drivers.simulator.estate import Estate
from drivers.simulator.state import ERROR_ROW, RowRecord, VolumeRecord

STATUS_OF = {"attached": "in-use", "detached": "available"}


def add(estate: Estate, row: RowRecord) -> RowRecord:
    """Insert a row; the volume's statuses are not touched."""
    estate.rows[row.attachment_id] = row
    estate.volume(row.volume_id).rows[row.attachment_id] = row
    return row


def mark_attaching(volume: VolumeRecord, row: RowRecord, connector: Connector) -> None:
    """``volume_attached(mark_attached=False)``: unconditional, so a late one undoes a success."""
    row.status, row.connector, row.attached_host = "attaching", connector, connector.host
    volume.status = volume.attach_status = "attaching"


def complete(volume: VolumeRecord, row: RowRecord) -> None:
    """Row attached, volume in-use: unconditional too (``attachments.complete``)."""
    row.status = "attached"
    volume.status, volume.attach_status = "in-use", "attached"


def finish_detach(estate: Estate, volume: VolumeRecord, attachment_id: str) -> None:
    """Drop the row, if there is one, and recompute (``volume_detached``)."""
    if (row := volume.rows.pop(attachment_id, None)) is not None:
        estate.rows.pop(attachment_id, None)
        row.status = "detached"
        volume.deleted_rows.append(row)
    recompute(volume)


def recompute(volume: VolumeRecord) -> None:
    """Derive both statuses from the live rows that are in no error.

    The first in alphabetical order wins: attached, attaching, detaching, reserved. ``available``
    is not written while a migration or an upload owns the volume's status.
    """
    statuses = [r.status for r in volume.rows.values() if not r.status.startswith(ERROR_ROW)]
    volume.attach_status = min(statuses, default="detached")
    if volume.attach_status != "detached" or not _owned_by_another_flow(volume):
        volume.status = STATUS_OF.get(volume.attach_status, volume.attach_status)


def _owned_by_another_flow(volume: VolumeRecord) -> bool:
    if volume.migration_status in ("success", "error"):
        return False
    return bool(volume.migration_status) or volume.status == "uploading"
