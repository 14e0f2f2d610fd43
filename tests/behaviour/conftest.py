"""Each test of behaviour on both clouds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviour.ground import Ground
from tests.behaviour.on_lab import LabGround
from tests.behaviour.on_simulator import SimulatorGround
from tests.lab.fixtures import MARKS
from tests.lab.openstack import OpenStack

GROUNDS = [pytest.param("simulator"), pytest.param("lab", marks=MARKS)]


@pytest.fixture(scope="session")
def on_lab(openstack: OpenStack) -> LabGround:
    """Share what logs in to the lab, and the servers that run there."""
    return LabGround(openstack)


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Give a simulated cloud of its own, then the lab that all tests share."""
    if request.param == "simulator":
        simulated = SimulatorGround()
        yield simulated
        simulated.cloud.close()
    else:
        real: LabGround = request.getfixturevalue("on_lab")
        yield real
        real.clean_up()
