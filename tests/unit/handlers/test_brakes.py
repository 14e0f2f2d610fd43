"""The token buckets and the day, as functions of the time."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.brakes import (
    Breaker,
    BreakerLimits,
    Bucket,
    Held,
    Limits,
    Scope,
    Spending,
    seconds_to_tomorrow,
    spent,
    wait_seconds,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def taken(bucket: Bucket, times: list[datetime]) -> int:
    """Ask for a token at each of these times; return how many were given."""
    full_at: datetime | None = None
    given_out = 0
    for now in times:
        if wait_seconds(full_at, now, bucket) == 0:
            full_at = spent(full_at, now, bucket)
            given_out += 1
    return given_out


def test_a_burst_then_the_rate() -> None:
    """Three at once and 60 an hour -> three now, one more after each minute."""
    bucket = Bucket(3, 60.0)
    assert taken(bucket, [NOW] * 10) == 3
    minutes = [NOW + timedelta(minutes=n) for n in range(5) for _ in range(10)]
    assert taken(bucket, minutes) == 3 + 4


def test_it_says_how_long_to_wait() -> None:
    """The burst is used up -> the next token comes after the rest of an interval."""
    bucket = Bucket(1, 60.0)
    full_at = spent(None, NOW, bucket)
    assert wait_seconds(full_at, NOW, bucket) == 60.0
    assert wait_seconds(full_at, NOW + timedelta(seconds=45), bucket) == 15.0
    assert wait_seconds(full_at, NOW + timedelta(seconds=60), bucket) == 0.0


@given(
    burst=st.integers(1, 20),
    per_hour=st.floats(1.0, 1000.0),
    gaps=st.lists(st.floats(0.0, 5000.0), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(
    burst: int, per_hour: float, gaps: list[float]
) -> None:
    """Whenever it is asked -> in no time more than the burst and what the rate gives."""
    now, times = NOW, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        times.append(now)
    most = burst + sum(gaps) / 3600.0 * per_hour + 1e-6
    assert taken(Bucket(burst, per_hour), times) <= most


def test_what_is_not_known_is_not_counted() -> None:
    """No host, no project -> the backend alone."""
    assert Spending("b", None, "").names() == {Scope.BACKEND: "b"}


@pytest.mark.parametrize(("bucket", "limits"), [
    (Bucket(0, 60.0), False), (Bucket(3, 0.0), False), (Bucket(3, 60.0), True),
])  # fmt: skip
def test_a_zero_is_no_limit(bucket: Bucket, *, limits: bool) -> None:
    """Burst or rate 0 -> no limit, and not a limit of none."""
    assert bucket.limits is limits
    assert Limits(backend=bucket).of(Scope.BACKEND) is bucket


def test_the_words_name_the_option() -> None:
    """A person reads why it waits -> the option that sets it is named."""
    assert "[brakes] host_per_hour" in Held(Scope.HOST, "c1", 1.0).words
    assert "[brakes] per_day" in Held(Scope.DAY, "2026-11-28", 1.0).words


def test_the_day_ends_at_midnight() -> None:
    """At noon -> half a day."""
    assert seconds_to_tomorrow(NOW) == 43200.0


LIMITS = BreakerLimits(failures=3, open_seconds=60.0, longest_seconds=200.0, probe_seconds=30.0)


def after(breaker: Breaker, failures: int) -> Breaker:
    """Return it after so many failures, all at one moment."""
    for _ in range(failures):
        breaker = breaker.failed(NOW, LIMITS)
    return breaker


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_a_breaker_opens_after_so_many_failures_in_a_row() -> None:
    """Two failures -> closed; the third -> open for a minute, then one may be tried."""
    assert after(Breaker(), 2).held_seconds(NOW, LIMITS) == 0.0
    opened = after(Breaker(), 3)
    assert opened.held_seconds(NOW, LIMITS) == 60.0
    assert opened.held_seconds(NOW + seconds(59), LIMITS) == 1.0
    assert opened.held_seconds(NOW + seconds(60), LIMITS) == 0.0


def test_while_one_is_tried_the_others_wait() -> None:
    """Half open -> one release; until it has ended, or its time is up, no other."""
    half_open = NOW + seconds(60)
    tried = after(Breaker(), 3).probing(half_open, LIMITS)
    assert tried.held_seconds(half_open, LIMITS) == 30.0
    assert tried.held_seconds(half_open + seconds(30), LIMITS) == 0.0
    assert Breaker().probing(NOW, LIMITS) == Breaker()


def test_a_slow_try_is_not_waited_for_to_its_bound() -> None:
    """One is tried, which may take a quarter of an hour -> the others look again much sooner."""
    slow = dataclasses.replace(LIMITS, probe_seconds=900.0)
    half_open = NOW + seconds(60)
    tried = after(Breaker(), 3).probing(half_open, slow)
    assert tried.held_seconds(half_open, slow) == 30.0
    assert tried.held_seconds(half_open + seconds(890), slow) == 10.0
    assert tried.held_seconds(half_open + seconds(900), slow) == 0.0


def test_a_try_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    """The try fails again and again -> 120 s, 200 s, 200 s."""
    breaker, now, pauses = after(Breaker(), 3), NOW, []
    for _ in range(3):
        now += seconds(1000)
        breaker = breaker.probing(now, LIMITS).failed(now, LIMITS)
        pauses.append(breaker.held_seconds(now, LIMITS))
    assert pauses == [120.0, 200.0, 200.0]


def test_what_was_begun_before_it_opened_does_not_prolong_it() -> None:
    """Calls under way fail after it opened -> it opens again at the time it would have."""
    opened = after(Breaker(), 3)
    later = opened.failed(NOW + seconds(50), LIMITS)
    assert later.held_seconds(NOW + seconds(50), LIMITS) == 10.0


def test_no_breaker_is_wanted() -> None:
    """Failures 0 -> it never holds."""
    assert after(Breaker(), 9).held_seconds(NOW, BreakerLimits()) == 0.0
