"""What is said of the regions: once, and again when the catalog has changed."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from consumer.errors import ConfigurationError
from consumer.periodic.region import RegionCheck
from drivers.errors import TransientError
from drivers.openstack.place import Place

CINDER = Place("cinder", "http://k/v3", "one", frozenset({"one"}), None)
NOVA = dataclasses.replace(CINDER, section="nova")


class Catalog:
    """A catalog that changes; ``places`` None: Keystone is away."""

    def __init__(self) -> None:
        self.places: tuple[Place, Place] | None = CINDER, NOVA

    def __call__(self, seconds: float) -> tuple[Place, Place]:
        """Return where both are."""
        assert seconds > 0
        if self.places is None:
            raise TransientError("Keystone is away")
        return self.places


def test_said_once_and_after_each_change(caplog: pytest.LogCaptureFixture) -> None:
    """The same catalog -> one line; another region in it -> a warning; an outage -> nothing."""
    caplog.set_level(logging.INFO)
    catalog = Catalog()
    check = RegionCheck(catalog)
    for _ in range(3):
        check.check()
    assert [r.getMessage() for r in caplog.records] == [
        "by the catalog: cinder of region one and nova of region one"
    ]
    caplog.clear()
    catalog.places = None
    check.check()
    assert caplog.records == []
    catalog.places = CINDER, dataclasses.replace(NOVA, region="two")
    check.check()
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING"]
    assert "region two" in caplog.text


def test_a_region_more_while_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A second region comes into the catalog, none is configured -> an error, what to set."""
    catalog = Catalog()
    check = RegionCheck(catalog)
    check.check()
    caplog.clear()
    catalog.places = dataclasses.replace(CINDER, regions=frozenset({"one", "two"})), NOVA
    check.check()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "set region_name in [cinder]" in record.getMessage()


def test_ambiguous_at_the_start() -> None:
    """Two regions for both, neither configured -> refused, a sentence for each section."""
    catalog = Catalog()
    both = frozenset({"one", "two"})
    catalog.places = (
        dataclasses.replace(CINDER, regions=both), dataclasses.replace(NOVA, regions=both),
    )  # fmt: skip
    with pytest.raises(ConfigurationError) as refused:
        RegionCheck(catalog).refuse_ambiguous()
    assert [problem.split()[0] for problem in refused.value.problems] == ["[cinder]", "[nova]"]
    assert all("the regions one, two" in problem for problem in refused.value.problems)


@pytest.mark.parametrize("keystone", ["away", "clear", "configured"])
def test_nothing_ambiguous_at_the_start(keystone: str) -> None:
    """Keystone is away, or it is clear which region is meant -> nothing is refused."""
    catalog = Catalog()
    if keystone == "away":
        catalog.places = None
    if keystone == "configured":
        named = dataclasses.replace(CINDER, regions=frozenset({"one", "two"}), configured="one")
        catalog.places = named, dataclasses.replace(named, section="nova")
    RegionCheck(catalog).refuse_ambiguous()
