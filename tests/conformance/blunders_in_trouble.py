"""Drivers that break the contract: when calls time out, fail, or come from several threads."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from drivers.base import Attachment, Export, Observation, VolumeRef
from drivers.conformance.clause import GRACE_SECONDS
from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.simulator import SimulatorDriver
from tests.conformance.blunders_in_releasing import CutsEveryHost, Terminates

LOG = logging.getLogger(__name__)
T = TypeVar("T")
LATE = GRACE_SECONDS + 0.2


class Patient(SimulatorDriver):
    """Waits longer than it was told to."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return super().observe(volume, timeout_seconds=timeout_seconds + LATE)

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        return super().list_exports(timeout_seconds=timeout_seconds + LATE)

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().terminate_connection(
            volume,
            attachment,
            request_id=request_id,
            timeout_seconds=timeout_seconds + LATE,
        )

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().detach(
            volume,
            attachment,
            request_id=request_id,
            timeout_seconds=timeout_seconds + LATE,
        )

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        time.sleep(timeout_seconds)
        super().force_detach(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


class TriesAgain(SimulatorDriver):
    """Makes a failed call a second time, of which the service knows nothing."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        look = super().observe
        return twice(lambda: look(volume, timeout_seconds=timeout_seconds))

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        look = super().list_exports
        return twice(lambda: look(timeout_seconds=timeout_seconds))

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        how: dict[str, Any] = {"request_id": request_id, "timeout_seconds": timeout_seconds}
        act = super().terminate_connection
        twice(lambda: act(volume, attachment, **how))

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        how: dict[str, Any] = {"request_id": request_id, "timeout_seconds": timeout_seconds}
        act = super().detach
        twice(lambda: act(volume, attachment, **how))


def twice(call: Callable[[], T]) -> T:
    """Make the call, and once more where it fails."""
    try:
        return call()
    except OutsideError:
        return call()


class CallsAnHalfDoneReleaseRefused(SimulatorDriver):
    """Says "refused" where the second half of a release fails."""

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        try:
            super().force_detach(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )
        except OutsideError as error:
            raise PermanentError(str(error)) from None


class SharesTheLimit(SimulatorDriver):
    """Gives to detach what terminate_connection has left of the time."""

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        until = time.monotonic() + timeout_seconds
        for act in (self.terminate_connection, self.detach):
            left = until - time.monotonic()
            act(volume, attachment, request_id=request_id, timeout_seconds=left)


class KeepsTheLimit(SimulatorDriver):
    """Keeps the time limit of the call under way where every thread can reach it."""

    _limit_seconds = 0.0

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        self._limit_seconds = timeout_seconds
        time.sleep(0.05)
        return super().observe(volume, timeout_seconds=self._limit_seconds)


class SwallowsTimeouts(Terminates):
    """Takes a timeout for success."""

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        with contextlib.suppress(IndeterminateError):
            act()

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        with contextlib.suppress(IndeterminateError):
            super().detach(
                volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
            )


class RaisesItsOwn(SimulatorDriver):
    """Raises an error of its own making when something takes too long."""

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        raise RuntimeError("an error of the driver's own making")


class CallsTimeoutsTransient(Terminates):
    """Says "surely nothing was done" of a call that timed out."""

    called: type[OutsideError] = TransientError

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        try:
            act()
        except IndeterminateError as error:
            raise self.called(str(error)) from None

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke here, where nobody expects it."""
        self.terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )


class CallsTimeoutsRefused(CallsTimeoutsTransient):
    """Says "refused" of a call that timed out."""

    called = PermanentError


class GivesUpAfterATimeout(Terminates):
    """Refuses a volume for good once a call on it has timed out."""

    broken = False

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        if self.broken:
            raise PermanentError("A previous call on this volume is still under way.")
        self.broken = True
        act()
        self.broken = False


class TellsItsKey(SimulatorDriver):
    """Shows in its errors with what it logged in."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError as error:
            raise NotFoundError(f"{error} Asked with {dict(self.options)}.") from None


class ChainsItsKey(SimulatorDriver):
    """Raises a clean error from one that is not."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        try:
            return super().observe(volume, timeout_seconds=timeout_seconds)
        except NotFoundError:
            raise NotFoundError("not there") from ValueError(self.options["authkey"])


class LogsItsKey(SimulatorDriver):
    """Logs how it logs in."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        LOG.debug("asking with %s", self.options)
        return super().observe(volume, timeout_seconds=timeout_seconds)


class ShowsItsKey(SimulatorDriver):
    """Has a repr for debugging."""

    def __repr__(self) -> str:
        return f"ShowsItsKey({self.options})"


class KeepsTheAttachment(SimulatorDriver):
    """Keeps what it works on where every thread can reach it."""

    _at: tuple[VolumeRef, Attachment]

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        self._at = volume, attachment
        time.sleep(0.05)
        super().terminate_connection(
            *self._at, request_id=request_id, timeout_seconds=timeout_seconds
        )


class CutsEverybodyInACrowd(CutsEveryHost):
    """Drops the whole target when it is called while another call is under way."""

    calls = 0

    def released(self, volume: VolumeRef, attachment: Attachment, act: Callable[..., None]) -> None:
        self.calls += 1
        time.sleep(0.05)
        if self.calls > 1:
            super().released(volume, attachment, act)
        else:
            act()
