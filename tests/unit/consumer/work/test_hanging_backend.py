"""One backend whose driver hangs in every call, and the cases of all others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from consumer.ledger import Ledger
from consumer.work.backends import Backends
from consumer.work.driver_calls import BoundedDrivers
from consumer.work.worker import Worker, WorkerSettings
from drivers.base import Observation, StorageDriver
from drivers.simulator import Cloud
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.scenes import uc1
from handlers.case import CaseState
from handlers.judgement.policy import Mode
from handlers.notification import Phase
from handlers.recovery.recovery import Recovery
from tests.bus import new_ledger, until
from tests.unit.consumer.due import backend, only_case, open_case

HUNG, WELL = "array-0@hung", tuple(f"array-{n}@well" for n in range(1, 5))
POLICY: dict[str, Any] = {
    "mode": Mode.AUTO, "try_backoff_seconds": 0.01, "try_backoff_max_seconds": 0.01,
}  # fmt: skip
# Of the one that hangs: the others answer, however much the machine has to do.
SHORT = {"look_timeout_seconds": 0.5, "call_timeout_seconds": 0.5, "driver_grace_seconds": 0.2}
THREADS, CASES = 64, 10


class Hung(SimulatorDriver):
    """A driver that does not come back from a look."""

    let_go = threading.Event()

    def observe(self, *_: Any, **__: Any) -> Observation:
        """Hang."""
        assert self.let_go.wait(240)
        return Observation((), "it answered")


def settings() -> Backends:
    """Return the settings of five backends, the hung one with most of the threads."""
    return Backends(
        backend("backend_defaults", **POLICY),
        {HUNG: backend(HUNG, concurrency=24, **POLICY, **SHORT)}
        | {name: backend(name, concurrency=4, **POLICY) for name in WELL},
    )


def test_64_workers_and_a_backend_all_of_whose_calls_hang(tmp_path: Path) -> None:
    """Four other backends have ten cases each -> all are recovered, and the hung one's wait.

    Those are told apart from an outage of Cinder: the reason names the backend and the hang.
    """
    with Cloud() as cloud, new_ledger(tmp_path) as ledger:
        of_hung = [a_case(cloud, ledger, HUNG) for _ in range(4 * CASES)]
        of_others = [a_case(cloud, ledger, name) for name in WELL for _ in range(CASES)]

        def driver_of(name: str) -> StorageDriver:
            return Hung(name, {}, cloud=cloud) if name == HUNG else cloud.driver(name)

        drivers = BoundedDrivers(driver_of, settings())
        worker = a_worker(cloud, ledger, drivers)
        stop = threading.Event()
        running = threading.Thread(target=worker.run, args=(stop,))
        running.start()
        try:
            until(lambda: all(recovered(ledger, volume) for volume in of_others), 60.0)
            until(lambda: all(reason(ledger, volume) for volume in of_hung), 60.0)
        finally:
            Hung.let_go.set()
            stop.set()
            running.join()
            assert worker.drain(60.0)
        assert set(drivers.stopped()) <= {HUNG}
        reasons = {reason(ledger, volume) for volume in of_hung}
        assert any("did not return from observe" in (why or "") for why in reasons)
        assert any("is not called any more" in (why or "") for why in reasons)
        assert cloud.hazards() == ()


def a_case(cloud: Cloud, ledger: Ledger, name: str) -> str:
    """Arrange a stuck attach on this backend and let the bus tell of it; return the volume."""
    scene = uc1(cloud, backend=name)
    return open_case(
        ledger, volume_id=scene.volume_id, backend=name, phase=Phase.ERROR,
        attachment_id=scene.attachment_id, instance_id=scene.instance_id, host=scene.host,
    )  # fmt: skip


def a_worker(cloud: Cloud, ledger: Ledger, drivers: BoundedDrivers) -> Worker:
    recovery = Recovery(cloud.cinder, cloud.nova, drivers, lambda name: settings().of(name).policy)
    return Worker(
        ledger,
        recovery,
        owner="w:1",
        settings=WorkerSettings(
            threads=THREADS, lease_seconds=600.0, poll_seconds=0.05, drain_seconds=5.0
        ),
        backends=settings(),
        count=lambda _: None,
        caught_up=lambda: True,
    )


def recovered(ledger: Ledger, volume_id: str) -> bool:
    """Tell whether the case was recovered, and waits for its last look."""
    return only_case(ledger, volume_id).case.state is CaseState.SETTLING


def reason(ledger: Ledger, volume_id: str) -> str | None:
    """Return the reason of the last attempt."""
    return only_case(ledger, volume_id).case.reason
