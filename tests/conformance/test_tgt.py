"""The tgt driver keeps the contract, on a real tgtd with real initiators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.conformance import Ground, StorageDriverConformance
from tests.conformance.limits import limit_of
from tests.conformance.tgt_ground import TgtGround
from tests.iscsi import Iscsi
from tests.services.fixtures import installed
from tests.services.fuse_disk import FuseDisk
from tests.services.initiator import Initiators
from tests.services.tgtd import Tgtd


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[Tgtd, Tgtd]]:
    """Share two daemons; each test removes its targets."""
    with installed(Tgtd) as first, installed(Tgtd) as second:
        yield first, second


@pytest.fixture(scope="module")
def disk() -> Iterator[FuseDisk]:
    """Share a disk that can be frozen."""
    with installed(FuseDisk) as made:
        yield made


class TestTgtDriver(StorageDriverConformance):
    """Without a control target, as it is out of the box."""

    control = False

    @pytest.fixture(autouse=True)
    def time_limit(self, request: pytest.FixtureRequest) -> None:
        """Wait long for a busy machine, and not for an answer that will not come."""
        self.timeout_seconds = limit_of(request.node.name)

    @pytest.fixture
    def ground(
        self,
        disk: FuseDisk,
        daemons: tuple[Tgtd, Tgtd],
        initiators: Initiators,
        tmp_path: Path,
    ) -> Iterator[Ground]:
        """Yield a daemon, beside it another one, and hosts that write."""
        iscsi, other = (Iscsi(daemon, initiators, tmp_path) for daemon in daemons)
        yield TgtGround(iscsi, other, disk, control=self.control)
        for daemon in daemons:
            daemon.clear()


class TestTgtDriverWithControlTarget(TestTgtDriver):
    """With a control target, by which a volume without a target is known not to be exported."""

    control = True
