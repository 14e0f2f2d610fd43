"""The instruments, as Prometheus would read them."""

import re
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from metrics.collectors import LedgerCollector, LedgerState, ReadinessCollector
from metrics.instruments import Instruments

FORBIDDEN_LABELS = {"volume", "volume_id", "instance", "instance_id", "attachment_id", "request_id"}


def values(registry: CollectorRegistry) -> Mapping[str, float]:
    """Return every sample of the text format, as ``name{label=value,...}``."""
    text = generate_latest(registry).decode()
    return {
        s.name + "".join(f"|{k}={v}" for k, v in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@pytest.fixture
def instruments() -> Instruments:
    """Make instruments in a registry of their own."""
    return Instruments()


def test_every_instrument_follows_the_naming_conventions(instruments: Instruments) -> None:
    """Any instrument -> detachd_ prefix, snake case, base units, no id as a label."""
    families = list(instruments.registry.collect())
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"detachd_[a-z]+(_[a-z]+)*", family.name), family.name
        assert not re.search(r"(milli|micro)seconds|_ms$|minutes|hours|bytes_total$", family.name)
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name


def test_no_label_can_hold_an_id(instruments: Instruments) -> None:
    """Labels -> closed sets and configured names; ids would make a series per volume."""
    collectors = {id(c): c for c in instruments.registry._collector_to_names}.values()
    labels = {name for c in collectors for name in getattr(c, "_labelnames", ())}
    assert labels
    assert not labels & FORBIDDEN_LABELS


def test_two_sets_of_instruments_in_one_process_do_not_share_numbers() -> None:
    """Two services in one process (the tests' and the demo's) -> separate registries."""
    one, other = Instruments(), Instruments()
    one.working.claims.labels("h@b").inc()
    assert values(one.registry)["detachd_claims_total|backend=h@b"] == 1
    assert "detachd_claims_total|backend=h@b" not in values(other.registry)


def test_version_and_modes_are_told_as_labels(instruments: Instruments) -> None:
    """describe() -> info gauges that are always 1."""
    instruments.describe("1.2.3", {"h@b": "auto", "backend_defaults": "observe"})
    seen = values(instruments.registry)
    assert seen["detachd_build_info|version=1.2.3"] == 1
    assert seen["detachd_mode_info|backend=h@b|mode=auto"] == 1
    assert seen["detachd_mode_info|backend=backend_defaults|mode=observe"] == 1


def test_process_metrics_are_added_on_request(instruments: Instruments) -> None:
    """add_process() -> Prometheus' usual process metrics, so that memory and files are watched."""
    instruments.add_process()
    assert values(instruments.registry)["process_resident_memory_bytes"] > 0


def test_the_ledger_is_read_at_each_scrape() -> None:
    """A ledger whose numbers change -> the next scrape shows them."""
    states = iter(
        [
            LedgerState(
                {"due": (2, 12.5), "parked": (1, 3600.0)},
                3,
                1.5,
                paused=True,
                acknowledged={"parked": 4},
            ),
            LedgerState({"due": (0, 0.0)}, 0, 0.0, paused=False),
        ]
    )
    registry = CollectorRegistry()
    registry.register(LedgerCollector(lambda: next(states)))
    first, second = values(registry), values(registry)
    assert first["detachd_cases|state=due"] == 2
    assert first["detachd_case_oldest_age_seconds|state=due"] == 12.5
    assert first["detachd_cases|state=parked"] == 1
    assert first["detachd_cases_acknowledged|state=parked"] == 4
    assert first["detachd_outbox_pending"] == 3
    assert first["detachd_outbox_oldest_age_seconds"] == 1.5
    assert first["detachd_paused"] == 1
    assert first["detachd_ledger_up"] == 1
    assert second["detachd_cases|state=due"] == 0
    assert second["detachd_paused"] == 0


def test_a_ledger_that_cannot_be_read_is_absent_not_zero() -> None:
    """Ledger down -> ledger_up is 0 and no number pretends that there are no cases."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(lambda: None))
    assert values(registry) == {"detachd_ledger_up": 0}


def test_registering_a_collector_does_not_ask() -> None:
    """Registration -> neither the ledger nor a component is asked before the first scrape."""

    def fail() -> None:
        raise AssertionError("asked")

    registry = CollectorRegistry()
    registry.register(LedgerCollector(fail))
    registry.register(ReadinessCollector(lambda: pytest.fail("asked")))


def test_each_component_s_readiness_is_a_sample() -> None:
    """One component not ready, one degraded -> a sample of its own says so."""
    registry = CollectorRegistry()
    registry.register(ReadinessCollector(lambda: {
        "broker": (False, False), "ledger": (True, False), "nova": (True, True),
    }))  # fmt: skip
    seen = values(registry)
    assert seen["detachd_ready|component=broker"] == 0
    assert seen["detachd_ready|component=ledger"] == 1
    assert seen["detachd_ready|component=nova"] == 1
    assert seen["detachd_degraded|component=nova"] == 1
    assert seen["detachd_degraded|component=ledger"] == 0
