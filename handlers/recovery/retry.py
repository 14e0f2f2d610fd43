"""The two kinds of retry: inside an attempt by tenacity, between attempts by the ledger.

Only ``TransientError`` is repeated inside an attempt: the call surely did nothing. Both backoffs
are exponential with full jitter (a uniform draw from zero to the exponential bound), so that many
cases that failed together do not come back together.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from drivers.errors import TransientError
from handlers.judgement.policy import BackendPolicy

T = TypeVar("T")


def repeat(
    call: Callable[[], T], policy: BackendPolicy, stop: threading.Event, *, limit_seconds: float
) -> T:
    """Make ``call`` up to ``policy.tries`` times while it raises TransientError.

    Blocks for the calls and the pauses between them; none is begun later than ``limit_seconds`` and
    one pause after the first. ``stop`` ends the pauses and the repetition: the event alone would
    only turn the pauses into a spin, so it is a stop condition too. A pause is as long as the other
    side asked for (Retry-After); where that is longer than our longest, there is no other try.
    Raises what the last try raised.
    """
    began = time.monotonic()
    try:
        return call()  # as a rule that is all, and a Retrying costs more than a look at its answer
    except TransientError as error:
        first = error
    tries = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(policy.tries)
        | stop_after_delay(limit_seconds - (time.monotonic() - began))
        | stop_when_event_set(stop)
        | _AskedToWaitLonger(policy.try_backoff_max_seconds),
        wait=_Pause(policy),
        sleep=sleep_using_event(stop),
        reraise=True,
    )
    return tries(_until(stop, call, first))


class _AskedToWaitLonger(stop_base):
    """Stop where the other side asked us to wait for longer than this."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, retry_state: RetryCallState) -> bool:
        return _asked(retry_state) > self._seconds


class _Pause(wait_random_exponential):
    """Exponential with full jitter, but no shorter than the other side asked for."""

    def __init__(self, policy: BackendPolicy) -> None:
        super().__init__(multiplier=policy.try_backoff_seconds, max=policy.try_backoff_max_seconds)

    def __call__(self, retry_state: RetryCallState) -> float:
        return max(super().__call__(retry_state), _asked(retry_state))


def _asked(state: RetryCallState) -> float:
    """Return how many seconds the other side asked us to wait before the next try."""
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after_seconds if isinstance(error, TransientError) else 0.0


def _until(stop: threading.Event, call: Callable[[], T], first: TransientError) -> Callable[[], T]:
    """Return a function that goes on after a first try and makes no call once ``stop`` is set."""
    made: list[TransientError] = []

    def once() -> T:
        if not made:
            made.append(first)
            raise first
        if stop.is_set():
            raise made[-1]
        try:
            return call()
        except TransientError as error:
            made.append(error)
            raise

    return once


def delay_seconds(
    failures: int, policy: BackendPolicy, draw: Callable[[], float] = random.random
) -> float:
    """Return how long to wait before the next attempt, after ``failures`` failed ones.

    At least a tenth of the bound, so that a draw near zero is not a busy loop. ``draw`` returns a
    number from 0 to 1.
    """
    # Two to the power of a thousand failures is no float any more.
    exponent = min(max(failures - 1, 0), 32)
    bound = min(
        math.ldexp(policy.retry_backoff_seconds, exponent), policy.retry_backoff_max_seconds
    )
    return bound * max(0.1, draw())
