"""Counting what detachd itself fails on."""

from __future__ import annotations

from consumer.intake.loop import BodyFailures


def test_failures_are_counted_for_each_body() -> None:
    """Two bodies in turn -> each out after three; more than are kept -> the oldest forgotten."""
    failures = BodyFailures()
    for _ in range(3):
        assert not failures.exhausted("a") or not failures.exhausted("b")
        failures.count("a")
        failures.count("b")
    assert failures.exhausted("a")
    assert failures.exhausted("b")
    for number in range(999):
        failures.count(str(number))
    assert not failures.exhausted("a")
    assert failures.exhausted("b")
