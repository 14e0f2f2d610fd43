"""Claims due cases, lets the judgement work on them, and writes the outcomes to the ledger.

1. A case is claimed only if a slot is free for it, in all and for its backend.
2. Nothing is claimed while detachd is paused or the kill switch is on, no case of a backend that is
   paused, and no case whose deadline has passed before all messages are stored.
3. Each claim ends in an outcome or is released. An attempt that ends in an error of detachd or of
   its ledger has an outcome too. If not even that can be written, the lease ends.
4. A claim is never released while a call of its attempt may be in progress.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import tenacity
from oslo_config import cfg

from consumer.counting import Attempted, Claimed, EventKind, Happened, Released
from consumer.ledger import Claim, Ledger, LedgerUnavailableError
from consumer.logs import CaseContext
from consumer.work.backends import Backends
from consumer.work.slots import UNKNOWN, RunningLeases, Seat, Slots, WorkerThreads
from handlers.announcement import Details, Event, announce
from handlers.brakes import UNLIMITED, Limits
from handlers.case import (
    FOR_A_PERSON,
    Announcement,
    CaseFile,
    CaseState,
    ClaimLostError,
    CrowdedError,
    Outcome,
    PausedError,
    ReasonKind,
)
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import Diagnosis, Verdict
from handlers.recovery.retry import delay_seconds

LOG = logging.getLogger(__name__)

GROUP = cfg.OptGroup("worker", title="The work on cases")
OPTS = [
    cfg.IntOpt("threads", default=4, min=1, help="The number of cases worked on at the same time."),
    cfg.FloatOpt(
        "lease_seconds",
        default=720.0,
        min=1.0,
        help=(
            "The duration of a claim on a volume, in seconds by the database's clock. It must be "
            "longer than the longest step of every backend: a look, a write, their repetitions and "
            "the wait for Nova's detach. After a crash, another worker continues with the volume "
            "only when the claim has ended. A service on the same machine continues at once, "
            "because it can prove that the process is dead."
        ),
    ),
    cfg.FloatOpt(
        "poll_seconds",
        default=1.0,
        min=0.05,
        max=10.0,
        help="The interval, in seconds, at which a free thread reads due cases from the ledger.",
    ),
    cfg.FloatOpt(
        "drain_seconds",
        default=60.0,
        min=1.0,
        help=(
            "How long a stop of the service may take, in seconds: three quarters for the running "
            "attempts, the rest for the outbox. An attempt that is still within a call then is "
            "abandoned. Its case is continued as after a crash (lease_seconds)."
        ),
    ),
]

INTERNAL_ERROR_RULE = "internal-error"
LEDGER_AWAY_RULE = "ledger-away"


def internal_error(claim: Claim, error: Exception, policy: BackendPolicy) -> Outcome:
    """Return the outcome of a failed attempt: due after a backoff, or parked. Pure.

    A case is parked after ``max_failures``, so that a case that always fails neither stops other
    cases nor is repeated for ever. The reason has only the class of the error, because its text may
    contain anything.
    """
    failures = claim.case.failures + 1
    rule, reason = INTERNAL_ERROR_RULE, f"internal error: {type(error).__name__}"
    if isinstance(error, LedgerUnavailableError):
        rule = LEDGER_AWAY_RULE
        reason = "the database of the ledger was not available during the attempt"
    spent = failures >= policy.max_failures
    held = claim.case.state in FOR_A_PERSON
    state = CaseState.PARKED if spent else CaseState.DUE
    return Outcome(
        state=claim.case.state if held else state,
        rule=rule,
        verdict=Verdict.UNKNOWN.value,
        reason=reason,
        delay_seconds=(policy.parked_look_seconds or None)
        if spent
        else delay_seconds(failures, policy),
        conclusion=None,
        use_case=None,
        verified_by=None,
        failed=True,
        mended=False,
        clean=False,
        fingerprint=None,
        evidence={},
        announcements=(_parked(claim, rule, reason),) if spent and not held else (),
        held=held,
        reason_kind=ReasonKind.INTERNAL if spent and not held else None,
    )


def _parked(claim: Claim, rule: str, reason: str) -> Announcement:
    diagnosis = Diagnosis(Verdict.UNKNOWN, rule, reason, use_case=None, situation=None)
    return announce(claim.case, diagnosis, Details(Event.PARKED, claim.claimed_at, (), reason))


LONGEST_WAIT_SECONDS = 5.0

PAUSED_SECONDS = 10.0
"""When a case is due again whose backend is paused, and only Cinder knows that it is this one."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of the worker; see the options of [worker]."""

    threads: int
    lease_seconds: float
    poll_seconds: float
    drain_seconds: float


