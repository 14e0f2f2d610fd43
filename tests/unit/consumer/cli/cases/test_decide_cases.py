"""``detachd case close|acknowledge|note``: on a real ledger, as a person gives the commands."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta, timezone

import pytest

from consumer.cli.app import moment_or_seconds
from consumer.ledger import HistoryKind, Ledger
from handlers.case import CaseState, Conclusion
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import only_case, open_case, outcome

WHO = ("--reason", "repaired by hand", "--actor", "alice")


def parked(ledger: Ledger) -> str:
    """Open a case that is parked; return its id."""
    volume_id = open_case(ledger)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    ledger.finish(claim, outcome(rule="P6.guest-holds"))
    return only_case(ledger, volume_id).case.case_id


def test_several_are_closed_and_what_is_refused_is_told(ledger: Ledger, run: Run) -> None:
    """Two parked ones and one that is due -> two closed, exit 2 with the third's state."""
    first, second = parked(ledger), parked(ledger)
    due = only_case(ledger, open_case(ledger)).case.case_id
    code, out, err = run("case", "close", first, due, second, *WHO)
    assert (code, out) == (2, f"closed case {first}\nclosed case {second}\n")
    assert f"case {due} is due" in err
    case = ledger.case(first).case
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.DISMISSED)


def test_acknowledged_for_a_time_and_over(ledger: Ledger, run: Run) -> None:
    """--until 3d -> until when; --over -> it counts again; neither -> exit 2."""
    case_id = parked(ledger)
    code, out, _ = run("case", "acknowledge", case_id[:8], "--until", "3d", *WHO)
    assert code == 0
    until = datetime.fromisoformat(out.strip().rpartition(" ")[2])
    assert out.startswith(f"acknowledged case {case_id} until ")
    assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)
    assert ledger.counts()[CaseState.PARKED].acknowledged == 1
    code, out, _ = run("case", "acknowledge", case_id, "--over", *WHO)
    assert (code, out) == (0, f"case {case_id} counts again\n")
    assert ledger.counts()[CaseState.PARKED].acknowledged == 0
    assert run("case", "acknowledge", case_id, *WHO)[0] == 2


def test_note(ledger: Ledger, run: Run) -> None:
    """A note -> in the history of the case, under the person's name."""
    case_id = parked(ledger)
    assert run("case", "note", case_id, *WHO) == (0, f"wrote a note on case {case_id}\n", "")
    line = ledger.case(case_id).history[-1]
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.NOTED, "alice", "repaired by hand",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("90m", 5400.0),
        ("3d", 259200.0),
        ("45s", 45.0),
        ("2026-11-30T08:00", datetime(2026, 11, 30, 8, tzinfo=UTC)),
        ("2026-11-30 08:00+01:00", datetime(2026, 11, 30, 8, tzinfo=timezone(timedelta(hours=1)))),
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
    ],
)
def test_time_or_duration(text: str, means: datetime | float) -> None:
    """A duration -> seconds; a time without a zone -> UTC."""
    assert moment_or_seconds(text) == means


@pytest.mark.parametrize("text", ["0m", "367d", "3", "tomorrow", "-1h", "1w", "999999999d", ""])
def test_neither_time_nor_duration(text: str) -> None:
    """Anything else -> refused, with the text in the words."""
    with pytest.raises(argparse.ArgumentTypeError):
        moment_or_seconds(text)
