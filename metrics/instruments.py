"""Every metric that detachd counts or measures. Those read at each scrape are in collectors.py.

Names follow Prometheus' conventions: the prefix ``detachd_``, base units in the name, ``_total``
for counters. Labels are closed sets or configured names (backends); a volume, instance or request
id is never a label: those are in the log and in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from metrics.collectors import NAMESPACE

TRANSACTION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0, 120.0)
ATTEMPT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Maker:
    """Makes metrics in one registry, so that each declaration below is short."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        """Declare ``detachd_<name>_total``."""
        return Counter(name, help_text, labels, namespace=NAMESPACE, registry=self._registry)

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        """Declare ``detachd_<name>``."""
        return Gauge(name, help_text, labels, namespace=NAMESPACE, registry=self._registry)

    def histogram(
        self, name: str, help_text: str, *labels: str, buckets: tuple[float, ...]
    ) -> Histogram:
        """Declare ``detachd_<name>`` with its ``_bucket``, ``_sum`` and ``_count``."""
        return Histogram(
            name, help_text, labels, namespace=NAMESPACE, registry=self._registry, buckets=buckets
        )


class Listening:
    """Hops 1 and 2: from the bus into the ledger."""

    def __init__(self, make: Maker) -> None:
        self.received = make.counter(
            "notifications_received", "Messages consumed from the bus and acked.", "bus"
        )
        self.ignored = make.counter(
            "notifications_ignored", "Messages that do not concern an attachment.", "bus"
        )
        self.malformed = make.counter(
            "notifications_malformed", "Messages that could not be parsed (quarantined).", "bus"
        )
        self.rejected = make.counter(
            "notifications_rejected", "Notifications that the ledger refused (quarantined).", "bus"
        )
        self.stored = make.counter(
            "notifications_stored", "Notifications new to the ledger.", "bus"
        )
        self.duplicates = make.counter(
            "notifications_duplicate", "Notifications that the ledger already had.", "bus"
        )
        self.relevant = make.counter(
            "notifications_relevant", "Notifications that concern an attachment.", "source"
        )
        self.last_received = make.gauge(
            "notification_last_received_timestamp_seconds",
            "When the last notification that concerns an attachment was received, Unix time.",
            "source",
        )
        self.accept_duration = make.histogram(
            "accept_batch_duration_seconds",
            "Time to store one batch of notifications, in one transaction.",
            buckets=TRANSACTION_BUCKETS,
        )
        self._of_the_broker(make)

    def _of_the_broker(self, make: Maker) -> None:
        self.unconsumed = make.gauge(
            "publishers_queue_messages",
            "Messages in a queue that Nova or Cinder declared and nobody consumes; 0 if somebody "
            "does, or if there is no such queue.",
            "bus",
            "queue",
        )
        self.replays = make.counter("replays", "Replays accepted, by their result.", "result")
        self.disconnects = make.counter(
            "broker_disconnects", "Connections to the broker that were lost.", "bus"
        )


class Sweeping:
    """The sweep of Cinder's lists for what is in transition."""

    def __init__(self, make: Maker) -> None:
        self.sweeps = make.counter(
            "sweeps", "Sweeps of Cinder's lists, by how they ended.", "result"
        )
        self.duration = make.histogram(
            "sweep_duration_seconds", "Time of one sweep.", buckets=ATTEMPT_BUCKETS
        )
        self.last_whole = make.gauge(
            "sweep_last_whole_timestamp_seconds",
            "When this process started or last read Cinder's lists completely, Unix time; NaN if "
            "its sweep is disabled.",
        )
        self.in_transition = make.gauge(
            "sweep_in_transition",
            "Volumes and attachments that the last sweep saw in this status.",
            "status",
        )
        self.ghosts = make.gauge(
            "ghost_exports",
            "Volumes that are available in Cinder and to which a host has access on the backend.",
            "backend",
        )
        self.left = make.gauge(
            "sweep_findings_left",
            "Suspected volumes that the last sweep left to the next one, because it may open only "
            "so many cases.",
        )
        self.pages = make.counter(
            "sweep_round_pages", "Pages read for the rounds over all attached volumes."
        )
        self.strangers = make.counter(
            "sweep_strangers",
            "Attachments that a round found to name a server that Nova was never known to have.",
        )
        self.missed = make.counter(
            "sweep_missed_by_bus", "Cases that a sweep opened because no notification was received."
        )

    def begin(self, *, enabled: bool) -> None:
        """Set the time of the last sweep to now, or to NaN if the sweep is disabled."""
        if enabled:
            self.last_whole.set_to_current_time()
        else:
            # With NaN every comparison is false, so that the alert on an old sweep stays silent.
            self.last_whole.set(math.nan)


