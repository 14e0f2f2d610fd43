"""The loop that forgets what is finished long ago."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger, LedgerUnavailableError, Pruned
from consumer.periodic.housekeeping import BATCH, Pruner
from consumer.supervision.observing import Observer
from handlers.case import CaseState
from metrics.instruments import Instruments
from tests.bus import new_ledger, running, until
from tests.unit.consumer.ledger.making import accept, attach_error, make_due, outcome

CLOSED = 2 * BATCH + 1


@pytest.fixture
def instruments() -> Instruments:
    """Give metrics of the test's own."""
    return Instruments()


@pytest.fixture(scope="module")
def worked_off(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a ledger with some closed cases and a parked one, once; return the whole file."""
    directory = tmp_path_factory.mktemp("worked-off")
    with new_ledger(directory) as made:
        for number in range(CLOSED + 1):
            accept(made, attach_error(volume_id=f"vol-{number}", request_id=f"req-{number}"))
        make_due(made)
        first, *others = made.claim("w", limit=CLOSED + 1, lease_seconds=60, deadlines=True)
        made.finish(first, outcome(CaseState.PARKED))
        for claim in others:
            made.finish(claim, outcome(CaseState.CLOSED))
    return (directory / "ledger.sqlite").read_bytes()  # closed: nothing is left in its -wal


@pytest.fixture
def ledger(tmp_path: Path, worked_off: bytes) -> Iterator[Ledger]:
    """Give a copy of it."""
    with new_ledger(tmp_path) as made:
        (tmp_path / "ledger.sqlite").write_bytes(worked_off)
        yield made


def pruner(
    ledger: Ledger,
    instruments: Instruments,
    *,
    caught_up: bool = True,
    archive_seconds: float | None = None,
    retention_seconds: float | None = 0.0,
) -> Pruner:
    """Make one that begins at once, keeps nothing that is closed, and comes again quickly."""
    return Pruner(
        ledger, archive_seconds=archive_seconds, retention_seconds=retention_seconds,
        count=Observer(instruments), caught_up=lambda: caught_up,
        grace_seconds=0.0, round_seconds=0.02,
    )  # fmt: skip


def counted(instruments: Instruments, kind: str) -> float:
    """Return what the metric says."""
    return instruments.registry.get_sample_value("detachd_pruned_total", {"kind": kind}) or 0.0


def archived(instruments: Instruments) -> float:
    """Return how many cases the metric says were put into the archive."""
    return instruments.registry.get_sample_value("detachd_archived_cases_total") or 0.0


def test_archived_and_kept(ledger: Ledger, instruments: Instruments) -> None:
    """Archive at once, retention for ever -> all that is closed is moved, and none forgotten."""
    with running(pruner(ledger, instruments, archive_seconds=0.0, retention_seconds=None)):
        until(lambda: archived(instruments) == CLOSED)
    assert len(ledger.cases(limit=1000)) == CLOSED + 1
    assert counted(instruments, "case") == 0


def test_archived_and_forgotten(ledger: Ledger, instruments: Instruments) -> None:
    """Archive and retention at once -> each case is archived and then forgotten; parked: kept."""
    with running(pruner(ledger, instruments, archive_seconds=0.0)):
        until(lambda: counted(instruments, "case") == CLOSED)
    assert archived(instruments) > 0
    assert [case.state for case in ledger.cases()] == [CaseState.PARKED]


def test_nothing_of_either(ledger: Ledger, instruments: Instruments) -> None:
    """Neither archive nor retention -> nothing is done."""
    assert not pruner(ledger, instruments, retention_seconds=None).prune_once()
    assert len(ledger.cases(limit=1000)) == CLOSED + 1
    assert archived(instruments) == 0


def test_batch_after_batch_until_only_what_is_open_is_left(
    ledger: Ledger, instruments: Instruments
) -> None:
    """More closed cases than fit into two batches -> all forgotten and counted; parked: kept."""
    with running(pruner(ledger, instruments)):
        until(lambda: len(ledger.cases(limit=1000)) == 1)
        until(lambda: counted(instruments, "case") == CLOSED)
    assert [case.state for case in ledger.cases()] == [CaseState.PARKED]
    assert counted(instruments, "notification") == CLOSED


def test_not_before_the_queue_is_read(ledger: Ledger, instruments: Instruments) -> None:
    """Messages may wait unread -> nothing is forgotten: one may be the repetition of an old one."""
    unready = pruner(ledger, instruments, caught_up=False, archive_seconds=0.0)
    assert not unready.prune_once()
    assert len(ledger.cases(limit=1000)) == CLOSED + 1
    assert archived(instruments) == 0


def test_not_right_after_a_start(ledger: Ledger, instruments: Instruments) -> None:
    """The service has just started -> nothing is forgotten for the grace, and stopping is quick."""
    waiting = Pruner(
        ledger, archive_seconds=0.0, retention_seconds=0.0, count=Observer(instruments),
        caught_up=lambda: True,
    )  # fmt: skip
    with running(waiting):
        pass
    assert len(ledger.cases(limit=1000)) == CLOSED + 1
    assert archived(instruments) == 0


def test_trouble_is_outlived(
    ledger: Ledger, instruments: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is away, then a bug of ours -> the loop lives on, and the bug is counted."""
    failures = iter([LedgerUnavailableError("gone"), ValueError("a bug")])
    prune, done = ledger.prune, threading.Event()

    def flaky(retention_seconds: float, *, limit: int) -> Pruned:
        if (error := next(failures, None)) is not None:
            raise error
        done.set()
        return prune(retention_seconds, limit=limit)

    monkeypatch.setattr(ledger, "prune", flaky)
    with running(pruner(ledger, instruments)):
        assert done.wait(60)
    errors = instruments.registry.get_sample_value(
        "detachd_internal_errors_total", {"loop": "pruner"}
    )
    assert errors == 1
