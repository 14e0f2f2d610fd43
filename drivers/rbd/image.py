"""What ``asking.py`` tells of a volume's images, read strictly, and what that proves. Pure.

1. A client is one instance: a process that has opened the cluster. Its address has a nonce, which
   another process of the same host does not have.
2. Whoever opened an image to write watches it. A client that was killed is listed for 30 s more and
   may leave its lock. Whoever reads only leaves no trace: "nobody" says nothing of readers.
3. A fence that ends soon proves nothing: a process that was stopped or cut off knows nothing of it,
   and writes again when it is over. librbd fences for an hour, and so does an administrator who
   names no time.
4. An image that is found under none of its names is unknown, in the trash too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from drivers.base import Connection, Export, Fences, Observation, VolumeRef, id_in
from drivers.errors import NotFoundError, PermanentError
from drivers.rbd.options import Place, RbdOptions

ADDRESS = re.compile(r"(?:v[12]:|any:)?(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d+)/(\d+)")
LOCATION = re.compile(r"(?:[^\s/:@]+/){0,2}([^\s/:@]+)")  # an image's name, its pool before it
KERNEL_COOKIES = 0xFFFF_0000_0000_0000
"""From here on the Linux kernel counts its watches (CEPH_LINGER_ID_START, osd_client.h); librbd's
are addresses in its own memory, which end far below."""


LASTING = timedelta(days=30)
"""How long a fence must last to prove that its client writes no more; ours are of years."""


class UnreadableError(PermanentError):
    """The cluster told something of a form that this driver does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watcher:
    """One watch of a client: it has the image open to write. ``address`` includes the nonce."""

    address: str
    client: str
    cookie: int

    @property
    def is_kernel(self) -> bool:
        """Tell whether it is a kernel's, which has one client for all images of its host."""
        return self.cookie >= KERNEL_COOKIES


@dataclasses.dataclass(frozen=True, slots=True)
class Lock:
    """One lock: librbd's own, ``auto COOKIE``, or one that somebody has put there by hand."""

    client: str
    cookie: str
    address: str


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """One image as it is now."""

    place: Place
    name: str
    image_id: str
    watchers: tuple[Watcher, ...]
    locks: tuple[Lock, ...]

    @property
    def spec(self) -> str:
        """The name by which ``rbd`` knows it."""
        return f"{self.place}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Sighting:
    """Images at one look. ``fences`` says until when each fenced address is.

    ``lasting``: those of the fenced addresses whose fence does not end soon. ``unseen``: where
    there may be more images, and the user may not look.
    """

    fsid: str
    images: tuple[Image, ...]
    trash: tuple[str, ...]
    fences: Mapping[str, str]
    lasting: frozenset[str]
    unseen: tuple[str, ...] = ()

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """The watches of all the images."""
        return tuple(watcher for image in self.images for watcher in image.watchers)

    @property
    def locks(self) -> tuple[Lock, ...]:
        """The locks of all the images."""
        return tuple(lock for image in self.images for lock in image.locks)


def read_sighting(answer: Mapping[str, Any]) -> Sighting:
    """Read an answer that came just now; raises UnreadableError."""
    # Our clock against the cluster's: a difference of minutes does not matter beside 30 days.
    soon = datetime.now(UTC) + LASTING
    with _strictly():
        return Sighting(
            fsid=answer["fsid"],
            images=tuple(_image(one) for one in answer["images"]),
            # The default namespace is the empty text.
            trash=tuple("/".join(filter(None, entry)) for entry in answer["trash"]),
            fences={str(a): str(until) for a, until in answer["fences"].items()},
            lasting=frozenset(address for address, end in _until(answer).items() if end > soon),
            unseen=tuple(str(place) for place in answer.get("unseen", ())),
        )


