"""What the suite stands on: a backend of its own, hosts at it, and a look that is not the driver's.

A driver's author writes one subclass. Use the real backend, private and on loopback where it can
be; a fake of the author's own making would only show that driver and fake agree.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

import pytest

from drivers.base import Attachment, Connection, Connector, StorageDriver, VolumeRef


class Ground(ABC):
    """A backend for the suite alone, as the suite arranges it. Nothing goes through the driver.

    What takes effect a little later on the real thing is waited for here: the suite looks at once.
    A method that is not abstract may be left as it is where the backend cannot show it; the clauses
    that need it are then skipped with the reason.
    """

    @abstractmethod
    def driver(self) -> StorageDriver:
        """Return a driver for this backend, made as the service makes it."""

    @abstractmethod
    def volume(self) -> VolumeRef:
        """Create a volume to which no host is connected, and return how Cinder would name it."""

    @abstractmethod
    def connector(self, host: str) -> Connector:
        """Return the connector of a host, the same one for the same name each time."""

    @abstractmethod
    def connect(self, volume: VolumeRef, connector: Connector, *, sessions: int = 1) -> None:
        """Let a host in, as Cinder's driver does, and have it hold this many live sessions.

        Hosts may be connected to one volume at a time. A count that the backend cannot show calls
        ``cannot``.
        """

    @abstractmethod
    def truth(self, volume: VolumeRef) -> tuple[Connection, ...]:
        """Return who has access to the volume or a session with it, seen past the driver.

        A host that has both is one connection. Its name is the one that the connector has, or its
        host is set where the connector has no name.
        """

    @abstractmethod
    def freeze(self) -> AbstractContextManager[None]:
        """Make the backend give no answer while the ``with`` block lasts.

        What was asked meanwhile is done afterwards, if a real one does that; the end of the block
        waits for it.
        """

    @abstractmethod
    def missing(self) -> VolumeRef:
        """Return a volume that the backend does not know under any name."""

    def migrated(self) -> VolumeRef:
        """Create a volume as Cinder names it after a migration: the backend has its ``name_id``."""
        cannot("the ground shows no migrated volume")

    def attachment(self, volume: VolumeRef, connector: Connector) -> Attachment:
        """Return the attachment of a volume to a host that was just connected, healthy.

        Where the driver declares ``by_learned_client``: with the client that the service would
        learn now. A host that is not connected has none.
        """
        return Attachment(volume.volume_id, None, None, connector)

    def replace_client(self, volume: VolumeRef, connector: Connector) -> None:
        """End the client of a connected host, and have another one of it open the volume."""
        cannot("the backend knows hosts, not clients of them")

    def fenced(self) -> frozenset[str]:
        """Return the addresses of all clients that the backend refuses now, seen past the driver.

        Only of a driver that declares ``by_learned_client``.
        """
        cannot("the backend refuses no single clients")

    def whole_host(self, address: str) -> str:
        """Return an address by which a fence would be of every client of that client's host."""
        cannot(f"no address here means more than {address}")

    def withdraw(self, volume: VolumeRef, connector: Connector) -> None:
        """Take a connected host's access and leave its sessions."""
        cannot("the backend has no session without access")

    def comes_back(self, volume: VolumeRef, connector: Connector) -> AbstractContextManager[None]:
        """Have a connected host log in again whenever its session ends, while the block lasts."""
        cannot("the ground has no host that logs in again")

    def stuck(self, volume: VolumeRef, connector: Connector) -> AbstractContextManager[None]:
        """Make the sessions of a connected host impossible to end while the block lasts.

        Hanging I/O does that on most backends.
        """
        cannot("the ground has no session that cannot be ended")

    def elsewhere(self) -> StorageDriver:
        """Return a driver that is configured to look in a wrong place, where something answers.

        Another daemon, port, pool or directory of the same kind, in which the volumes are not.
        """
        cannot("the ground has no second place")

    def another_name(self, connector: Connector) -> Connector:
        """Return the connector of the same host once its initiator or NQN has become another."""
        if connector.initiator:
            return dataclasses.replace(connector, initiator=f"{connector.initiator}-renamed")
        if not connector.nqn:
            cannot("hosts have no name here but their own")
        return dataclasses.replace(connector, nqn=f"{connector.nqn}-renamed")

    def another_case(self, connector: Connector) -> Connector:
        """Return the connector of another host, whose name differs by upper and lower case only."""
        if not connector.initiator:
            cannot("the names of hosts have no case here")
        start, colon, rest = connector.initiator.partition(":")
        return dataclasses.replace(connector, initiator=start + colon + rest.swapcase())

    def failing_once(self, way: int) -> AbstractContextManager[Callable[[], bool]]:
        """Make one request of the driver's next call fail, and none after it.

        ``way`` counts from 0 the ways that there are: the first request of the call, the second,
        each with or without effect. What the block is given tells whether a request has failed;
        where none has, the clause takes it that there are no further ways.
        """
        cannot("the ground cannot make a single request fail")

    def request_ids(self) -> tuple[str, ...]:
        """Return the request ids that the backend was told, where it is told any."""
        return ()

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown, beside the values of the driver's secret options."""
        return ()


def cannot(reason: str) -> NoReturn:
    """Skip the clause under way: this backend cannot show what it is about."""
    pytest.skip(reason)
