"""What is under way when a host or a service dies, on a real Cinder and Nova: what comes of it.

Each blow strikes everybody, so that all its victims are on the lab at once; the blows come one by
one. What dies is killed (kill -9) and started again when the service has looked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.lab_service import victims
from tests.lab_service.befalling import Survived, Victim, befall
from tests.lab_service.lab_site import Eyes, LabSite
from tests.lab_service.playing import HOST

pytestmark = pytest.mark.timeout(900)  # the first test of a play waits for it to be arranged
EYES = Eyes.SEEING


@pytest.fixture(scope="module")
def of_a_compute_host(site: LabSite) -> Mapping[str, Survived]:
    """Kill a nova-compute that things are going on at; its guests and their disks stay."""

    @contextmanager
    def dead() -> Iterator[None]:
        with site.lab.computes_by_host[HOST].killed():
            site.lab.compute_faults[HOST].clear()
            yield

    return befall(site, victims.OF_A_COMPUTE_HOST, dead)


@pytest.fixture(scope="module")
def of_cinder_volume(site: LabSite) -> Mapping[str, Survived]:
    """Kill cinder-volume in the midst of its driver's calls, until Nova has given up."""

    @contextmanager
    def dead() -> Iterator[None]:
        with site.lab.daemons["cinder-volume"].killed():
            site.lab.storage_faults.clear()
            yield

    return befall(site, victims.OF_CINDER_VOLUME, dead)


@pytest.fixture(scope="module")
def of_cinder_api(site: LabSite) -> Mapping[str, Survived]:
    """Kill cinder-api in the last moment of an attach."""
    return befall(site, victims.OF_CINDER_API, site.lab.daemons["cinder-api"].killed)


def check(victim: Victim, came: Survived) -> None:
    """Fail unless all that came of a victim is as it says."""
    if came.waited is not None:
        assert came.waited.result() == (victim.waits, ())
    ended = came.ended.result()
    assert ended.decided == victim.decided
    assert ended.done == victim.done
    assert ended.holds == victim.holds


def name_of(victim: Victim) -> str:
    """Return what a test is called by."""
    return victim.name


@pytest.mark.parametrize("victim", victims.OF_A_COMPUTE_HOST, ids=name_of)
def test_compute_host_dies(of_a_compute_host: Mapping[str, Survived], victim: Victim) -> None:
    """Its compute host is dead -> waited for or for a person; back: mended where it can be."""
    check(victim, of_a_compute_host[victim.name])


@pytest.mark.parametrize("victim", victims.OF_CINDER_VOLUME, ids=name_of)
def test_cinder_volume_dies(of_cinder_volume: Mapping[str, Survived], victim: Victim) -> None:
    """cinder-volume dies in its driver's call -> what that left is mended when it is back."""
    check(victim, of_cinder_volume[victim.name])


@pytest.mark.parametrize("victim", victims.OF_CINDER_API, ids=name_of)
def test_cinder_api_dies(of_cinder_api: Mapping[str, Survived], victim: Victim) -> None:
    """cinder-api is dead when Nova cleans up -> nothing is known; back: released."""
    check(victim, of_cinder_api[victim.name])
