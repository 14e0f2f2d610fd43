"""Each situation from a public report, through the whole service, as its report expects it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import pytest

from handlers.case import CaseState
from tests.cases import expected as table
from tests.cases import reports
from tests.cases.expected import Ends, Expected
from tests.cases.playing import BLIND, SEEING, TRUSTED, Ended, parts_with_sweep, play
from tests.cases.variants import VARIANTS

pytestmark = pytest.mark.slow

TABLES: Mapping[str, Mapping[str, Expected]] = {
    SEEING: {**table.SEEING, **table.VARIANTS},
    BLIND: table.BLIND,
    TRUSTED: table.TRUSTED,
}
PARTS = [(name, SEEING) for name in TABLES[SEEING]]
PARTS += [(name, BLIND) for name in table.BLIND]
PARTS += [(name, TRUSTED) for name in dict.fromkeys((*reports.NAMES, *table.TRUSTED))]
UNSEEN = {SEEING: "", BLIND: "-blind", TRUSTED: "-blind-and-trusted"}


def _judged() -> Iterator[object]:
    for how, entries in TABLES.items():
        for name, wanted in entries.items():
            yield pytest.param(name, how, wanted, id=f"{name}{UNSEEN[how]}")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Play them when the first is asked for: those with the sweep, or those without."""

    @functools.cache
    def half(sweep: bool) -> Mapping[tuple[str, str], Ended]:
        directory = tmp_path_factory.mktemp("sweep" if sweep else "bus")
        return play(directory, parts_with_sweep(PARTS, sweep=sweep), sweep=sweep)

    return lambda name, how: half(reports.read(name).sweep)[name, how]


def test_every_report_is_expected_to_come_to_something() -> None:
    """A file is added or taken away -> the table says so too."""
    assert set(table.SEEING) == set(reports.NAMES)
    assert set(table.VARIANTS) == set(VARIANTS)
    assert {*table.BLIND, *table.TRUSTED} <= {*reports.NAMES, *VARIANTS}


@pytest.mark.parametrize(("name", "how", "wanted"), list(_judged()))
def test_reported_situation(played, name: str, how: str, wanted: Expected) -> None:
    """A situation that people reported -> it comes to what its report expects."""
    ended = played(name, how)
    problems = [*_of_cases(ended, wanted), *_of_data(ended, wanted), *_of_words(ended, wanted)]
    assert not problems, (*problems, reports.read(name).expected, ended)


@pytest.mark.parametrize("name", reports.NAMES)
def test_driver_that_sees_nothing_harms_nobody(played, name: str) -> None:
    """The same, and a blind driver is trusted -> no guest loses its disk by what is done."""
    ended = played(name, TRUSTED)
    assert not ended.hazards
    assert ended.guests_after >= (ended.guests_before if ended.before else frozenset()) or (
        "nova.detach" in ended.done
    )


def _of_cases(ended: Ended, wanted: Expected) -> Iterator[str]:
    if ended.done not in wanted.steps:
        yield f"{ended.done} was done"
    if not AS_EXPECTED[wanted.ends](ended):
        states = tuple(case.state.value for case in ended.cases)
        yield f"the cases are {states}, {ended.announced} was announced"


def _open(ended: Ended) -> int:
    return len(ended.cases) - ended.in_state(CaseState.CLOSED)


AS_EXPECTED: Mapping[Ends, Callable[[Ended], bool]] = {
    Ends.NOTHING: lambda e: not _open(e) and not e.announced,
    Ends.LEFT: lambda e: "end" not in e.announced,
    Ends.UNALARMED: lambda e: not e.in_state(CaseState.PARKED) and not e.announced,
    Ends.UNKNOWN: lambda e: [c.verdict for c in e.cases] == ["unknown"] and not e.announced,
    Ends.WAITS: lambda e: _open(e) == e.in_state(CaseState.DUE) == 1 and not e.announced,
    Ends.WARNED: lambda e: _open(e) == e.in_state(CaseState.DUE) == 1 and e.announced == ("error",),
    Ends.PARKED: lambda e: (
        _open(e) == e.in_state(CaseState.PARKED) == 1 and e.announced == ("parked",)
    ),
    Ends.MENDED: lambda e: not _open(e) and e.announced == ("start", "end"),
    Ends.EACH: lambda e: (
        not _open(e) and e.announced == ("start", "end") * sum(bool(c.done) for c in e.cases)
    ),
    Ends.ROLLED: lambda e: bool(e.cases) and "end" not in e.announced,
}


def _of_data(ended: Ended, wanted: Expected) -> Iterator[str]:
    holds = ended.before if wanted.holds is None else wanted.holds
    if wanted.ends is Ends.ROLLED and ended.after and ended.before:
        holds = ended.after[0], *ended.before[1:]
    if ended.after != holds:
        yield f"{ended.after} is held and not {holds}"
    yield from (hazard.words for hazard in ended.hazards)
    lost = len(ended.guests_before - ended.guests_after) if ended.before else 0
    if lost != wanted.lets_go:
        yield f"{lost} guests lost the disk"


def _of_words(ended: Ended, wanted: Expected) -> Iterator[str]:
    said = ended.reasons.lower()
    yield from (f"never says {word!r}" for word in wanted.says if word not in said)
    yield from (f"says {word!r}" for word in wanted.never_says if word in said)
