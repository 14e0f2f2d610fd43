"""Turns the events of the loops and of the judgement into metrics."""

from __future__ import annotations

import logging
import time
from typing import assert_never

from consumer.counting import (
    Answered,
    Attempted,
    CallGivenUp,
    CallReturnedLate,
    Claimed,
    EventKind,
    HangingCalls,
    Happened,
    QueuesSeen,
    Released,
)
from consumer.intake.batch import BatchReport
from consumer.ledger import Archived, Pruned
from consumer.periodic.sweep import SweepReport, SweepResult
from consumer.supervision.health import Strangers
from consumer.supervision.outside import CONTROL_PLANE, Outside
from drivers.errors import ConflictError, NotFoundError, PermanentError
from handlers.brakes import Scope
from handlers.case import CaseState, Outcome, StepKind
from handlers.correlation.sweep import ROW_STATUSES, VOLUME_STATUSES
from handlers.counting import Braked, Called, Guarded, Stepped, VolumeSought
from handlers.judgement.diagnosis import rule_ids
from metrics.instruments import Instruments

LOG = logging.getLogger(__name__)

UNKNOWN = "unknown"
REFUSALS = frozenset({NotFoundError.__name__, ConflictError.__name__})
"""Errors that are answers: the service works."""
WRITES = frozenset(kind.value for kind in StepKind)
"""Of these a lasting refusal is about the one call. Of a read it is about the user that asks."""
STATUSES = tuple(dict.fromkeys((*VOLUME_STATUSES, *ROW_STATUSES)))


Counted = (
    BatchReport | SweepReport | Archived | Pruned
    | Claimed | Released | Attempted | Happened | QueuesSeen
    | Called | Stepped | Guarded | Braked | VolumeSought
    | Answered | CallGivenUp | CallReturnedLate | HangingCalls
)  # fmt: skip
"""Every event that is counted: a closed set."""


