"""Cases that were worked, finished and told of, and days that pass since."""

from __future__ import annotations

import time
from datetime import timedelta

import sqlalchemy as sa

from consumer.ledger import Claim, Ledger
from consumer.ledger.database.tables import (
    archived_cases,
    archived_notifications,
    cases,
    claims,
    history,
    intents,
    notifications,
    outbox,
    quarantine,
)
from handlers.case import CaseState, StepKind, StepResult
from handlers.notification import Notification
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
)

DAY = 86_400.0
OF_A_CASE = (cases, notifications, history, intents, outbox)
TIMES = {
    cases: ("opened_at", "closed_at", "updated_at"),
    archived_cases: ("opened_at", "closed_at", "updated_at"),
    notifications: ("received_at",),
    archived_notifications: ("received_at",),
    claims: ("claimed_at",),
    quarantine: ("first_at", "last_at", "decided_at"),
}


def age(ledger: Ledger, days: float) -> None:
    """Let so many days pass since everything that is in the ledger."""
    with ledger._database.engine.begin() as connection:
        for table, columns in TIMES.items():
            keys = list(table.primary_key)
            for row in connection.execute(table.select()).mappings():
                own = sa.and_(*(key == row[key.name] for key in keys))
                aged = {
                    name: row[name] - timedelta(days=days)
                    for name in columns
                    if row[name] is not None
                }
                if aged:
                    connection.execute(table.update().where(own).values(aged))


def counted(ledger: Ledger, *tables: sa.Table) -> list[int]:
    """Return how many rows each table has."""
    count = sa.func.count()
    return [
        ledger._database.read(lambda c, t=t: c.execute(sa.select(count).select_from(t)).scalar())
        for t in tables
    ]


def worked(ledger: Ledger, state: CaseState = CaseState.CLOSED, **fields: object) -> Claim:
    """Make a case with a message, an intent, an announcement, and let an attempt end so."""
    due_case(ledger, **fields)
    claim = claim_one(ledger)
    casefile = ledger.casefile(claim)
    request_id = f"req-own-{claim.case.case_id}"
    casefile.intend(
        StepKind.NOVA_DETACH, request_id=request_id, target={}, evidence={}, lease_seconds=60,
        announcement=announcement("start"),
    )  # fmt: skip
    casefile.result(request_id, StepResult.DONE, "")
    ledger.finish(claim, outcome(state))
    return claim


def send_all(ledger: Ledger) -> None:
    """Publish what the outbox holds."""
    while leased := ledger.outbox_lease("p", limit=9, lease_seconds=60):
        ledger.outbox_sent([out.outbox_id for out in leased])


def finished_volumes(ledger: Ledger, number: int) -> list[Notification]:
    """Close a case on each of so many volumes, each an age ago; return their messages."""
    errors = [attach_error(volume_id=f"vol-{n}", request_id=f"req-{n}") for n in range(number)]
    accept(ledger, *errors)
    make_due(ledger)
    for claim in ledger.claim("w", limit=number, lease_seconds=60, deadlines=True):
        ledger.finish(claim, outcome(CaseState.CLOSED))
    age(ledger, 91)
    return errors


def finish_all(ledger: Ledger, number: int, *, within_seconds: float = 30.0) -> list[str]:
    """Claim and close so many cases that are due, as a worker that comes again; name their volumes.

    A volume that somebody else has locked just then is passed over by a claim, and due still.
    """
    worked_on: list[str] = []
    ends_at = time.monotonic() + within_seconds
    while len(worked_on) < number and time.monotonic() < ends_at:
        for claim in ledger.claim("w", limit=number, lease_seconds=60, deadlines=True):
            ledger.finish(claim, outcome(CaseState.CLOSED))
            worked_on.append(claim.case.volume_id)
    return worked_on
