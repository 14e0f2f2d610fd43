"""Lists of cases and of their causes as rows of texts, each text under its heading. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from consumer.status.causes import Group
from consumer.status.words import ABBREVIATED, age
from handlers.case import Case, CaseState

Cells = Mapping[str, str]
SHORT_STATES = {CaseState.AWAITING_APPROVAL: "approve?"}


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
    first = age((now - since).total_seconds()).split(" ")
    return first[0] + first[1][0]


def _shortened(ids: Sequence[str]) -> Callable[[str], str]:
    """Return what shortens an id to a beginning that no other one of these has."""
    longest = max(map(len, ids), default=ABBREVIATED)
    distinct = (
        length
        for length in range(ABBREVIATED, longest + 1)
        if len({one[:length] for one in ids}) == len(set(ids))
    )
    length = next(distinct, longest)
    return lambda one: one[:length]
