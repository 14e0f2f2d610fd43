"""What a record of a run says: what was really used, and what really came out."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compatibility import records
from tests.compatibility.recorder import LISTS, VARIABLE, pins, suite_of
from tests.compatibility.records import ROOT, Counts, Run, Used

pytestmark = pytest.mark.slow  # each runs a pytest of its own

TESTS = """
import pytest
import sqlalchemy as sa
from consumer.ledger.database.engine import Database

@pytest.fixture
def broken():
    yield
    raise RuntimeError

def test_passes(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with database.engine.connect():
        pass
    database.close()

def test_other_engine():
    with sa.create_engine("sqlite://").connect():
        pass

def test_fails(): raise AssertionError

def test_breaks_afterwards(broken): pass

def test_skipped(): pytest.skip("so")
"""


def recorded(directory: Path, *arguments: str, tests: str = TESTS) -> Run:
    """Run tests of their own in another process and return what it recorded."""
    suite = directory / "tests" / "some"
    suite.mkdir(parents=True)
    (suite / "test_some.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    where = ["--rootdir", str(directory), "-c", os.devnull, "-p", "tests.conftest", str(suite)]
    record = directory / "run.json"
    subprocess.run(
        [*command, *where],
        cwd=directory,
        env={**os.environ, VARIABLE: str(record), "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        timeout=120,
    )
    (run,) = records.read(directory)
    return run


@pytest.mark.parametrize("processes", ["0", "2"])
def test_each_test_counts_once_by_its_worst_phase(tmp_path: Path, processes: str) -> None:
    """Tests pass, fail, break in a fixture or are skipped -> each is counted, in any process."""
    run = recorded(tmp_path, "-n", processes)
    assert dict(run.suites) == {"some": Counts(passed=2, failed=2, skipped=1)}
    assert not run.passed
    assert run.used.python == platform.python_version()
    assert run.used.ledgers == (f"SQLite {sqlite3.sqlite_version}",)


def test_a_database_that_is_no_ledger_does_not_count(tmp_path: Path) -> None:
    """Tests connect to a database, but to no ledger -> none is recorded, nor any service."""
    only = "import sqlalchemy as sa\n\ndef test_one(): sa.create_engine('sqlite://').connect()\n"
    run = recorded(tmp_path, tests=only)
    assert run.passed
    assert run.used.ledgers == run.used.rabbitmq == ()
    assert run.used.openstack == {}


def test_a_run_that_was_interrupted_is_no_record(tmp_path: Path) -> None:
    """A run is interrupted after tests that passed -> nothing is recorded of it."""
    text = "def test_one(): pass\n\ndef test_two(): raise KeyboardInterrupt\n"
    with pytest.raises(ValueError, match="not enough values"):
        recorded(tmp_path, tests=text)


@pytest.mark.parametrize(
    ("suites", "passed"),
    [
        ({"unit": Counts(passed=1)}, True),
        ({"unit": Counts(passed=1), "faults": Counts(passed=9, failed=1)}, False),
        ({"unit": Counts(skipped=3)}, False),
        ({}, False),
    ],
    ids=["passed", "one failed", "all skipped", "nothing ran"],
)
def test_what_counts_as_passed(suites: dict[str, Counts], passed: bool) -> None:
    """A run -> proof only where tests ran and none of them failed."""
    assert Run("r", "2026-11-28", "c", Used("3.11.2"), suites).passed is passed


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A record is kept -> the same is read."""
    used = Used("3.11.2", "constraints", ("3.10.8",), ("SQLite 3.40.1",), {"nova": "29.4.0"})
    run = Run("a", "2026-11-28", "0123456789ab", used, {"unit": Counts(1, 2, 3)})
    (tmp_path / "a.json").write_text(run.to_json())
    assert records.read(tmp_path) == [run]


@pytest.mark.parametrize(
    ("test", "suite"),
    [
        ("tests/unit/test_x.py::test_a[lab]", "unit"),
        ("tests/behaviour/test_nova.py::test_a[simulator-x]", "behaviour"),
        ("tests/behaviour/test_nova.py::test_a[lab-x]", "behaviour on the lab"),
        ("tests/lab_service/test_seeing.py::test_use_case[UC1]", "lab_service on the lab"),
    ],
)
def test_suites_with_and_without_the_lab(test: str, suite: str) -> None:
    """A test of tests/behaviour -> what ran on the simulator is not counted for the lab."""
    assert suite_of(test) == suite


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_a_list_of_releases_is_read_whole(file: Path) -> None:
    """A list -> every line that is no comment is a pin."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert len(pins(file.read_text())) == len([line for line in lines if line.strip()])
