"""The page of compatibility says what ran, and nothing of what did not run is called proven."""

from __future__ import annotations

import dataclasses

import pytest

from tests.compatibility import records
from tests.compatibility.page import (
    BY_READING,
    PAGE,
    Known,
    Part,
    Release,
    by_reading,
    known,
    page,
    versions,
)
from tests.compatibility.records import Counts, Run, Used

RUNS = records.read()
READING = by_reading(BY_READING.read_text())
RELEASES = [(part, release) for part in Part for release in READING.releases[part]]

PAIR = {"cinder": "24.5.0", "nova": "29.4.0"}
PASSED = Run(
    "some",
    "2026-11-28",
    "0123456789ab",
    Used("3.11.7", None, ("3.10.8",), ("PostgreSQL 15.18",), PAIR, ("16.2.15",)),
    {"unit": Counts(passed=3, skipped=1)},
)
FAILED = dataclasses.replace(PASSED, name="other", suites={"unit": Counts(passed=2, failed=1)})
SKIPPED = dataclasses.replace(PASSED, suites={"unit": Counts(skipped=3)})
READ = {"reading": "So it is.", "source": "the source"}


def test_the_page_is_current() -> None:
    """A record or the file kept by hand changed and `make docs` was not run -> the difference."""
    assert page(PAGE.read_text(), RUNS, READING) == PAGE.read_text()


@pytest.mark.parametrize("release", [release for _, release in RELEASES], ids=lambda r: r.name)
def test_what_is_read_has_a_source(release: Release) -> None:
    """A release on the page -> what is said of it without a run names where it was read."""
    assert bool(release.reading) == bool(release.source)
    assert not (release.reading and release.unknown)


def test_what_nobody_ran_or_read_is_unknown() -> None:
    """No run and no source -> unknown, and why, where that is known."""
    release = Release("2.0")
    assert known(release, Part.RABBITMQ, [PASSED]) == (Known.NOT, "no run is recorded.")
    told = dataclasses.replace(release, unknown="there is none")
    assert known(told, Part.RABBITMQ, [PASSED]) == (Known.NOT, "there is none.")


@pytest.mark.parametrize("part", Part)
def test_everything_that_ran_is_on_the_page(part: Part) -> None:
    """A run had to do with a release -> just one line of the page is about it."""
    for run in (run for run in RUNS if versions(run, part)):
        assert len([r for r in READING.releases[part] if r.is_in(run, part)]) == len(
            versions(run, part) if part is not Part.OPENSTACK else [run]
        )


@pytest.mark.parametrize(
    ("part", "release"),
    [
        (Part.OPENSTACK, Release("2024.1", {"cinder": 24, "nova": 29})),
        (Part.RABBITMQ, Release("3.10")),
        (Part.CEPH, Release("16")),
        (Part.PYTHON, Release("3.11")),
        (Part.LEDGER, Release("PostgreSQL 15")),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_how_a_release_is_known(part: Part, release: Release) -> None:
    """Runs passed, failed or skipped all -> proven, failed, or no more than is read or unknown."""
    assert known(release, part, [PASSED]) == (Known.TEST, "some")
    assert known(release, part, [PASSED, FAILED]) == (
        Known.IN_PART,
        "other failed; passed: some",
    )
    assert known(release, part, [FAILED]) == (Known.FAILED, "other failed; passed: none")
    assert known(release, part, [SKIPPED])[0] is Known.NOT
    read = dataclasses.replace(release, **READ)
    assert known(read, part, [SKIPPED]) == (Known.READING, "So it is. From: the source.")
    assert known(read, part, [PASSED])[0] is Known.TEST


@pytest.mark.parametrize(
    ("part", "release"),
    [
        (Part.OPENSTACK, Release("2024.1, half", {"cinder": 24, "nova": 30})),
        (Part.OPENSTACK, Release("old")),
        (Part.RABBITMQ, Release("3.1")),
        (Part.CEPH, Release("1")),
        (Part.PYTHON, Release("3.1")),
        (Part.LEDGER, Release("MariaDB 15")),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_another_release_is_not_proven(part: Part, release: Release) -> None:
    """Half a pair, a number that only begins alike, another database -> unknown."""
    assert known(release, part, [PASSED])[0] is Known.NOT


def test_a_lab_of_several_releases_proves_none() -> None:
    """Cinder was started in two releases within one run -> the run proves neither."""
    used = dataclasses.replace(
        PASSED.used, openstack={"cinder": "24.5.0, 29.0.0", "nova": "29.4.0"}
    )
    mixed = dataclasses.replace(PASSED, used=used)
    release = Release("2024.1", {"cinder": 24, "nova": 29})
    assert known(release, Part.OPENSTACK, [mixed])[0] is Known.NOT


def test_a_failure_is_not_hidden() -> None:
    """A record of a failed run is kept -> the page says so at each part, and has the numbers."""
    text = page("", [FAILED], READING)
    assert text.count(Known.FAILED.value) == len(Part)
    assert "unit: 2 passed, 1 failed" in text
