"""The brakes in the ledger, on each database: two replicas never take the same token."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consumer.ledger import Ledger
from consumer.ledger.database.tables import allowances
from handlers.brakes import BrakedError, Bucket, Limits, Scope, Spending
from handlers.case import CaseFile
from tests.unit.consumer.ledger.making import at_once, claim_one, due_case

SLOW = Bucket(2, 1.0)
ONE = Spending("h@lvm", "compute-1", "project-1")


def file(ledger: Ledger, limits: Limits, volume_id: str = "volume-1") -> CaseFile:
    """Return the case file of a claimed case."""
    due_case(ledger, volume_id=volume_id)
    return ledger.casefile(claim_one(ledger), limits=limits)


def passed(case_file: CaseFile, spending: Spending) -> bool:
    """Tell whether the brakes let a plan pass."""
    try:
        case_file.spend(spending)
    except BrakedError:
        return False
    return True


def test_no_limits_hold_nothing_and_write_nothing(ledger: Ledger) -> None:
    """No limit is set -> everything passes, and no row is made."""
    case_file = file(ledger, Limits())
    assert all(passed(case_file, ONE) for _ in range(20))
    with ledger._database.engine.connect() as connection:
        assert connection.execute(allowances.select()).all() == []


@pytest.mark.parametrize(
    ("limits", "other"),
    [
        (Limits(backend=SLOW), Spending("h@ceph", "compute-1", "project-1")),
        (Limits(host=SLOW), Spending("h@lvm", "compute-2", "project-1")),
        (Limits(project=SLOW), Spending("h@lvm", "compute-1", "project-2")),
    ],
)
def test_each_name_has_a_bucket_of_its_own(ledger: Ledger, limits: Limits, other: Spending) -> None:
    """One backend, host or project has used up its burst -> it is held, another one passes."""
    case_file = file(ledger, limits)
    assert [passed(case_file, ONE) for _ in range(3)] == [True, True, False]
    assert passed(case_file, other)
    with pytest.raises(BrakedError) as braked:
        case_file.spend(ONE)
    assert 3500 < braked.value.held.wait_seconds <= 3600


def test_a_day_has_its_cap_and_the_next_day_another(ledger: Ledger) -> None:
    """As many as may be today -> held until midnight by the database's clock; all names count."""
    case_file = file(ledger, Limits(per_day=2))
    assert [passed(case_file, Spending(f"b{n}", None, None)) for n in range(3)] == [
        True, True, False,
    ]  # fmt: skip
    (day,) = ledger.brakes(60.0)
    assert (day.scope, day.taken) == (Scope.DAY, 2)
    with ledger._database.engine.begin() as connection:
        earlier = f"{ledger.now() - timedelta(days=3):%Y-%m-%d}"
        connection.execute(allowances.update().values(name=earlier))
    assert passed(case_file, ONE)
    with ledger._database.engine.connect() as connection:
        assert len(connection.execute(allowances.select()).all()) == 1


def test_a_bucket_that_is_full_for_long_is_forgotten(ledger: Ledger) -> None:
    """Days later -> the row of a host that had trouble once is gone; one in use stays."""
    case_file = file(ledger, Limits(host=SLOW))
    assert passed(case_file, ONE)
    with ledger._database.engine.begin() as connection:
        earlier = ledger.now() - timedelta(days=3)
        connection.execute(allowances.update().values(full_at=earlier))
    assert passed(case_file, Spending("h@lvm", "compute-2", None))
    with ledger._database.engine.connect() as connection:
        assert [row.name for row in connection.execute(allowances.select())] == ["compute-2"]


def test_what_one_brake_holds_takes_nothing_of_another(ledger: Ledger) -> None:
    """The host's bucket is empty -> the backend's and the day's keep their tokens."""
    case_file = file(ledger, Limits(backend=Bucket(3, 1.0), host=Bucket(1, 1.0), per_day=3))
    assert [passed(case_file, ONE) for _ in range(5)] == [True, False, False, False, False]
    assert passed(case_file, Spending("h@lvm", "compute-2", None))
    assert passed(case_file, Spending("h@lvm", "compute-3", None))
    assert not passed(case_file, Spending("h@lvm", "compute-4", None))


def test_what_held_is_told_for_a_time(ledger: Ledger) -> None:
    """A brake held a plan -> it is listed, and those that let all pass are not."""
    case_file = file(ledger, Limits(backend=SLOW, host=Bucket(1, 1.0)))
    assert [passed(case_file, ONE) for _ in range(2)] == [True, False]
    assert [(b.scope, b.name) for b in ledger.brakes(60.0)] == [(Scope.HOST, "compute-1")]
    assert ledger.brakes(0.0) == ()


def test_replicas_share_the_tokens(ledger: Ledger, second: Ledger) -> None:
    """Two replicas begin 20 plans at once, 8 may -> 8 pass at most, whoever comes first."""
    limits = Limits(backend=Bucket(8, 1.0), host=Bucket(100, 1.0), per_day=100)
    files = [file(ledger, limits), file(second, limits, "volume-2")]
    results = at_once(
        *(lambda one=one: [passed(one, ONE) for _ in range(10)] for one in files)  # type: ignore[misc]
    )
    number = sum(sum(result) for result in results if isinstance(result, list))
    assert 1 <= number <= 8
    rest = sum(passed(files[0], ONE) for _ in range(10))
    assert number + rest == 8
