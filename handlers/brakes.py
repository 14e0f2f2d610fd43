"""How many stuck volumes detachd may work on in a time: token buckets and a daily cap. Pure.

A bucket holds ``burst`` tokens and gets ``per_hour`` new ones in an hour. It is kept as one time,
at which it is full again: the generic cell rate algorithm of ATM (ITU-T I.371).
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timedelta

HOUR_SECONDS = 3600.0


class Scope(enum.Enum):
    """What a brake counts by."""

    BACKEND = "backend"
    HOST = "host"
    PROJECT = "project"
    DAY = "day"


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """The size of a bucket, and how many tokens it gets in an hour; no limit if either is 0."""

    burst: int
    per_hour: float

    @property
    def limits(self) -> bool:
        """Tell whether it limits anything."""
        return self.burst > 0 and self.per_hour > 0

    @property
    def interval(self) -> timedelta:
        """The time in which it gets one token."""
        return timedelta(seconds=HOUR_SECONDS / self.per_hour)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The limits for each backend, compute host and project, and for a day in all; 0 is none."""

    backend: Bucket = Bucket(0, 0.0)
    host: Bucket = Bucket(0, 0.0)
    project: Bucket = Bucket(0, 0.0)
    per_day: int = 0

    def of(self, scope: Scope) -> Bucket:
        """Return the bucket of a scope; of the day there is none."""
        buckets = {
            Scope.BACKEND: self.backend, Scope.HOST: self.host, Scope.PROJECT: self.project,
        }  # fmt: skip
        return buckets[scope]


UNLIMITED = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Spending:
    """On whose behalf a plan is about to be carried out; what is not known is not counted."""

    backend: str
    host: str | None
    project: str | None

    def names(self) -> dict[Scope, str]:
        """Return the name of each scope that is known."""
        named = {Scope.BACKEND: self.backend, Scope.HOST: self.host, Scope.PROJECT: self.project}
        return {scope: name for scope, name in named.items() if name}


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A brake holds a plan back, for at least ``wait_seconds``."""

    scope: Scope
    name: str
    wait_seconds: float

    @property
    def words(self) -> str:
        """The brake in words, with the option that sets it."""
        if self.scope is Scope.DAY:
            return "as many volumes as may be in one day were worked on today ([brakes] per_day)"
        what = "compute host" if self.scope is Scope.HOST else self.scope.value
        option = f"{self.scope.value}_per_hour"
        return f"too many volumes of {what} {self.name} in a short time ([brakes] {option})"


class BrakedError(Exception):
    """A brake holds the plan back; nothing was written."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.words)
        self.held = held


def wait_seconds(full_at: datetime | None, now: datetime, bucket: Bucket) -> float:
    """Return how long there is no token yet; 0 if there is one. ``full_at`` None: never used."""
    due = max(full_at or now, now)
    ahead = due - now - bucket.interval * (bucket.burst - 1)
    return max(ahead.total_seconds(), 0.0)


def spent(full_at: datetime | None, now: datetime, bucket: Bucket) -> datetime:
    """Return when the bucket is full again once a token is taken."""
    return max(full_at or now, now) + bucket.interval


def seconds_to_tomorrow(now: datetime) -> float:
    """Return how long the day of ``now`` lasts, in its own time zone."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - now).total_seconds()
