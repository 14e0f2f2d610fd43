"""A ledger, and ``detachd`` on it, for the commands that people give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from drivers.simulator import Cloud
from tests.bus import new_ledger

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger whose errors settle at once."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give a simulated cloud."""
    with Cloud() as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``detachd`` on that ledger; return exit code, stdout and stderr.

    ``section`` is what the configuration has besides.
    """
    path = tmp_path / "detachd.conf"
    text = (
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )

    path.write_text(text)

    def run_command(*words: str, section: str = "") -> tuple[int, str, str]:
        path.write_text(text + section)
        code = main([*words, "--config-file", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command