def read_fences(answer: Mapping[str, Any]) -> Fences:
    """Read whom the cluster refuses, of the addresses with a nonce; raises UnreadableError."""
    with _strictly():
        until = {address: at for address, at in _until(answer).items() if nonce_of(address)}
        return Fences(answer["fsid"], until, datetime.fromisoformat(answer["as_of"]))


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """Make an UnreadableError of whatever an answer of another form raises in the block."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(
            f"The cluster told what this driver cannot read: {error!r}."
        ) from None


def _until(answer: Mapping[str, Any]) -> dict[str, datetime]:
    return {str(a): datetime.fromisoformat(u) for a, u in answer["fences"].items()}


def _image(one: Mapping[str, Any]) -> Image:
    watchers = [Watcher(_checked(a), f"client.{int(i)}", int(c)) for a, i, c in one["watchers"]]
    locks = [Lock(str(client), str(cookie), _checked(a)) for client, cookie, a in one["locks"]]
    place = Place(*one["place"])
    return Image(place, str(one["name"]), str(one["id"]), tuple(watchers), tuple(locks))


def _checked(address: str) -> str:
    ip_of(address)
    return address


def ip_of(address: str) -> str:
    """Return the IP of a client's address, in its usual form; ValueError where it has none."""
    if (match := ADDRESS.fullmatch(address)) is None:
        raise ValueError(f"no address of a client: {address!r}")
    # In the usual form, as ``Connector.addresses`` gives it.
    return str(ipaddress.ip_address(match[1] or match[2]))


def nonce_of(address: str) -> int:
    """Return the number that tells this client from others of its host; 0 where it has none."""
    match = ADDRESS.fullmatch(address)
    return int(match[4]) if match else 0


def names_of(volume: VolumeRef, options: RbdOptions) -> tuple[str, ...]:
    """Return every name that the volume's image may have."""
    match = LOCATION.fullmatch(volume.provider_location or "")
    located = (match[1],) if match else ()
    # Without repeating one: the located name is mostly one of the two.
    return tuple(dict.fromkeys((*volume.names(options.volume_name_template), *located)))


def require_image(volume: VolumeRef, sighting: Sighting, options: RbdOptions) -> Sighting:
    """Return the sighting if it has an image of the volume, else raise NotFoundError."""
    if sighting.images:
        return sighting
    names = " or ".join(names_of(volume, options))
    if sighting.trash:
        raise NotFoundError(
            f"Volume {volume.volume_id} is in the trash ({', '.join(sighting.trash)}), where a "
            "client that has it open goes on: whether one has cannot be told from there."
        )
    raise NotFoundError(
        f"Volume {volume.volume_id} was not found: there is no image {names} in {options.where}."
    )


def observation(sighting: Sighting) -> Observation:
    """Return who has the images open to write, or a lock on them, and the control."""
    images = ", ".join(image.spec for image in sighting.images)
    control = (
        f"cluster {sighting.fsid} answered and has image {images}; clients that only read it are "
        "not listed there"
    )
    for lock in sighting.locks:
        if is_spent(lock, sighting):
            until = sighting.fences[lock.address]
            control += f"; {lock.client} at {lock.address} left a lock and is fenced until {until}"
    return Observation(connections_of(sighting), control)


def connections_of(sighting: Sighting) -> tuple[Connection, ...]:
    """Return a connection for each client that watches an image or has a lock on it.

    Whoever watches may write again at any time; fenced, it may not. A lock of a client that is
    fenced for long and watches no more is nobody's: the next one to open the image removes it.
    """
    watching = [(w.client, w.address) for w in sighting.watchers]
    locking = [(k.client, k.address) for k in sighting.locks if not is_spent(k, sighting)]
    return tuple(
        Connection(
            name=client,
            address=address,
            # A fenced client may not write; one that only has a lock may open the image again.
            access=address not in sighting.fences or (client, address) not in watching,
            sessions=watching.count((client, address)),
            host_ip=ip_of(address),
            cookies=tuple(
                w.cookie for w in sighting.watchers if (w.client, w.address) == (client, address)
            ),
        )
        # Watchers first, each once: a client that has both is one connection.
        for client, address in dict.fromkeys([*watching, *locking])
    )


def is_spent(lock: Lock, sighting: Sighting) -> bool:
    """Tell whether a lock's owner is fenced for long and watches no more: it can write no more."""
    owner = (lock.client, lock.address)
    watches = owner in [(w.client, w.address) for w in sighting.watchers]
    # Both: a fence that ends soon lets a stopped process write again, and a watcher is there still.
    return lock.address in sighting.lasting and not watches


def exports_of(sighting: Sighting, options: RbdOptions) -> tuple[Export, ...]:
    """Return the images that a client has open to write, or has locked."""
    exports = []
    for image in sighting.images:
        if connections := connections_of(dataclasses.replace(sighting, images=(image,))):
            volume_id = id_in(image.name, options.volume_name_template)
            exports.append(Export(image.spec, volume_id, connections))
    return tuple(exports)
