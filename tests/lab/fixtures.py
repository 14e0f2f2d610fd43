"""The lab as a pytest fixture: one for a test session, started when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.lab.ceph_backend import CephBackend, ceph_backend_of
from tests.lab.environment import LabMissingError
from tests.lab.openstack import OpenStack
from tests.services.rbd_clients import require_bindings
from tests.services.service import ServiceMissingError

MARKS = (
    pytest.mark.lab,
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("lab"),  # of several processes that test, one has a lab
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for the lab, before -m looks at the marks; its start takes its time."""
    for item in items:
        if "openstack" in getattr(item, "fixturenames", ()):
            for mark in MARKS:
                item.add_marker(mark)


def installed_lab() -> OpenStack:
    """Make a lab, not yet started; skip the test, or fail it where CI=true, if it cannot run."""
    with _or_skipped():
        return OpenStack()


@contextmanager
def _or_skipped() -> Iterator[None]:
    try:
        yield
    except (LabMissingError, ServiceMissingError) as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def openstack() -> Iterator[OpenStack]:
    """Share one lab. A test takes back its faults, and starts again what it kills or pauses."""
    with installed_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def ceph_backend(openstack: OpenStack) -> Iterator[CephBackend]:
    """Give the lab's Cinder a second backend, on a Ceph of the module's own."""
    with ExitStack() as running:
        with _or_skipped():
            require_bindings()
            backend = running.enter_context(ceph_backend_of(openstack))
        yield backend
