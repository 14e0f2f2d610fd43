"""What one notification says of one volume's attachment, with nothing secret left in it."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from drivers.base import Connector
from handlers.notification.event_type import (
    RESET_STATUS,
    VOLUME_GONE,
    Operation,
    Phase,
    Source,
)


@dataclasses.dataclass(frozen=True, slots=True)
class NotifiedAttachment:
    """One attachment row as a Cinder notification carried it: already old when it arrives."""

    attachment_id: str
    status: str
    instance_id: str | None
    host: str | None
    connector: Connector | None


@dataclasses.dataclass(frozen=True, slots=True)
class Notification:
    """One message from the bus that concerns an attachment.

    ``attachment_id`` is set only where the message proves which one it is about. ``request_id`` is
    the id that Nova and Cinder share: the ``_context_global_request_id`` of either, else the
    publisher's own, which is what Nova hands on to Cinder (oslo.context ``global_id``).
    ``own_request_id`` is the publisher's own. ``operation`` is None for Nova's
    ``compute.exception``, which is joined to its operation by request id, and for signals;
    ``volume_id`` is None for that exception and for signals about a server.
    ``backend`` is Cinder's ``host@backend`` without the pool; ``host`` is the compute host.
    ``attachments`` are the ones that the message showed: at a detach's end, the ones that remain.
    ``published_at`` is the publisher's clock, never compared with ours.
    """

    message_id: str
    source: Source
    event_type: str
    publisher_id: str
    operation: Operation | None
    phase: Phase
    volume_id: str | None
    instance_id: str | None
    attachment_id: str | None
    request_id: str | None
    own_request_id: str | None
    host: str | None
    backend: str | None
    volume_status: str | None
    project_id: str | None
    user_id: str | None
    fault: str | None
    attachments: tuple[NotifiedAttachment, ...]
    published_at: datetime | None

    @property
    def attachment(self) -> NotifiedAttachment | None:
        """Return the row that the message is proven to be about, if it shows it."""
        shown = (
            attachment
            for attachment in self.attachments
            if attachment.attachment_id == self.attachment_id
        )
        return next(shown, None)

    @property
    def by_api(self) -> bool:
        """Tell whether Cinder's API host published it, not a backend's."""
        return self.source is Source.CINDER and published_by_api(self.publisher_id)

    @property
    def reset(self) -> bool:
        """Tell whether a status was written by hand, which drops rows or keeps them as they are."""
        return self.source is Source.CINDER and self.event_type.startswith(RESET_STATUS)

    @property
    def tells_of_deletion(self) -> bool:
        """Tell whether Cinder said that it has the volume no more: deleted, or unmanaged."""
        return self.source is Source.CINDER and self.event_type in VOLUME_GONE

    @property
    def released_unasked(self) -> bool:
        """Tell UC5's signature: the API host starts to detach a row that is still ``reserved``.

        Cinder's API deletes such a row without asking the backend, which may have been exporting
        meanwhile (Cinder, cinder/volume/api.py ``attachment_delete``). Only the start proves it:
        at the end the row is gone, and every detach of the new flow is ended by the API host. A
        bare reservation that is given up looks the same and is harmless; the probe decides.
        """
        begins = self.operation is Operation.DETACH and self.phase is Phase.START
        return (
            begins
            and self.by_api
            and self.attachment is not None
            and self.attachment.status == "reserved"
        )


def published_by_api(publisher_id: str) -> bool:
    """Tell Cinder's API host (``volume.<host>``) from a backend's (``volume.<host>@<backend>``)."""
    return "@" not in publisher_id


@dataclasses.dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed message that does not concern an attachment; ``reason`` says why."""

    event_type: str | None
    reason: str
    source: Source | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Malformed:
    """A body that should parse and does not; ``reason`` is safe to store and show.

    ``event_type`` and ``source`` are there where that much could be read.
    """

    reason: str
    event_type: str | None = None
    source: Source | None = None


Parsed = Notification | Ignored | Malformed
