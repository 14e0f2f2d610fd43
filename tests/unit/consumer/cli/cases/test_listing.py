"""``detachd case list`` on a real ledger: order, filters, groups, and what a person sees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.cli.text import lines
from consumer.ledger import Ledger
from consumer.status.rows import gist
from handlers.case import CaseState, Conclusion, UseCase
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import only_case, open_case, outcome


def worked(ledger: Ledger, state: CaseState = CaseState.PARKED, **changes: Any) -> str:
    """Open a case and let one attempt come to this state; return its id."""
    given = {
        name: changes.pop(name)
        for name in ("backend", "host", "volume_id", "project_id")
        if name in changes
    }
    volume_id = open_case(ledger, **given)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    assert claim.case.volume_id == volume_id
    ledger.finish(claim, outcome(state, **changes))
    return claim.case.case_id


def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    """Return what the list holds for programs."""
    code, out, err = run("case", "list", "-f", "json", *words)
    assert (code, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def ids(run: Run, *words: str) -> list[str]:
    """Return the ids of the listed cases."""
    return [case["ID"] for case in listed(run, *words)]


def test_cases_for_a_person_come_first_and_closed_ones_last(ledger: Ledger, run: Run) -> None:
    """Opened in another order -> parked, asked, due, closed; of one state the newest first."""
    closed = worked(ledger, CaseState.CLOSED, conclusion=Conclusion.HEALTHY)
    asked = worked(ledger, CaseState.AWAITING_APPROVAL, fingerprint="f" * 64)
    parked, later = worked(ledger), worked(ledger)
    due = only_case(ledger, open_case(ledger)).case.case_id
    assert ids(run) == [later, parked, asked, due, closed]
    assert ids(run, "--state", "due", "--state", "closed") == [due, closed]


def test_pages_are_the_whole_list(ledger: Ledger, run: Run) -> None:
    """--limit and --skip across the states -> the same list in parts, and it says what is left."""
    worked(ledger, CaseState.CLOSED, conclusion=Conclusion.HEALTHY)
    for _ in range(3):
        worked(ledger)
    open_case(ledger)
    whole = ids(run)
    assert [i for n in (0, 2, 4) for i in ids(run, "--limit", "2", "--skip", str(n))] == whole
    assert run("case", "list", "--limit", "2")[2] == "2 of 5 shown; go on with --skip 2\n"
    assert run("case", "list", "--limit", "2", "--skip", "4")[2] == "1 of 5 shown\n"


def test_a_project_is_that_of_the_notifications(ledger: Ledger, run: Run) -> None:
    """--project -> cases with a notification that named it; another state and filter narrow it."""
    ours = worked(ledger, project_id="p-1", backend="other@lab")
    also = worked(ledger, CaseState.CLOSED, project_id="p-1", conclusion=Conclusion.HEALTHY)
    worked(ledger, project_id="p-10")
    worked(ledger)
    assert ids(run, "--project", "p-1") == [ours, also]
    assert ids(run, "--project", "p-1", "--backend", "other@lab") == [ours]
    assert ids(run, "--project", "p-1", "--state", "closed") == [also]
    code, out, err = run("case", "list", "--project", "p-2")
    assert (code, out) == (2, "")
    assert "no case on record has the project p-2" in err


def test_filters_take_beginnings_of_ids(ledger: Ledger, run: Run) -> None:
    """Each filter -> its case alone; volumes and servers by the beginning of their id."""
    case_id = worked(ledger, backend="other@lab", host="compute9", rule="P6.guest-holds")
    worked(ledger)
    case = ledger.case(case_id).case
    for words in (
        ("--volume", case.volume_id),
        ("--volume", case.volume_id[:8].upper()),
        ("--server", str(case.instance_id)[:8]),
        ("--host", "compute9"),
        ("--backend", "other@lab"),
        ("--rule", "P6.guest-holds"),
    ):
        assert ids(run, *words) == [case_id]
    assert ids(run, "--since", "2099-01-01") == []
    assert len(ids(run, "--since", "1h")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "typo@lab"), "there is no backend typo@lab; there are: labhost@lab"),
        (("--volume", "00000000"), "no case on record has the volume 00000000"),
        (("--server", "00000000"), "no case on record has the server 00000000"),
        (("--host", "nowhere"), "no case on record has the host nowhere"),
        (("--rule", "UC9.none"), "no case on record has the rule UC9.none"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_no_case_has_is_an_error(
    ledger: Ledger, run: Run, words: tuple[str, str], said: str
) -> None:
    """A mistyped backend, id, host or rule -> exit 2 and words, not an empty list."""
    worked(ledger)
    assert run("case", "list", *words) == (2, "", f"detachd: {said}\n")


def test_known_backend_without_such_cases_is_an_empty_list(ledger: Ledger, run: Run) -> None:
    """The backend has cases, and none that are closed -> nothing, exit 0."""
    worked(ledger)
    assert ids(run, "--backend", "labhost@lab", "--state", "closed") == []


def test_one_cause_is_one_group(ledger: Ledger, run: Run) -> None:
    """Thirty cases of one cause, with ids and times of their own in the reason -> one line."""
    for number in range(30):
        worked(ledger, rule="X1", reason=f"req-{number:08x}-{'0' * 27}: 503 after {number} s")
    other = worked(ledger, rule="X1", reason="refused")
    first, second = listed(run, "--group")
    assert (first["Cases"], first["Reason"]) == (30, "N: N after N s")
    assert (second["Cases"], second["Example"]) == (1, other)
    closed = worked(ledger, CaseState.CLOSED, conclusion=Conclusion.HEALTHY)
    assert closed not in run("case", "list", "--group", "-f", "json")[1]


@pytest.mark.parametrize("columns", [80, 200])
def test_lines_fit_the_terminal(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """A long host and a long reason -> one line a case, cut at the reason, the id whole enough."""
    monkeypatch.setenv("COLUMNS", str(columns))
    case_id = worked(
        ledger,
        host="compute-17.rack4.example.net"[:18],
        use_case=UseCase.UC4,
        reason="the backend also has a connection that no record explains, and " * 4,
    )
    heading, line = run("case", "list")[1].splitlines()
    assert max(len(heading), len(line)) <= columns
    assert line.startswith(case_id[:8])
    assert line.endswith("…")
    assert ("VOLUME" in heading) == (columns == 200)
    assert "UC4" in line


def test_hostile_names_move_no_cursor() -> None:
    """A host with control characters -> escaped in the line."""
    shown = list(lines([{"ID": "1", "HOST": "a\x1b[2J\rb", "REASON": "x\ny"}], 80))
    assert not any(c in line for line in shown for c in "\x1b\r\n")


def test_reasons_that_differ_in_words_stay_apart() -> None:
    """Two causes -> two gists; what varies in one -> one."""
    assert gist("host compute1 failed") != gist("host compute1 refused")
    assert gist("503 after 1.5 s") == gist("503 after 20 s")
