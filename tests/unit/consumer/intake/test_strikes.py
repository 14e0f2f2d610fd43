"""Counting what detachd itself fails on."""

from __future__ import annotations

from consumer.intake.loop import Strikes


def test_strikes_are_of_each_body() -> None:
    """Two bodies in turn -> each out after three; more than are kept -> the oldest forgotten."""
    strikes = Strikes()
    for _ in range(3):
        assert not strikes.out("a") or not strikes.out("b")
        strikes.strike("a")
        strikes.strike("b")
    assert strikes.out("a")
    assert strikes.out("b")
    for number in range(999):
        strikes.strike(str(number))
    assert not strikes.out("a")
    assert strikes.out("b")
