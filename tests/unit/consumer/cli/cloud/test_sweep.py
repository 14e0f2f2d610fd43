"""``detachd sweep``: the list of what the sweeps have found, and the word that it was seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from handlers.correlation.sweep import Sighting

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``detachd`` on that ledger; return exit code and stdout."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )

    def run_command(*words: str) -> tuple[int, str]:
        code = main([*words, "--config-file", str(path)])
        return code, capsys.readouterr().out

    return run_command


def test_list(ledger: Ledger, run: Run) -> None:
    """A sweep has seen a volume and a row -> both, with when and of how many cases were made."""
    ledger.sweeps.note(
        [Sighting("vol-1", None, "occupied", "v"), Sighting("vol-2", "att", "reserved", "v")],
        whole=True,
    )
    code, out = run("sweep", "list", "-f", "json")
    found = {row["Volume"]: row for row in json.loads(out)}
    assert code == 0
    assert (found["vol-1"]["Status"], found["vol-1"]["Attachment"]) == ("occupied", "-")
    assert (found["vol-2"]["Attachment"], found["vol-2"]["Cases made"]) == ("att", 0)


def test_acknowledge(ledger: Ledger, run: Run) -> None:
    """Acknowledged -> recorded with who; a second time -> it says who did so before."""
    words = ("sweep", "acknowledge", "--reason", "seen", "--actor", "alice")
    assert run(*words) == (0, "acknowledged; 0 cases that waited are diagnosed again\n")
    seen = ledger.sweeps.acknowledged()
    assert seen is not None
    assert seen.by == "alice"
    assert run(*words) == (0, "acknowledged before, by alice; nothing changed\n")
