"""Processes that are kept: who gets one, which are ended, and how many there are."""

from __future__ import annotations

import threading

import pytest

from drivers import process_pool
from drivers.child import Deadline
from drivers.errors import TransientError
from drivers.process_pool import ProcessPool


class Process:
    """What is only ended."""

    def __init__(self) -> None:
        self.is_ended = False

    def end(self) -> None:
        """Note it."""
        self.is_ended = True


def soon() -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline.after(10.0)


def used(pool: ProcessPool[Process], *, new: bool = False, sound: bool = True) -> Process:
    """Borrow one, and give it back."""
    with pool.lend(soon(), new=new) as lent:
        lent.is_sound = sound
        return lent.one


def test_one_that_is_sound_is_lent_again() -> None:
    """Given back as sound -> the next one gets it, and is told that it is not new."""
    pool = ProcessPool(Process, 2)
    first = used(pool)
    with pool.lend(soon()) as lent:
        assert lent.one is first
        assert not lent.is_new
        assert not lent.is_sound
    assert first.is_ended, "nobody said that it was sound the second time"


def test_one_in_doubt_is_ended() -> None:
    """Nobody said that it is sound, or its user raised -> ended, and never lent again."""
    pool = ProcessPool(Process, 1)
    doubtful = used(pool, sound=False)
    assert doubtful.is_ended
    raising: list[Process] = []
    with pytest.raises(KeyError):
        used_and_raised(pool, raising)
    assert raising[0].is_ended
    assert used(pool) not in (doubtful, *raising)


def used_and_raised(pool: ProcessPool[Process], into: list[Process]) -> None:
    """Borrow one, and fail before it is said whether it is sound."""
    with pool.lend(soon()) as lent:
        into.append(lent.one)
        raise KeyError


def test_new_one_takes_the_place_of_a_free_one_only_at_the_bound() -> None:
    """A new one is asked for -> beside the free one; where no more may be: instead of it."""
    pool = ProcessPool(Process, 2)
    first = used(pool)
    second = used(pool, new=True)
    assert not first.is_ended
    with pool.lend(soon(), new=True) as third:
        assert third.is_new
        assert (first.is_ended, second.is_ended) == (True, False)


@pytest.mark.parametrize("limit", ["IDLE_SECONDS", "LIFE_SECONDS"])
def test_stale_one_is_ended(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Not asked for long, or old -> ended, and the next request has a new one."""
    pool = ProcessPool(Process, 1)
    first = used(pool)
    monkeypatch.setattr(process_pool, limit, -1.0)
    assert used(pool) is not first
    assert first.is_ended


def test_no_more_than_may_be() -> None:
    """All are lent -> TransientError at the deadline; one comes back, one cannot start: room."""
    pool = ProcessPool(Process, 1)
    with pool.lend(soon()), pytest.raises(TransientError, match="1 requests at once"):
        used_in(pool, 0.05)
    pool._start = cannot_start
    for _ in range(2):
        with pytest.raises(OSError, match="no process"):
            used(pool)
    assert pool.at_work == 0


def used_in(pool: ProcessPool[Process], seconds: float) -> None:
    """Borrow one within so many seconds."""
    with pool.lend(Deadline.after(seconds)):
        pass


def cannot_start() -> Process:
    """Fail."""
    raise OSError("no process")


def test_closed_keeps_none() -> None:
    """Closed while one is lent -> the free one is ended, and the other when it comes back."""
    pool = ProcessPool(Process, 2)
    free = used(pool)
    with pool.lend(soon(), new=True) as lent:
        pool.close()
        lent.is_sound = True
    assert free.is_ended
    assert lent.one.is_ended


class ClosedOnTheWay(threading.Condition):
    """Lets the pool be closed just before the next who comes into its lock."""

    pool: ProcessPool[Process] | None = None

    def __enter__(self) -> bool:
        """Close the pool first, once."""
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()
        return super().__enter__()


def test_closed_while_one_comes_back() -> None:
    """Closed between the question whether it is closed and the giving back -> ended as well.

    It was kept by a pool that nobody closes a second time.
    """
    pool = ProcessPool(Process, 2)
    pool._changed = way = ClosedOnTheWay()
    with pool.lend(soon()) as lent:
        lent.is_sound = True
        way.pool = pool
    assert lent.one.is_ended
    assert pool.at_work == 0
