"""``detachd case approve``: on a real ledger, as a person gives the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consumer.ledger import Ledger
from handlers.case import Action, CaseState
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import only_case, open_case, outcome

PLAN = "fedcba98" * 8
EVIDENCE = {
    "cinder": {
        "status": "detaching",
        "attachments": [{"attachment_id": "row-1", "status": "detaching"}],
    },
    "nova": {
        "server-1": {
            "vm_state": "active", "host": "compute1", "compute_up": None,
            "block_devices": [{"attachment_id": "row-1", "device": "/dev/vdb"}],
        },
        "server-2": {"unknown": "Nova: no answer"},
        "server-3": {"absent": "on record"},
    },
    "backend": {
        "connections": [{"name": "iqn.x", "host": None, "access": True, "sessions": 1}],
        "control": "it answered",
    },
    "plan": [
        {
            "step": "nova.detach", "volume_id": "volume-1", "instance_id": "server-1",
            "attachment_id": "row-1", "host": "compute1",
        }
    ],
}  # fmt: skip


def asked(ledger: Ledger, **changes: Any) -> str:
    """Open a case that awaits approval of PLAN; return its id."""
    facts = {"state": CaseState.AWAITING_APPROVAL, "fingerprint": PLAN, "evidence": EVIDENCE}
    volume_id = open_case(ledger)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    ledger.finish(claim, outcome(**facts | changes))
    return only_case(ledger, volume_id).case.case_id


def state_of(ledger: Ledger, case_id: str) -> CaseState:
    """Return the state that the case is in."""
    return ledger.case(case_id).case.state


def test_approval_makes_the_case_due_and_names_the_person(ledger: Ledger, run: Run) -> None:
    """The plan that was shown -> due at once, the approval and its reason in the history."""
    case_id = asked(ledger)
    words = ("--plan", PLAN[:8].upper(), "--reason", "checked", "--actor", "alice")
    assert run("case", "approve", case_id[:8], *words) == (
        0, f"approved the plan of case {case_id}\n", "",
    )  # fmt: skip
    record = ledger.case(case_id)
    assert (record.case.state, record.case.approved_by) == (CaseState.DUE, "alice")
    assert record.history[-1].reason == "checked"


def test_approval_of_what_awaits_none_is_refused(ledger: Ledger, run: Run) -> None:
    """A parked case -> exit 2, its state in the words, nothing changed."""
    case_id = asked(ledger, state=CaseState.PARKED)
    code, _, err = run("case", "approve", case_id, "--plan", PLAN, "--reason", "why not")
    assert code == 2
    assert "is parked" in err
    assert state_of(ledger, case_id) is CaseState.PARKED


def test_approval_without_a_terminal_names_the_option(ledger: Ledger, run: Run) -> None:
    """In a script, without --plan -> exit 2 and the option to give; nothing approved."""
    case_id = asked(ledger)
    code, out, err = run("case", "approve", case_id, "--reason", "in a loop")
    assert (code, out) == (2, "")
    assert "--plan FINGERPRINT" in err
    assert "detachd case show" in err
    assert state_of(ledger, case_id) is CaseState.AWAITING_APPROVAL


def test_several_cases_take_a_plan_each(ledger: Ledger, run: Run) -> None:
    """Two cases, one plan -> refused; a plan each, one of them old -> the other is approved."""
    first, second = asked(ledger), asked(ledger, fingerprint="0123abcd" * 8)
    assert run("case", "approve", first, second, "--plan", PLAN, "--reason", "x")[0] == 2
    assert state_of(ledger, first) is CaseState.AWAITING_APPROVAL
    plans = ("--plan", "99999999", "--plan", "0123abcd")
    code, out, err = run("case", "approve", first, second, *plans, "--reason", "x")
    assert (code, out) == (2, f"approved the plan of case {second}\n")
    assert f"case {first} never had the plan 99999999" in err
    assert state_of(ledger, first) is CaseState.AWAITING_APPROVAL
    assert state_of(ledger, second) is CaseState.DUE


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "after"), [("yes", CaseState.DUE), ("y", None), ("", None)])
def test_plan_is_shown_and_asked_for_on_a_terminal(
    ledger: Ledger, tmp_path: Path, run: Run, answer: str, after: CaseState | None
) -> None:
    """No --plan, a real terminal -> what each side said, the steps, and only "yes" approves."""
    case_id = asked(ledger)
    words = ["-m", "consumer", "case", "approve", case_id, "--reason", "seen"]
    ours, theirs = os.openpty()
    done = subprocess.Popen(
        [sys.executable, *words, "--config-file", str(tmp_path / "detachd.conf")],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown = _read(ours)
    assert done.wait(60) == 0
    shown = " ".join(shown.split())
    assert "attachment row-1 detaching" in shown
    assert "server server-1 active on compute1, compute not known to be up" in shown
    assert "server server-2: UNKNOWN: Nova: no answer" in shown
    assert "server server-3 does not exist" in shown
    assert "iqn.x has access, 1 live session" in shown
    assert "1. Nova: detach volume volume-1 from server server-1" in shown
    assert f"fingerprint {PLAN[:12]}" in shown
    assert state_of(ledger, case_id) is (after or CaseState.AWAITING_APPROVAL)


def _read(terminal: int) -> str:
    """Read a terminal to its end."""
    found = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so when nobody has the other end any more
            part = b""
        if not part:
            os.close(terminal)
            return found.decode()
        found += part


ORDERED = "0badcafe" * 8
OFFERING = EVIDENCE | {
    "verdict": "roll-forward",
    "rule": "UC2.attached",
    "guards": {"fingerprint": PLAN, "asked": 1, "held": {"APPROVE": None}},
    "plan": [EVIDENCE["plan"][0] | {"step": "cinder.complete"}],  # type: ignore[index]
    "instead": {
        "detach": {
            "plan": [
                EVIDENCE["plan"][0] | {"step": "cinder.complete"},  # type: ignore[index]
                EVIDENCE["plan"][0],  # type: ignore[index]
            ],
            "guards": {"fingerprint": ORDERED, "asked": 1, "held": {"APPROVE": None}},
        }
    },
}


def test_what_a_person_may_order_is_shown_and_ordered(ledger: Ledger, run: Run) -> None:
    """A plan that rolls forward -> the calls of the order, its command, and that command works."""
    case_id = asked(ledger, evidence=OFFERING)
    _, out, _ = run("case", "show", case_id)
    assert "Instead   1. Cinder: os-complete of attachment row-1" in out
    assert "2. Nova: detach volume volume-1 from server server-1" in out
    assert "--action detach, fingerprint 0badcafe0bad" in out
    line = next(one for one in out.splitlines() if "--action detach --plan" in one)
    assert line.strip().startswith(f"detachd case approve {case_id[:8]} --action detach")
    words = ("--action", "detach", "--plan", ORDERED[:12], "--reason", "nobody wants it")
    code, out, _ = run("case", "approve", case_id, *words)
    assert code == 0
    assert out == f"approved the plan of case {case_id} with detach\n"
    case = ledger.case(case_id).case
    assert (case.approved_fingerprint, case.approved_action) == (ORDERED, Action.DETACH)
    assert "ordered detach" in run("case", "show", case_id)[1]


def test_an_order_that_no_look_offers_is_refused(ledger: Ledger, run: Run) -> None:
    """--action where the plan has no such -> refused in words, and nothing is approved."""
    case_id = asked(ledger)
    words = ("--action", "detach", "--plan", PLAN, "--reason", "why")
    code, _, err = run("case", "approve", case_id, *words)
    assert code == 2
    assert "can only be approved as it is" in err
    assert state_of(ledger, case_id) is CaseState.AWAITING_APPROVAL


TOKEN_STEP = EVIDENCE["plan"][0] | {"step": "cinder.delete_attachment", "service_token": True}  # type: ignore[index]


def test_a_service_token_is_shown_and_ordered_of_a_parked_case(ledger: Ledger, run: Run) -> None:
    """Cinder refused the call -> the plan with a token, its command, and that command works."""
    guards = {"fingerprint": ORDERED, "asked": 1, "held": {"OWN_CALL_UNANSWERED": 300.0}}
    told = {"service-token": {"plan": [TOKEN_STEP], "guards": guards}}
    evidence = EVIDENCE | {"verdict": "release", "rule": "UC3.dead", "instead": told}
    case_id = asked(ledger, evidence=evidence, state=CaseState.PARKED, fingerprint=None)
    _, out, _ = run("case", "show", case_id)
    assert "with a service token: Cinder does not ask Nova" in " ".join(out.split())
    assert "it would wait: a call of our own gave no answer" in " ".join(out.split())
    typed = " ".join(out.replace("\\\n", " ").split())
    order = f"--action service-token --plan {ORDERED[:12]}"
    assert f'detachd case approve {case_id[:8]} {order} --reason "..."' in typed
    words = ("--action", "service-token", "--plan", ORDERED[:12], "--reason", "Cinder asks cell 2")
    code, out, _ = run("case", "approve", case_id, *words)
    assert (code, out) == (0, f"approved the plan of case {case_id} with service-token\n")
    assert ledger.case(case_id).case.approved_action is Action.SERVICE_TOKEN
