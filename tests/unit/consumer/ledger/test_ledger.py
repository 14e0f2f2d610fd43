"""The ledger as a whole: recorded traffic end to end, crashes between and within transactions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import consumer
from consumer.ledger import Arrival, Ledger
from handlers.case import CaseState, Conclusion, StepKind, StepResult, Trigger
from handlers.notification import Notification, Operation, Phase, parse
from tests.recorded import SAMPLES, recording
from tests.unit.consumer.ledger.breaking import crashing
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    arrival,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    make_due,
    outcome,
    places,
    renew,
    told,
)

PRODUCT = Path(consumer.__file__).parent
ATTACH, DETACH = Operation.ATTACH, Operation.DETACH
ENDED, DEADLINE = (CaseState.CLOSED, Conclusion.ENDED), (CaseState.WAITING, None)
DUE, SETTLING = (CaseState.DUE, None), (CaseState.SETTLING, None)

# What comes of each recorded scenario. A detach that leaves another row behind is looked at again.
COMES_TO = {
    "nova-compute/o_healthy": [(ATTACH, *ENDED), (DETACH, *ENDED)],
    "nova-compute/b_hang_60": [(ATTACH, *DUE)],
    "nova-compute/c_hang_once": [(ATTACH, *SETTLING)],
    "nova-compute/f_terminate_raises": [(ATTACH, *ENDED), (DETACH, *DUE)],
    "cinder/inuse_new__del": [(ATTACH, *ENDED), (DETACH, *ENDED)],
    "cinder/k_svctoken_del": [(ATTACH, *ENDED), (DETACH, *ENDED)],
    "cinder/detaching_new__fd_ca": [(ATTACH, *ENDED), (DETACH, *ENDED)],
    "cinder/detaching_old__fd_c": [(ATTACH, *ENDED), (DETACH, *ENDED)],
    "cinder/attaching_new__del": [(ATTACH, *DEADLINE), (DETACH, *ENDED)],
    "cinder/uc5_put__del": [(ATTACH, *DEADLINE), (DETACH, *ENDED)],
    "cinder/e_uc5early_put__del": [(ATTACH, *DUE)],
    "cinder/l_uc5late_put__del": [(ATTACH, *DUE)],
    "cinder/error_attaching_new__del": [(ATTACH, *DUE)],
    "cinder/reserved_new__del": [(ATTACH, *DUE)],
    "cinder/x_fd_terminate_raises__fd_ca": [(ATTACH, *ENDED)],
    "cinder/m_multiattach__del": [
        (ATTACH, *ENDED), (ATTACH, *DEADLINE), (DETACH, *SETTLING),
        (ATTACH, *ENDED), (ATTACH, *DEADLINE), (DETACH, *SETTLING),
    ],
    "cinder/uc5_available__fd_c": [],
}  # fmt: skip


def arrivals(name: str) -> list[Arrival]:
    """Return what the listener makes of a recording."""
    parsed = [(m, parse(m.body)) for m in recording(name)]
    return [
        Arrival(n, hashlib.sha256(m.body).hexdigest(), m.exchange)
        for m, n in parsed
        if isinstance(n, Notification)
    ]


def test_every_recording_has_its_line() -> None:
    """The recorded scenarios -> each is in the table."""
    named = {str(p.relative_to(SAMPLES).with_suffix("")) for p in SAMPLES.rglob("*.jsonl")}
    assert named == COMES_TO.keys()


@pytest.mark.parametrize("size", [1, 4, 100])
def test_recordings(ledger: Ledger, size: int) -> None:
    """All recorded traffic, in batches of any size -> the same cases, no message lost."""
    for name, wanted in COMES_TO.items():
        came = arrivals(name)
        for start in range(0, len(came), size):
            assert ledger.accept(came[start : start + size]).rejected == (), name
        volumes = {a.notification.volume_id for a in came}
        found = [c for c in ledger.cases(limit=1000) if c.volume_id in volumes]
        assert Counter((c.operation, c.state, c.conclusion) for c in found) == Counter(wanted), name
        stored = places(ledger)
        cases = {stored[a.notification.message_id] for a in came}
        assert cases == {c.case_id for c in found}, name


def test_recorded_uc5(ledger: Ledger) -> None:
    """Nova gave up after five tries -> one attach case with all of it, released unasked."""
    ledger.accept(arrivals("nova-compute/b_hang_60"))
    (summary,) = ledger.cases()
    record = ledger.case(summary.case_id)
    assert len(record.notifications) == 11
    assert (record.case.released_unasked, record.case.end_seen) == (True, False)
    assert (summary.trigger, summary.host) == (Trigger.ERROR, "compute1")
    assert (summary.backend, summary.instance_id is not None) == ("labhost@lab", True)


def test_recorded_retry_that_won(ledger: Ledger) -> None:
    """The second try won -> it settles, since the first may still finish late and undo it."""
    ledger.accept(arrivals("nova-compute/c_hang_once"))
    (summary,) = ledger.cases()
    record = ledger.case(summary.case_id)
    assert record.case.end_seen
    assert record.case.connector is not None
    assert record.case.connector.host == "compute1"


# --- crashes ---


class Life:
    """One case from its first message to the announcement of its end, by a process that may die.

    What it does first after a start is what detachd does: take in what the broker redelivers, take
    up what is due, publish what is pending.
    """

    def __init__(self, url: str, dies_after: int) -> None:
        self.url, self.left = url, dies_after
        self.ledger = Ledger(url)
        self.sent: list[str] = []

    def step(self, work: Callable[[], object]) -> object:
        """Do one transaction, then die if it is time."""
        result = work()
        self.left -= 1
        if self.left == 0:
            raise ProcessLookupError
        return result

    def run(self, case_message: Notification) -> None:
        """Live until the case is closed and everything is announced."""
        self.step(lambda: self.ledger.accept([arrival(case_message)]))
        make_due(self.ledger)
        while self.ledger.cases(state=CaseState.DUE):
            self.attempt()
        while taken := self.ledger.outbox_lease("p", limit=9, lease_seconds=60):
            self.step(lambda: None)
            for out in taken:
                self.step(lambda out=out: self.sent.append(out.message_id))
                self.step(lambda out=out: self.ledger.outbox_sent([out.outbox_id]))

    def attempt(self) -> None:
        """Make one attempt with one call outside."""
        claim = self.step(lambda: claim_one(self.ledger))
        casefile = self.ledger.casefile(claim)
        request_id = f"req-{claim.fence}"
        first = not claim.case.intents
        self.step(
            lambda: casefile.intend(
                StepKind.CINDER_DELETE_ATTACHMENT, request_id=request_id, target={}, evidence={},
                lease_seconds=1, announcement=announcement("start") if first else None,
            )
        )  # fmt: skip
        self.step(lambda: casefile.result(request_id, StepResult.DONE, ""))
        end = (announcement("end"),)
        self.step(lambda: self.ledger.finish(claim, outcome(CaseState.CLOSED, announcements=end)))


@pytest.fixture
def lives(ledger_url: str) -> Iterator[Callable[[int], Life]]:
    """Make processes on one ledger; all are closed after the test."""
    born: list[Life] = []

    def be_born(dies_after: int) -> Life:
        born.append(Life(ledger_url, dies_after))
        return born[-1]

    yield be_born
    for life in born:
        life.ledger.close()


@pytest.mark.parametrize("dies_after", range(1, 12))
def test_crash_between_transactions(lives: Callable[[int], Life], dies_after: int) -> None:
    """The process dies after its n-th step -> the next one ends the case; nothing lost or twice."""
    message = attach_error()
    first = lives(dies_after)
    with pytest.raises(ProcessLookupError):
        first.run(message)
    expire_leases(first.ledger)
    second = lives(0)
    second.run(message)
    (summary,) = second.ledger.cases()
    record = second.ledger.case(summary.case_id)
    assert (summary.state, len(record.notifications)) == (CaseState.CLOSED, 1)
    assert [o.event_type.rpartition(".")[2] for o in record.outbox] == ["start", "end"]
    assert all(o.sent_at for o in record.outbox)
    assert {o.message_id for o in record.outbox} == {*first.sent, *second.sent}
    assert 1 <= len(record.intents) <= 2


def test_crash_within_a_transaction(ledger: Ledger) -> None:
    """The process dies before a commit -> as if the call had never been made, whichever it was."""
    case_id = due_case(ledger)
    with crashing(ledger):
        accept(ledger, told(volume_id="vol-2"))
    with crashing(ledger):
        claim_one(ledger)
    claim = claim_one(ledger)
    assert (claim.fence, claim.case.attempts) == (1, 1)
    casefile = ledger.casefile(claim)
    with crashing(ledger):
        casefile.intend(
            StepKind.NOVA_DETACH, request_id="req-ours", target={}, evidence={}, lease_seconds=900,
            announcement=announcement("start"),
        )  # fmt: skip
    with crashing(ledger):
        ledger.finish(claim, outcome(CaseState.CLOSED, announcements=(announcement("end"),)))
    record = ledger.case(case_id)
    assert (record.case.state, record.claimed_by) == (CaseState.DUE, "w1")
    assert (record.intents, record.outbox) == ((), ())
    assert record.lease_expires_at == claim.lease_expires_at
    assert len(places(ledger)) == 1


def test_upgrade_crashes(database_url: str) -> None:
    """The process dies in an upgrade -> it is run again, and the ledger works."""
    ledger = Ledger(database_url)
    with crashing(ledger):
        ledger.upgrade()
    ledger.upgrade()
    ledger.check_schema()
    accept(ledger, told())
    ledger.close()


def test_says_what_it_is(ledger: Ledger) -> None:
    """A ledger is shown -> its database and cloud; the two never hold a password."""
    assert repr(ledger) == f"Ledger({ledger.name!r}, cloud='default')"
    assert "detachd:***@" in ledger.name or ledger.name.startswith("sqlite:///")


# --- what a million finished cases cost ---

OF_OPEN_CASES = "ix_cases_cloud_state_opened_at_acknowledged_until"
WALKED = ("ix_cases_cloud_opened_at", OF_OPEN_CASES)


def plans(ledger: Ledger, work: Callable[[], object]) -> dict[str, str]:
    """Return how SQLite carries out each statement that the work takes."""
    statements: dict[str, object] = {}

    def remember(*told: object) -> None:
        _, _, statement, parameters, _, many = told
        if not many and str(statement).startswith(("SELECT", "UPDATE")):
            statements.setdefault(str(statement), parameters)

    engine = ledger._database.engine
    sa.event.listen(engine, "before_cursor_execute", remember)
    work()
    sa.event.remove(engine, "before_cursor_execute", remember)
    with engine.connect() as connection:
        return {
            statement: "; ".join(
                row.detail
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            )
            for statement, values in statements.items()
        }


def test_open_cases_are_counted_from_an_index_alone(tmp_path: Path) -> None:
    """Each scrape counts the open cases on SQLite -> their rows, of kilobytes, are not read."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.upgrade()
    (plan,) = (p for s, p in plans(ledger, ledger.counts).items() if "FROM cases" in s)
    assert f"USING COVERING INDEX {OF_OPEN_CASES} " in plan


