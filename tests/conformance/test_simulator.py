"""The simulator's own drivers keep the contract that everybody's must."""

from collections.abc import Iterator

import pytest

from drivers.cinder_managed import CinderManagedDriver
from drivers.conformance import Ground, StorageDriverConformance
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from tests.conformance.limits import limit_of
from tests.conformance.simulator_ground import AUTHKEY, GroundInAProcess, SimulatorGround


class SimulatorConformance(StorageDriverConformance):
    """What both have in common."""

    short_seconds = 0.3
    settle_seconds = 0.02

    @pytest.fixture(autouse=True)
    def time_limit(self, request: pytest.FixtureRequest) -> None:
        """Wait long for a busy machine, and not for an answer that will not come."""
        # A thaw is at once here.
        word = request.node.name.replace("thaw", "frozen")
        self.timeout_seconds = limit_of(word, self.short_seconds)

    @pytest.fixture
    def cloud(self) -> Iterator[Cloud]:
        """Return an empty cloud."""
        with Cloud() as cloud:
            yield cloud


class TestSimulatorDriver(SimulatorConformance):
    """The driver that sees."""

    @pytest.fixture
    def ground(self, cloud: Cloud) -> Ground:
        """Return the cloud with its own backend."""
        return SimulatorGround(cloud)


class TestSimulatorDriverInAProcess(SimulatorConformance):
    """The same driver with every call in a child process, which asks the cloud over a socket."""

    short_seconds = 1.0
    settle_seconds = 0.1

    @pytest.fixture
    def ground(self, cloud: Cloud) -> Iterator[Ground]:
        """Return the cloud, served to other processes."""
        with serve_cloud(cloud, authkey=AUTHKEY.encode()) as server:
            yield GroundInAProcess(cloud, server.address)


class TestCinderManagedDriver(SimulatorConformance):
    """The default driver, which acts through Cinder and cannot look."""

    @pytest.fixture
    def ground(self, cloud: Cloud) -> Ground:
        """Return the same cloud, where Cinder is what freezes."""
        return SimulatorGround(cloud, CinderManagedDriver, ("cinder.terminate_connection",))
