"""docs/compatibility.md: from the records of runs, and from what is known by reading alone. Pure.

``python -m tests.compatibility.page`` writes the page anew (``make docs``). What stands above the
mark is written by hand and kept.
"""

from __future__ import annotations

import dataclasses
import enum
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from tests.compatibility import records
from tests.compatibility.records import KEPT_IN, ROOT, Counts, Run

PAGE = ROOT / "docs" / "compatibility.md"
BY_READING = KEPT_IN / "by-reading.toml"
MARK = "<!-- From here on the page is made by `make docs`. -->"


class Known(enum.Enum):
    """How it is known that detachd works with something."""

    TEST = "proven by test"
    IN_PART = "**failed in part**"
    FAILED = "**failed**"
    READING = "by reading"
    NOT = "unknown"


class Part(enum.Enum):
    """What a cloud consists of, as the data file calls it; with the heading of its table."""

    OPENSTACK = "openstack"
    RABBITMQ = "rabbitmq"
    CEPH = "ceph"
    PYTHON = "python"
    LEDGER = "ledger"


HEADINGS = {
    Part.OPENSTACK: "OpenStack",
    Part.RABBITMQ: "RabbitMQ",
    Part.CEPH: "Ceph",
    Part.PYTHON: "Python",
    Part.LEDGER: "The ledger's database",
}
RUN = (
    "run", "OpenStack", "RabbitMQ", "Ceph", "Python", "libraries", "ledger", "tests", "commit",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Release:
    """A release of a part, or several of them, with what is known of it without a test.

    ``name`` begins the versions that it stands for. A release of OpenStack is told by the
    ``packages`` that it ships, each with the first number of its version.
    """

    name: str
    packages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reading: str | None = None
    source: str | None = None
    unknown: str | None = None

    def is_in(self, run: Run, part: Part) -> bool:
        """Tell whether a run had to do with it."""
        if part is Part.OPENSTACK:
            return bool(self.packages) and self.packages == majors(run)
        return any(version.startswith(f"{self.name}.") for version in versions(run, part))


@dataclasses.dataclass(frozen=True, slots=True)
class NoLonger:
    """A stuck state that a release itself no longer produces, since when, and what remains."""

    since: str
    state: str
    how: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Different:
    """What is different on a release, and what it means for detachd."""

    on: str
    what: str
    means: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """The file that is kept by hand."""

    releases: Mapping[Part, Sequence[Release]]
    no_longer: Sequence[NoLonger]
    different: Sequence[Different]


def majors(run: Run) -> Mapping[str, int]:
    """Return the first number of each package's version; of several versions at once, nothing."""
    told = {package: version.split(".")[0] for package, version in run.used.openstack.items()}
    several = any("," in version for version in run.used.openstack.values())
    return {} if several else {package: int(number) for package, number in told.items()}


def versions(run: Run, part: Part) -> Sequence[str]:
    """Return the versions of a part that a run had to do with."""
    match part:
        case Part.OPENSTACK:
            return tuple(f"{package} {v}" for package, v in sorted(run.used.openstack.items()))
        case Part.RABBITMQ:
            return run.used.rabbitmq
        case Part.CEPH:
            return run.used.ceph
        case Part.PYTHON:
            return (run.used.python,)
        case Part.LEDGER:
            return run.used.ledgers


def by_reading(text: str) -> Reading:
    """Read the file that is kept by hand; TypeError for a key that nobody knows."""
    given = tomllib.loads(text)
    return Reading(
        {part: tuple(Release(**table) for table in given[part.value]) for part in Part},
        tuple(NoLonger(**table) for table in given["no_longer"]),
        tuple(Different(**table) for table in given["different"]),
    )


def known(release: Release, part: Part, runs: Sequence[Run]) -> tuple[Known, str]:
    """Return how a release is known, and in words from what."""
    own = [run for run in runs if release.is_in(run, part)]
    passed = ", ".join(run.name for run in own if run.passed)
    if failed := [run.name for run in own if any(c.failed for c in run.suites.values())]:
        how = Known.IN_PART if passed else Known.FAILED
        return how, f"{', '.join(failed)} failed; passed: {passed or 'none'}"
    if passed:
        return Known.TEST, passed
    if release.reading:
        return Known.READING, f"{release.reading} From: {release.source}."
    return Known.NOT, f"{release.unknown or 'no run is recorded'}."


def page(before: str, runs: Sequence[Run], reading: Reading) -> str:
    """Return the whole page; of the text so far only what stands above the mark is kept."""
    head = before.partition(MARK)[0].rstrip()
    parts = (_part(part, reading.releases[part], runs) for part in Part)
    facts = (_different(reading.different), _no_longer(reading.no_longer))
    return "\n\n".join([head, MARK, *parts, _runs(runs), *facts]) + "\n"


def _part(part: Part, releases: Sequence[Release], runs: Sequence[Run]) -> str:
    rows = ((_called(release), *_told(release, part, runs)) for release in releases)
    return _section(HEADINGS[part], ("release", "known", "from"), rows)


def _called(release: Release) -> str:
    packages = ", ".join(f"{name.title()} {number}" for name, number in release.packages.items())
    return f"{release.name} ({packages})" if packages else release.name


def _told(release: Release, part: Part, runs: Sequence[Run]) -> tuple[str, str]:
    how, words = known(release, part, runs)
    return how.value, words


def _runs(runs: Sequence[Run]) -> str:
    return _section("What ran", RUN, map(_run, runs))


def _run(run: Run) -> tuple[str, ...]:
    used = {part: ", ".join(versions(run, part)) or "-" for part in Part}
    return (
        run.name,
        used[Part.OPENSTACK],
        used[Part.RABBITMQ],
        used[Part.CEPH],
        used[Part.PYTHON],
        run.used.libraries or "others",
        used[Part.LEDGER],
        "; ".join(f"{suite}: {_counted(counts)}" for suite, counts in run.suites.items()),
        f"{run.commit}, {run.date}",
    )


def _counted(counts: Counts) -> str:
    told = dataclasses.asdict(counts)
    return ", ".join(f"{number} {how}" for how, number in told.items() if number)


def _different(facts: Sequence[Different]) -> str:
    rows = ((f.on, f.what, f.means, f.source) for f in facts)
    return _section("What is different on a release", ("on", "what", "means", "source"), rows)


def _no_longer(states: Sequence[NoLonger]) -> str:
    rows = ((s.since, s.state, s.how, s.source) for s in states)
    head = ("since", "no longer produced", "what changed, and what remains", "source")
    return _section("Stuck states that a release itself no longer produces", head, rows)


def _section(heading: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    table = [columns, ["---"] * len(columns), *rows]
    return "\n".join([f"## {heading}", "", *(f"| {' | '.join(row)} |" for row in table)])


def main() -> None:
    """Write the page."""
    before = PAGE.read_text() if PAGE.exists() else ""
    PAGE.write_text(page(before, records.read(), by_reading(BY_READING.read_text())))


if __name__ == "__main__":
    main()
