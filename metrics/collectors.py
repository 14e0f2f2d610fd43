"""Metrics that are read at each scrape: the state of the ledger, and readiness."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NAMESPACE = "detachd"


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerState:
    """The state of the ledger at one moment; ages in seconds, 0 if there is nothing.

    ``cases`` maps each state of a case to how many there are and to the age of the oldest, without
    those that a person has acknowledged; ``acknowledged`` is the number of those in each state.
    ``open_breakers`` are the backends that are left alone because releases failed;
    ``paused_backends`` those that a person has paused alone. ``fences`` maps each backend that has
    fenced clients to how many, and to the age of the oldest fence.
    """

    cases: Mapping[str, tuple[int, float]]
    outbox_pending: int
    outbox_oldest_age_seconds: float
    paused: bool
    acknowledged: Mapping[str, int] = dataclasses.field(default_factory=dict)
    open_breakers: tuple[str, ...] = ()
    paused_backends: tuple[str, ...] = ()
    fences: Mapping[str, tuple[int, float]] = dataclasses.field(default_factory=dict)


class LedgerCollector(Collector):
    """Reads the ledger at each scrape, so that every replica exports the same values.

    ``read`` returns None if the ledger cannot be read. Then ``detachd_ledger_up`` is 0 and the
    other metrics are absent, which is not the same as zero.
    """

    def __init__(self, read: Callable[[], LedgerState | None]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: registering must not read the ledger."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the ledger once. Blocks for as long as ``read`` does."""
        # Once for all: the counts of one scrape are of one moment.
        state = self._read()
        yield _gauge("ledger_up", "1 if the ledger could be read.", float(state is not None))
        if state is not None:
            yield from _ledger_families(state)


def _ledger_families(state: LedgerState) -> Iterator[GaugeMetricFamily]:
    cases = state.cases.items()
    yield _labelled(
        "cases",
        "Cases by state, without acknowledged ones.",
        "state",
        {name: number for name, (number, _) in cases},
    )
    yield _labelled(
        "case_oldest_age_seconds",
        "Age of the oldest case that is not acknowledged.",
        "state",
        {name: oldest for name, (_, oldest) in cases},
    )
    yield _labelled(
        "cases_acknowledged",
        "Cases that a person has acknowledged for a time, by state.",
        "state",
        state.acknowledged,
    )
    yield _gauge("outbox_pending", "Announcements not sent yet.", state.outbox_pending)
    yield _gauge(
        "outbox_oldest_age_seconds",
        "Age of the oldest announcement not sent yet.",
        state.outbox_oldest_age_seconds,
    )
    yield _labelled(
        "breaker_open",
        "1 while the circuit breaker of the backend is open: its last releases failed.",
        "backend",
        dict.fromkeys(state.open_breakers, 1.0),
    )
    yield from _fences(state.fences)
    yield _gauge("paused", "1 while detachd is paused.", float(state.paused))
    yield _labelled(
        "backend_paused",
        "1 while this backend alone is paused.",
        "backend",
        dict.fromkeys(state.paused_backends, 1.0),
    )


def _fences(by_backend: Mapping[str, tuple[int, float]]) -> Iterator[GaugeMetricFamily]:
    counts = {backend: number for backend, (number, _) in by_backend.items()}
    ages = {backend: oldest for backend, (_, oldest) in by_backend.items()}
    yield _labelled("fences", "Clients of the backend that are fenced.", "backend", counts)
    yield _labelled("fence_oldest_age_seconds", "Age of the oldest fence.", "backend", ages)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", help_text, value=value)


def _labelled(
    name: str, help_text: str, label: str, values: Mapping[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", help_text, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


class ReadinessCollector(Collector):
    """``detachd_ready`` and ``detachd_degraded`` for each component, checked at each scrape.

    ``checks`` returns both for each component.
    """

    def __init__(self, checks: Callable[[], Mapping[str, tuple[bool, bool]]]) -> None:
        self._checks = checks

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: registering must not run the checks."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Check each component once. Blocks for as long as the checks do."""
        # Once for both metrics: each call may ask Cinder, Nova and the broker.
        checks = self._checks().items()
        yield _labelled(
            "ready",
            "1 if the component is ready.",
            "component",
            {name: float(ok) for name, (ok, _) in checks},
        )
        yield _labelled(
            "degraded",
            "1 if the component is ready, but something that it needs does not work now.",
            "component",
            {name: float(is_degraded) for name, (_, is_degraded) in checks},
        )
