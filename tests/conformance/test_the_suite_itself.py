"""Each clause of the conformance suite catches the driver that breaks it, and passes a good one."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from drivers.base import Attachment, Observation, VolumeRef
from drivers.conformance import StorageDriverConformance, Subject
from drivers.errors import IndeterminateError, NotFoundError, OutsideError, TransientError
from drivers.simulator import Cloud, Effect, Fault, SimulatorDriver
from tests.conformance.test_simulator import connected

FROZEN = ("driver.observe", "driver.terminate_connection", "driver.detach")
CALL = {"request_id": "req-broken", "timeout_seconds": 0.3}


class SeesNobody(SimulatorDriver):
    """Answers "nobody" whatever the backend holds."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return Observation((), control="all is well")


class WithoutControl(SimulatorDriver):
    """Tells the connections, but not what makes the answer trustworthy."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        return Observation(seen.connections, control=" ")


class TidiesUpWhileLooking(SimulatorDriver):
    """Drops what it finds when it only should look."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        self._cloud.unexport(volume.volume_id, "compute-1")
        return seen


class CallsTheUnknownClean(SimulatorDriver):
    """Takes "no such volume" for "nobody is connected"."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError:
            return Observation((), control="there is nothing there")


class NotFoundByAnotherName(SimulatorDriver):
    """Raises its own kind of error for a volume that is not there."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError:
            raise KeyError(volume.volume_id) from None


class SaysDoneAndDoesNothing(SimulatorDriver):
    """Succeeds without asking the backend."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        return


class RemembersConnections(SimulatorDriver):
    """Releases, but tells from a cache what was there before."""

    cache: Observation | None = None

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        self.cache = super().observe(volume, timeout_seconds=timeout_seconds)
        super().terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return self.cache or super().observe(volume, timeout_seconds=timeout_seconds)


class InsistsOnAConnection(SimulatorDriver):
    """Calls it an error when there is nothing to release, as some arrays do."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        if not self.observe(volume, timeout_seconds=timeout_seconds).of(attachment.connector):
            raise NotFoundError("The initiator group does not exist.")
        super().terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


