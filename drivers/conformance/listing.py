"""Clauses on the list of exports, for drivers that declare to have one."""

from __future__ import annotations

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import Clauses, must, shown, told
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError


class ListingClauses(Clauses):
    """What ``list_exports`` owes."""

    def test_list_agrees_with_observe(self, driver: StorageDriver, ground: Ground) -> None:
        """Two volumes are connected -> both are listed under their ids, with whom observe tells."""
        self._needs_a_list(driver)
        subjects = self.attached(ground, "host-a"), self.attached(ground, "host-b")
        listed = driver.list_exports(timeout_seconds=self.timeout_seconds)
        by_id = {export.volume_id: export.connections for export in listed}
        for volume in (subject.volume for subject in subjects):
            name = volume.name_id or volume.volume_id
            must(name in by_id, f"volume {name} is connected and not listed under its id: {by_id}")
            seen = self.observe(driver, volume)
            must(
                told(by_id[name]) == told(seen),
                f"the list tells {shown(by_id[name])} of a volume, and observe {shown(seen)}",
            )

    def test_listing_changes_nothing(self, driver: StorageDriver, ground: Ground) -> None:
        """List the exports -> the backend holds what it held before."""
        self._needs_a_list(driver)
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        driver.list_exports(timeout_seconds=self.timeout_seconds)
        must(
            told(ground.truth(subject.volume)) == told(before),
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

    @staticmethod
    def _needs_a_list(driver: StorageDriver) -> None:
        if not driver.capabilities.lists_exports:
            pytest.skip("the driver declares that it cannot list exports")
