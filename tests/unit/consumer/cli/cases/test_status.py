"""``detachd status`` on a real ledger."""

from __future__ import annotations

import json

import pytest

from consumer.ledger import Ledger, Replica
from handlers.brakes import BrakedError, BreakerLimits, Bucket, Limits, Spending
from handlers.case import CaseState, StepKind, StepResult
from tests.unit.consumer.cli.cases.test_listing import worked
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import open_case


def test_new_ledger_says_that_nothing_runs(ledger: Ledger, run: Run) -> None:
    """No case, no service, no sweep -> each said as that, exit 0."""
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert "NONE ALIVE" in out
    assert "never: none has ended" in out
    assert "No case is open." in out


def test_cases_are_counted_by_backend(ledger: Ledger, run: Run) -> None:
    """Two backends, one case acknowledged -> a row for each; what is acknowledged is apart."""
    worked(ledger, backend="other@lab")
    known = worked(ledger, backend="other@lab")
    worked(ledger, CaseState.AWAITING_APPROVAL, fingerprint="f" * 64)
    open_case(ledger, backend=None)
    ledger.acknowledge(known, 3600.0, "alice", "known")
    rows = [line.split() for line in run("status")[1].splitlines()]
    heading = next(row for row in rows if row[:1] == ["BACKEND"])
    other = dict(zip(heading, next(row for row in rows if row[:1] == ["other@lab"]), strict=False))
    assert (other["PARKED"], other["KNOWN"]) == ("1", "1")
    asked = dict(zip(heading, next(r for r in rows if r[:1] == ["labhost@lab"]), strict=False))
    assert (asked["APPROVE?"], asked["PARKED"]) == ("1", "0")
    assert any(row[:3] == ["not", "known", "yet"] for row in rows)
    found = json.loads(run("status", "-f", "json")[1])["backends"]
    assert [(one["backend"], one.get("parked", {}).get("count")) for one in found] == [
        (None, None), ("labhost@lab", None), ("other@lab", 1),
    ]  # fmt: skip


def test_a_brake_that_held_is_said(ledger: Ledger, run: Run) -> None:
    """A brake held back a plan within the hour -> which, and when; else that there was none."""
    assert "none has held back a recovery" in run("status")[1]
    open_case(ledger)
    (claim,) = ledger.claim("w", limit=1, lease_seconds=60.0, deadlines=True)
    file = ledger.casefile(claim, limits=Limits(host=Bucket(1, 1.0)))
    file.spend(Spending("h@lvm", "compute-1", None))
    with pytest.raises(BrakedError):
        file.spend(Spending("h@lvm", "compute-1", None))
    assert "host compute-1 held back a recovery" in run("status")[1]
    (brake,) = json.loads(run("status", "-f", "json")[1])["brakes"]
    assert (brake["scope"], brake["name"]) == ("host", "compute-1")


def test_an_open_breaker_is_said(ledger: Ledger, run: Run) -> None:
    """Releases of a backend failed -> its breaker, since when, and how many."""
    open_case(ledger, backend="h@lvm")
    (claim,) = ledger.claim("w", limit=1, lease_seconds=60.0, deadlines=True)
    file = ledger.casefile(claim, limits=Limits(breaker=BreakerLimits(failures=1)))
    file.intend(
        StepKind.BACKEND_FORCE_DETACH, request_id="req-1", target={}, evidence={},
        lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    file.result("req-1", StepResult.INDETERMINATE, "")
    assert "the BREAKER of h@lvm is open" in run("status")[1]
    assert json.loads(run("status", "-f", "json")[1])["open_breakers"]["h@lvm"]["failures"] == 1


@pytest.mark.parametrize("columns", [80, 200])
def test_pause_and_services_are_said(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Paused, one service alive -> who, why, which; it fits the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    ledger.pause("alice", "the array is down \x1b[2J" + " and so on" * 30)
    ledger.beat(Replica("a:1:x", "ctl1", 1, "9.9"))
    out = run("status")[1]
    assert "PAUSED by alice" in out
    assert "1 alive: ctl1 (9.9)" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= columns


def test_a_pause_whose_backend_has_no_section_is_doubted(ledger: Ledger, run: Run) -> None:
    """Sections, but none of this name -> what to check; not where no backend has a section."""
    ledger.pause("alice", "the array is down", backend="old@lvm")
    doubt = "there is no section [backend:old@lvm]"
    assert doubt not in flat(run("status")[1])
    for name, doubted in (("new@lvm", True), ("old@lvm", False)):
        assert (doubt in flat(run("status", section=f"[backend:{name}]\n")[1])) is doubted


def flat(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())
