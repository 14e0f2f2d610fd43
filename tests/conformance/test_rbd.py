"""The rbd driver keeps the contract, on a real Ceph with real clients; broken ones are caught."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from drivers.conformance import Ground, StorageDriverConformance
from drivers.rbd import RbdDriver
from tests.conformance.blunders_in_fencing import FENCING
from tests.conformance.limits import limit_of
from tests.conformance.rbd_ground import RbdGround
from tests.rbd import Rbd
from tests.services.ceph import Ceph
from tests.services.rbd_clients import RbdClients


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend on the shared cluster."""
    return Rbd(ceph, rbd_clients)


class TestRbdDriver(StorageDriverConformance):
    """Every clause that RBD can show."""

    @pytest.fixture(autouse=True)
    def time_limit(self, request: pytest.FixtureRequest) -> None:
        """Wait long for a busy machine, and not for an answer that will not come."""
        self.timeout_seconds = limit_of(request.node.name)

    @pytest.fixture
    def ground(self, rbd: Rbd, tmp_path: Path) -> Ground:
        """Return a namespace of the cluster."""
        return RbdGround.on(rbd, tmp_path)


@pytest.mark.parametrize(
    ("clause", "kind"),
    [(clause, kind) for clause, kinds in FENCING.items() for kind in kinds],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_broken_driver_is_caught(
    rbd: Rbd, tmp_path: Path, clause: str, kind: type[RbdDriver]
) -> None:
    """A driver for RBD breaks the clause -> the clause fails; to be skipped is not enough."""
    suite, ground = StorageDriverConformance(), RbdGround.on(rbd, tmp_path, kind)
    suite.timeout_seconds = limit_of(clause)
    name, _, method = clause.removesuffix("]").partition("[")
    scene: dict[str, Any] = {"ground": ground, "driver": ground.driver(), "method": method}
    test = getattr(suite, name)
    try:
        test(**{wanted: scene[wanted] for wanted in inspect.signature(test).parameters})
    except pytest.fail.Exception:
        return
    except pytest.skip.Exception as skipped:
        pytest.fail(f"the clause did not run: {skipped}")
    pytest.fail(f"{kind.__name__} got through: {kind.__doc__}")
