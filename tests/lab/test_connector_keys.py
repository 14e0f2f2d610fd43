"""What we keep of a connector is what the drivers of the lab's Cinder read."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import CONNECTOR_EXTRAS, CONNECTOR_LISTS, CONNECTOR_TEXTS, NEEDED_KEYS
from tests.lab import connector_keys, environment
from tests.lab.fixtures import installed_lab

PAGE = Path(__file__).parents[2] / "docs" / "connectors.md"
KEPT = {*CONNECTOR_TEXTS, *CONNECTOR_LISTS, *CONNECTOR_EXTRAS}
NOT_KEPT = {"instance", "remote_target_ip", "wwns", "zvm_fcp"}  # the page says why
NEEDED = {key for keys in NEEDED_KEYS.values() for key in keys}
LATER = {"sdc_guid", "host_ips"}
NOT_READ_YET = {"2024.1": LATER}  # the page says what that means


@pytest.fixture
def sources() -> None:
    """Skip the test, or fail it where CI=true, without the lab's Cinder; it is not started."""
    installed_lab()


@pytest.mark.lab
@pytest.mark.usefixtures("sources")
def test_every_key_that_a_driver_reads_is_kept() -> None:
    """Cinder's drivers read a key -> it is kept, or the page says why not."""
    read = frozenset[str]().union(*connector_keys.keys_by_driver().values())
    assert read - KEPT == NOT_KEPT
    assert NEEDED - read == NOT_READ_YET.get(environment.release(), set())


@pytest.mark.lab
@pytest.mark.usefixtures("sources")
def test_compute_hosts_send_what_their_cinder_reads_and_no_more() -> None:
    """The driver of a release ends nothing by a key -> no connector of that release has the key.

    So the guard stops each release whose protocol is known.
    """
    sources = connector_keys.of_os_brick()
    sent = {key for key in LATER if f"'{key}'" in sources}
    assert sent == LATER - NOT_READ_YET.get(environment.release(), set())


@pytest.mark.lab
@pytest.mark.usefixtures("sources")
def test_the_page_has_the_table() -> None:
    """Cinder's release changes -> the page has to: python -m tests.lab.connector_keys."""
    if environment.release() != environment.NEWEST:
        pytest.skip("the page has the table of the newest release")
    assert connector_keys.table() in PAGE.read_text()


def test_each_way_to_read_a_key_is_found() -> None:
    """A subscript, a get, a test for membership -> read; a key that is set, of another -> not."""
    source = """
guid = connector["sdc_guid"]
ips = self.connector.get("host_ips", [])
found = "found_dsc" in connector and "x" not in volume
connector["set"] = volume["name"]
"""
    assert set(connector_keys.keys_read(source)) == {"sdc_guid", "host_ips", "found_dsc"}


def test_the_page_says_what_is_kept() -> None:
    """The allow-list and the page -> the same keys."""
    paragraph = PAGE.read_text().partition("**Kept**:")[2].partition("Everything")[0]
    assert set(paragraph.replace("\n", " ").split("`")[1::2]) == KEPT
