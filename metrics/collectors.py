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
        state = self._read()
        yield _gauge("ledger_up", "1 if the ledger could be read.", float(state is not None))
        if state is not None:
            yield from _ledger_families(state)


def _ledger_families(state: LedgerState) -> Iterator[GaugeMetricFamily]:
    count = GaugeMetricFamily(
        f"{NAMESPACE}_cases", "Cases by state, without acknowledged ones.", labels=["state"]
    )
    age = GaugeMetricFamily(
        f"{NAMESPACE}_case_oldest_age_seconds",
        "Age of the oldest case that is not acknowledged.",
        labels=["state"],
    )
    known = GaugeMetricFamily(
        f"{NAMESPACE}_cases_acknowledged",
        "Cases that a person has acknowledged for a time, by state.",
        labels=["state"],
    )
    for name, number in state.acknowledged.items():
        known.add_metric([name], number)
    for name, (number, oldest) in state.cases.items():
        count.add_metric([name], number)
        age.add_metric([name], oldest)
    yield count
    yield age
    yield known
    yield _gauge("outbox_pending", "Announcements not sent yet.", state.outbox_pending)
    yield _gauge(
        "outbox_oldest_age_seconds",
        "Age of the oldest announcement not sent yet.",
        state.outbox_oldest_age_seconds,
    )
    yield _of_backends(
        "breaker_open",
        "1 while the circuit breaker of the backend is open: its last releases failed.",
        state.open_breakers,
    )
    yield from _fences(state.fences)
    yield _gauge("paused", "1 while detachd is paused.", float(state.paused))
    yield _of_backends(
        "backend_paused", "1 while this backend alone is paused.", state.paused_backends
    )


def _of_backends(name: str, help_text: str, backends: Iterable[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", help_text, labels=["backend"])
    for backend in backends:
        family.add_metric([backend], 1.0)
    return family


def _fences(by_backend: Mapping[str, tuple[int, float]]) -> Iterator[GaugeMetricFamily]:
    count = GaugeMetricFamily(
        f"{NAMESPACE}_fences", "Clients of the backend that are fenced.", labels=["backend"]
    )
    age = GaugeMetricFamily(
        f"{NAMESPACE}_fence_oldest_age_seconds", "Age of the oldest fence.", labels=["backend"]
    )
    for backend, (number, oldest) in by_backend.items():
        count.add_metric([backend], number)
        age.add_metric([backend], oldest)
    yield count
    yield age


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", help_text, value=value)


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
        ready = GaugeMetricFamily(
            f"{NAMESPACE}_ready", "1 if the component is ready.", labels=["component"]
        )
        degraded = GaugeMetricFamily(
            f"{NAMESPACE}_degraded",
            "1 if the component is ready, but something that it needs does not work now.",
            labels=["component"],
        )
        for component, (ok, is_degraded) in self._checks().items():
            ready.add_metric([component], float(ok))
            degraded.add_metric([component], float(is_degraded))
        yield ready
        yield degraded
