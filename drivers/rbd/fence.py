"""Releases a volume from the one client that was learned while its attachment was healthy.

1. Never whoever has the image open now: that may be the guest's new host. The learned client is
   fenced, and only while it has the same address, number and cookie in two looks.
2. A client loses every image that it has open. How many others these are is counted before.
3. It is fenced first, then its lock is removed: a lock that is taken from a client that can still
   write lets two write. Both are seen in a look afterwards, or the release has not succeeded.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import assert_never

from drivers.base import ClientInstance, Reach, VolumeRef
from drivers.child import Deadline
from drivers.errors import IndeterminateError, PermanentError, TransientError
from drivers.rbd.cluster import Cluster, OwnedLock
from drivers.rbd.image import (
    KERNEL_COOKIES,
    Image,
    Lock,
    Sighting,
    is_spent,
    names_of,
    nonce_of,
    read_sighting,
    require_image,
)
from drivers.rbd.options import RbdOptions

LOG = logging.getLogger(__name__)
AUTOMATIC = "auto "  # librbd's own locks, src/librbd/ManagedLock.cc; the rest is its cookie
PAUSE_SECONDS = 0.1
# The text goes into the case's reason: enough to recognise them, not all of a thousand.
SHOWN = 5


class NotLearnedError(PermanentError):
    """Somebody has the volume open, and which client is the attachment's was never learned."""


class AnotherClientError(PermanentError):
    """The learned client is not there, and another one is: the volume may have moved."""


class ChangedClientError(PermanentError):
    """The learned client is there, but its session is another one than the learned."""


class KernelClientError(PermanentError):
    """The client is a kernel's: all images that its host has mapped are behind it."""


class NoNonceError(PermanentError):
    """The learned address has no nonce: a fence would be of more than one client."""


class ForeignLockError(PermanentError):
    """A lock of the client was not made by librbd for itself."""


