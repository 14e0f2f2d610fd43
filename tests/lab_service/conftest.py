"""The service on the lab, for a module of tests at a time: the module's ``EYES`` say which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.lab.openstack import OpenStack
from tests.lab_service.lab_site import LabSite, open_lab_site
from tests.lab_service.playing import Played, playing


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest,
    openstack: OpenStack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LabSite]:
    """Serve the lab."""
    eyes = request.module.EYES
    with open_lab_site(openstack, tmp_path_factory.mktemp(f"lab-{eyes.value}"), eyes) as site:
        yield site


@pytest.fixture(scope="module")
def play(request: pytest.FixtureRequest, site: LabSite) -> Iterator[Mapping[str, Future[Played]]]:
    """Play every scene of the module at once."""
    with playing(site, request.module.SCENES) as play:
        yield play
