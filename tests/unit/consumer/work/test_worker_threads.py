"""Threads that are kept for the next work."""

from __future__ import annotations

import threading

import pytest

from consumer.work import slots
from consumer.work.slots import WorkerThreads
from tests.bus import until


def test_next_work_has_the_same_thread() -> None:
    """One work after the other -> one thread does them all."""
    crew_of_four = WorkerThreads("case", 4)
    seen: list[int] = []
    for _ in range(5):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            seen.append(threading.get_ident())
            done.set()

        crew_of_four.do(work)
        assert done.wait(60)
        until(lambda: crew_of_four._unfinished == 0)
    assert len(set(seen)) == 1


def test_never_more_threads_than_its_size() -> None:
    """Five works for two threads -> two at once, and all are done."""
    pair, release, started = WorkerThreads("case", 2), threading.Event(), []
    done: list[int] = []

    def work(number: int) -> None:
        started.append(number)
        release.wait(60)
        done.append(number)

    for number in range(5):
        pair.do(lambda n=number: work(n))
    until(lambda: len(started) == 2)
    assert pair._threads == 2
    release.set()
    until(lambda: sorted(done) == [0, 1, 2, 3, 4])


def test_idle_thread_ends_and_work_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to do for long -> the thread ends; work that comes then is done all the same."""
    monkeypatch.setattr(slots, "IDLE_SECONDS", 0.05)
    one, done = WorkerThreads("case", 1), threading.Event()
    one.do(lambda: None)
    until(lambda: one._threads == 0)
    one.do(done.set)
    assert done.wait(60)


def test_work_that_had_to_wait_leaves_no_thread_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work came before the last thread was free again -> later works have threads all the same.

    So it is where a slot is given back in the last line of an attempt, and the next claim is quick.
    """
    monkeypatch.setattr(slots, "IDLE_SECONDS", 0.05)
    pair, release, waited = WorkerThreads("case", 2), threading.Event(), threading.Event()
    for _ in range(2):
        pair.do(lambda: release.wait(60) and None)
    pair.do(waited.set)
    release.set()
    assert waited.wait(60)
    until(lambda: pair._threads == 0)
    busy, both = threading.Barrier(3), threading.Event()
    for _ in range(2):
        pair.do(lambda: busy.wait(60) and None)
    busy.wait(60)
    pair.do(both.set)
    assert both.wait(60)