class OtherImagesError(PermanentError):
    """The client has more other images open than the option ``other_images`` allows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """There is nothing to do: nobody can write for the attachment."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unlock:
    """Locks of fenced clients are left, which are removed."""

    locks: tuple[OwnedLock, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fence:
    """One client is fenced, and then its locks are removed."""

    address: str
    locks: tuple[OwnedLock, ...]


Step = Released | Unlock | Fence


def decide(sighting: Sighting, learned: ClientInstance | None) -> Step:
    """Return what is to be done about a volume's images; raises a PermanentError. Pure.

    Nobody there: released. The learned client is there, as it was: fenced. It is fenced already,
    and for long: released, whoever else is there. Any other client, or one that nobody has learned:
    refused.
    """
    there = {(w.client, w.address) for w in sighting.watchers}
    # A lock without a watch may be of a host that was cut off and comes back.
    there |= {(k.client, k.address) for k in sighting.locks if not is_spent(k, sighting)}
    ours = (learned.client, learned.address) if learned else None
    # Ours first, also if others are there too: each of them is left alone.
    if learned is not None and ours in there:
        _refuse_unsafe(sighting, learned)
        return Fence(learned.address, _owned(sighting, lambda k: (k.client, k.address) == ours))
    # Fenced for long, ours writes no more, whoever came after it: then others are none of our
    # business.
    if there and (learned is None or learned.address not in sighting.lasting):
        raise _stranger(sorted(there), learned)
    spent = _owned(
        sighting,
        lambda k: (
            is_spent(k, sighting)
            # A lock that an administrator has put there by hand stays.
            and k.cookie.startswith(AUTOMATIC)
            and (not there or (k.client, k.address) == ours)
        ),
    )
    return Unlock(spent) if spent else Released()


def _refuse_unsafe(sighting: Sighting, learned: ClientInstance) -> None:
    """Raise where the learned client is not to be fenced although it is there."""
    if nonce_of(learned.address) == 0:
        raise NoNonceError(
            f"Refused, nothing done: {learned.address} has no nonce, so a fence would be one of "
            "its whole host."
        )
    watches = [w for w in sighting.watchers if w.address == learned.address]
    # By what was learned and by what is there: either is enough to refuse.
    if learned.cookie >= KERNEL_COOKIES or any(watch.is_kernel for watch in watches):
        raise KernelClientError(
            f"Refused, nothing done: {learned.client} at {learned.address} is a kernel's client, "
            "and all images that its host has mapped are behind it. Unmap the image on that host."
        )
    locks = [k.cookie for k in sighting.locks if k.address == learned.address]
    if foreign := [cookie for cookie in locks if not cookie.startswith(AUTOMATIC)]:
        raise ForeignLockError(
            f"Refused, nothing done: {learned.client} has the lock {foreign[0]!r}, which librbd "
            "did not make for itself."
        )
    # The lock of librbd has the cookie of its watch in its name.
    cookies = {str(w.cookie) for w in watches} | {c.removeprefix(AUTOMATIC) for c in locks}
    if str(learned.cookie) not in cookies:
        raise ChangedClientError(
            f"Refused, nothing done: {learned.client} at {learned.address} was learned with the "
            f"session {learned.cookie}, and has {', '.join(sorted(cookies))} now."
        )


def _stranger(
    there: list[tuple[str, str]], learned: ClientInstance | None
) -> NotLearnedError | AnotherClientError:
    who = ", ".join(f"{client} at {address}" for client, address in there[:SHOWN])
    if learned is None:
        return NotLearnedError(
            f"Refused, nothing done: the volume is open or locked by {who}. Which client is the "
            "attachment's was never learned while it was healthy, so none of them is fenced."
        )
    return AnotherClientError(
        f"Refused, nothing done: the volume is open or locked by {who}, and not by "
        f"{learned.client} at {learned.address}, which had it for this attachment at "
        f"{learned.seen_at.isoformat()}. The volume may have moved."
    )


def _owned(sighting: Sighting, chosen: Callable[[Lock], bool]) -> tuple[OwnedLock, ...]:
    return tuple(
        OwnedLock(image.place, image.image_id, lock.client, lock.cookie)
        for image in sighting.images
        for lock in image.locks
        if chosen(lock)
    )


def reach(
    everything: Sighting, names: tuple[str, ...], client: ClientInstance, options: RbdOptions
) -> Reach:
    """Return what a client has beside the images of these names. Pure."""
    own = tuple(
        image for image in everything.images if image.name in names and image.place in options.pools
    )
    volume = dataclasses.replace(everything, images=own)
    watches = [w for w in everything.watchers if w.address == client.address]
    kernel = client.cookie >= KERNEL_COOKIES or any(watch.is_kernel for watch in watches)
    others = other_images(everything, volume, client.address)
    return Reach(others, options.other_images, whole_host=kernel, unseen=everything.unseen)


def other_images(everything: Sighting, volume: Sighting, address: str) -> tuple[str, ...]:
    """Return which images this client has open to write, or locked, beside the volume's. Pure."""
    own = {(image.place, image.image_id) for image in volume.images}
    return tuple(
        image.spec
        for image in everything.images
        if (image.place, image.image_id) not in own and address in _holders(image)
    )


def _holders(image: Image) -> set[str]:
    return {w.address for w in image.watchers} | {lock.address for lock in image.locks}


@dataclasses.dataclass(slots=True)
class Release:
    """One call's work. ``acted``: from then on no failure may say that nothing was done."""

    cluster: Cluster
    options: RbdOptions
    volume: VolumeRef
    learned: ClientInstance | None
    request_id: str
    deadline: Deadline
    acted: bool = False

    def run(self) -> None:
        """Release; blocks until a look shows that it is done, at most until the deadline."""
        try:
            self._run()
        except PermanentError as error:
            if self.acted:
                raise IndeterminateError(f"Done in part, then: {error}") from error
            raise
        except (TransientError, IndeterminateError) as error:
            kind = IndeterminateError if self.acted else TransientError
            raise kind(f"{'Perhaps done' if self.acted else 'Nothing done'}: {error}") from error

    def _run(self) -> None:
        first = self._look()
        match decide(first, self.learned):
            case Released():
                return
            case Unlock(locks):
                self._act(None, locks)
            # Counted between two looks: it takes the longest, and what the second one shows is what
            # is fenced.
            case Fence(address, _):
                self._count_other_images(first, address)
                match decide(self._look(), self.learned):
                    # The locks of the second look: the first one's may be gone, or be another
                    # client's.
                    case Fence(same, locks) if same == address:
                        self._act(address, locks)
                    case Released() | Unlock() | Fence():
                        # Nothing is done yet, so that the next attempt may look anew.
                        raise TransientError("The volume's clients changed between two looks.")
                    case never:
                        assert_never(never)
            case never:
                assert_never(never)

    def _act(self, address: str | None, locks: tuple[OwnedLock, ...]) -> None:
        seconds = self.options.fence_seconds
        who = address or "nobody"
        LOG.info("Fencing %s for volume %s (%s)", who, self.volume.volume_id, self.request_id)
        # Set before the call: if it raises, the fence may be there.
        self.acted = True
        answer = self.cluster.release(self._names, address, seconds, locks, self.deadline)
        for sighting in self._looks(read_sighting(answer)):
            if left := what_is_left(sighting, address, locks):
                LOG.debug("Still there: %s (%s)", left, self.request_id)
                continue
            until = sighting.fences.get(address or "", "")
            LOG.info("Fenced %s until %s (%s)", who, until, self.request_id)
            return

    def _looks(self, first: Sighting) -> Iterator[Sighting]:
        """Yield this look, then others without end: the last one raises when the time is up."""
        # The answer of the release has a look in it, so that usually no other one is needed.
        yield first
        while True:
            time.sleep(max(min(PAUSE_SECONDS, self.deadline.left_seconds), 0.0))
            yield self._look()

    def _count_other_images(self, sighting: Sighting, address: str) -> None:
        everything = read_sighting(self.cluster.everywhere(self.deadline))
        others = other_images(everything, sighting, address)
        if len(others) > self.options.other_images:
            shown = ", ".join(others[:SHOWN])
            raise OtherImagesError(
                f"Refused, nothing done: the client at {address} has {len(others)} other images "
                f"open ({shown}) and would lose them. The option other_images allows "
                f"{self.options.other_images}."
            )

    def _look(self) -> Sighting:
        answer = self.cluster.look(self._names, self.deadline)
        return require_image(self.volume, read_sighting(answer), self.options)

    @property
    def _names(self) -> tuple[str, ...]:
        return names_of(self.volume, self.options)


def what_is_left(
    sighting: Sighting, address: str | None, locks: tuple[OwnedLock, ...]
) -> str | None:
    """Return what a release should have ended and has not, or None. Pure."""
    # Read from the cluster again, and not believed because the command succeeded.
    if address is not None and address not in sighting.fences:
        return f"{address} is not fenced"
    if any(watcher.address == address for watcher in sighting.watchers):
        return f"{address} is still listed"
    held = _owned(sighting, bool)
    return next(
        (f"the lock {lock.cookie} of {lock.client}" for lock in locks if lock in held), None
    )