def test_no_statement_walks_the_finished_cases(tmp_path: Path) -> None:
    """Hot transactions and lists by volume on SQLite -> by index, and by the index that narrows."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger, clock = Ledger(url), Ledger(url)
    ledger.upgrade()

    def live() -> None:
        exception = told(None, Phase.ERROR, volume_id=None, request_id="req-1")
        accept(ledger, attach_error(), exception)
        accept(ledger, told(Operation.DETACH, attachment_id="att-1"))
        make_due(clock)
        claim = claim_one(ledger)
        ledger.casefile(claim).connector_of("compute1")
        renew(ledger, claim, 60)
        ledger.finish(claim, outcome(CaseState.PARKED, announcements=(announcement("parked"),)))
        (out,) = ledger.outbox_lease("p", limit=9, lease_seconds=60)
        ledger.outbox_failed(out.outbox_id, "no broker", 0.0)
        ledger.outbox_sent([out.outbox_id])
        ledger.outbox_pending()
        ledger.paused()
        ledger.cases(volume_id="vol-1")
        ledger.case(claim.case.case_id)

    found = plans(ledger, live)
    assert len(found) > 25
    for statement, plan in found.items():
        if "FROM cases" in statement or "FROM notifications" in statement:
            assert "SCAN cases" not in plan, statement
            assert "SCAN notifications" not in plan, statement
            assert not any(index in plan for index in WALKED), statement
    (of_batch,) = (p for s, p in found.items() if "cases.closed_at >=" in s)
    assert "ix_cases_cloud_volume_id (cloud=? AND volume_id=?)" in of_batch
    (due,) = (p for s, p in found.items() if "ORDER BY cases.next_attempt_at\n LIMIT" in s)
    assert "ix_cases_cloud_next_attempt_at" in due
    assert "TEMP B-TREE" not in due
    errors = [p for s, p in found.items() if "coalesce(notifications.volume_id" in s]
    assert errors
    assert all("ix_notifications_cloud_request_id (cloud=? AND request_id" in p for p in errors)
    ledger.close()
    clock.close()


@pytest.mark.parametrize("name", [n for n in vars(Ledger) if not n.startswith("_")])
def test_every_method_is_called_by_the_service(name: str) -> None:
    """A method that only tests call -> it promises nothing to anybody (decision 0013)."""
    callers = (f for f in PRODUCT.rglob("*.py") if PRODUCT / "ledger" not in f.parents)
    assert any(re.search(rf"ledger(\(\))?\.{name}\b", f.read_text()) for f in callers), name
