"""Drivers for RBD that break the contract: in whom they fence, and in what they leave."""
# ruff: noqa: D102 - what is wrong with a broken driver's methods, its class docstring says

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from drivers.base import Attachment, ClientInstance, Fences, Observation, VolumeRef
from drivers.child import Deadline
from drivers.errors import OutsideError, PermanentError
from drivers.rbd import RbdDriver
from drivers.rbd.cluster import Answer, Cluster, OwnedLock
from drivers.rbd.image import read_sighting


class FencesWhoeverWatches(RbdDriver):
    """Fences the client that has the image open now, instead of the learned one."""

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        super().terminate_connection(
            volume,
            dataclasses.replace(attachment, learned=self._watching(volume, attachment)),
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )

    def _watching(self, volume: VolumeRef, attachment: Attachment) -> ClientInstance | None:
        connector = attachment.connector
        seen = self.observe(volume, timeout_seconds=2.0)
        return seen.client_of(connector, datetime.now(UTC)) if connector else None


@dataclasses.dataclass(frozen=True, slots=True)
class FencingTheHost(Cluster):
    """Fences every client at the address, as a fence of a bare IP does."""

    def release(
        self,
        names: tuple[str, ...],
        address: str | None,
        seconds: float,
        locks: Iterable[OwnedLock],
        deadline: Deadline,
    ) -> Answer:
        for watcher in read_sighting(self.list_images(deadline)).watchers:
            if address and watcher.address.partition(":")[0] == address.partition(":")[0]:
                Cluster.release(self, (), watcher.address, seconds, (), deadline)
        return Cluster.release(self, names, address, seconds, locks, deadline)


class FencesTheWholeHost(RbdDriver):
    """Fences the host's IP address, and with it every client that comes from there."""

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        super().__init__(backend, options)
        self._cluster = FencingTheHost(self._options)


@dataclasses.dataclass(frozen=True, slots=True)
class LeavingLocks(Cluster):
    """Fences, and removes no lock."""

    def release(
        self,
        names: tuple[str, ...],
        address: str | None,
        seconds: float,
        locks: Iterable[OwnedLock],
        deadline: Deadline,
    ) -> Answer:
        answer = Cluster.release(self, names, address, seconds, (), deadline)
        for image in answer["images"]:
            image["locks"] = []
        return answer


class ForgetsTheLock(RbdDriver):
    """Takes a fence for the whole of a release."""

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        super().__init__(backend, options)
        self._cluster = LeavingLocks(self._options)


class TakesAnErrorForAbsence(RbdDriver):
    """Takes "no answer" and "no such image" for "nobody is there"."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        with contextlib.suppress(OutsideError):
            return super().observe(volume, timeout_seconds=timeout_seconds)
        return Observation((), control="the cluster told of nobody")


class TakesWatchersForAll(RbdDriver):
    """Looks at watchers and not at locks."""

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        seen = super().observe(volume, timeout_seconds=timeout_seconds)
        watching = tuple(c for c in seen.connections if c.sessions)
        return dataclasses.replace(seen, connections=watching)


class HidesFences(RbdDriver):
    """Lists no fence."""

    def fences(self, *, timeout_seconds: float) -> Fences:
        return dataclasses.replace(super().fences(timeout_seconds=timeout_seconds), until={})


class LiftsTheWholeHost(RbdDriver):
    """Lets every client of the host in again."""

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        host = address.partition(":")[0]
        for fenced in self.fences(timeout_seconds=timeout_seconds).until:
            if fenced.partition(":")[0] == host:
                super().lift_fence(fenced, timeout_seconds=timeout_seconds)
        return self.fences(timeout_seconds=timeout_seconds)


class RefusesToLiftTwice(RbdDriver):
    """Takes a fence that is lifted already for a mistake."""

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        if address not in self.fences(timeout_seconds=timeout_seconds).until:
            raise PermanentError(f"{address} is not fenced")
        return super().lift_fence(address, timeout_seconds=timeout_seconds)


class RenewsTheWholeHost(RbdDriver):
    """Renews by the IP address, and fences every client that comes from there."""

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        everything = self._cluster.list_images(Deadline.after(timeout_seconds))
        for watcher in read_sighting(everything).watchers:
            if watcher.address.partition(":")[0] == address.partition(":")[0]:
                super().renew_fence(watcher.address, timeout_seconds=timeout_seconds)
        return super().renew_fence(address, timeout_seconds=timeout_seconds)


class TakesAWholeHost(RbdDriver):
    """Says yes to an address that is no client's."""

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        del address
        return self.fences(timeout_seconds=timeout_seconds)

    lift_fence = renew_fence


FENCING: dict[str, tuple[type[RbdDriver], ...]] = {
    "test_client_that_came_instead_keeps_its_access": (FencesWhoeverWatches,),
    "test_client_that_was_never_learned_keeps_its_access": (FencesWhoeverWatches,),
    "test_other_volume_of_the_host_keeps_its_access": (FencesTheWholeHost,),
    "test_released_host_is_gone": (ForgetsTheLock,),
    "test_unknown_volume_is_not_clean": (TakesAnErrorForAbsence,),
    "test_frozen_backend_is_bounded[observe]": (TakesAnErrorForAbsence,),
    "test_access_without_a_session_is_seen": (TakesWatchersForAll,),
    "test_released_client_is_listed_as_fenced": (HidesFences,),
    "test_lifted_fence_is_that_of_one_client": (LiftsTheWholeHost,),
    "test_lifted_twice_is_success": (RefusesToLiftTwice,),
    "test_renewed_fence_is_of_one_client": (RenewsTheWholeHost,),
    "test_whole_host_is_refused[renew_fence]": (TakesAWholeHost,),
    "test_whole_host_is_refused[lift_fence]": (TakesAWholeHost,),
}
"""The clauses that catch them. The first two are about such drivers alone."""
