"""``detachd case``, ``pause``, ``resume`` and ``ledger upgrade`` on a real ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.cli.app import main
from consumer.ledger import Ledger
from handlers.case import Announcement, Priority, StepKind, StepResult, UseCase
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import LAB, only_case, open_case, outcome

Captured = pytest.CaptureFixture[str]


def attempt(ledger: Ledger, **changes: Any) -> str:
    """Open a case and take it through one attempt; return the case's id."""
    volume_id = open_case(ledger)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    casefile, request_id = ledger.casefile(claim), f"req-ours-{volume_id}"
    casefile.intend(
        StepKind.CINDER_UNRESERVE,
        request_id=request_id,
        target={"volume_id": volume_id},
        evidence={"seen": True},
        lease_seconds=60.0,
        announcement=Announcement("volume.force_detach.start", Priority.INFO, {"a": 1}),
    )
    casefile.result(request_id, StepResult.DONE, "")
    ledger.finish(claim, outcome(**changes))
    return claim.case.case_id


# -- list ------------------------------------------------------------------------------------------


def test_empty_ledger_lists_nothing(ledger: Ledger, run: Run) -> None:
    """No cases -> an empty list, exit 0."""
    assert run("case", "list", "-f", "json") == (0, "[]\n", "")


def test_cases_are_listed_for_programs(ledger: Ledger, run: Run) -> None:
    """-f json -> an object a case, plain values, the newest first."""
    first, second = attempt(ledger, use_case=UseCase.UC1), attempt(ledger)
    code, out, _ = run("case", "list", "-f", "json")
    found = json.loads(out)
    assert code == 0
    assert [case["ID"] for case in found] == [second, first]
    assert found[1] | {"Opened": "", "Volume": "", "Server": ""} == {
        "ID": first,
        "State": "parked",
        "Operation": "attach",
        "Volume": "",
        "Backend": LAB,
        "Use case": "UC1",
        "Rule": "T1.test",
        "Attempts": 1,
        "Opened": "",
        "Next attempt": None,
        "Server": "",
        "Host": "compute1",
        "Reason": "for the test",
    }
    assert found[1]["Opened"].endswith("+00:00")


@pytest.mark.parametrize("form", ["csv", "value", "yaml"])
def test_cases_are_listed_as_openstack_s_clients_do(ledger: Ledger, run: Run, form: str) -> None:
    """The other formats -> the same case in each."""
    case_id = attempt(ledger)
    code, out, err = run("case", "list", "-f", form)
    assert (code, err) == (0, "")
    assert case_id in out.replace("\n", "")
    assert "parked" in out


def test_list_is_narrowed_by_what_is_asked_for(ledger: Ledger, run: Run) -> None:
    """--state, --backend, --volume, --limit -> only those cases."""
    parked = attempt(ledger)
    volume_id = open_case(ledger, backend="other@lab")

    def ids(*words: str) -> list[str]:
        return [case["ID"] for case in json.loads(run("case", "list", "-f", "json", *words)[1])]

    due = only_case(ledger, volume_id).case.case_id
    assert ids("--state", "parked") == [parked]
    assert ids("--backend", "other@lab") == [due]
    assert ids("--volume", volume_id) == [due]
    assert ids("--limit", "1") == [parked]
    assert ids("--state", "closed") == []


# -- show ------------------------------------------------------------------------------------------


def test_case_is_shown_with_all_that_is_known(ledger: Ledger, run: Run) -> None:
    """-f json -> the case, its messages, history, writes and announcements as objects."""
    case_id = attempt(ledger, evidence={"cinder": {"status": "attaching"}})
    code, out, _ = run("case", "show", case_id, "-f", "json")
    case = json.loads(out)
    assert code == 0
    assert case["case_id"] == case_id
    assert case["state"] == "parked"
    assert case["failures"] == 0
    (message,) = case["notifications"]
    assert message["event_type"] == "volume.attach.start"
    (write,) = case["writes"]
    assert (write["kind"], write["result"]) == ("cinder.unreserve", "done")
    (sent,) = case["announcements"]
    assert sent["payload"] == {"a": 1}
    assert case["history"][-1]["detail"]["evidence"] == {"cinder": {"status": "attaching"}}


def test_beginning_of_an_id_is_enough(ledger: Ledger, run: Run) -> None:
    """Eight characters of the id -> that case."""
    case_id = attempt(ledger)
    code, out, _ = run("case", "show", case_id[:8], "-f", "value", "-c", "case_id")
    assert (code, out) == (0, f"{case_id}\n")


