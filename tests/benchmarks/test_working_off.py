"""A ledger of a million finished cases that archives for the first time."""

import os
import sys

import pytest

from tests.benchmarks.working_off import report, work_off

FINISHED = int(os.environ.get("DETACHD_FINISHED_CASES", "1000000"))
SECONDS = 60.0
MOST_HOURS = 3.0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_archive_works_off_a_million_and_keeps_nobody_waiting(kind: str) -> None:
    """A million to archive -> some hours at most, and nobody waits longer than for one batch."""
    worked = work_off(kind, FINISHED, SECONDS)
    sys.stdout.write(f"\n{report(kind, worked)}\n")
    for alone, beside in zip(worked.alone, worked.beside, strict=True):
        assert beside - alone <= worked.batch_seconds
    assert worked.hours_a_million <= MOST_HOURS
