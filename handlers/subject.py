"""Which of a volume's rows a case is about. Pure."""

from __future__ import annotations

from drivers.control_plane import Row
from handlers.casefile import Case
from handlers.notification import Operation

ATTACHED = "attached"


def subject_of(case: Case, rows: tuple[Row, ...]) -> tuple[Row | None, bool]:
    """Return the row of the case's attachment, None where it has none; and whether several may be.

    A case whose messages named an attachment is about that row and no other.
    """
    if case.attachment_id is not None:
        return _row(case.attachment_id, rows), False
    mine = [r for r in rows if case.instance_id in (None, r.instance_id)]
    if case.operation is Operation.ATTACH:
        mine = [r for r in mine if r.status != ATTACHED] or mine
    return (mine[0] if len(mine) == 1 else None), len(mine) > 1


def _row(attachment_id: str, rows: tuple[Row, ...]) -> Row | None:
    return next((row for row in rows if row.attachment_id == attachment_id), None)
