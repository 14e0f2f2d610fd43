"""Every party of a volume, and the record that explains it: the accounting, as a person reads it.

Pure. Who is unexplained is decided in ``accounting`` and nowhere else; here stands, of all others,
which record explains them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator

from drivers.control_plane import BlockDevice, CinderAttachment, Server
from handlers.judgement import accounting
from handlers.judgement.accounting import Kind
from handlers.judgement.evidence import Absent, Fact
from handlers.judgement.situation import Situation


class By(enum.Enum):
    """What explains a party, or keeps it from being called unexplained."""

    ATTACHMENT = "attachment"
    DEVICE = "block device"
    MAYBE = "perhaps an attachment"
    NO_SERVER = "no server"
    AT_WORK = "a task"
    RESIZE = "a resize that may be reverted"
    UNANSWERED = "no answer"


@dataclasses.dataclass(frozen=True, slots=True)
class Accounted:
    """A party, and what explains it: None where no record does.

    ``of`` is the id of the attachment that ``by`` speaks of, or of the attachment's own server.
    """

    kind: Kind
    words: str
    by: By | None = None
    of: str | None = None


def parties(s: Situation) -> tuple[Accounted, ...]:
    """Return every party of the volume, those that hold it before the records of it."""
    return (*_connections(s), *_guests(s), *_block_devices(s), *_attachments(s))


def _connections(s: Situation) -> Iterator[Accounted]:
    seen = accounting.seen(s)
    left = accounting.unexplained_connections(s, s.volume.attachments, seen)
    for connection in seen:
        kind = Kind.SESSION if connection.sessions else Kind.ACCESS
        words = f"{kind.value} of {accounting.host_of(s, connection)}"
        if connection in left:
            yield Accounted(kind, words)
        elif (row := accounting.row_of(s, connection)) is not None:
            yield Accounted(kind, words, By.ATTACHMENT, row)
        else:
            yield Accounted(kind, words, By.MAYBE)


def _guests(s: Situation) -> Iterator[Accounted]:
    rows = {row.instance_id: row.attachment_id for row in s.volume.attachments}
    for asked in accounting.asked_hosts(s):
        found = asked.holders.value if isinstance(asked.holders, Fact) else ()
        for instance_id in found:
            words = f"server {instance_id} on {asked.host}"
            if instance_id in rows and accounting.may_be_on(s, instance_id, asked.host):
                yield Accounted(Kind.GUEST, words, By.ATTACHMENT, rows[instance_id])
            else:
                yield Accounted(Kind.GUEST, words)


def _block_devices(s: Situation) -> Iterator[Accounted]:
    for server in accounting.servers_found(s):
        words = f"block device of server {server.instance_id}"
        for device in server.block_devices:
            if accounting.explains_device(s, server, device):
                row = _row_of_device(s, server, device)
                yield Accounted(Kind.BLOCK_DEVICE, words, By.ATTACHMENT, row)
            else:
                yield Accounted(Kind.BLOCK_DEVICE, words)


def _row_of_device(s: Situation, server: Server, device: BlockDevice) -> str:
    return device.attachment_id or accounting.unnamed(s, server)[0]


def _attachments(s: Situation) -> Iterator[Accounted]:
    for row in s.volume.attachments:
        by, of = (None, None) if accounting.is_unexplained(s, row) else _explained(s, row)
        yield Accounted(Kind.ATTACHMENT, accounting.in_words(row), by, of)


def _explained(s: Situation, row: CinderAttachment) -> tuple[By, str | None]:
    answer = s.servers.get(row.instance_id or "")
    if row.instance_id is None:
        return By.NO_SERVER, None
    if not isinstance(answer, Fact | Absent):
        return By.UNANSWERED, row.instance_id
    if accounting.explains_attachment(s, row):
        return By.DEVICE, row.instance_id
    kept = accounting.kept_for_a_revert(s, row)
    return (By.RESIZE if kept else By.AT_WORK), row.instance_id
