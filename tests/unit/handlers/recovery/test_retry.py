"""Patience inside an attempt and between attempts: bounded, jittered, ended by the stop event."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from drivers.errors import ConflictError, IndeterminateError, PermanentError, TransientError
from handlers.judgement.policy import BackendPolicy
from handlers.recovery.retry import delay_seconds, repeat

QUICK = BackendPolicy(tries=4, try_backoff_seconds=0.001, try_backoff_max_seconds=0.002)


class Calls:
    """Raises what it was given, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    def __call__(self) -> str:
        """Make the next call."""
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def stop() -> threading.Event:
    """Return a stop event that nobody has set."""
    return threading.Event()


def test_a_call_that_surely_did_nothing_is_made_again(stop: threading.Event) -> None:
    """Three transient errors, four tries -> the fourth's answer."""
    calls = Calls(*[TransientError("refused")] * 3)
    assert repeat(calls, QUICK, stop, limit_seconds=60) == "answer"
    assert calls.made == 4


@pytest.mark.parametrize("error", [IndeterminateError, PermanentError, ConflictError])
def test_a_later_try_that_may_have_acted_is_the_last(
    stop: threading.Event, error: type[Exception]
) -> None:
    """Transient first, then what is not -> two calls, and that error: nothing is done twice."""
    calls = Calls(TransientError("refused"), error("it may have acted"))
    with pytest.raises(error, match="may have acted"):
        repeat(calls, QUICK, stop, limit_seconds=60)
    assert calls.made == 2


def test_the_tries_are_bounded_and_the_last_error_is_told(stop: threading.Event) -> None:
    """Always transient -> as many calls as the policy has tries, then the last one's error."""
    calls = Calls(*[TransientError(f"try {n}") for n in range(1, 9)])
    with pytest.raises(TransientError, match="try 4"):
        repeat(calls, QUICK, stop, limit_seconds=60)
    assert calls.made == 4


def test_the_pause_is_as_long_as_the_other_side_asked_for(stop: threading.Event) -> None:
    """Retry-After within our longest pause -> waited for."""
    policy = dataclasses.replace(QUICK, try_backoff_max_seconds=0.2)
    calls = Calls(TransientError("429", retry_after_seconds=0.1))
    began = time.monotonic()
    assert repeat(calls, policy, stop, limit_seconds=60) == "answer"
    assert time.monotonic() - began >= 0.1


def test_a_longer_wish_ends_the_repetition(stop: threading.Event) -> None:
    """Retry-After beyond our longest pause -> no other try in this attempt."""
    calls = Calls(TransientError("429", retry_after_seconds=60))
    with pytest.raises(TransientError, match="429"):
        repeat(calls, QUICK, stop, limit_seconds=60)
    assert calls.made == 1


@pytest.mark.parametrize("kind", [IndeterminateError, PermanentError, ConflictError])
def test_only_what_surely_did_nothing_is_repeated(
    stop: threading.Event, kind: type[Exception]
) -> None:
    """A call that may have acted, or was refused -> it is made once."""
    calls = Calls(kind("no"))
    with pytest.raises(kind):
        repeat(calls, QUICK, stop, limit_seconds=60)
    assert calls.made == 1


def test_no_try_begins_after_the_limit(stop: threading.Event) -> None:
    """Each try takes as long as the limit -> there is no second one."""
    made = 0

    def slow() -> None:
        nonlocal made
        made += 1
        time.sleep(0.05)
        raise TransientError("slow")

    with pytest.raises(TransientError):
        repeat(slow, dataclasses.replace(QUICK, tries=100), stop, limit_seconds=0.05)
    assert made == 1


def test_the_stop_event_ends_a_pause_at_once_and_no_call_follows(stop: threading.Event) -> None:
    """Stopped in a pause of up to an hour -> over within moments, without one more call."""
    patient = dataclasses.replace(
        QUICK, tries=50, try_backoff_seconds=3600.0, try_backoff_max_seconds=3600.0
    )
    calls = Calls(*[TransientError("refused")] * 50)
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(TransientError, match="refused"):
        repeat(calls, patient, stop, limit_seconds=3600)
    timer.join()
    assert time.monotonic() - began < 60
    assert calls.made == 1


def test_with_the_stop_event_set_before_nothing_is_repeated(stop: threading.Event) -> None:
    """Stopped before the first call -> that one is made, none after it."""
    stop.set()
    calls = Calls(*[TransientError("refused")] * 9)
    with pytest.raises(TransientError):
        repeat(calls, QUICK, stop, limit_seconds=60)
    assert calls.made == 1


def test_the_delay_between_attempts_doubles_up_to_its_bound() -> None:
    """One failure after another, the draw at its highest -> 30, 60, 120 ... and never over 1800."""
    bounds = [delay_seconds(n, BackendPolicy(), draw=lambda: 1.0) for n in range(1, 12)]
    assert bounds[:7] == [30, 60, 120, 240, 480, 960, 1800]
    assert set(bounds[7:]) == {1800}


def test_the_delay_is_jittered_over_the_whole_bound_but_for_a_tenth() -> None:
    """Any draw -> between a tenth of the bound and the bound, proportional to the draw."""
    policy = BackendPolicy()
    assert delay_seconds(3, policy, draw=lambda: 0.0) == 12
    assert delay_seconds(3, policy, draw=lambda: 0.5) == 60
    drawn = {delay_seconds(3, policy) for _ in range(50)}
    assert len(drawn) > 20  # a tenth of the draws are the least there is
    assert all(12 <= delay <= 120 for delay in drawn)


def test_a_huge_number_of_failures_is_no_overflow() -> None:
    """Ten thousand failures -> still the bound."""
    assert delay_seconds(10_000, BackendPolicy(), draw=lambda: 1.0) == 1800


class Clock(threading.Event):
    """Monotonic time that only calls and pauses move on; as an event, one that nobody sets."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        """Let a pause go by."""
        self.now += timeout or 0.0
        return False


def test_the_longest_call_of_the_policy_is_no_shorter_than_the_retries_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A try fails just before the limit, the next takes its whole time -> within the longest."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    policy = BackendPolicy(
        tries=9, call_timeout_seconds=0.05, try_backoff_seconds=0.02, try_backoff_max_seconds=0.02
    )

    takes = [2 * policy.call_timeout_seconds, 0.99 * policy.call_timeout_seconds]

    def both_calls_of_a_force_detach() -> None:
        clock.wait(takes.pop())
        raise TransientError("timed out connecting")

    began = clock.now
    with pytest.raises(TransientError):
        repeat(
            both_calls_of_a_force_detach, policy, clock, limit_seconds=policy.call_timeout_seconds
        )
    assert takes == []
    assert clock.now - began <= policy.longest_call_seconds


def test_a_lease_outlasts_the_look_the_write_and_the_wait_for_nova() -> None:
    """More servers to ask -> a longer lease; the policy's property is the one-server case."""
    policy = BackendPolicy()
    assert policy.longest_step_seconds == policy.step_seconds(servers=1)
    assert policy.step_seconds(servers=4) - policy.step_seconds(servers=1) == pytest.approx(
        3 * (policy.look_seconds(4) - policy.look_seconds(1))
    )
    # Where no server is known, two things are asked of the host instead.
    assert policy.step_seconds(servers=0) == policy.step_seconds(servers=1)
    least = policy.longest_look_seconds + 2 * policy.call_timeout_seconds
    assert policy.longest_step_seconds > least + policy.nova_detach_wait_seconds
