"""The events that the loops of the service report, to be counted.

Each loop has a function that it calls with each event, and with the reports that it makes anyway.
The function must be quick and must not raise. That of the service is in
``consumer.supervision.observing``.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from handlers.case import Outcome


class EventKind(enum.Enum):
    """The kinds of events that are only counted, each with one label."""

    DISCONNECTED = "a connection to this bus was lost"
    REPLAYED = "a replay was settled with this result: rearmed, opened, repeated or refused"
    CLAIM_LOST = "a claim on this backend ended, or another worker claimed it, during the work"
    LEASE_OUTLIVED = "an attempt on this backend goes on although its lease has run out"
    INTERNAL_ERROR = "this loop caught an unexpected error"
    SENT = "the broker confirmed an announcement of this event type"
    UNROUTED = "no queue was bound for an announcement of this event type"
    HOST_ALIVE = "a host was heard of that, by a person's word, was in this state: off"
    UNSENT = "an announcement of this event type was not confirmed; it will be sent again"


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """One such event. The label is None if the backend of a case is not known yet."""

    kind: EventKind
    label: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class QueuesSeen:
    """How many messages wait in each queue that Nova or Cinder declared and nobody consumes."""

    bus: str
    waiting: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """A component outside was asked: ``cinder``, ``nova`` or ``backend:NAME``.

    ``problem`` is why it gave no answer, None where it gave any: a refusal is one. ``how`` says in
    words by what it is reached, where its driver told.
    """

    component: str
    problem: str | None
    how: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CallGivenUp:
    """A call of a storage driver did not return in time and was given up; it may still act."""

    backend: str
    method: str


@dataclasses.dataclass(frozen=True, slots=True)
class CallReturnedLate:
    """A call that was given up has returned."""

    backend: str
    method: str


@dataclasses.dataclass(frozen=True, slots=True)
class HangingCalls:
    """How many calls of a backend's driver hang now; ``stopped``: so many that none is made."""

    backend: str
    number: int
    stopped: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Claimed:
    """A case was claimed. ``Released`` follows when the work on it has ended."""

    backend: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """The work on the case has ended, with any result."""

    backend: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Attempted:
    """The outcome of an attempt was stored in the ledger."""

    backend: str | None
    outcome: Outcome
    seconds: float
