"""The worker, on a real ledger, with a judgement that the test writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from consumer.ledger import Claim, HistoryKind, Ledger, LedgerUnavailableError, Timing
from consumer.supervision.observing import Observer
from consumer.work import slots
from consumer.work.slots import Seat
from consumer.work.worker import Worker, WorkerSettings
from handlers.case import CaseFile, CaseState, ClaimLostError, Outcome, PausedError, StepKind
from handlers.notification import Phase
from metrics.instruments import Instruments
from tests.bus import new_ledger, running, until
from tests.unit.consumer.due import LAB, SLOW, backends, only_case, open_case, outcome

AT_ONCE = Timing(attach_deadline_seconds=0.0)

Judge = Callable[[CaseFile], Outcome]


class Scripted:
    """A judgement that does what the test says, and keeps which cases it was given."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.volumes: list[str] = []

    def attempt(self, casefile: CaseFile) -> Outcome:
        """Judge as scripted."""
        self.volumes.append(casefile.case.volume_id)
        return self.judge(casefile)


class Gate:
    """Holds attempts until it is opened, and counts who is held."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.backends: list[str | None] = []

    def __call__(self, casefile: CaseFile) -> Outcome:
        """Wait, then park."""
        self.backends.append(casefile.case.backend)
        assert self.opened.wait(60)
        return outcome()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger whose errors settle at once."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def instruments() -> Instruments:
    """Give instruments to count with."""
    return Instruments()


Make = Callable[..., Worker]


@pytest.fixture
def make(ledger: Ledger, instruments: Instruments) -> Make:
    """Make a worker with a judgement."""

    def make_worker(judge: Any, *, threads: int = 4, **changes: Any) -> Worker:
        facts: dict[str, Any] = {
            "owner": "w:1",
            "settings": WorkerSettings(
                threads=threads, lease_seconds=60.0, poll_seconds=0.05, drain_seconds=5.0
            ),
            "backends": backends(),
            "count": Observer(instruments),
            "caught_up": lambda: True,
        }
        recovery = judge if isinstance(judge, Scripted) else Scripted(judge)
        return Worker(ledger, recovery, **facts | changes)

    return make_worker


def parks(casefile: CaseFile) -> Outcome:
    """Judge: for a person."""
    del casefile
    return outcome()


def count(instruments: Instruments, name: str, **labels: str) -> float:
    """Read a sample."""
    return instruments.registry.get_sample_value(name, labels) or 0.0


# -- one round -------------------------------------------------------------------------------------


def test_due_case_is_judged_and_its_outcome_kept(
    ledger: Ledger, make: Make, instruments: Instruments
) -> None:
    """A due case -> one attempt, the outcome in the ledger, the claim free, all of it counted."""
    volume_id = open_case(ledger)
    assert make(parks).run_once() == 1
    record = only_case(ledger, volume_id)
    assert record.case.state is CaseState.PARKED
    assert record.case.rule == "T1.test"
    assert record.claimed_by is None
    assert count(instruments, "detachd_claims_total", backend=LAB) == 1
    assert count(instruments, "detachd_attempts_total", state="parked", rule="T1.test") == 1
    assert count(instruments, "detachd_cases_parked_total", rule="T1.test") == 1
    assert count(instruments, "detachd_attempts_in_progress", backend=LAB) == 0
    assert count(instruments, "detachd_attempt_duration_seconds_count", backend=LAB) == 1


def test_nothing_is_claimed_while_the_kill_switch_is_on(ledger: Ledger, make: Make) -> None:
    """The file is there -> a due case stays; it is gone -> the case is worked."""
    on = [True]
    worker, volume_id = make(parks, halted=lambda: on[0]), open_case(ledger)
    assert worker.run_once() == 0
    assert only_case(ledger, volume_id).case.attempts == 0
    on[0] = False
    assert worker.run_once() == 1


def test_names_from_the_bus_are_no_labels(
    ledger: Ledger, make: Make, instruments: Instruments
) -> None:
    """Messages make up backends -> no label for them; a backend that Cinder named has one."""
    real = "ceph-1@rbd"
    for number in range(3):
        open_case(ledger, backend=f"made-up-{number}@x")
        open_case(ledger, backend=real)

    def judge(casefile: CaseFile) -> Outcome:
        known = casefile.case.backend == real
        return outcome(backend=real if known else None)

    worker = make(judge, threads=1)
    while worker.run_once():
        pass
    page = generate_latest(instruments.registry).decode()
    assert "made-up" not in page
    for name in ("claims_total", "attempt_duration_seconds_count"):
        assert count(instruments, f"detachd_{name}", backend="unknown") >= 3
        assert count(instruments, f"detachd_{name}", backend=real) >= 2
    for name in ("unknown", real):
        assert count(instruments, "detachd_attempts_in_progress", backend=name) == 0


def test_nothing_due_is_nothing_done(make: Make) -> None:
    """An empty ledger -> nobody is asked."""
    recovery = Scripted(parks)
    assert make(recovery).run_once() == 0
    assert recovery.volumes == []


def test_as_many_are_claimed_as_there_are_threads(ledger: Ledger, make: Make) -> None:
    """More due cases than threads -> a round takes the threads' number, the next the rest."""
    for number in range(5):
        open_case(ledger, backend=f"host{number}@lab")
    worker = make(parks, threads=3)
    assert [worker.run_once() for _ in range(3)] == [3, 2, 0]


