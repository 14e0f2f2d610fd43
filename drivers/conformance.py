"""What every storage driver must keep, as a pytest class that a driver's author subclasses.

    class TestMyDriver(StorageDriverConformance):
        @pytest.fixture
        def driver(self): ...

Override the fixtures that raise NotImplementedError; each says what the backend must look like. A
clause that fails says in words what the driver did and why that is dangerous.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from drivers.base import Attachment, StorageDriver, VolumeRef
from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)

GRACE_SECONDS = 1.0
KINDS = (TransientError, IndeterminateError, PermanentError)
ACTIONS = ("terminate_connection", "detach", "force_detach")

Truth = Callable[[VolumeRef], frozenset[str]]
Freeze = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A volume on the backend, and the attachment that a clause acts on."""

    volume: VolumeRef
    attachment: Attachment

    @property
    def names(self) -> frozenset[str]:
        """The names by which the backend may know the attachment's host."""
        connector = self.attachment.connector
        if connector is None:
            raise ValueError("The attachment of a Subject needs a connector.")
        return connector.names() | ({connector.host} if connector.host else frozenset())


class StorageDriverConformance:
    """The clauses. Each test takes its scene from the fixtures below."""

    timeout_seconds = 2.0
    settle_seconds = 0.5

    @pytest.fixture
    def driver(self) -> Iterator[StorageDriver]:
        """Return the driver, bound to a backend that nobody else uses."""
        raise NotImplementedError

    @pytest.fixture
    def attached(self) -> Subject:
        """Return a volume whose attachment's host is connected at this moment."""
        raise NotImplementedError

    @pytest.fixture
    def bystander(self, attached: Subject) -> Attachment:
        """Connect a second host to the same volume and return its attachment.

        A backend on which that cannot be calls ``pytest.skip`` with the reason.
        """
        raise NotImplementedError

    @pytest.fixture
    def never_attached(self) -> Subject:
        """Return a volume that exists, with an attachment whose host was never connected to it."""
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> VolumeRef:
        """Return a volume that the backend does not know under any name."""
        raise NotImplementedError

    @pytest.fixture
    def truth(self) -> Truth:
        """Return a look at the backend that does not go through the driver.

        For a volume it gives the names (initiator, NQN or host) of all who have access or a live
        session.
        """
        raise NotImplementedError

    @pytest.fixture
    def freeze(self) -> Freeze:
        """Return what makes the backend give no answer while the ``with`` block lasts.

        What was asked meanwhile may still be done afterwards, as a real frozen daemon does.
        """
        raise NotImplementedError

    def test_connected_host_is_seen(self, driver: StorageDriver, attached: Subject) -> None:
        """A host is connected -> observe tells it, with a control that makes "nobody" mean it."""
        self._needs_eyes(driver)
        seen = driver.observe(attached.volume, timeout_seconds=self.timeout_seconds)
        _must(
            any(c.name in attached.names or c.host in attached.names for c in seen.connections),
            f"observe does not tell the connected host {sorted(attached.names)}: {seen}",
        )
        _must(
            bool(seen.control.strip()), "an observation without a positive control proves nothing"
        )

    def test_observe_changes_nothing(
        self, driver: StorageDriver, attached: Subject, truth: Truth
    ) -> None:
        """Observe -> the backend holds what it held before."""
        self._needs_eyes(driver)
        before = truth(attached.volume)
        driver.observe(attached.volume, timeout_seconds=self.timeout_seconds)
        _must(truth(attached.volume) == before, "observe is read-only, but the backend has changed")

    def test_unknown_volume_is_not_clean(self, driver: StorageDriver, missing: VolumeRef) -> None:
        """A volume that the backend does not know -> NotFoundError, never an empty observation."""
        self._needs_eyes(driver)
        try:
            seen = driver.observe(missing, timeout_seconds=self.timeout_seconds)
        except NotFoundError:
            return
        _fail(f"a volume that does not exist was called clean: {seen}")

    def test_released_host_is_gone(
        self, driver: StorageDriver, attached: Subject, truth: Truth
    ) -> None:
        """Force detach -> neither access nor session is left, and observe says so too."""
        self._force_detach(driver, attached)
        left = truth(attached.volume) & attached.names
        _must(not left, f"force_detach succeeded, but the backend still lets in {sorted(left)}")
        if driver.capabilities.sees_connections:
            seen = driver.observe(attached.volume, timeout_seconds=self.timeout_seconds)
            told = [c for c in seen.connections if c.name in attached.names]
            _must(not told, f"observe tells a connection that is gone: {told}")

    def test_second_detach_is_success(
        self, driver: StorageDriver, attached: Subject, truth: Truth
    ) -> None:
        """Force detach twice -> the second finds it released, which is success."""
        self._force_detach(driver, attached)
        after_first = truth(attached.volume)
        self._force_detach(driver, attached)
        _must(truth(attached.volume) == after_first, "the second force_detach changed the backend")

    def test_never_attached_is_success(
        self, driver: StorageDriver, never_attached: Subject, truth: Truth
    ) -> None:
        """Force detach of a host that was never connected -> success, and nothing changes."""
        before = truth(never_attached.volume)
        self._force_detach(driver, never_attached)
        _must(
            truth(never_attached.volume) == before, "there was nothing to release, yet it changed"
        )

    def test_bystander_keeps_its_access(
        self, driver: StorageDriver, attached: Subject, bystander: Attachment, truth: Truth
    ) -> None:
        """A second host is connected to the volume -> it stays so when the first is released."""
        other = Subject(attached.volume, bystander)
        before = truth(attached.volume) & other.names
        _must(bool(before), "the bystander fixture did not connect its host")
        self._force_detach(driver, attached)
        kept = truth(attached.volume) & other.names
        _must(
            kept == before, f"the bystander {sorted(before)} lost its access: a live guest is cut"
        )

    def test_without_connector_nobody_is_cut(
        self, driver: StorageDriver, attached: Subject, truth: Truth
    ) -> None:
        """No connector, and the driver does not declare to take that -> refused, all as before."""
        if driver.capabilities.accepts_no_connector:
            pytest.skip("the driver declares accepts_no_connector")
        before = truth(attached.volume)
        nameless = dataclasses.replace(attached.attachment, connector=None)
        with contextlib.suppress(PermanentError):
            self._force_detach(driver, dataclasses.replace(attached, attachment=nameless))
            _fail("without a connector force_detach must raise PermanentError, not succeed")
        _must(truth(attached.volume) == before, "without a connector somebody was cut off")

    @pytest.mark.parametrize("method", ["observe", *ACTIONS])
    def test_frozen_backend_is_bounded(
        self, driver: StorageDriver, attached: Subject, freeze: Freeze, method: str
    ) -> None:
        """The backend gives no answer -> the call ends in time, with one of the three kinds."""
        if method == "observe":
            self._needs_eyes(driver)
        calls = 2 if method == "force_detach" else 1
        with freeze():
            began = time.monotonic()
            error = self._error_of(driver, attached, method)
            took = time.monotonic() - began
        limit = calls * self.timeout_seconds + GRACE_SECONDS
        _must(took <= limit, f"{method} took {took:.1f} s of at most {limit:.1f} s")
        _must(
            error is not None or method == "detach",
            f"{method} succeeded against a backend that gave no answer",
        )

    @pytest.mark.parametrize("method", ACTIONS)
    def test_transient_means_nothing_was_done(
        self,
        driver: StorageDriver,
        attached: Subject,
        freeze: Freeze,
        truth: Truth,
        method: str,
    ) -> None:
        """An action fails as TransientError -> it is not done afterwards either."""
        before = truth(attached.volume)
        with freeze():
            error = self._error_of(driver, attached, method)
        time.sleep(self.settle_seconds)
        _must(
            not isinstance(error, TransientError) or truth(attached.volume) == before,
            f"{method} said that it surely did nothing ({error!r}), and then it was done",
        )

    def _force_detach(self, driver: StorageDriver, subject: Subject) -> None:
        driver.force_detach(
            subject.volume,
            subject.attachment,
            request_id="req-conformance",
            timeout_seconds=self.timeout_seconds,
        )

    def _error_of(
        self, driver: StorageDriver, subject: Subject, method: str
    ) -> OutsideError | None:
        """Make the call; return which of the three kinds it raised, or None.

        Anything else that it raises breaks the contract and fails the test as it is.
        """
        limit = {"timeout_seconds": self.timeout_seconds}
        try:
            if method == "observe":
                driver.observe(subject.volume, **limit)
            else:
                act = getattr(driver, method)
                act(subject.volume, subject.attachment, request_id="req-conformance", **limit)
        except KINDS as error:
            return error
        return None

    @staticmethod
    def _needs_eyes(driver: StorageDriver) -> None:
        if not driver.capabilities.sees_connections:
            pytest.skip("the driver declares that it is blind, and is never asked to observe")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        _fail(otherwise)


def _fail(words: str) -> NoReturn:
    pytest.fail(words)
