"""The simulator's own drivers keep the contract that everybody's must."""

import contextlib
from collections.abc import Iterator

import pytest

from drivers.base import Attachment, StorageDriver, VolumeRef
from drivers.conformance import Freeze, StorageDriverConformance, Subject, Truth
from drivers.simulator import Cloud, Effect, Fault


class SimulatorConformance(StorageDriverConformance):
    """A simulated cloud as the ground that the suite stands on."""

    timeout_seconds = 0.3
    settle_seconds = 0.0
    frozen_methods: tuple[str, ...] = ()

    @pytest.fixture
    def cloud(self) -> Iterator[Cloud]:
        """Return an empty cloud."""
        with Cloud() as cloud:
            yield cloud

    @pytest.fixture
    def attached(self, cloud: Cloud) -> Subject:
        """Return a volume with a host let in and in session, and no row or server."""
        return connected(cloud, "compute-1")

    @pytest.fixture
    def bystander(self, cloud: Cloud, attached: Subject) -> Attachment:
        """Let a second host in."""
        cloud.export(attached.volume.volume_id, "compute-2", sessions=1)
        return Attachment(attached.volume.volume_id, None, None, cloud.connector("compute-2"))

    @pytest.fixture
    def never_attached(self, cloud: Cloud) -> Subject:
        """Return a volume that another host is let in to."""
        other = connected(cloud, "compute-2")
        attachment = Attachment(other.volume.volume_id, None, None, cloud.connector("compute-1"))
        return Subject(other.volume, attachment)

    @pytest.fixture
    def missing(self, cloud: Cloud) -> VolumeRef:
        """Return a volume that the backend has forgotten."""
        volume = cloud.create_volume(name_id="migrated")
        cloud.forget_on_backend(volume)
        return cloud.cinder.volume(volume, timeout_seconds=1).ref

    @pytest.fixture
    def truth(self, cloud: Cloud) -> Truth:
        """Ask the cloud itself."""
        return lambda volume: frozenset(cloud.exported_to(volume.volume_id))

    @pytest.fixture
    def freeze(self, cloud: Cloud) -> Freeze:
        """Hang every call, and do after the thaw what was asked meanwhile."""

        @contextlib.contextmanager
        def frozen() -> Iterator[None]:
            for method in self.frozen_methods:
                cloud.script(Fault.hang(method, 60, effect=Effect.LATE, times=9))
            yield
            cloud.clear_faults()
            cloud.land_late()

        return frozen


class TestSimulatorDriver(SimulatorConformance):
    """The driver that sees."""

    frozen_methods = ("driver.observe", "driver.terminate_connection", "driver.detach")

    @pytest.fixture
    def driver(self, cloud: Cloud) -> StorageDriver:
        """Return the driver of the cloud's one backend."""
        return cloud.driver()


class TestBlindSimulatorDriver(SimulatorConformance):
    """The driver that acts through Cinder and cannot look."""

    frozen_methods = ("cinder.terminate_connection",)

    @pytest.fixture
    def driver(self, cloud: Cloud) -> StorageDriver:
        """Return the blind driver of the cloud's one backend."""
        return cloud.blind_driver()


def connected(cloud: Cloud, host: str) -> Subject:
    """Create a volume with one host let in and in session."""
    volume = cloud.create_volume()
    cloud.export(volume, host, sessions=1)
    ref = cloud.cinder.volume(volume, timeout_seconds=1).ref
    return Subject(ref, Attachment(volume, None, None, cloud.connector(host)))
