"""Clauses on releasing: nobody else is cut."""

from __future__ import annotations

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import ACTIONS, Clauses, Subject, held, must, shown, told
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError


class SparingClauses(Clauses):
    """What ``force_detach`` owes to everybody that it is not called for."""

    def test_bystander_keeps_its_access(self, driver: StorageDriver, ground: Ground) -> None:
        """A second host is connected to the volume -> it stays so when the first is released."""
        subject = self.attached(ground)
        other = self.beside(ground, subject)
        before = held(ground, other)
        self.force_detach(driver, subject)
        kept = held(ground, other)
        must(
            told(kept) == told(before),
            f"of the bystander's {shown(before)} this is left: {shown(kept)}; a live guest is cut",
        )

    def test_other_volume_of_the_host_keeps_its_access(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """The host is connected to another volume as well -> that one stays connected."""
        subject, other = self.attached(ground), self.attached(ground)
        before = held(ground, other)
        self.force_detach(driver, subject)
        kept = held(ground, other)
        must(
            told(kept) == told(before),
            f"of the host's other volume's {shown(before)} this is left: {shown(kept)}",
        )

    def test_host_under_another_name_is_left_alone_and_told(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """The host came back under a new initiator name -> it is not cut, and not called clean.

        The recorded connector names the old one. Whether the new one is the same guest is for a
        person to find out.
        """
        recorded = Subject.of(ground.volume(), ground.connector("host-a"))
        present = Subject.of(recorded.volume, ground.another_name(recorded.connector))
        ground.connect(present.volume, present.connector)
        before = held(ground, present)
        must(bool(before), "the ground did not connect the host under its new name")
        self.force_detach(driver, recorded)
        must(
            told(held(ground, present)) == told(before),
            "the host reconnected under another name, and was cut although nobody named it",
        )
        if driver.capabilities.sees_connections:
            seen = self.observe(driver, present.volume)
            must(bool(seen), "the host is connected under another name, and observe tells nobody")

    @pytest.mark.parametrize("method", ACTIONS)
    def test_without_connector_nobody_is_cut(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """No connector, and the driver does not declare to take that -> all stays as it was."""
        if driver.capabilities.accepts_no_connector:
            pytest.skip("the driver declares accepts_no_connector")
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        error = self.error_of(driver, method, subject.without_connector())
        must(
            isinstance(error, PermanentError) or (method == "detach" and error is None),
            f"without a connector {method} must raise PermanentError, not {error!r}",
        )
        must(
            told(ground.truth(subject.volume)) == told(before),
            "without a connector somebody was cut off",
        )

    def test_without_connector_everybody_is_released(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """No connector, and the driver declares to take that -> it means every host."""
        if not driver.capabilities.accepts_no_connector:
            pytest.skip("the driver does not declare accepts_no_connector")
        subject = self.attached(ground)
        self.force_detach(driver, subject.without_connector())
        left = ground.truth(subject.volume)
        must(not left, f"force_detach for every host succeeded, and this is left: {shown(left)}")