class Observer:
    """Counts events. Every part of the process has it. Thread-safe.

    It neither blocks nor raises.
    """

    def __init__(
        self,
        instruments: Instruments,
        strangers: Strangers | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._strangers = strangers or Strangers()
        self._outside_state = outside or Outside()
        self._listening = instruments.listening
        self._sweeping = instruments.sweeping
        self._working = instruments.working
        self._outside = instruments.outside
        self._hanging = instruments.hanging
        self._happened = {
            EventKind.DISCONNECTED: instruments.listening.disconnects,
            EventKind.REPLAYED: instruments.listening.replays,
            EventKind.CLAIM_LOST: instruments.working.claims_lost,
            EventKind.LEASE_OUTLIVED: instruments.working.leases_outlived,
            EventKind.INTERNAL_ERROR: instruments.working.internal_errors,
            EventKind.HOST_ALIVE: instruments.working.hosts_alive,
            EventKind.SENT: instruments.publishing.sent,
            EventKind.UNROUTED: instruments.publishing.unrouted,
            EventKind.UNSENT: instruments.publishing.failed,
        }
        self._working.hosts_alive.labels("off")
        # Each counter starts at 0, so that the first parked case is an increase, for the alerts.
        for rule in rule_ids():
            self._working.parked.labels(rule)
        for scope in Scope:
            self._working.braked.labels(scope.value)

    def __call__(self, event: Counted) -> None:  # noqa: C901, PLR0912, PLR0915 - a case for each event
        """Count one event."""
        working, outside = self._working, self._outside
        match event:
            case Happened(kind, label):
                self._happened[kind].labels(label or UNKNOWN).inc()
            case BatchReport():
                self._batch(event)
            case QueuesSeen(bus, waiting):
                for queue, number in waiting.items():
                    self._listening.unconsumed.labels(bus, queue).set(number)
            case SweepReport():
                self._sweep(event)
            case Claimed() | Released() | Attempted():
                self._claim(event)
            case Called():
                self._called(event)
            case Answered(component, problem):
                self._outside_state.note(event)
                outside.answers.labels(component, "no" if problem else "yes").inc()
            case Stepped(step, result, seconds):
                outside.steps.labels(step, result).inc()
                outside.step_duration.labels(step).observe(seconds)
            case CallGivenUp() | CallReturnedLate() | HangingCalls():
                self._hang(event)
            case Archived() | Pruned():
                self._forgotten(event)
            case VolumeSought():
                self._strangers.note(event)
                outside.volumes_sought.labels("yes" if event.known else "no").inc()
            case Braked(scope, words):
                LOG.warning("a brake holds back a recovery: %s", words)
                working.braked.labels(scope).inc()
            case Guarded(guard):
                working.blocked.labels(guard).inc()
            case other:
                assert_never(other)

    def _claim(self, event: Claimed | Released | Attempted) -> None:
        working, backend = self._working, event.backend or UNKNOWN
        match event:
            case Claimed():
                working.claims.labels(backend).inc()
                working.in_progress.labels(backend).inc()
            case Released():
                working.in_progress.labels(backend).dec()
            case Attempted(_, outcome, seconds):
                working.attempt_duration.labels(backend).observe(seconds)
                self._outcome(outcome)

    def _hang(self, event: CallGivenUp | CallReturnedLate | HangingCalls) -> None:
        match event:
            case CallGivenUp(backend, method):
                self._hanging.given_up.labels(backend, method).inc()
            case CallReturnedLate(backend, method):
                self._hanging.returned.labels(backend, method).inc()
            case HangingCalls(backend, number, stopped):
                self._hanging.calls.labels(backend).set(number)
                self._hanging.stopped.labels(backend).set(stopped)
                self._outside_state.note_hanging(backend, number, stopped=stopped)

    def _called(self, event: Called) -> None:
        system, method = event.system, event.method
        self._outside.call_duration.labels(system, method).observe(event.seconds)
        if event.error is not None:
            self._outside.call_errors.labels(system, method, event.error).inc()
        # Backends are reported by their own calls (driver_calls.py), which know more: what hangs,
        # for example.
        if system in CONTROL_PLANE:
            # A refusal is an answer, so the service works.
            refused = event.error in REFUSALS or (
                event.error == PermanentError.__name__ and f"{system}.{method}" in WRITES
            )
            problem = None if event.error is None or refused else event.words or event.error
            self._outside_state.note(Answered(system, problem))

    def _batch(self, report: BatchReport) -> None:
        listening, bus, accepted = self._listening, report.bus, report.accepted
        listening.received.labels(bus).inc(report.received)
        listening.ignored.labels(bus).inc(report.ignored)
        listening.malformed.labels(bus).inc(report.malformed)
        listening.rejected.labels(bus).inc(len(accepted.rejected))
        listening.stored.labels(bus).inc(accepted.stored)
        listening.duplicates.labels(bus).inc(accepted.duplicates)
        for source, number in report.offered.items():
            listening.relevant.labels(source.value).inc(number)
            listening.last_received.labels(source.value).set(time.time())
        if report.accept_seconds is not None:
            listening.accept_duration.observe(report.accept_seconds)
        self._working.opened.inc(accepted.opened)
        self._working.ended.inc(accepted.closed)

    def _sweep(self, report: SweepReport) -> None:
        sweeping = self._sweeping
        sweeping.sweeps.labels(report.result.value).inc()
        sweeping.duration.observe(report.seconds)
        sweeping.missed.inc(report.opened)
        self._working.opened.inc(report.opened)
        # A failed sweep has seen nothing, which is not the same as nothing to see.
        if report.result is not SweepResult.FAILED:
            for status in STATUSES:
                sweeping.in_transition.labels(status).set(report.seen.get(status, 0))
            sweeping.left.set(report.left)
        sweeping.pages.inc(report.pages)
        sweeping.strangers.inc(report.strangers)
        for backend, number in report.ghosts.items():
            sweeping.ghosts.labels(backend).set(number)
        if report.result is SweepResult.WHOLE:
            sweeping.last_whole.set(time.time())

    def _outcome(self, outcome: Outcome) -> None:
        working = self._working
        working.attempts.labels(outcome.state.value, outcome.rule).inc()
        # A case that is held stays with its person: it was counted when it was parked.
        if outcome.state is CaseState.PARKED and not outcome.held:
            working.parked.labels(outcome.rule).inc()
        if outcome.mended:
            use_case = outcome.use_case.value if outcome.use_case else "none"
            verified_by = outcome.verified_by.value if outcome.verified_by else "none"
            working.recovered.labels(use_case, verified_by).inc()
        if outcome.conclusion is not None:
            working.closed.labels(outcome.conclusion.value).inc()

    def _forgotten(self, event: Archived | Pruned) -> None:
        pruned = self._working.pruned
        if isinstance(event, Archived):
            self._working.archived.inc(event.cases)
            pruned.labels("notification").inc(event.forgotten)
        else:
            pruned.labels("case").inc(event.cases)
            pruned.labels("notification").inc(event.notifications)
            pruned.labels("quarantined").inc(event.bodies)