# -- deadlines and the listener --------------------------------------------------------------------


def test_deadline_does_not_fire_while_messages_may_wait(ledger: Ledger, make: Make) -> None:
    """Listener behind -> a case that waits for its end is left; caught up -> it is looked at."""
    hurried = Ledger(f"sqlite:///{ledger.name.removeprefix('sqlite:///')}", timing=AT_ONCE)
    volume_id = open_case(hurried, phase=Phase.START)
    hurried.close()
    behind = threading.Event()
    worker = make(parks, caught_up=behind.is_set)
    assert worker.run_once() == 0
    assert only_case(ledger, volume_id).case.state is CaseState.WAITING
    behind.set()
    assert worker.run_once() == 1


def test_error_is_looked_at_even_while_messages_wait(ledger: Ledger, make: Make) -> None:
    """Listener behind -> a case with an error, which is due by itself, is still worked."""
    open_case(ledger, phase=Phase.ERROR)
    assert make(parks, caught_up=lambda: False).run_once() == 1


# -- one backend must not stop the others ----------------------------------------------------------


def test_slow_backend_leaves_threads_to_the_others(ledger: Ledger, make: Make) -> None:
    """A backend that hangs, with more due cases than threads -> it holds its cap, no more."""
    for _ in range(6):
        open_case(ledger, backend=SLOW)
    volume_id = open_case(ledger, backend=LAB)
    gate, stop = Gate(), threading.Event()

    def judge(casefile: CaseFile) -> Outcome:
        return gate(casefile) if casefile.case.backend == SLOW else outcome()

    worker = make(judge, threads=4)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: only_case(ledger, volume_id).case.state is CaseState.PARKED)
    until(lambda: len(gate.backends) >= 2)
    assert gate.backends == [SLOW, SLOW]
    gate.opened.set()
    until(lambda: len(ledger.cases(state=CaseState.PARKED)) == 7)
    stop.set()
    thread.join()
    assert worker.drain(60.0)


def test_cases_without_a_known_backend_share_a_cap_too(ledger: Ledger, make: Make) -> None:
    """Nova's errors name no backend -> those cases together do not hold every thread either."""
    for _ in range(4):
        open_case(ledger, backend=None)
    volume_id = open_case(ledger, backend=LAB)
    gate, stop = Gate(), threading.Event()

    def judge(casefile: CaseFile) -> Outcome:
        return outcome() if casefile.case.backend == LAB else gate(casefile)

    worker = make(judge, threads=4)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        until(
            lambda: only_case(ledger, volume_id).case.state is CaseState.PARKED,
        )
        until(lambda: len(gate.backends) >= 2)
        assert gate.backends == [None, None]
    finally:
        gate.opened.set()
        stop.set()
        thread.join()
        worker.drain(60.0)


def test_slow_backend_that_nobody_named_leaves_room_to_others(ledger: Ledger, make: Make) -> None:
    """No message names a backend, one hangs -> known from Cinder, its cases hold its cap, no more.

    The one that finds no room is handed back as it was, and is due under the backend's name.
    """
    slow = {open_case(ledger, backend=None) for _ in range(5)}
    volume_id = open_case(ledger, backend=None)
    gate, stop = Gate(), threading.Event()

    def judge(casefile: CaseFile) -> Outcome:
        if casefile.case.volume_id == volume_id:
            casefile.locate(LAB)
            return outcome()
        if casefile.case.backend is None:
            casefile.locate(SLOW)
        return gate(casefile)

    worker = make(judge, threads=4)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: only_case(ledger, volume_id).case.state is CaseState.PARKED)

    def held_and_handed_back() -> bool:
        records = [only_case(ledger, each) for each in slow]
        attempts = sorted(record.case.attempts for record in records)
        return attempts == [0, 0, 0, 1, 1] and {r.case.backend for r in records} == {SLOW}

    until(held_and_handed_back)
    assert len(gate.backends) == 2
    gate.opened.set()
    until(lambda: len(ledger.cases(state=CaseState.PARKED)) == 6)
    stop.set()
    thread.join()
    assert worker.drain(60.0)
    assert worker._slots.full() == frozenset()


