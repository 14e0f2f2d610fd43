"""Cases, and groups of cases with one cause, as rows of texts, each under its heading. Pure.

What a person decides once for many cases is their cause: state, rule, backend, and the gist of the
reason.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from consumer.status.words import ABBREVIATED, age
from handlers.case import Case, CaseState

Cells = Mapping[str, str]
SHORT_STATES = {CaseState.AWAITING_APPROVAL: "approve?"}
# Request ids, uuids, hashes and numbers: what differs from case to case with one cause.
VARYING = re.compile(r"(?:req-)?[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32,}\b|\d+(?:\.\d+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Open cases of one state with the same cause; ``reason`` without what varies in it."""

    cases: tuple[Case, ...]
    reason: str

    def row(self) -> tuple[Any, ...]:
        """Return the values of ``GROUP_COLUMNS``."""
        one = self.cases[0]
        oldest = min(case.opened_at for case in self.cases)
        example = min(self.cases, key=lambda case: case.opened_at).case_id
        number = len(self.cases)
        return number, one.state, one.rule, one.backend, oldest, self.reason, example


def grouped(cases: Sequence[Case]) -> list[Group]:
    """Return the cases by state, rule, backend and cause, the largest group first."""

    def cause(case: Case) -> tuple[str, str, str, str]:
        return case.state.value, case.rule or "", case.backend or "", gist(case.reason)

    # Sorted by the same key, as groupby joins neighbours alone.
    found = itertools.groupby(sorted(cases, key=cause), key=cause)
    groups = [Group(tuple(members), key[-1]) for key, members in found]
    return sorted(groups, key=lambda group: -len(group.cases))


def gist(reason: str | None) -> str:
    """Return a reason without the ids and numbers in it, which differ from case to case."""
    return VARYING.sub("N", reason or "")


STEPS = ("under 1 h", "under 1 d", "under 7 d", "older")
BOUNDS = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))


def by_age(group: Group, now: datetime) -> tuple[int, ...]:
    """Return how many cases of a group are of each age of ``STEPS``."""
    ages = [now - case.opened_at for case in group.cases]
    steps = [sum(age >= bound for bound in BOUNDS) for age in ages]
    return tuple(steps.count(step) for step in range(len(STEPS)))


def of_cases(cases: Sequence[Case], now: datetime) -> Iterator[Cells]:
    """Yield the row of each case."""
    short = _shortened([case.case_id for case in cases])
    for case in cases:
        yield {
            "ID": short(case.case_id),
            "STATE": SHORT_STATES.get(case.state, case.state.value),
            "AGE": _age(case.opened_at, now),
            "CASE": case.use_case.value if case.use_case else "-",
            "SERVER": (case.instance_id or "-")[:ABBREVIATED],
            "HOST": case.host or "-",
            "VOLUME": case.volume_id,
            "BACKEND": case.backend or "-",
            "RULE": case.rule or "-",
            "REASON": case.reason or "not looked at yet",
        }


def of_groups(groups: Iterable[Group], now: datetime) -> Iterator[Cells]:
    """Yield the row of each group."""
    for group in groups:
        number, state, rule, backend, oldest, reason, example = group.row()
        yield {
            "CASES": str(number),
            "STATE": SHORT_STATES.get(state, state.value),
            "RULE": rule or "-",
            "BACKEND": backend or "-",
            "OLDEST": _age(oldest, now),
            "EXAMPLE": example[:ABBREVIATED],
            "REASON": reason or "not looked at yet",
        }


def _age(since: datetime, now: datetime) -> str:
    """Return an age in its largest unit: 3d, 5h, 12m, 40s."""
    # A list has room for one unit; ``words.age`` gives up to two.
    first = age((now - since).total_seconds()).split(" ")
    return first[0] + first[1][0]


def _shortened(ids: Sequence[str]) -> Callable[[str], str]:
    """Return what shortens an id to a beginning that no other one of these has."""
    longest = max(map(len, ids), default=ABBREVIATED)
    distinct = (
        length
        for length in range(ABBREVIATED, longest + 1)
        # A command takes the beginning of an id, if only one case begins so.
        if len({one[:length] for one in ids}) == len(set(ids))
    )
    length = next(distinct, longest)
    return lambda one: one[:length]
