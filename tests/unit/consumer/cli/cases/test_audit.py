"""``detachd audit export``: each decision and write on a line, with actor, evidence and ids."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from handlers.case import CaseState, StepKind, StepResult
from tests.unit.consumer.due import open_case, outcome

Run = Callable[..., tuple[int, str, str]]
CANARY = "canary-91ab"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``detachd audit export`` on that ledger."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(["audit", "export", *words, "--config-file", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


def worked(ledger: Ledger) -> str:
    """Let a case be asked for, approved by a person, and carried out; return its id."""
    open_case(ledger)
    (asked,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    plan = outcome(CaseState.AWAITING_APPROVAL, fingerprint="f" * 64, evidence={"look": "first"})
    ledger.finish(asked, plan)
    ledger.approve(asked.case.case_id, "alice", "checked", plan="f" * 64)
    (claim,) = ledger.claim("w:2", limit=1, lease_seconds=60.0, deadlines=True)
    casefile = ledger.casefile(claim)
    casefile.intend(
        StepKind.CINDER_UNRESERVE,
        request_id="req-ours",
        target={"volume_id": claim.case.volume_id, "attachment_id": "row"},
        evidence={"look": "before", "auth_password": CANARY},
        lease_seconds=60.0,
        announcement=None,
    )
    casefile.result("req-ours", StepResult.REFUSED, f"password={CANARY}")
    ledger.finish(claim, outcome(evidence={"look": "after"}))
    return claim.case.case_id


def test_case_that_is_deleted_meanwhile_ends_no_export(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case reaches its age between the list and its turn -> it is left out, the others come."""
    kept, listed = worked(ledger), Ledger.cases

    def with_one_more(self: Ledger, **chosen: Any) -> Any:
        (case,) = listed(self, **chosen)
        return (case, dataclasses.replace(case, case_id="deleted-meanwhile"))

    monkeypatch.setattr(Ledger, "cases", with_one_more)
    code, out, err = run()
    assert (code, err) == (0, "")
    assert {line["case_id"] for line in exported(out)} == {kept}


def exported(out: str) -> list[dict[str, Any]]:
    """Return the lines."""
    return [json.loads(line) for line in out.splitlines()]


def test_each_write_has_its_evidence_its_actor_and_its_approval(ledger: Ledger, run: Run) -> None:
    """An approved plan carried out -> the write, what was seen before and after, by whom."""
    case_id = worked(ledger)
    code, out, err = run()
    assert (code, err) == (0, "")
    (write,) = [line for line in exported(out) if line["what"] == "write"]
    assert (write["case_id"], write["request_id"]) == (case_id, "req-ours")
    assert (write["actor"], write["approved_by"]) == ("w:2", "alice")
    assert (write["step"], write["result"]) == ("cinder.unreserve", "refused")
    assert write["evidence_before"]["look"] == "before"
    assert write["evidence_after"] == {"look": "after"}


def test_each_decision_is_a_line_in_order(ledger: Ledger, run: Run) -> None:
    """Opened, asked, approved, concluded -> a line each, in time, with who decided and why."""
    worked(ledger)
    found = exported(run()[1])
    decisions = [line for line in found if line["what"] != "write"]
    assert [d["what"] for d in decisions] == ["opened", "concluded", "approved", "concluded"]
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)
    approval = decisions[2]
    assert (approval["actor"], approval["reason"]) == ("alice", "checked")
    assert approval["detail"]["fingerprint"] == "f" * 64
    assert decisions[1]["evidence"] == {"look": "first"}


def test_no_secret_is_exported(ledger: Ledger, run: Run) -> None:
    """Secrets where none should be: in evidence, in an error's text -> masked."""
    worked(ledger)
    assert CANARY not in run()[1]


def test_export_can_begin_at_a_time(ledger: Ledger, run: Run) -> None:
    """--since in the future -> no line; a duration, as elsewhere; anything else -> wrong usage."""
    worked(ledger)
    assert run("--since", "2199-01-01T00:00:00+00:00") == (0, "", "")
    assert len(exported(run("--since", "1999-01-01T00:00:00+00:00")[1])) == 5
    assert len(exported(run("--since", "2d")[1])) == 5
    assert run("--since", "lately")[0] == 2
