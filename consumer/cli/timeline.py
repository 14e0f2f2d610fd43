"""A case over time, drawn in the terminal: messages, looks, writes, announcements, states. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from consumer.cli.text import wrapped
from consumer.ledger import CaseRecord
from consumer.status.course import LANES, moments, with_gaps

TIME, LANE = 12, 10


def lines(record: CaseRecord, columns: int) -> Iterator[str]:
    """Yield the case from its first sign on, each moment with the time since then."""
    found = moments(record)
    if not found:
        yield "nothing is on record"
        return
    began = found[0].at
    yield f"{began:%Y-%m-%d %H:%M:%S} UTC is +0 s"
    for moment, since, quiet in with_gaps(found, began):
        if quiet is not None:
            yield f"{'':<{TIME}}:  {quiet} later"
        label = f"{'+' + since:<{TIME}}{LANES[moment.lane]}  {moment.lane:<{LANE}}"
        yield from wrapped(label, moment.text, columns, TIME + LANE + 3)
    yield ""
    yield "  ".join(f"{mark} {lane}" for lane, mark in LANES.items())
