"""Clauses on lists of exports: all that is in use is there, nothing else, and as observe has it."""

from __future__ import annotations

import pytest

from drivers.base import Connection, Export, StorageDriver, VolumeRef
from drivers.conformance.clause import (
    CROWD,
    Clauses,
    comparable,
    connections_of,
    must,
    needs_a_list,
    shown,
)
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError


class ListingClauses(Clauses):
    """What ``list_exports`` owes."""

    def test_list_agrees_with_observe(self, driver: StorageDriver, ground: Ground) -> None:
        """Nine volumes are connected -> each is listed under its id, with what observe shows."""
        needs_a_list(driver)
        subjects = [self.attached(ground, f"host-{number}") for number in range(CROWD)]
        self._must_agree(driver, *(subject.volume for subject in subjects))

    def test_volume_of_many_hosts_is_listed_with_all(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Nine hosts are connected to one volume -> it is listed once, with all of them."""
        needs_a_list(driver)
        subject = self.attached(ground)
        for number in range(1, CROWD):
            self.beside(ground, subject, f"host-{number}")
        self._must_agree(driver, subject.volume)

    def test_access_without_a_session_is_listed(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host has access and no session yet -> the list shows it, as observe does."""
        needs_a_list(driver)
        self._must_agree(driver, self.attached(ground, sessions=0).volume)

    def test_session_without_access_is_listed(self, driver: StorageDriver, ground: Ground) -> None:
        """A host's access was revoked and its session goes on -> the list shows it all the same."""
        needs_a_list(driver)
        subject = self.attached(ground)
        ground.withdraw(subject.volume, subject.connector)
        must(bool(connections_of(ground, subject)), "the session ended with the access")
        self._must_agree(driver, subject.volume)

    def test_two_lists_agree(self, driver: StorageDriver, ground: Ground) -> None:
        """Two lists, and nothing has changed between them -> they show the same."""
        needs_a_list(driver)
        subjects = [self.attached(ground, "host-a"), self.attached(ground, "host-b")]
        self.beside(ground, subjects[0], "host-c")
        first, second = (self._listed(driver) for _ in range(2))
        for volume in (subject.volume for subject in subjects):
            one, other = (_of(listed, volume) for listed in (first, second))
            must(
                comparable(one) == comparable(other),
                f"one list shows {shown(one)} of a volume, and the next {shown(other)}",
            )

    def test_idle_volume_is_not_listed_as_used(self, driver: StorageDriver, ground: Ground) -> None:
        """A volume was never connected, another one was released -> neither is listed with a host.

        What is listed as in use and is not opens a case for a volume that nobody holds.
        """
        needs_a_list(driver)
        released, idle = self.attached(ground), ground.volume()
        self.force_detach(driver, released)
        used = self.attached(ground, "host-b")
        listed = self._listed(driver)
        must(bool(_of(listed, used.volume)), "a connected volume is not listed with its host")
        for volume in (idle, released.volume):
            made_up = _of(listed, volume)
            must(not made_up, f"no host is connected, yet the list shows {shown(made_up)}")

    def test_listing_changes_nothing(self, driver: StorageDriver, ground: Ground) -> None:
        """List the exports -> the backend holds what it held before."""
        needs_a_list(driver)
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        driver.list_exports(timeout_seconds=self.timeout_seconds)
        must(
            comparable(ground.truth(subject.volume)) == comparable(before),
            "listing is read-only, but the backend has changed",
        )

    def test_undeclared_list_is_refused(self, driver: StorageDriver, ground: Ground) -> None:
        """No list declared -> PermanentError, so that an empty one is not taken for "no ghosts"."""
        if driver.capabilities.lists_exports:
            pytest.skip("the driver declares lists_exports")
        error = self.error_of(driver, "list_exports", self.attached(ground))
        must(
            isinstance(error, PermanentError),
            f"list_exports is not declared, and must raise PermanentError, not {error!r}",
        )

    def _listed(self, driver: StorageDriver) -> tuple[Export, ...]:
        return driver.list_exports(timeout_seconds=self.timeout_seconds)

    def _must_agree(self, driver: StorageDriver, *volumes: VolumeRef) -> None:
        """Compare the list with observe, for each of the volumes, all of which are in use."""
        listed = self._listed(driver)
        for volume in volumes:
            name = volume.name_id or volume.volume_id
            entries = [export for export in listed if export.volume_id == name]
            must(
                len(entries) == 1,
                f"volume {name} is connected, and listed {len(entries)} times under its id: "
                f"{sorted(export.name for export in listed)}",
            )
            seen = self.observe(driver, volume)
            must(
                bool(seen) and comparable(_of(listed, volume)) == comparable(seen),
                f"the list shows {shown(_of(listed, volume))} of a volume, and observe "
                f"{shown(seen)}",
            )


def _of(listed: tuple[Export, ...], volume: VolumeRef) -> tuple[Connection, ...]:
    """Return all the connections that a list has for a volume."""
    name = volume.name_id or volume.volume_id
    return tuple(c for export in listed if export.volume_id == name for c in export.connections)
