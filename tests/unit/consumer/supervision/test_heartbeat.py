"""The loop that says that this service lives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger, LedgerUnavailableError, Replica
from consumer.supervision.liveness import Heartbeat
from tests.bus import new_ledger, running, until

ME = Replica("me:1:aa", "me", 1, "0.1.0")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        yield made


def test_running_is_seen_and_stopped_is_gone(ledger: Ledger) -> None:
    """The loop runs -> this replica is in the ledger, ever fresher; it stops -> it is gone."""
    with running(Heartbeat(ledger, ME, beat_seconds=0.02)):
        until(ledger.replicas)
        first_at = ledger.replicas()[0].heartbeat_at
        until(lambda: ledger.replicas()[0].heartbeat_at > first_at)
    assert ledger.replicas() == ()


def test_ledger_away_is_waited_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger cannot be reached for two beats -> the loop lives, and beats again after."""
    failures = iter([LedgerUnavailableError("gone"), ValueError("a bug")])
    beat, beaten = ledger.beat, threading.Event()

    def flaky(replica: Replica) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        beat(replica)
        beaten.set()

    monkeypatch.setattr(ledger, "beat", flaky)
    with running(Heartbeat(ledger, ME, beat_seconds=0.01)):
        assert beaten.wait(60)
