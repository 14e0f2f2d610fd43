"""Which of a volume's rows a case is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.control_plane import Row, Volume
from handlers.case import Case
from handlers.judgement.evidence import ServerEvidence, holder, left_behind
from handlers.notification import Operation

ATTACHED, RESERVED = "attached", "reserved"


def subject_of(
    case: Case, volume: Volume, servers: Mapping[str, ServerEvidence]
) -> tuple[Row | None, bool]:
    """Return the row of the case's attachment, None where it has none; and whether several may be.

    A case whose messages named an attachment is about that row and no other. Else an attach is
    about the row that is not attached. A detach is about one that is more than reserved: what is
    only reserved is let go by Cinder's API, whose message names it (cinder/volume/api.py
    ``attachment_delete``); and of two of one server, about the one that the server has left.
    """
    if case.attachment_id is not None:
        named = (row for row in volume.rows if row.attachment_id == case.attachment_id)
        return next(named, None), False
    mine = [row for row in volume.rows if case.instance_id in (None, row.instance_id)]
    match case.operation:
        case Operation.ATTACH:
            mine = [row for row in mine if row.status != ATTACHED] or mine
        case Operation.DETACH:
            mine = [row for row in mine if row.status != RESERVED] or mine
            # In transition it may be the other row that somebody wants detached.
            at_rest = volume.status == "in-use"
            mine = (_on_the_source(mine, servers) if at_rest else []) or mine
    return (mine[0] if len(mine) == 1 else None), len(mine) > 1


def _on_the_source(rows: Sequence[Row], servers: Mapping[str, ServerEvidence]) -> list[Row]:
    """Return the row of a live migration's source, where the server is on the destination.

    Cinder's ``volume.detach.start`` lists both rows and does not say which of them goes. Nova names
    the one that stays, on a host other than that of the one that goes.
    """
    unnamed = [row for row in rows if holder(row, servers) is None]
    attached = all(row.status == ATTACHED for row in rows)
    one_server = len({row.instance_id for row in rows}) == 1
    moved = attached and one_server and len(unnamed) == 1
    return unnamed if moved and left_behind(unnamed[0], servers) else []