class CutsEverybody(SimulatorDriver):
    """Drops the whole target."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        for host in self._cloud.exported_to(volume.volume_id):
            self._cloud.unexport(volume.volume_id, host)


class TakesNoConnectorForAll(CutsEverybody):
    """Drops the whole target only when no connector was given."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        act = CutsEverybody if attachment.connector is None else SimulatorDriver
        act.terminate_connection(
            self, volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


class Patient(SimulatorDriver):
    """Waits longer than it was told to."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return super().observe(volume, timeout_seconds=timeout_seconds + 1.2)

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds + 1.2
        )

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().detach(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds + 1.2
        )

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        time.sleep(timeout_seconds)
        super().force_detach(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


class SwallowsTimeouts(SimulatorDriver):
    """Takes a timeout for success."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        with contextlib.suppress(IndeterminateError):
            return super().observe(volume, timeout_seconds=timeout_seconds)
        return Observation((), control="nobody said otherwise")

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        with contextlib.suppress(IndeterminateError):
            super().terminate_connection(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        raise RuntimeError("an error of the driver's own making")


class CallsTimeoutsTransient(SimulatorDriver):
    """Says "surely nothing was done" of a call that timed out."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        try:
            super().terminate_connection(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )
        except IndeterminateError as error:
            raise TransientError(str(error)) from None

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke here, where nobody expects it."""
        self.terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


FROZEN_CLAUSE = "test_frozen_backend_is_bounded"
TRANSIENT_CLAUSE = "test_transient_means_nothing_was_done"
BREAKERS: list[tuple[str, type[SimulatorDriver], dict[str, str]]] = [
    ("test_connected_host_is_seen", SeesNobody, {}),
    ("test_connected_host_is_seen", WithoutControl, {}),
    ("test_observe_changes_nothing", TidiesUpWhileLooking, {}),
    ("test_unknown_volume_is_not_clean", CallsTheUnknownClean, {}),
    ("test_unknown_volume_is_not_clean", NotFoundByAnotherName, {}),
    ("test_released_host_is_gone", SaysDoneAndDoesNothing, {}),
    ("test_released_host_is_gone", RemembersConnections, {}),
    ("test_second_detach_is_success", InsistsOnAConnection, {}),
    ("test_never_attached_is_success", InsistsOnAConnection, {}),
    ("test_never_attached_is_success", CutsEverybody, {}),
    ("test_bystander_keeps_its_access", CutsEverybody, {}),
    ("test_without_connector_nobody_is_cut", TakesNoConnectorForAll, {}),
    ("test_without_connector_nobody_is_cut", SaysDoneAndDoesNothing, {}),
    *((FROZEN_CLAUSE, Patient, {"method": m}) for m in ("observe", "terminate_connection")),
    *((FROZEN_CLAUSE, Patient, {"method": m}) for m in ("detach", "force_detach")),
    *((FROZEN_CLAUSE, SwallowsTimeouts, {"method": m}) for m in ("observe", "detach")),
    (FROZEN_CLAUSE, SwallowsTimeouts, {"method": "terminate_connection"}),
    (FROZEN_CLAUSE, SaysDoneAndDoesNothing, {"method": "terminate_connection"}),
    *(
        (TRANSIENT_CLAUSE, CallsTimeoutsTransient, {"method": m})
        for m in ("terminate_connection", "detach", "force_detach")
    ),
]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Return an empty cloud."""
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def run(cloud: Cloud) -> Callable[[str, type[SimulatorDriver], Mapping[str, str]], None]:
    """Return what runs one clause against a driver class, with the scene that the clause wants."""
    suite = StorageDriverConformance()
    suite.timeout_seconds, suite.settle_seconds = 0.3, 0.0

    def run(clause: str, kind: type[SimulatorDriver], extra: Mapping[str, str]) -> None:
        scene = ground(cloud, kind) | dict(extra)
        test = getattr(suite, clause)
        test(**{name: scene[name] for name in inspect.signature(test).parameters})

    return run


@pytest.mark.parametrize(
    ("clause", "kind", "extra"), BREAKERS, ids=lambda v: getattr(v, "__name__", None)
)
def test_broken_driver_is_caught(
    run: Callable[..., None], clause: str, kind: type[SimulatorDriver], extra: dict[str, str]
) -> None:
    """A driver breaks the clause -> the clause fails, where a good driver passes it."""
    run(clause, SimulatorDriver, extra)
    with pytest.raises((pytest.fail.Exception, OutsideError, KeyError, RuntimeError)):
        run(clause, kind, extra)


def test_every_clause_has_a_driver_that_breaks_it() -> None:
    """The suite's clauses and the breakers -> none is left that cannot fail."""
    clauses = {
        name
        for name, _ in inspect.getmembers(StorageDriverConformance, inspect.isfunction)
        if name.startswith("test_")
    }
    assert clauses == {clause for clause, _, _ in BREAKERS}
    assert len(clauses) >= 10


def ground(cloud: Cloud, kind: type[SimulatorDriver]) -> dict[str, Any]:
    """Lay out what the suite's fixtures give."""
    other = connected(cloud, "compute-2")
    shared = connected(cloud, "compute-1")
    cloud.export(shared.volume.volume_id, "compute-2", sessions=1)
    unknown = cloud.cinder.volume(cloud.create_volume(), timeout_seconds=1).ref
    cloud.forget_on_backend(unknown.volume_id)
    stranger = Attachment(other.volume.volume_id, None, None, cloud.connector("compute-1"))
    second = Attachment(shared.volume.volume_id, None, None, cloud.connector("compute-2"))
    return {
        "driver": kind("storage-1@tgt", {}, cloud=cloud),
        "attached": shared,
        "bystander": second,
        "never_attached": Subject(other.volume, stranger),
        "missing": unknown,
        "truth": lambda volume: frozenset(cloud.exported_to(volume.volume_id)),
        "freeze": lambda: frozen(cloud),
    }


@contextlib.contextmanager
def frozen(cloud: Cloud) -> Iterator[None]:
    """Hang every call, and do after the thaw what was asked meanwhile."""
    for method in FROZEN:
        cloud.script(Fault.hang(method, 60, effect=Effect.LATE, times=9))
    yield
    cloud.clear_faults()
    cloud.land_late()
