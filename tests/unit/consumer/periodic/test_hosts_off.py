"""The watch over hosts that are said to be off: asked of Nova, told once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.counting import EventKind, Happened
from consumer.ledger import Ledger
from consumer.periodic.hosts_off import HostsOff
from drivers.simulator import Cloud
from tests.bus import new_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger, with a word for one host."""
    with new_ledger(tmp_path) as made:
        made.attest_off("compute-1", 3600.0, "anna", "unplugged")
        yield made


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give a cloud in which that host is off."""
    with Cloud() as made:
        made.set_compute("compute-1", up=False)
        yield made


def test_a_host_that_stays_down_keeps_its_word(ledger: Ledger, cloud: Cloud) -> None:
    """Nova says down, knows no such compute, or is silent -> it stands, nothing is told."""
    told: list[Happened] = []
    watch = HostsOff(ledger, cloud.nova, told.append)
    watch.watch_once()
    cloud.set_compute("compute-1", up=None)
    watch.watch_once()
    cloud.set_apis(nova_up=False)
    watch.watch_once()
    assert ledger.off_word("compute-1") is not None
    assert told == []


def test_a_host_that_comes_back_is_told_once(
    ledger: Ledger, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    """Its nova-compute is up -> the word ends, a warning names host, person and sign; counted."""
    cloud.set_compute("compute-1", up=True)
    told: list[Happened] = []
    watch = HostsOff(ledger, cloud.nova, told.append)
    with caplog.at_level(logging.WARNING):
        watch.watch_once()
        watch.watch_once()
    assert ledger.off_word("compute-1") is None
    assert told == [Happened(EventKind.HOST_ALIVE, "off")]
    (line,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "compute-1" in line
    assert "anna" in line
    assert "its nova-compute is up" in line


def test_what_ended_elsewhere_is_told_too(ledger: Ledger, cloud: Cloud) -> None:
    """An attempt or the intake ended the word -> told by the watch."""
    ledger.heard_of("compute-1", "it sent instance.volume_detach.start")
    told: list[Happened] = []
    HostsOff(ledger, cloud.nova, told.append).watch_once()
    assert len(told) == 1
