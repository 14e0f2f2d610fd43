"""A case over time, drawn in the terminal: messages, looks, writes, announcements, states. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from consumer.cli.text import wrapped
from consumer.ledger import CaseRecord
from consumer.status.course import moments
from consumer.status.words import age

LANES = {"message": "m", "look": "o", "write": "#", "said": ">", "person": "@", "state": "*"}
TIME, LANE, WHAT = 12, 10, 22
QUIET_SECONDS = 60.0
"""A gap as long as this is drawn."""


def lines(record: CaseRecord, columns: int) -> Iterator[str]:
    """Yield the case from its first sign on, each moment with the time since then."""
    found = moments(record)
    if not found:
        yield "nothing is on record"
        return
    began = before = found[0].at
    yield f"{began:%Y-%m-%d %H:%M:%S} UTC is +0 s"
    for moment in found:
        if (gap := (moment.at - before).total_seconds()) >= QUIET_SECONDS:
            yield f"{'':<{TIME}}:  {age(gap)} later"
        before = moment.at
        since = f"+{age((moment.at - began).total_seconds())}"
        label = f"{since:<{TIME}}{LANES[moment.lane]}  {moment.lane:<{LANE}}"
        yield from wrapped(label, moment.text, columns, TIME + LANE + 3)
    yield ""
    yield "  ".join(f"{mark} {lane}" for lane, mark in LANES.items())
