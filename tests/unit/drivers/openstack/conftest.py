"""A scripted server and the clients that speak to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from tests.openstack_api import OpenStackApi


@pytest.fixture
def api() -> Iterator[OpenStackApi]:
    """Return a running server that answers 404 to whatever is not scripted."""
    with OpenStackApi() as running:
        yield running


@pytest.fixture
def cinder(api: OpenStackApi, tmp_path: Path) -> CinderClient:
    """Return a client of its Cinder."""
    return api.cinder(tmp_path)


@pytest.fixture
def nova(api: OpenStackApi, tmp_path: Path) -> NovaClient:
    """Return a client of its Nova."""
    return api.nova(tmp_path)
