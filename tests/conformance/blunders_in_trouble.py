"""Drivers that break the contract: when calls time out, fail, or come from several threads."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from drivers.base import Attachment, Export, Observation, VolumeRef
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


class Patient(SimulatorDriver):
    """Waits longer than it was told to."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        return super().observe(volume, timeout_seconds=timeout_seconds + 1.2)

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        return super().list_exports(timeout_seconds=timeout_seconds + 1.2)

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