class Recovery(Protocol):
    """The part of ``handlers.recovery.recovery.Recovery`` that the worker uses."""

    def attempt(self, casefile: CaseFile) -> Outcome:
        """Look, decide, act, look again. Blocks for the outside calls."""


class Worker:
    """Works on due cases, one in each thread, within the limits of the settings.

    While detachd is paused, or ``halted`` tells that the kill switch of this host is on, it claims
    nothing; while a backend is paused, no case of that one. It claims a case whose deadline has
    passed only while ``caught_up`` tells that the listener has stored all messages of its queue:
    otherwise the end may have arrived and not be stored yet.
    """

    def __init__(
        self,
        ledger: Ledger,
        recovery: Recovery,
        *,
        owner: str,
        settings: WorkerSettings,
        backends: Backends,
        count: Callable[[Claimed | Released | Attempted | Happened], None],
        caught_up: Callable[[], bool],
        halted: Callable[[], bool] = lambda: False,
        limits: Limits = UNLIMITED,
    ) -> None:
        self._limits = limits
        self._halted = halted
        self._ledger = ledger
        self._recovery = recovery
        self._owner = owner
        self._settings = settings
        self._backends = backends
        self._count = count
        self._caught_up = caught_up
        self._slots = Slots(settings.threads, backends)
        self._threads = WorkerThreads("case", settings.threads)
        self._leases = RunningLeases()
        self._problem: str | None = None

    def limit(self, limits: Limits) -> None:
        """Keep every attempt that begins from now on within these limits. Thread-safe."""
        self._limits = limits

    def run_once(self) -> int:
        """Claim as many due cases as there are free slots, and wait until they are worked on.

        Returns how many were claimed. Blocks for the attempts. Raises LedgerUnavailableError.
        """
        claimed = self._dispatch()
        self._slots.wait_until_idle(None)
        return claimed

    def run(self, stop: threading.Event) -> None:
        """Claim cases and start attempts until ``stop`` is set.

        Returns after at most ``poll_seconds`` and one transaction. Running attempts continue;
        ``drain`` waits for them.
        """
        while not stop.is_set():
            # Before the dispatch: a slot that becomes free during it ends the wait at once.
            releases = self._slots.releases()
            self._dispatch_or_log()
            self.tell_outlived()
            self._slots.wait_for_release(releases, self._settings.poll_seconds)

    def tell_outlived(self) -> None:
        """Log and count the attempts whose leases have run out while they go on."""
        for seat in self._leases.take_outlived():
            LOG.warning("an attempt on backend %s goes on after its lease", seat.label or "unknown")
            self._count(Happened(EventKind.LEASE_OUTLIVED, seat.label))

    def has_room(self) -> bool:
        """Tell whether a thread is free: then no case waits for one."""
        return self._slots.free() > 0

    def drain(self, seconds: float) -> bool:
        """Wait for the running attempts, at most ``seconds``; tell whether all have ended.

        An attempt that has not ended keeps its claim until the lease ends, as after a crash. If the
        claim were released while a call is in progress, a second worker could act on the volume.
        """
        done = self._slots.wait_until_idle(seconds)
        if not done:
            LOG.warning(
                "%d attempts are still running; their cases continue after their leases end",
                self._slots.occupied(),
            )
        return done

    def _dispatch_or_log(self) -> None:
        try:
            self._dispatch()
        except LedgerUnavailableError as error:
            self._log_problem(f"cases cannot be claimed: {error}")
        except Exception:  # the top of the loop: the next round may do better
            LOG.exception("claiming cases failed; it will be repeated")
            self._count(Happened(EventKind.INTERNAL_ERROR, "worker"))
        else:
            self._log_problem(None)

    def _log_problem(self, problem: str | None) -> None:
        """Log a problem once, and once more when it is solved."""
        if problem and problem != self._problem:
            LOG.warning("%s", problem)
        if self._problem and not problem:
            LOG.info("cases can be claimed again")
        self._problem = problem

    def _dispatch(self) -> int:
        """Start as many attempts as there are free slots now; return how many."""
        # Read once: a slot that becomes free meanwhile is for the next round.
        free = self._slots.free()
        if not free or self._halted():
            return 0
        paused = {pause.backend for pause in self._ledger.pauses()}
        if None in paused:
            return 0
        claims = self._ledger.claim(
            self._owner,
            limit=free,
            lease_seconds=self._settings.lease_seconds,
            deadlines=self._caught_up(),
            exclude_backends=self._slots.full() | {name for name in paused if name},
            room=self._slots.room,
        )
        for claim in claims:
            self._start(claim)
        return len(claims)

    def _start(self, claim: Claim) -> None:
        backend = claim.case.backend or UNKNOWN
        seat = Seat(self._slots, backend)
        self._count(Claimed(seat.label))
        try:
            self._threads.do(lambda: self._work(claim, seat))
        except RuntimeError:  # the machine has no thread left
            LOG.exception("no thread can be started; the case is released")
            self._count(Happened(EventKind.INTERNAL_ERROR, "worker"))
            # unused: otherwise the dispatcher would claim the case again at once, for ever.
            self._free_slot(seat, unused=True)
            with contextlib.suppress(
                LedgerUnavailableError
            ):  # so that the other claims are started
                self._release_case(claim)

    def _free_slot(self, seat: Seat, *, unused: bool = False) -> None:
        self._count(Released(seat.label))
        seat.leave(unused=unused)

    def _work(self, claim: Claim, seat: Seat) -> None:
        threading.current_thread().name = f"case-{claim.case.case_id}"
        # Its constructor sets it for this thread.
        CaseContext(claim.case)
        until = time.monotonic() + self._settings.lease_seconds
        # Counted from here, a little after the claim: this is for the log alone, and the fence
        # decides.
        self._leases.extend(seat, self._settings.lease_seconds)
        try:
            self._attempt(claim, seat, until)
        except LedgerUnavailableError as error:
            LOG.warning("the attempt was interrupted: %s", error)
            self._reschedule(claim, error, until)
        except Exception as error:  # the top of the thread: the case is kept
            LOG.exception("the attempt ended with an internal error of detachd")
            self._count(Happened(EventKind.INTERNAL_ERROR, "worker"))
            self._reschedule(claim, error, until)
        finally:
            self._leases.end(seat)
            self._free_slot(seat)

    def _attempt(self, claim: Claim, seat: Seat, until: float) -> None:
        began = time.monotonic()
        try:
            file = self._ledger.casefile(
                claim,
                located=seat.move,
                limits=self._limits,
                renewed=lambda seconds: self._leases.extend(seat, seconds),
            )
            outcome = self._recovery.attempt(file)
            self._finish(claim, outcome, until)
        except ClaimLostError as failure:
            LOG.warning("another worker has claimed the case: %s", failure)
            self._count(Happened(EventKind.CLAIM_LOST, seat.label))
        except CrowdedError as reason:
            LOG.info("the case is released: %s", reason)
            self._release_case(claim)
        except PausedError as reason:
            LOG.info("the case is released: %s", reason)
            self._release_case(claim, PAUSED_SECONDS)
        else:
            LOG.info(
                "the case is %s by rule %s: %s", outcome.state.value, outcome.rule, outcome.reason
            )
            if outcome.backend is not None:
                self._slots.confirm(outcome.backend)
            label = outcome.backend or seat.label
            self._count(Attempted(label, outcome, time.monotonic() - began))

    def _release_case(self, claim: Claim, delay_seconds: float = 0.0) -> None:
        with contextlib.suppress(ClaimLostError):
            self._ledger.release(claim, delay_seconds=delay_seconds)

    def _finish(self, claim: Claim, outcome: Outcome, until: float) -> None:
        """Write an outcome. While the claim lasts, wait for a ledger that is not available."""
        waiting = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LedgerUnavailableError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT_SECONDS),
            # When the lease has ended, another worker may have the volume.
            stop=tenacity.stop_after_delay(max(until - time.monotonic(), 0.0)),
            reraise=True,
        )
        for attempt in waiting:
            with attempt:
                # The first try may have been committed although it raised.
                repeated = attempt.retry_state.attempt_number > 1
                self._ledger.finish(claim, outcome, repeated=repeated)

    def _reschedule(self, claim: Claim, error: Exception, until: float) -> None:
        """Make the case due again after a backoff; if this fails, it is due when the lease ends."""
        policy = self._backends.of(claim.case.backend).policy
        outcome = internal_error(claim, error, policy)
        try:
            self._finish(claim, outcome, until)
        except ClaimLostError as failure:
            LOG.warning("another worker has claimed the case: %s", failure)
        except LedgerUnavailableError as failure:
            LOG.warning("the case is due again when its lease ends: %s", failure)
        except Exception:  # a part of the top: the slot must be freed in any case
            LOG.exception("the case is due again when its lease ends")