class Working:
    """Hops 3 and 7: cases claimed, attempted, finished."""

    def __init__(self, make: Maker) -> None:
        self.opened = make.counter("cases_opened", "Cases opened by notifications.")
        self.ended = make.counter(
            "cases_ended", "Cases closed by the end notification that they waited for."
        )
        self.recovered = make.counter(
            "cases_mended",
            "Cases recovered by detachd; they settle before they are closed.",
            "use_case",
            "verified_by",
        )
        self.closed = make.counter("cases_closed", "Cases closed by a diagnosis.", "conclusion")
        self.parked = make.counter("cases_parked", "Cases parked for a person.", "rule")
        self.claims = make.counter("claims", "Due cases claimed.", "backend")
        self.hosts_alive = make.counter(
            "hosts_alive",
            "Hosts that were heard of although a person's word said so of them.",
            "said",
        )
        self._of_attempts(make)

    def _of_attempts(self, make: Maker) -> None:
        self.claims_lost = make.counter(
            "claims_lost", "Claims that ended during the work on their case.", "backend"
        )
        self.leases_outlived = make.counter(
            "leases_outlived", "Attempts that went on after their lease had run out.", "backend"
        )
        self.attempts = make.counter(
            "attempts", "Finished attempts: the case's next state and the rule.", "state", "rule"
        )
        self.attempt_duration = make.histogram(
            "attempt_duration_seconds",
            "Time from claim to finish of one attempt.",
            "backend",
            buckets=ATTEMPT_BUCKETS,
        )
        self.in_progress = make.gauge(
            "attempts_in_progress", "Attempts that are running now.", "backend"
        )
        self.internal_errors = make.counter(
            "internal_errors", "Errors of detachd itself that a loop caught.", "loop"
        )
        self.blocked = make.counter("blocked", "Plans that a guard stopped.", "guard")
        self.braked = make.counter(
            "braked", "Plans that a brake held back, by what it counts by.", "brake"
        )
        self.archived = make.counter("archived_cases", "Finished cases moved to the archive.")
        self.pruned = make.counter(
            "pruned", "Entries deleted because of their age, by kind.", "kind"
        )


class Outside:
    """Hops 4 and 6: calls to Cinder, Nova and the backends."""

    def __init__(self, make: Maker) -> None:
        self.steps = make.counter(
            "steps", "Writes to Cinder, Nova or a backend, by kind and result.", "kind", "result"
        )
        self.step_duration = make.histogram(
            "step_duration_seconds",
            "Time of one write to Cinder, Nova or a backend, its repetitions included.",
            "kind",
            buckets=CALL_BUCKETS,
        )
        self.call_duration = make.histogram(
            "outside_call_duration_seconds",
            "Time of one call to Cinder, Nova or a backend.",
            "system",
            "call",
            buckets=CALL_BUCKETS,
        )
        self.call_errors = make.counter(
            "outside_call_errors",
            "Failed calls to Cinder, Nova or a backend, by kind of error.",
            "system",
            "call",
            "kind",
        )
        self.answers = make.counter(
            "outside_answers",
            "Calls to a backend and looks at Cinder and Nova, by whether there was an answer.",
            "component",
            "answered",
        )
        self.volumes_sought = make.counter(
            "volumes_sought",
            "Answers of Cinder for one volume; known: it has it, or is known to have had it.",
            "known",
        )


class Hanging:
    """Calls of storage drivers that did not come back in time."""

    def __init__(self, make: Maker) -> None:
        self.given_up = make.counter(
            "driver_calls_given_up",
            "Calls of a storage driver that did not return in time and were given up.",
            "backend",
            "call",
        )
        self.returned = make.counter(
            "driver_calls_returned_late",
            "Calls of a storage driver that returned after they were given up.",
            "backend",
            "call",
        )
        self.calls = make.gauge(
            "driver_calls_hanging",
            "Calls of a storage driver that were given up and have not returned.",
            "backend",
        )
        self.stopped = make.gauge(
            "backend_stopped",
            "1 while so many calls of the backend's storage driver hang that it is not called.",
            "backend",
        )


class Publishing:
    """Hop 8: from the outbox to the bus."""

    def __init__(self, make: Maker) -> None:
        self.sent = make.counter(
            "announcements_sent", "Announcements confirmed by the broker.", "event_type"
        )
        self.unrouted = make.counter(
            "announcements_unrouted", "Announcements for which no queue was bound.", "event_type"
        )
        self.failed = make.counter(
            "announcements_failed", "Publications that failed and will be repeated.", "event_type"
        )


class Instruments:
    """All instruments of detachd, in their own registry.

    Nothing here blocks or raises on a value; counting is thread-safe.
    """

    def __init__(self) -> None:
        # Otherwise each counter has a second series, which nothing uses.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        make = Maker(self.registry)
        self.listening = Listening(make)
        self.sweeping = Sweeping(make)
        self.working = Working(make)
        self.outside = Outside(make)
        self.hanging = Hanging(make)
        self.publishing = Publishing(make)
        self._build = make.gauge("build_info", "Always 1; the version is the label.", "version")
        self._mode = make.gauge(
            "mode_info", "Always 1; how far detachd may go on each backend.", "backend", "mode"
        )
        # prometheus_client does not tell which labels a gauge has.
        self._modes: dict[str, str] = {}

    def describe(self, version: str, modes: Mapping[str, str]) -> None:
        """Set the version, and the mode of each configured backend."""
        self._build.labels(version).set(1)
        self.set_modes(modes)
        for backend in modes:
            # A series from the start: a backend without a call that hangs shows 0 and not nothing.
            self.hanging.calls.labels(backend)
            self.hanging.stopped.labels(backend)

    def set_modes(self, modes: Mapping[str, str]) -> None:
        """Set the mode of each backend, instead of those of before."""
        for backend, mode in modes.items():
            self._mode.labels(backend, mode).set(1)
        # The old mode's series would stay at 1 beside the new one.
        for backend, mode in self._modes.items() - modes.items():
            self._mode.remove(backend, mode)
        self._modes = dict(modes)

    def expect(self, *, buses: Iterable[str], sources: Iterable[str]) -> None:
        """Start the counters of each bus at zero, so that a bus without messages has a series."""
        listening = self.listening
        by_bus = (
            listening.received, listening.ignored, listening.malformed, listening.rejected,
            listening.stored, listening.duplicates, listening.disconnects,
        )  # fmt: skip
        for bus in buses:
            for counter in by_bus:
                counter.labels(bus)
        for source in sources:
            listening.relevant.labels(source)

    def add_process(self) -> None:
        """Add the usual ``process_*`` and ``python_*`` metrics of this process."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
