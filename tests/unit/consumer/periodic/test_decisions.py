"""What people decide on the command line is in the log of the service, once."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumer.ledger import Decision, DecisionKind, Ledger
from consumer.periodic.decisions import DecisionLog, in_words
from tests.bus import new_ledger, until


def test_decisions_are_logged_once_with_who_and_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Paused and resumed, reasons of several lines or none -> one line each, not repeated."""
    caplog.set_level("INFO", "consumer.periodic.decisions")
    with new_ledger(tmp_path) as ledger:
        ledger.pause("alice", "the array\nis being moved")
        ledger.resume("bob")
        log = DecisionLog(ledger)
        log.log_once()
        log.log_once()
    of_ours = [r for r in caplog.records if r.name == "consumer.periodic.decisions"]
    paused, resumed = (record.getMessage() for record in of_ours)
    assert paused.startswith("alice paused detachd at 20")
    assert paused.endswith(": the array is being moved")
    assert resumed.startswith("bob resumed detachd at 20")
    assert resumed.endswith(": no reason given")


def test_pause_of_one_backend_is_not_logged_as_one_of_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One backend is paused and resumed -> the log names it, and does not say detachd."""
    with caplog.at_level("INFO"), new_ledger(tmp_path) as ledger:
        ledger.pause("alice", "the array", backend="h@lvm")
        ledger.resume("bob", "done", backend="h@lvm")
        DecisionLog(ledger).log_once()
    of_ours = [r for r in caplog.records if r.name == "consumer.periodic.decisions"]
    paused, resumed = (record.getMessage() for record in of_ours)
    assert paused.startswith("alice paused backend h@lvm at 20")
    assert resumed.startswith("bob resumed backend h@lvm at 20")


@pytest.mark.parametrize("kind", DecisionKind)
def test_each_kind_of_decision_has_words(kind: DecisionKind) -> None:
    """A decision of any kind -> a line says who decided what; none stops those after it."""
    decided_at = datetime(2026, 11, 28, tzinfo=UTC)
    line = in_words(Decision(decided_at, kind, "alice", "seen", "c-1", {}))
    assert re.fullmatch(r"alice [a-z ]+(c-1|detachd) at 2026-11-28T00:00:00\+00:00: seen", line)


def test_ledger_that_is_away_ends_no_service(tmp_path: Path) -> None:
    """The ledger has no tables, or cannot be reached -> it goes on, and stops when asked."""
    (tmp_path / "ledger.sqlite").mkdir()
    stop, ended = threading.Event(), threading.Event()
    log = DecisionLog(Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), poll_seconds=0.01)

    def run() -> None:
        log.run(stop)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert not ended.wait(0.2)
    stop.set()
    until(ended.is_set)
