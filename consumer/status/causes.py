"""Open cases by their cause: what a person decides once for many. Pure."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from handlers.case import Case

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
