"""What the parts tell of themselves, as Prometheus reads it."""

from __future__ import annotations

import itertools
import time
from typing import get_args

import pytest
from prometheus_client import generate_latest

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
from consumer.ledger import Accepted, Archived, Pruned
from consumer.periodic.sweep import SweepReport, SweepResult
from consumer.supervision.observing import Counted, Observer
from handlers.case import CaseState, Conclusion, UseCase, VerifiedBy
from handlers.counting import Braked, Called, Guarded, Stepped, VolumeSought
from handlers.judgement.diagnosis import rule_ids
from handlers.notification import Source
from metrics.instruments import Instruments
from tests.unit.consumer.due import LAB, outcome
from tests.unit.consumer.ledger.making import arrival, attach_error

REFUSED = arrival(attach_error())
REPORT = BatchReport(
    bus="east",
    received=10,
    ignored=4,
    malformed=1,
    accepted=Accepted(
        stored=3, duplicates=1, opened=2, closed=1, rejected=((REFUSED, "too long"),)
    ),
    offered={Source.CINDER: 4, Source.NOVA_LEGACY: 1},
    accept_seconds=0.002,
)


EVENTS: tuple[Counted, ...] = (
    REPORT,
    SweepReport(SweepResult.WHOLE, 1.0),
    QueuesSeen("east", {"notifications.info": 7}),
    Claimed(LAB),
    Released(LAB),
    Attempted(LAB, outcome(CaseState.DUE), 1.0),
    Archived(cases=1, forgotten=1, full=False),
    Pruned(cases=1, notifications=1, bodies=1, full=False),
    Called("cinder", "volume", 0.1, None),
    Stepped("cinder.unreserve", "done", 0.3),
    Guarded("no_connector"),
    Braked("host", "too many"),
    VolumeSought("vol-1", known=False),
    Answered("nova", None),
    Answered("nova", "no route"),
    CallGivenUp(LAB, "observe"),
    HangingCalls(LAB, 1, stopped=False),
    HangingCalls(LAB, 1, stopped=True),
    CallReturnedLate(LAB, "observe"),
    *(Happened(kind, "x") for kind in EventKind),
)


@pytest.fixture
def instruments() -> Instruments:
    """Give instruments to count with."""
    return Instruments()


def read(instruments: Instruments, name: str, **labels: str) -> float | None:
    """Read a sample."""
    return instruments.registry.get_sample_value(f"detachd_{name}", labels)


def test_every_event_is_counted(instruments: Instruments) -> None:
    """Each event that any part tells -> something that Prometheus reads is another."""
    assert {type(event) for event in EVENTS} == set(get_args(Counted))
    observer, shown = Observer(instruments), [generate_latest(instruments.registry)]
    for event in EVENTS:
        observer(event)
        shown.append(generate_latest(instruments.registry))
    unseen = [
        e for e, (old, new) in zip(EVENTS, itertools.pairwise(shown), strict=True) if old == new
    ]
    assert unseen == []


def test_batch_adds_up(instruments: Instruments) -> None:
    """One batch -> each number under its own name, by bus, and by source where that is known."""
    before = time.time()
    Observer(instruments)(REPORT)
    by_bus = {
        name: read(instruments, f"notifications_{name}_total", bus="east")
        for name in ("received", "ignored", "malformed", "rejected", "stored", "duplicate")
    }
    assert by_bus == {
        "received": 10, "ignored": 4, "malformed": 1, "rejected": 1, "stored": 3, "duplicate": 1,
    }  # fmt: skip
    assert read(instruments, "notifications_relevant_total", source="cinder") == 4
    assert read(instruments, "notifications_relevant_total", source="nova-legacy") == 1
    last = read(instruments, "notification_last_received_timestamp_seconds", source="cinder")
    assert last is not None
    assert last >= before
    assert read(instruments, "accept_batch_duration_seconds_count") == 1
    assert read(instruments, "cases_opened_total") == 2
    assert read(instruments, "cases_ended_total") == 1


def test_lost_connection_is_counted(instruments: Instruments) -> None:
    """The broker went away -> one disconnect of that bus."""
    Observer(instruments)(Happened(EventKind.DISCONNECTED, "east"))
    assert read(instruments, "broker_disconnects_total", bus="east") == 1


def test_closing_is_counted_by_its_conclusion(instruments: Instruments) -> None:
    """An attempt that closes its case -> why, and by which rule."""
    closed = outcome(CaseState.CLOSED, conclusion=Conclusion.MENDED, rule="R5")
    Observer(instruments)(Attempted(LAB, closed, 1.5))
    assert read(instruments, "cases_closed_total", conclusion="mended") == 1
    assert read(instruments, "attempts_total", state="closed", rule="R5") == 1
    assert read(instruments, "attempt_duration_seconds_sum", backend=LAB) == 1.5
    assert read(instruments, "cases_parked_total", rule="R5") is None


