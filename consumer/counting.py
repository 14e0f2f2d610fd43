"""What the loops tell of themselves, for whoever counts.

Each loop is given a function and hands it each event as it comes, and the reports that it makes
anyway. That function must be quick and must not raise; ``consumer.observing`` has the service's.
"""

from __future__ import annotations

import dataclasses
import enum

from handlers.case import Outcome


class What(enum.Enum):
    """What is counted as often as it happens, each by one label."""

    DISCONNECTED = "a connection to this bus was lost"
    REPLAYED = "a replay was settled with this result: rearmed, opened, repeated or refused"
    CLAIM_LOST = "a claim on this backend ran out, or was taken, while its case was worked"
    INTERNAL_ERROR = "this loop caught an error that nobody expected"
    SENT = "the broker confirmed an announcement of this event type"
    UNROUTED = "no queue was bound for an announcement of this event type"
    UNSENT = "an announcement of this event type was not confirmed; it will be sent again"


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """Something happened; the label is None where a case's backend is not known yet."""

    what: What
    label: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """A case was claimed; ``Released`` follows when it has been worked."""

    backend: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """The case is worked no more, whatever came of it."""

    backend: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Attempted:
    """The ledger has the outcome of an attempt."""

    backend: str | None
    outcome: Outcome
    seconds: float