def test_case_is_shown_to_a_person_a_line_an_entry(ledger: Ledger, run: Run) -> None:
    """A table -> each message and write on one line; yaml -> readable back."""
    case_id = attempt(ledger)
    code, out, _ = run("case", "show", case_id, "-f", "table", "--fit-width", "--print-empty")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "req-ours" in line]
    assert "cinder.unreserve" in line
    shown = yaml.safe_load(run("case", "show", case_id, "-f", "yaml")[1])
    assert shown["case_id"] == case_id


def test_unknown_case_is_bad_input(ledger: Ledger, run: Run) -> None:
    """An id that no case has -> exit 2, and the id in the words."""
    assert run("case", "show", "ffffffff") == (
        2,
        "",
        "detachd: there is no case ffffffff; `detachd case list` shows them\n",
    )


# -- pause and resume ------------------------------------------------------------------------------


def test_pause_holds_until_resume(ledger: Ledger, run: Run) -> None:
    """`pause`, then `resume` -> in the ledger at once, with who and why."""
    assert run("pause", "--reason", "maintenance", "--actor", "alice") == (0, "paused\n", "")
    pause = ledger.paused()
    assert pause is not None
    assert (pause.actor, pause.reason) == ("alice", "maintenance")
    assert run("resume") == (0, "resumed\n", "")
    assert ledger.paused() is None


def test_one_backend_is_paused_and_resumed(ledger: Ledger, run: Run) -> None:
    """`--backend` -> that one alone; resuming all says what stays paused, and what ends that."""
    open_case(ledger, backend="h@lvm")
    paused = ("pause", "--backend", "h@lvm", "--reason", "array", "--actor", "alice")
    assert run(*paused) == (0, "paused: backend h@lvm\n", "")
    assert run(*paused) == (0, "already paused by alice: array\n", "")
    left = "backend h@lvm is paused by alice: array; `detachd resume --backend h@lvm` ends that\n"
    assert run("resume") == (0, f"detachd was not paused\n{left}", "")
    assert run("resume", "--backend", "h@lvm") == (0, "resumed: backend h@lvm\n", "")
    assert ledger.pauses() == ()


def test_a_mistyped_backend_is_not_paused(ledger: Ledger, run: Run) -> None:
    """No case and no file has that backend -> refused: the pause would stop nothing."""
    open_case(ledger, backend="h@lvm")
    code, out, err = run("pause", "--backend", "h@lvn", "--reason", "array")
    assert (code, out) == (2, "")
    assert "there is no backend h@lvn" in err
    assert "h@lvm" in err
    assert ledger.pauses() == ()


def test_pausing_twice_says_whose_pause_holds(ledger: Ledger, run: Run) -> None:
    """Paused already -> told by whom; the first pause stays."""
    run("pause", "--reason", "first", "--actor", "alice")
    code, out, _ = run("pause", "--reason", "second", "--actor", "bob")
    assert (code, out) == (0, "already paused by alice: first\n")


# -- the ledger ------------------------------------------------------------------------------------


def test_upgrade_makes_the_tables_and_says_so(tmp_path: Path, run: Run) -> None:
    """No database yet -> made; again -> up to date."""
    code, out, _ = run("ledger", "upgrade")
    assert code == 0
    assert "from nothing to" in out
    assert str(tmp_path / "ledger.sqlite") in out
    assert "is up to date" in run("ledger", "upgrade")[1]


@pytest.mark.parametrize(
    "words", [["case", "list"], ["pause", "--reason", "x"], ["resume"]], ids=" ".join
)
def test_schema_that_is_behind_names_the_command_to_run(run: Run, words: list[str]) -> None:
    """No tables yet -> exit 1 and what to run."""
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "run `detachd ledger upgrade`" in err


def test_database_that_is_none_of_ours_is_bad_input(tmp_path: Path, capsys: Captured) -> None:
    """A URL of another database -> exit 2, no password in the words."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        "[ledger]\nconnection = oracle://u:canary@h/d\n[backend_defaults]\ndriver = simulator\n"
    )
    assert main(["ledger", "upgrade", "--config-file", str(path)]) == 2
    err = capsys.readouterr().err
    assert "oracle" in err
    assert "canary" not in err


def test_directory_that_is_missing_is_a_failure_in_words(tmp_path: Path, capsys: Captured) -> None:
    """The ledger's directory does not exist -> exit 1, the path in the words."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[ledger]\nconnection = sqlite:///{tmp_path}/absent/l.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )
    assert main(["ledger", "upgrade", "--config-file", str(path)]) == 1
    assert f"{tmp_path}/absent/l.sqlite" in capsys.readouterr().err
