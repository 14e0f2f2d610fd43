"""What a case learns from a message of its own: pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from drivers.base import Connector
from handlers.case import CaseState
from handlers.correlation.matching import KnownCase, Signal
from handlers.notification import Notification, Phase, RowSeen, Source

MOST_REQUEST_IDS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Learned:
    """How a compute host presented itself to storage, last, and in which attachment's row."""

    host: str
    connector: Connector
    attachment_id: str


def absorb(case: KnownCase, notification: Notification) -> KnownCase:
    """Fill in what the case does not know yet, take the newest connector, count the signal."""
    attachment_id = case.attachment_id or notification.attachment_id
    row = _row(notification.rows, attachment_id)
    cinder, starts = notification.source is Source.CINDER, _starts(case, notification)
    return dataclasses.replace(
        case,
        attachment_id=attachment_id,
        instance_id=case.instance_id
        or notification.instance_id
        or (row.instance_id if row else None),
        host=case.host or notification.host or (row.host if row else None),
        backend=case.backend or notification.backend,
        connector=(row.connector if row else None) or case.connector,
        request_ids=_joined(case, Signal.of(notification)),
        starts=case.starts + (cinder and starts),
        nova_started=case.nova_started or (not cinder and starts),
        signal_seq=case.signal_seq + _counts(case),
    )


def absorb_signal(case: KnownCase, signal: Signal) -> KnownCase:
    """Do the same with what is left of a message that was kept for its case."""
    return dataclasses.replace(
        case,
        attachment_id=case.attachment_id or signal.attachment_id,
        instance_id=case.instance_id or signal.instance_id,
        request_ids=_joined(case, signal),
        signal_seq=case.signal_seq + _counts(case),
    )


def heard_end(case: KnownCase, signal: Signal) -> KnownCase:
    """Note who says that this very operation ended, where that is Nova."""
    ended = case.nova_ended or signal.source is not Source.CINDER
    return dataclasses.replace(case, nova_ended=ended)


def noticed(case: KnownCase) -> KnownCase:
    """Count a message that may be about the case, and learn nothing from it."""
    return dataclasses.replace(case, signal_seq=case.signal_seq + _counts(case))


def learned(notifications: Iterable[Notification]) -> Mapping[str, Learned]:
    """Return the last connector that the messages' rows show for each compute host."""
    return {
        host: Learned(host, row.connector, row.attachment_id)
        for notification in notifications
        for row in notification.rows
        if row.connector is not None and (host := row.host or row.connector.host)
    }


def _row(rows: Iterable[RowSeen], attachment_id: str | None) -> RowSeen | None:
    return next((row for row in rows if row.attachment_id == attachment_id), None)


def _joined(case: KnownCase, signal: Signal) -> tuple[str, ...]:
    # Retries without end must not grow the row without end: the ids last seen are the useful ones.
    others = (r for r in case.request_ids if r not in signal.request_ids)
    return (*others, *signal.request_ids)[-MOST_REQUEST_IDS:]


def _starts(case: KnownCase, notification: Notification) -> bool:
    said = notification.operation, notification.phase
    return said == (case.operation, Phase.START)


def _counts(case: KnownCase) -> bool:
    """Tell whether somebody may be judging the case without this message."""
    return case.claimed or case.state is not CaseState.WAITING
