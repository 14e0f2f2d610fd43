"""A storm of stuck volumes, beside what the cloud's own slowness allows."""

import os
import sys

import pytest

from tests.benchmarks.storm import Storm, report, storm

VOLUMES = int(os.environ.get("DETACHD_STORM_VOLUMES", "10000"))
MOST_BYTES = 150_000_000
LEAST_RATIO = 0.8


@pytest.fixture(scope="module")
def worked_off() -> Storm:
    """Work one storm off and say how it went."""
    result = storm(VOLUMES)
    sys.stdout.write(f"\n{report(result)}\n")
    return result


def test_every_volume_is_mended_and_none_harmed(worked_off: Storm) -> None:
    """The storm is over -> each volume is available, its case settles, nothing was endangered."""
    assert worked_off.cases == {"settling": VOLUMES}
    assert worked_off.seen.statuses == {"available": VOLUMES}
    assert (worked_off.seen.hazards, worked_off.seen.overlaps) == (0, 0)


def test_near_the_ideal(worked_off: Storm) -> None:
    """64 workers, 50 ms a call -> at least four fifths of what the calls alone allow."""
    assert worked_off.ratio >= LEAST_RATIO, report(worked_off)


def test_memory_stays_small(worked_off: Storm) -> None:
    """Ten thousand volumes -> the service never has 150 MB resident."""
    assert worked_off.resident_bytes < MOST_BYTES, report(worked_off)
