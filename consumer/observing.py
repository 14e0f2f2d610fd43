"""What the loops and the judgement tell of themselves becomes metrics."""

from __future__ import annotations

import time

from consumer.intake.batch import BatchReport
from consumer.ledger import Archived, Pruned
from consumer.work.sweep import SweepReport, SweepResult
from handlers.case import CaseState, Outcome
from handlers.correlation.sweep import ROW_STATUSES, VOLUME_STATUSES
from handlers.judgement.diagnosis import rule_ids
from metrics.instruments import Instruments

UNKNOWN = "unknown"
STATUSES = tuple(dict.fromkeys((*VOLUME_STATUSES, *ROW_STATUSES)))


class Observer:
    """Every observer that this process's parts want, in one: it counts. Thread-safe.

    Meets ``ListenerObserver``, ``ReplayObserver``, ``PrunerObserver``, ``PublisherObserver``,
    ``RecoveryObserver``, ``SweepObserver`` and ``WorkerObserver``. Nothing here blocks or raises.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._listening = instruments.listening
        self._sweeping = instruments.sweeping
        self._working = instruments.working
        self._outside = instruments.outside
        self._publishing = instruments.publishing
        # From nought on, so that the first case that a rule parks is an increase, for an alert.
        for rule in rule_ids():
            self._working.parked.labels(rule)

    # -- the listener ------------------------------------------------------------------------------

    def batch_done(self, report: BatchReport) -> None:
        """Count what became of one batch of messages."""
        listening, bus = self._listening, report.bus
        listening.received.labels(bus).inc(report.received)
        listening.ignored.labels(bus).inc(report.ignored)
        listening.malformed.labels(bus).inc(report.malformed)
        listening.rejected.labels(bus).inc(report.rejected)
        listening.stored.labels(bus).inc(report.stored)
        listening.duplicates.labels(bus).inc(report.duplicates)
        for source, number in report.offered.items():
            listening.relevant.labels(source.value).inc(number)
            listening.last_received.labels(source.value).set(time.time())
        if report.accept_seconds is not None:
            listening.accept_duration.observe(report.accept_seconds)
        self._working.opened.inc(report.opened)
        self._working.ended.inc(report.closed)

    def disconnected(self, bus: str) -> None:
        """Count a connection that was lost."""
        self._listening.disconnects.labels(bus).inc()

    # -- the replay queue --------------------------------------------------------------------------

    def replayed(self, result: str) -> None:
        """Count what became of one replay."""
        self._listening.replays.labels(result).inc()

    # -- the sweeper -------------------------------------------------------------------------------

    def swept(self, report: SweepReport) -> None:
        """Count a sweep, and the cases that no event had told of."""
        sweeping = self._sweeping
        sweeping.sweeps.labels(report.result.value).inc()
        sweeping.duration.observe(report.seconds)
        sweeping.missed.inc(report.opened)
        self._working.opened.inc(report.opened)
        if report.result is not SweepResult.FAILED:
            for status in STATUSES:
                sweeping.in_transition.labels(status).set(report.seen.get(status, 0))
        for backend, number in report.ghosts.items():
            sweeping.ghosts.labels(backend).set(number)
        if report.result is SweepResult.WHOLE:
            sweeping.last_whole.set(time.time())

    # -- the worker --------------------------------------------------------------------------------

    def claimed(self, backend: str) -> None:
        """Count a claim, and the attempt that begins with it."""
        self._working.claims.labels(backend or UNKNOWN).inc()
        self._working.in_progress.labels(backend or UNKNOWN).inc()

    def released(self, backend: str) -> None:
        """Note that the attempt is over."""
        self._working.in_progress.labels(backend or UNKNOWN).dec()

    def claim_lost(self, backend: str) -> None:
        """Count a claim that ran out under an attempt."""
        self._working.claims_lost.labels(backend or UNKNOWN).inc()

    def attempted(self, backend: str, outcome: Outcome, seconds: float) -> None:
        """Count a finished attempt and what it came to."""
        working = self._working
        working.attempts.labels(outcome.state.value, outcome.rule).inc()
        working.attempt_duration.labels(backend or UNKNOWN).observe(seconds)
        if outcome.state is CaseState.PARKED:
            working.parked.labels(outcome.rule).inc()
        if outcome.mended:
            use_case = outcome.use_case.value if outcome.use_case else "none"
            verified_by = outcome.verified_by.value if outcome.verified_by else "none"
            working.mended.labels(use_case, verified_by).inc()
        if outcome.conclusion is not None:
            working.closed.labels(outcome.conclusion.value).inc()

    def internal_error(self, loop: str) -> None:
        """Count an error that nobody expected."""
        self._working.internal_errors.labels(loop).inc()

    # -- recovery ----------------------------------------------------------------------------------

    def called(self, system: str, method: str, seconds: float, error: str | None) -> None:
        """Count one call outside; ``error`` is the kind's class name, None for success."""
        self._outside.call_duration.labels(system, method).observe(seconds)
        if error is not None:
            self._outside.call_errors.labels(system, method, error).inc()

    def stepped(self, step: str, result: str, seconds: float) -> None:
        """Count one step of a plan."""
        self._outside.steps.labels(step, result).inc()
        self._outside.step_duration.labels(step).observe(seconds)

    def guarded(self, guard: str) -> None:
        """Count a plan that a guard kept from being carried out."""
        self._working.blocked.labels(guard).inc()

    # -- the pruner --------------------------------------------------------------------------------

    def archived(self, archived: Archived) -> None:
        """Count what was put into the archive, and the messages that are of no use any more."""
        self._working.archived.inc(archived.cases)
        self._working.pruned.labels("notification").inc(archived.forgotten)

    def pruned(self, pruned: Pruned) -> None:
        """Count what was forgotten because it is older than retention."""
        forgotten = self._working.pruned
        forgotten.labels("case").inc(pruned.cases)
        forgotten.labels("notification").inc(pruned.notifications)
        forgotten.labels("quarantined").inc(pruned.bodies)

    # -- the publisher -----------------------------------------------------------------------------

    def sent(self, event_type: str) -> None:
        """Count a confirmed announcement."""
        self._publishing.sent.labels(event_type).inc()

    def unrouted(self, event_type: str) -> None:
        """Count one for which no queue was bound."""
        self._publishing.unrouted.labels(event_type).inc()

    def failed(self, event_type: str) -> None:
        """Count a sending that was not confirmed."""
        self._publishing.failed.labels(event_type).inc()
