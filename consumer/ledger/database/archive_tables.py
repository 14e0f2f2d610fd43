"""The archive: tables of the same columns as those that are worked on, for what is over.

Their keys begin with the case's id and so with the time: whatever is put in goes to the end of
every index, and none of these, however large, is touched where it is in no cache. Hence there is no
index by anything that is scattered: a volume, a message's id alone, a request.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table

from consumer.ledger.database.tables import (
    MARIADB,
    cases,
    history,
    intents,
    metadata,
    notifications,
    outbox,
)


def _archived(of: Table, also: str | None = None, *indices: Index) -> Table:
    """Make the table for what is over; its key is the case's id, and ``also`` within the case."""
    kept_by = ("case_id", also)
    return Table(
        f"archived_{of.name}", metadata, *(_column(c, kept_by) for c in of.columns), *indices,
        **MARIADB,
    )  # fmt: skip


def _column(of: Column[object], kept_by: tuple[str | None, ...]) -> Column[object]:
    key = of.name in kept_by
    own = of.name == "case_id" and kept_by[1] is not None
    refers = [ForeignKey("archived_cases.case_id")] if own else []
    return Column(
        of.name, of.type, *refers, primary_key=key, nullable=of.nullable and not key,
        autoincrement=False,
    )  # fmt: skip


archived_cases = _archived(cases, None, Index(None, "cloud", "opened_at"))
archived_notifications = _archived(notifications, "message_id")
archived_history = _archived(history, "history_id")
archived_intents = _archived(intents, "intent_id")
archived_outbox = _archived(outbox, "outbox_id")

ARCHIVE_OF: dict[Table, Table] = {
    cases: archived_cases,
    notifications: archived_notifications,
    history: archived_history,
    intents: archived_intents,
    outbox: archived_outbox,
}
"""Where each table's rows go. The cases come first: the others refer to them."""
