"""What slows detachd down: token buckets, a daily cap, a circuit breaker for each backend. Pure.

A bucket holds ``burst`` tokens and gets ``per_hour`` new ones in an hour. It is kept as one time,
at which it is full again: the generic cell rate algorithm of ATM (ITU-T I.371).

A breaker counts the releases of a backend that failed one after the other. At so many it opens, and
the backend is left alone for a while. Then one release is tried: if that succeeds the breaker
closes, else it stays open for twice as long.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timedelta

HOUR_SECONDS = 3600.0

PROBED_AGAIN_SECONDS = 30.0
"""How long a plan waits at most for the one release that a half-open breaker tries."""


class Scope(enum.Enum):
    """What a brake counts by."""

    BACKEND = "backend"
    HOST = "host"
    PROJECT = "project"
    DAY = "day"
    BREAKER = "breaker"


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
class BreakerLimits:
    """When a breaker opens, and for how long; ``failures`` 0: never."""

    failures: int = 0
    open_seconds: float = 300.0
    longest_seconds: float = 3600.0
    probe_seconds: float = 900.0
    """How long the one release may take that is tried; then, as after a crash, another one is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of a backend. Without ``opened_at`` it is closed.

    ``failures`` in a row; ``opens``: how often it opened without a success in between.
    ``probe_until``: a release is being tried.
    """

    failures: int = 0
    opens: int = 0
    opened_at: datetime | None = None
    probe_until: datetime | None = None

    def held_seconds(self, now: datetime, limits: BreakerLimits) -> float:
        """Return for how long it holds a release; 0 where one may be tried, or all may.

        While one is tried the others wait a short time: its end usually comes soon.
        """
        if self.opened_at is None or limits.failures == 0:
            return 0.0
        # Bounded, so that no number of failures makes a time that ``timedelta`` cannot hold.
        doubled = limits.open_seconds * 2 ** min(max(self.opens - 1, 0), 16)
        open_until = self.opened_at + timedelta(
            seconds=min(doubled, max(limits.longest_seconds, limits.open_seconds))
        )
        if now < open_until:
            return (open_until - now).total_seconds()
        left = ((self.probe_until or now) - now).total_seconds()
        return max(min(left, PROBED_AGAIN_SECONDS), 0.0)

    def probing(self, now: datetime, limits: BreakerLimits) -> Breaker:
        """Return it with one release being tried; a closed one stays as it is."""
        if self.opened_at is None:
            return self
        until = now + timedelta(seconds=limits.probe_seconds)
        return dataclasses.replace(self, probe_until=until)

    def failed(self, now: datetime, limits: BreakerLimits) -> Breaker:
        """Return it after a release that failed."""
        failures = self.failures + 1
        if self.opened_at is not None and self.probe_until is None:
            return dataclasses.replace(self, failures=failures)  # begun before it opened
        if failures < limits.failures:
            return dataclasses.replace(self, failures=failures)
        # Without ``probe_until``: the one release that was tried has failed.
        return Breaker(failures, self.opens + 1, opened_at=now)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The limits for each backend, compute host and project, and for a day in all; 0 is none."""

    backend: Bucket = Bucket(0, 0.0)
    host: Bucket = Bucket(0, 0.0)
    project: Bucket = Bucket(0, 0.0)
    per_day: int = 0
    breaker: BreakerLimits = BreakerLimits()

    def of(self, scope: Scope) -> Bucket:
        """Return the bucket of a scope; the day and the breaker have none."""
        buckets = {
            Scope.BACKEND: self.backend, Scope.HOST: self.host, Scope.PROJECT: self.project,
        }  # fmt: skip
        return buckets[scope]


UNLIMITED = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Spending:
    """On whose behalf a plan is about to be carried out; what is not known is not counted.

    ``begun``: it was begun before, and counted then. The breaker alone holds it.
    """

    backend: str
    host: str | None
    project: str | None
    begun: bool = False

    def names(self) -> dict[Scope, str]:
        """Return the name of each scope that counts it."""
        if self.begun:
            return {}
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
        if self.scope is Scope.BREAKER:
            return (
                f"the last releases on backend {self.name} failed: its circuit breaker is open, "
                "and one is tried later ([brakes] breaker_failures)"
            )
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
    # A bucket that was left alone may be used ``burst`` times at once, and is not overfilled by
    # time.
    ahead = due - now - bucket.interval * (bucket.burst - 1)
    return max(ahead.total_seconds(), 0.0)


def spent(full_at: datetime | None, now: datetime, bucket: Bucket) -> datetime:
    """Return when the bucket is full again once a token is taken."""
    return max(full_at or now, now) + bucket.interval


def seconds_to_tomorrow(now: datetime) -> float:
    """Return how long the day of ``now`` lasts, in its own time zone."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - now).total_seconds()
