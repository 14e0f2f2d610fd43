"""The circuit breakers in the ledger, on each database."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from consumer.ledger import Ledger
from consumer.ledger.database.tables import breakers
from handlers.brakes import BrakedError, BreakerLimits, Bucket, Limits, Scope, Spending
from handlers.case import CaseFile, StepKind, StepResult
from tests.unit.consumer.ledger.making import at_once, claim_one, due_case

LIMITS = Limits(breaker=BreakerLimits(failures=2, open_seconds=300.0))
ONE = Spending("h@lvm", "compute-1", "project-1")
RELEASE, RESERVE = StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_RESERVE


class Worked:
    """A claimed case, and its writes."""

    def __init__(self, ledger: Ledger, limits: Limits = LIMITS, volume_id: str = "v-1") -> None:
        due_case(ledger, volume_id=volume_id, backend="h@lvm")
        self.file: CaseFile = ledger.casefile(claim_one(ledger), limits=limits)
        self.volume_id, self.number = volume_id, 0

    def write(self, result: StepResult, kind: StepKind = RELEASE) -> None:
        """Make a write that ends so."""
        self.number += 1
        request_id = f"req-{self.volume_id}-{self.number}"
        self.file.intend(
            kind, request_id=request_id, target={}, evidence={}, lease_seconds=60.0,
            announcement=None,
        )  # fmt: skip
        self.file.result(request_id, result, "")

    def held(self, spending: Spending = ONE) -> float | None:
        """Ask for a plan; return for how long it is held back, None if it may be begun."""
        try:
            self.file.spend(spending)
        except BrakedError as braked:
            return braked.held.wait_seconds if braked.held.scope is Scope.BREAKER else -1.0
        return None


def time_passes(ledger: Ledger, seconds: float) -> None:
    """Let what the breakers remember be so much older."""
    ago = timedelta(seconds=seconds)
    with ledger._database.engine.begin() as connection:
        for row in connection.execute(breakers.select()).all():
            connection.execute(
                breakers.update().values(
                    opened_at=row.opened_at and row.opened_at - ago,
                    probe_until=row.probe_until and row.probe_until - ago,
                )
            )


@pytest.mark.parametrize("result", [StepResult.INDETERMINATE, StepResult.TRANSIENT])
def test_failures_in_a_row_open_it_for_this_backend_alone(
    ledger: Ledger, result: StepResult
) -> None:
    """Two releases fail -> nothing is begun there, also what was begun before; elsewhere it is."""
    worked = Worked(ledger)
    worked.write(result)
    assert worked.held() is None
    worked.write(result)
    assert 290 < (worked.held() or 0) <= 300
    assert worked.held(dataclasses.replace(ONE, begun=True))
    assert worked.held(dataclasses.replace(ONE, backend="h@ceph")) is None
    assert ledger.open_breakers()["h@lvm"].failures == 2


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (StepResult.REFUSED, RELEASE),
        (StepResult.WITHHELD, RELEASE),
        (StepResult.INDETERMINATE, RESERVE),
    ],
)
def test_what_says_nothing_of_the_backend_does_not_count(
    ledger: Ledger, result: StepResult, kind: StepKind
) -> None:
    """A refusal, a call that was not made, a call of Cinder's database alone -> not counted."""
    worked = Worked(ledger)
    for _ in range(3):
        worked.write(result, kind)
    assert worked.held() is None
    assert ledger.open_breakers() == {}


def test_a_success_in_between_closes_it(ledger: Ledger) -> None:
    """One fails, one succeeds, one fails -> closed."""
    worked = Worked(ledger)
    for result in (StepResult.INDETERMINATE, StepResult.DONE, StepResult.INDETERMINATE):
        worked.write(result)
    assert worked.held() is None


def test_one_is_tried_and_its_success_lets_all_go_on(ledger: Ledger, second: Ledger) -> None:
    """The pause is over -> one replica tries one release, the other waits; success -> all go."""
    one, other = Worked(ledger), Worked(second, volume_id="v-2")
    one.write(StepResult.TRANSIENT)
    other.write(StepResult.TRANSIENT)
    assert one.held()
    assert other.held()
    time_passes(ledger, 301.0)
    assert other.held() is None
    assert one.held()
    other.write(StepResult.DONE)
    assert one.held() is None
    assert ledger.open_breakers() == {}


def test_the_try_fails_and_the_pause_doubles(ledger: Ledger) -> None:
    """The one that is tried fails -> open again, for twice as long."""
    worked = Worked(ledger)
    worked.write(StepResult.TRANSIENT)
    worked.write(StepResult.TRANSIENT)
    time_passes(ledger, 301.0)
    assert worked.held() is None
    worked.write(StepResult.INDETERMINATE)
    assert 590 < (worked.held() or 0) <= 600


def test_a_try_that_died_is_followed_by_another(ledger: Ledger) -> None:
    """The process that tried is gone -> after a while another one may be tried."""
    worked = Worked(ledger)
    worked.write(StepResult.TRANSIENT)
    worked.write(StepResult.TRANSIENT)
    time_passes(ledger, 301.0)
    assert worked.held() is None
    assert worked.held()
    time_passes(ledger, 901.0)
    assert worked.held() is None


def test_of_two_replicas_one_tries(ledger: Ledger, second: Ledger) -> None:
    """Both ask at the same moment -> one may begin; what the other asked for took no token."""
    limits = dataclasses.replace(LIMITS, backend=Bucket(2, 1.0))
    one, other = Worked(ledger, limits), Worked(second, limits, "v-2")
    one.write(StepResult.TRANSIENT)
    one.write(StepResult.TRANSIENT)
    time_passes(ledger, 301.0)
    held = at_once(one.held, other.held)
    assert [wait is None for wait in held].count(True) == 1
    one.write(StepResult.DONE)
    assert one.held() is None


def test_without_a_breaker_nothing_is_written(ledger: Ledger) -> None:
    """breaker_failures = 0 -> no row, and nothing is held."""
    worked = Worked(ledger, Limits())
    for _ in range(9):
        worked.write(StepResult.INDETERMINATE)
    assert worked.held() is None
    with ledger._database.engine.connect() as connection:
        assert connection.execute(breakers.select()).all() == []
