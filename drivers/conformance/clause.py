"""What the clauses share: fixtures, a subject, and calls that may raise the kinds of error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NoReturn

import pytest

from drivers.base import Attachment, Connection, Connector, StorageDriver, VolumeRef
from drivers.conformance.ground import Ground
from drivers.errors import IndeterminateError, OutsideError, PermanentError, TransientError

KINDS = (TransientError, IndeterminateError, PermanentError)
LOOKS = ("observe", "list_exports")
ACTIONS = ("terminate_connection", "detach", "force_detach")
# What a busy machine may take beyond a call's limit: less than driver_grace_seconds, after which
# the service gives a call up.
GRACE_SECONDS = 3.0
CROWD = 9
"""How many hosts, or volumes, are more than a driver with a limit of its own would show."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A volume, and the one attachment of it that a clause acts on."""

    volume: VolumeRef
    attachment: Attachment
    connector: Connector

    @classmethod
    def of(cls, volume: VolumeRef, connector: Connector) -> Subject:
        """Return the attachment of that volume to the connector's host."""
        # No id of an attachment: what a driver does has to follow from the connector.
        return cls(volume, Attachment(volume.volume_id, None, None, connector), connector)

    def without_connector(self) -> Subject:
        """Return the same of an attachment whose connector was not recorded."""
        return dataclasses.replace(
            self, attachment=dataclasses.replace(self.attachment, connector=None)
        )


class Clauses:
    """The fixtures and times of every clause."""

    timeout_seconds = 2.0
    """The time limit of each call: long enough for the backend when it is well."""
    settle_seconds = 0.5
    """How long after a thaw, or a cut, something may still happen on the backend."""

    @pytest.fixture
    def ground(self) -> Iterator[Ground]:
        """Yield a fresh ground, and take it down afterwards."""
        raise NotImplementedError("a subclass says on what ground its driver stands")

    @pytest.fixture
    def driver(self, ground: Ground) -> StorageDriver:
        """Return the driver under test."""
        return ground.driver()

    def connected(
        self, ground: Ground, volume: VolumeRef, connector: Connector, *, sessions: int = 1
    ) -> Subject:
        """Connect a host to a volume; return the attachment as the service knows it from then."""
        ground.connect(volume, connector, sessions=sessions)
        subject = Subject(volume, ground.attachment(volume, connector), connector)
        # A ground that connects nobody would let every clause on a release pass.
        must(bool(connections_of(ground, subject)), f"the ground did not connect {connector.host}")
        return subject

    def attached(self, ground: Ground, host: str = "host-a", *, sessions: int = 1) -> Subject:
        """Create a volume with one host connected."""
        return self.connected(ground, ground.volume(), ground.connector(host), sessions=sessions)

    def beside(self, ground: Ground, subject: Subject, host: str = "host-b") -> Subject:
        """Connect a second host to the same volume."""
        return self.connected(ground, subject.volume, ground.connector(host))

    def observe(self, driver: StorageDriver, volume: VolumeRef) -> tuple[Connection, ...]:
        """Look; an answer without a connection needs a positive control."""
        seen = driver.observe(volume, timeout_seconds=self.timeout_seconds)
        must(bool(seen.control.strip()), "an observation without a positive control proves nothing")
        return seen.connections

    def force_detach(self, driver: StorageDriver, subject: Subject) -> None:
        """Release the attachment, which must succeed."""
        driver.force_detach(
            subject.volume,
            subject.attachment,
            request_id="req-conformance",
            timeout_seconds=self.timeout_seconds,
        )

    def release_of_nobody(self, driver: StorageDriver, subject: Subject) -> None:
        """Release a host that is not connected: a success that does nothing.

        A driver that releases by the learned client may refuse, as there is none.
        """
        error = self.error_of(driver, "force_detach", subject)
        refused = driver.capabilities.by_learned_client and isinstance(error, PermanentError)
        must(error is None or refused, f"the host has nothing to be released, yet {error!r}")

    def error_of(self, driver: StorageDriver, method: str, subject: Subject) -> OutsideError | None:
        """Make the call; return which of the three kinds it raised, or None.

        Anything else that it raises breaks the contract and fails the clause as it is.
        """
        limit = {"timeout_seconds": self.timeout_seconds}
        try:
            if method == "observe":
                driver.observe(subject.volume, **limit)
            elif method == "list_exports":
                driver.list_exports(**limit)
            else:
                act = getattr(driver, method)
                act(subject.volume, subject.attachment, request_id="req-conformance", **limit)
        except KINDS as error:
            return error
        return None


def connections_of(ground: Ground, subject: Subject) -> tuple[Connection, ...]:
    """Return what the subject's host really has."""
    connections = ground.truth(subject.volume)
    return tuple(c for c in connections if c.belongs_to(subject.connector))


def comparable(
    connections: tuple[Connection, ...], *, sessions: bool = True
) -> frozenset[tuple[str, bool, int | None]]:
    """Return what can be compared of connections: the name, access or not, the sessions if seen."""
    return frozenset((c.name, c.access, c.sessions if sessions else None) for c in connections)


def live(connections: tuple[Connection, ...]) -> int:
    """Return how many sessions they have together, as far as that is shown."""
    return sum(c.sessions or 0 for c in connections)


def shown(connections: tuple[Connection, ...]) -> str:
    """Return connections in words, for the text of a clause that failed."""
    words = (
        f"{c.name} ({'access' if c.access else 'no access'}, sessions: {c.sessions})"
        for c in connections
    )
    return ", ".join(sorted(words)) or "no connection"


def needs_sight(driver: StorageDriver) -> None:
    """Skip where the driver declares that it cannot see."""
    if not driver.capabilities.sees_connections:
        pytest.skip("the driver declares that it is blind")


def needs_a_list(driver: StorageDriver) -> None:
    """Skip where the driver declares that it lists no exports."""
    if not driver.capabilities.lists_exports:
        pytest.skip("the driver declares that it cannot list exports")


def must(holds: bool, otherwise: str) -> None:
    """Fail the clause with these words where something does not hold."""
    if not holds:
        fail(otherwise)


def fail(words: str) -> NoReturn:
    """Fail the clause with these words."""
    pytest.fail(words)