def test_mending_is_counted_by_use_case_and_by_whose_word(instruments: Instruments) -> None:
    """An attempt that put things right -> as which use case, and who verified it."""
    observer = Observer(instruments)
    mended = outcome(
        CaseState.SETTLING, mended=True, use_case=UseCase.UC5, verified_by=VerifiedBy.PROBE
    )
    observer(Attempted(LAB, mended, 1.5))
    observer(Attempted(LAB, outcome(CaseState.SETTLING, mended=True), 1.5))
    assert read(instruments, "cases_mended_total", use_case="UC5", verified_by="probe") == 1
    assert read(instruments, "cases_mended_total", use_case="none", verified_by="none") == 1


def test_case_without_a_backend_is_counted_as_unknown(instruments: Instruments) -> None:
    """No backend named yet -> the label says unknown, not nothing."""
    observer = Observer(instruments)
    observer(Claimed(None))
    assert read(instruments, "attempts_in_progress", backend="unknown") == 1
    observer(Released(None))
    assert read(instruments, "attempts_in_progress", backend="unknown") == 0
    observer(Happened(EventKind.CLAIM_LOST, None))
    assert read(instruments, "claims_lost_total", backend="unknown") == 1


def test_outside_calls_are_timed_and_their_errors_sorted(instruments: Instruments) -> None:
    """A call that failed and one that did not -> two durations, one error by its kind."""
    observer = Observer(instruments)
    observer(Called("cinder", "volume", 0.1, None))
    observer(Called("cinder", "volume", 0.2, "TransientError"))
    labels = {"system": "cinder", "call": "volume"}
    assert read(instruments, "outside_call_duration_seconds_count", **labels) == 2
    assert read(instruments, "outside_call_errors_total", **labels, kind="TransientError") == 1


def test_steps_and_guards_are_counted(instruments: Instruments) -> None:
    """A step and an objection -> by kind and result, and by the guard's name."""
    observer = Observer(instruments)
    observer(Stepped("cinder.unreserve", "done", 0.3))
    observer(Guarded("no_connector"))
    assert read(instruments, "steps_total", kind="cinder.unreserve", result="done") == 1
    assert read(instruments, "step_duration_seconds_sum", kind="cinder.unreserve") == 0.3
    assert read(instruments, "blocked_total", guard="no_connector") == 1


def test_announcements_are_counted_by_what_became_of_them(instruments: Instruments) -> None:
    """Sent, unrouted, failed -> each under its own name."""
    observer = Observer(instruments)
    observer(Happened(EventKind.SENT, "volume.force_detach.end"))
    observer(Happened(EventKind.UNROUTED, "volume.force_detach.end"))
    observer(Happened(EventKind.UNSENT, "volume.force_detach.end"))
    for name in ("sent", "unrouted", "failed"):
        label = {"event_type": "volume.force_detach.end"}
        assert read(instruments, f"announcements_{name}_total", **label) == 1


def test_errors_of_our_own_are_counted_by_loop(instruments: Instruments) -> None:
    """A bug that a loop caught -> visible to an alert."""
    Observer(instruments)(Happened(EventKind.INTERNAL_ERROR, "worker"))
    assert read(instruments, "internal_errors_total", loop="worker") == 1


def test_replays_are_counted_by_result(instruments: Instruments) -> None:
    """Three replays -> counted by what came of each."""
    observer = Observer(instruments)
    for result in ("rearmed", "rearmed", "refused"):
        observer(Happened(EventKind.REPLAYED, result))
    assert read(instruments, "replays_total", result="rearmed") == 2.0
    assert read(instruments, "replays_total", result="refused") == 1.0


def test_every_rule_that_may_park_is_counted_from_nought() -> None:
    """A process that has just begun -> a series for each rule, so that the first is an increase."""
    instruments = Instruments()
    Observer(instruments)
    for rule in rule_ids():
        assert read(instruments, "cases_parked_total", rule=rule) == 0


def test_queues_that_nobody_consumes_are_shown_as_last_seen(instruments: Instruments) -> None:
    """Messages wait, then a consumer comes -> the number, then 0."""
    observer = Observer(instruments)
    labels = {"bus": "east", "queue": "notifications.info"}
    for number in (7, 0):
        observer(QueuesSeen("east", {"notifications.info": number}))
        assert read(instruments, "publishers_queue_messages", **labels) == number
