"""What is said of the regions: once, and again when the catalog has changed."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from consumer.work.region import RegionCheck
from drivers.errors import TransientError
from drivers.openstack.place import Place

CINDER = Place("cinder", "http://k/v3", "one", frozenset({"one"}), None)
NOVA = dataclasses.replace(CINDER, section="nova")


class Catalog:
    """A catalog that changes; ``places`` None: Keystone is away."""

    def __init__(self) -> None:
        self.places: tuple[Place, Place] | None = CINDER, NOVA

    def __call__(self) -> tuple[Place, Place]:
        """Return where both are."""
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