def test_two_workers_never_work_one_volume_at_once(ledger: Ledger, make: Make) -> None:
    """Two workers, one due case -> one of them has it."""
    open_case(ledger)
    gate = Gate()
    first, second = make(gate), make(parks, owner="w:2")
    thread = threading.Thread(target=first.run_once)
    thread.start()
    until(lambda: gate.backends)
    assert second.run_once() == 0
    gate.opened.set()
    thread.join()


# -- what can go wrong -----------------------------------------------------------------------------


def test_internal_error_keeps_the_case_for_later(
    ledger: Ledger, make: Make, instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the judgement -> logged, counted, the case due again after a backoff, not lost."""

    def broken(casefile: CaseFile) -> Outcome:
        del casefile
        raise KeyError("canary")

    volume_id = open_case(ledger)
    assert make(broken).run_once() == 1
    record = only_case(ledger, volume_id)
    assert record.case.state is CaseState.DUE
    assert record.case.reason == "internal error: KeyError"
    assert record.case.failures == 1
    assert record.claimed_by is None
    assert record.case.next_attempt_at is not None
    assert record.case.next_attempt_at > record.case.updated_at
    assert count(instruments, "detachd_internal_errors_total", loop="worker") == 1
    assert "Traceback" in caplog.text


def test_case_that_always_breaks_is_parked_and_announced(ledger: Ledger, make: Make) -> None:
    """Poison: every attempt ends in an internal error -> parked when its failures are spent."""

    def broken(casefile: CaseFile) -> Outcome:
        del casefile
        raise ZeroDivisionError

    volume_id = open_case(ledger)
    policy = {"max_failures": 3, "retry_backoff_seconds": 0.0}
    worker = make(broken, backends=backends(**policy))
    assert sum(worker.run_once() for _ in range(4)) == 3
    record = only_case(ledger, volume_id)
    assert record.case.state is CaseState.PARKED
    (announcement,) = record.outbox
    assert announcement.event_type == "volume.force_detach.parked"
    assert announcement.payload["rule"] == "internal-error"


def test_one_broken_case_does_not_stop_the_others(ledger: Ledger, make: Make) -> None:
    """One case breaks the judgement -> the other is worked all the same."""
    poison, fine = open_case(ledger), open_case(ledger)

    def judge(casefile: CaseFile) -> Outcome:
        if casefile.case.volume_id == poison:
            raise RuntimeError
        return outcome()

    make(judge).run_once()
    assert only_case(ledger, fine).case.state is CaseState.PARKED
    assert only_case(ledger, poison).case.state is CaseState.DUE


def test_lost_claim_drops_the_outcome(ledger: Ledger, make: Make, instruments: Instruments) -> None:
    """The lease ran out and another worker finished the case -> what we say is not written."""
    volume_id = open_case(ledger)

    def slow(casefile: CaseFile) -> Outcome:
        del casefile
        until(lambda: other.run_once() == 1)
        return outcome(rule="T2.too-late")

    other = make(parks, owner="w:2")
    settings = WorkerSettings(threads=4, lease_seconds=0.1, poll_seconds=0.05, drain_seconds=5.0)
    make(slow, settings=settings).run_once()
    assert only_case(ledger, volume_id).case.rule == "T1.test"
    assert count(instruments, "detachd_claims_lost_total", backend=LAB) == 1


class Clock:
    """Stands for ``time`` in a module: monotonic time that a test moves on."""

    ahead_seconds = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return time.monotonic() + self.ahead_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock by which running leases end."""
    clock = Clock()
    monkeypatch.setattr(slots, "time", clock)
    return clock


def test_attempt_that_outlives_its_lease_is_told_while_it_runs(
    ledger: Ledger,
    make: Make,
    instruments: Instruments,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An attempt hangs past its lease -> logged and counted once, before it has returned."""

    def outlived() -> float:
        return count(instruments, "detachd_leases_outlived_total", backend=LAB)

    open_case(ledger)
    gate = Gate()
    settings = WorkerSettings(threads=1, lease_seconds=60.0, poll_seconds=0.05, drain_seconds=5.0)
    worker = make(gate, settings=settings)
    with running(worker):
        until(lambda: gate.backends)
        worker.tell_outlived()
        assert outlived() == 0
        clock.ahead_seconds = 61.0
        until(lambda: outlived() == 1)
        gate.opened.set()
        assert worker.drain(60.0)
        assert outlived() == 1
    assert "goes on after its lease" in caplog.text


def test_attempt_whose_lease_was_renewed_has_not_outlived_it(
    ledger: Ledger, make: Make, instruments: Instruments, clock: Clock
) -> None:
    """An intent renews the lease for longer -> nothing is told at its first end."""

    def renews(casefile: CaseFile) -> Outcome:
        casefile.intend(
            StepKind.CINDER_UNRESERVE, request_id="req-x", target={}, evidence={},
            lease_seconds=600.0, announcement=None,
        )  # fmt: skip
        clock.ahead_seconds = 61.0
        worker.tell_outlived()
        return outcome()

    open_case(ledger)
    settings = WorkerSettings(threads=1, lease_seconds=60.0, poll_seconds=0.05, drain_seconds=5.0)
    worker = make(renews, settings=settings)
    assert worker.run_once() == 1
    assert count(instruments, "detachd_leases_outlived_total", backend=LAB) == 0


def test_claim_lost_inside_the_judgement_is_no_internal_error(
    ledger: Ledger, make: Make, instruments: Instruments
) -> None:
    """Recovery is told that the claim is lost -> dropped quietly, the case left to its owner."""

    def lost(casefile: CaseFile) -> Outcome:
        del casefile
        raise ClaimLostError("somebody else has it")

    volume_id = open_case(ledger)
    make(lost).run_once()
    assert only_case(ledger, volume_id).claimed_by == "w:1"
    assert count(instruments, "detachd_claims_lost_total", backend=LAB) == 1
    assert count(instruments, "detachd_internal_errors_total", loop="worker") == 0


def test_ledger_that_goes_away_during_an_attempt_loses_nothing(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the outcome nor the error can be written -> the claim stays, its lease keeps it."""

    def unavailable(*args: object, **keywords: object) -> None:
        del args, keywords
        raise LedgerUnavailableError("gone")

    volume_id = open_case(ledger)
    worker = make(parks, settings=WorkerSettings(4, 0.3, 0.05, 5.0))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "finish", unavailable)
        assert worker.run_once() == 1
    record = only_case(ledger, volume_id)
    assert record.case.state is CaseState.DUE
    assert record.claimed_by == "w:1"


def test_outcome_waits_for_a_ledger_that_is_away(
    ledger: Ledger, make: Make, instruments: Instruments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is away when an attempt ends, and comes back -> its outcome is kept, once.

    The first try was written, and nobody could tell.
    """
    away = iter([LedgerUnavailableError("gone")] * 3)
    finish = ledger.finish

    def flaky(claim: Claim, came_to: Outcome, *, repeated: bool) -> None:
        finish(claim, came_to, repeated=repeated)  # what the answer to was lost, as it seems
        if (error := next(away, None)) is not None:
            raise error

    monkeypatch.setattr(ledger, "finish", flaky)
    volume_id = open_case(ledger)
    assert make(parks).run_once() == 1
    record = only_case(ledger, volume_id)
    assert (record.case.state, record.claimed_by) == (CaseState.PARKED, None)
    assert [line.kind for line in record.history].count(HistoryKind.CONCLUDED) == 1
    assert count(instruments, "detachd_internal_errors_total", loop="worker") == 0
    assert count(instruments, "detachd_claims_lost_total", backend="unknown") == 0


def test_ledger_away_in_the_judgement_is_no_bug(
    ledger: Ledger, make: Make, instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    """An intent cannot be written -> the attempt is over, due again; told without a traceback."""

    def cut_off(casefile: CaseFile) -> Outcome:
        del casefile
        raise LedgerUnavailableError("gone")

    volume_id = open_case(ledger)
    assert make(cut_off).run_once() == 1
    record = only_case(ledger, volume_id)
    assert (record.case.state, record.case.rule) == (CaseState.DUE, "ledger-away")
    assert (record.case.failures, record.claimed_by) == (1, None)
    assert count(instruments, "detachd_internal_errors_total", loop="worker") == 0
    assert "Traceback" not in caplog.text


def test_no_thread_left_hands_the_case_back(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine starts no more threads -> the case is due again and the slot free."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    volume_id = open_case(ledger)
    worker = make(parks, threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert worker.run_once() == 1
    assert only_case(ledger, volume_id).claimed_by is None
    assert worker.run_once() == 1


def test_nothing_due_is_asked_for_once_a_poll(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No case is due -> the ledger is asked as often as poll_seconds says, not in a spin."""
    stop, asked, claim = threading.Event(), [], ledger.claim

    def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 5:
            stop.set()
        return claim(*args, **kwargs)

    monkeypatch.setattr(ledger, "claim", counted)
    settings = WorkerSettings(threads=1, lease_seconds=60.0, poll_seconds=0.2, drain_seconds=5.0)
    make(parks, settings=settings).run(stop)
    assert asked[4] - asked[0] >= 4 * 0.2 - 0.01


def test_no_thread_left_is_no_storm_of_claims(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread for long -> the case is claimed again once a poll, not as fast as it goes."""
    start, stop, refused = threading.Thread.start, threading.Event(), []

    def refuse(self: threading.Thread) -> None:
        if self.name != "case":
            start(self)
            return
        refused.append(time.monotonic())
        if len(refused) == 5:
            stop.set()
        raise RuntimeError("can't start new thread")

    volume_id = open_case(ledger)
    settings = WorkerSettings(threads=1, lease_seconds=60.0, poll_seconds=0.2, drain_seconds=5.0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    make(parks, settings=settings).run(stop)
    assert refused[4] - refused[0] >= 4 * 0.2 - 0.01
    assert only_case(ledger, volume_id).claimed_by is None


# -- pause -----------------------------------------------------------------------------------------


def test_paused_claims_nothing_until_resumed(ledger: Ledger, make: Make) -> None:
    """Pause -> due cases are left alone and none is attempted in a busy loop; resume -> worked."""
    open_case(ledger)
    recovery = Scripted(parks)
    worker = make(recovery)
    ledger.pause("me", "maintenance")
    assert [worker.run_once() for _ in range(3)] == [0, 0, 0]
    assert recovery.volumes == []
    ledger.resume("me")
    assert worker.run_once() == 1


def test_pause_during_an_attempt_hands_the_case_back(ledger: Ledger, make: Make) -> None:
    """Pause before the write -> the ledger refuses the intent; due again, attempt not counted."""
    volume_id = open_case(ledger)

    def wants_to_write(casefile: CaseFile) -> Outcome:
        ledger.pause("me", "maintenance")
        casefile.intend(
            StepKind.CINDER_UNRESERVE,
            request_id="req-x",
            target={},
            evidence={},
            lease_seconds=60.0,
            announcement=None,
        )
        raise AssertionError("the pause was overlooked")

    worker = make(wants_to_write, threads=1)
    assert worker.run_once() == 1
    record = only_case(ledger, volume_id)
    assert record.case.state is CaseState.DUE
    assert record.case.attempts == 0
    assert record.intents == ()
    assert worker.run_once() == 0


def test_a_paused_backend_is_left_alone_and_others_go_on(ledger: Ledger, make: Make) -> None:
    """One backend is paused -> its cases are not claimed, those of another are; then they are."""
    open_case(ledger, backend=SLOW)
    other = open_case(ledger)
    recovery = Scripted(parks)
    worker = make(recovery)
    ledger.pause("me", "maintenance of the array", backend=SLOW)
    assert [worker.run_once() for _ in range(3)] == [1, 0, 0]
    assert recovery.volumes == [other]
    ledger.resume("me", backend=SLOW)
    assert worker.run_once() == 1


def test_a_case_whose_backend_only_cinder_knows_is_not_tried_in_a_busy_loop(
    ledger: Ledger, make: Make
) -> None:
    """No message named the paused backend -> refused at the intent, then left alone for a while."""
    volume_id = open_case(ledger, backend=None)
    ledger.pause("me", "maintenance of the array", backend=SLOW)

    def wants_to_write(casefile: CaseFile) -> Outcome:
        casefile.locate(SLOW)
        casefile.intend(
            StepKind.CINDER_UNRESERVE, request_id="req-x", target={}, evidence={},
            lease_seconds=60.0, announcement=None,
        )  # fmt: skip
        raise AssertionError("the pause was overlooked")

    worker = make(wants_to_write, threads=1)
    assert [worker.run_once() for _ in range(3)] == [1, 0, 0]
    record = only_case(ledger, volume_id)
    assert (record.case.state, record.case.attempts) == (CaseState.DUE, 0)
    assert record.intents == ()


def test_paused_error_for_a_claim_that_is_lost_too_is_no_error(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch, instruments: Instruments
) -> None:
    """Handing back fails because the claim is gone -> nothing to do, no internal error."""

    def lost(*args: object, **named: object) -> None:
        raise ClaimLostError("gone")

    def paused(casefile: CaseFile) -> Outcome:
        raise PausedError("paused")

    open_case(ledger)
    monkeypatch.setattr(ledger, "release", lost)
    assert make(paused).run_once() == 1
    assert count(instruments, "detachd_internal_errors_total", loop="worker") == 0


# -- the loop and its end --------------------------------------------------------------------------


def test_stop_ends_the_claiming_and_lets_the_attempt_finish(ledger: Ledger, make: Make) -> None:
    """Stop while an attempt runs -> no other is begun, run() returns, drain() waits for it."""
    first = open_case(ledger)
    gate, stop = Gate(), threading.Event()
    recovery = Scripted(gate)
    worker = make(recovery, threads=1)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: gate.backends)
    second = open_case(ledger)
    stop.set()
    thread.join(60.0)
    assert not thread.is_alive()
    gate.opened.set()
    assert worker.drain(60.0)
    assert recovery.volumes == [first]
    assert only_case(ledger, first).case.state is CaseState.PARKED
    assert only_case(ledger, second).case.attempts == 0


def test_attempt_that_outlasts_the_drain_keeps_its_claim(
    ledger: Ledger, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that hangs at the end -> drain gives up in time, says so, and touches no claim."""
    volume_id = open_case(ledger)
    gate, stop = Gate(), threading.Event()
    worker = make(gate)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: gate.backends)
    stop.set()
    thread.join()
    began = time.monotonic()
    assert not worker.drain(0.2)
    assert time.monotonic() - began < 30.0
    assert "1 attempts are still running" in caplog.text
    assert only_case(ledger, volume_id).claimed_by == "w:1"
    gate.opened.set()
    assert worker.drain(60.0)


def test_freed_slot_is_used_at_once(ledger: Ledger, make: Make) -> None:
    """One thread and many due cases -> worked one after the other without waiting for the poll."""
    for number in range(10):
        open_case(ledger, backend=f"host{number}@lab")
    settings = WorkerSettings(threads=1, lease_seconds=60.0, poll_seconds=3600.0, drain_seconds=5.0)
    worker, stop = make(parks, settings=settings), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: len(ledger.cases(state=CaseState.PARKED)) == 10)
    stop.set()
    worker._slots.wait_until_idle(None)
    Seat(worker._slots, LAB).leave()
    thread.join()


def test_ledger_that_is_down_is_told_once_and_waited_for(
    ledger: Ledger,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The ledger is away and comes back -> one warning, no traceback, then work goes on."""
    caplog.set_level(logging.INFO)
    calls = []

    def down(*args: object, **kwargs: object) -> None:
        calls.append(args)
        raise LedgerUnavailableError("the ledger is away")

    volume_id = open_case(ledger)
    worker, stop = make(parks), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "claim", down)
        thread.start()
        until(lambda: len(calls) > 3)
    until(lambda: only_case(ledger, volume_id).case.state is CaseState.PARKED)
    stop.set()
    thread.join()
    assert caplog.text.count("the ledger is away") == 1
    assert "cases can be claimed again" in caplog.text
    assert "Traceback" not in caplog.text


def test_unexpected_error_of_the_loop_does_not_end_it(
    ledger: Ledger, make: Make, monkeypatch: pytest.MonkeyPatch, instruments: Instruments
) -> None:
    """A bug in claiming -> logged and counted, and the next round works."""

    def broken(*args: object, **kwargs: object) -> None:
        raise TypeError("a bug")

    volume_id = open_case(ledger)
    worker, stop = make(parks), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "claim", broken)
        thread.start()
        until(lambda: count(instruments, "detachd_internal_errors_total", loop="worker") > 1)
    until(lambda: only_case(ledger, volume_id).case.state is CaseState.PARKED)
    stop.set()
    thread.join()
