"""Clauses on releasing: the attachment's host is gone afterwards, and no other host is cut."""

from __future__ import annotations

import re
import time
import uuid

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import (
    ACTIONS,
    Clauses,
    Subject,
    comparable,
    connections_of,
    must,
    needs_sight,
    shown,
)
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError

REQUEST_ID = re.compile(r"\breq-[\w-]+")


class ReleasingClauses(Clauses):
    """What ``force_detach`` owes to the attachment that it is called for."""

    def test_released_host_is_gone(self, driver: StorageDriver, ground: Ground) -> None:
        """Force detach -> neither access nor session is left, and observe says so too."""
        subject = self.attached(ground)
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_second_detach_is_success(self, driver: StorageDriver, ground: Ground) -> None:
        """Already released -> force detach again succeeds and leaves it released."""
        subject = self.attached(ground)
        self.force_detach(driver, subject)
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_never_attached_is_success(self, driver: StorageDriver, ground: Ground) -> None:
        """The host was never connected -> force detach succeeds and changes nothing."""
        other = self.attached(ground, "host-b")
        before = ground.truth(other.volume)
        self.release_of_nobody(driver, Subject.of(other.volume, ground.connector("host-a")))
        must(
            comparable(ground.truth(other.volume)) == comparable(before),
            "there was nothing to release, yet it changed",
        )

    def test_access_without_a_session_is_released(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host has access and no session -> its access is revoked."""
        subject = self.attached(ground, sessions=0)
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_session_without_access_is_released(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host's access was taken by hand and its session goes on -> the session is ended."""
        self._needs_to_end_sessions(driver)
        subject = self.attached(ground)
        ground.withdraw(subject.volume, subject.connector)
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_every_session_is_ended(self, driver: StorageDriver, ground: Ground) -> None:
        """A host holds three sessions -> none is left."""
        self._needs_to_end_sessions(driver)
        subject = self.attached(ground, sessions=3)
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_migrated_volume_is_released(self, driver: StorageDriver, ground: Ground) -> None:
        """The backend has the volume by its name_id -> its host is released there."""
        subject = self.connected(ground, ground.migrated(), ground.connector("host-a"))
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_host_that_comes_back_stays_out(self, driver: StorageDriver, ground: Ground) -> None:
        """A host logs in again whenever it is cut -> access is revoked first, so it stays out."""
        if not driver.capabilities.revokes_access:
            pytest.skip("the driver declares that it cannot revoke access")
        subject = self.attached(ground)
        with ground.comes_back(subject.volume, subject.connector):
            self.force_detach(driver, subject)
            time.sleep(self.settle_seconds)
            self._must_be_gone(driver, ground, subject)

    def test_host_that_came_back_later_is_released_again(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host was released, and is connected anew later -> it is released anew too."""
        subject = self.attached(ground)
        self.force_detach(driver, subject)
        subject = self.connected(ground, subject.volume, subject.connector)
        if driver.capabilities.sees_connections:
            must(bool(self.observe(driver, subject.volume)), "the host is back and is not shown")
        self.force_detach(driver, subject)
        self._must_be_gone(driver, ground, subject)

    def test_request_id_is_passed_on_as_it_is(
        self, driver: StorageDriver, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A release has a request id -> the backend and the log are told this one, and no other.

        By it a crash recovery and an audit find what the call has done.
        """
        subject, given = self.attached(ground), f"req-{uuid.uuid4()}"
        before = len(ground.request_ids())
        with caplog.at_level("DEBUG"):
            driver.force_detach(
                subject.volume,
                subject.attachment,
                request_id=given,
                timeout_seconds=self.timeout_seconds,
            )
        told = {*ground.request_ids()[before:], *REQUEST_ID.findall(caplog.text)}
        if not told:
            pytest.skip("neither the backend nor the log is told a request id")
        must(told == {given}, f"the request id is {given}, and told was {', '.join(sorted(told))}")

    def test_stuck_session_is_not_called_clean(self, driver: StorageDriver, ground: Ground) -> None:
        """A session cannot be ended while its I/O hangs -> an error, or observe still shows it."""
        # What Cinder's own driver leaves, a blind driver cannot tell.
        if driver.capabilities.acts_through_cinder:
            needs_sight(driver)
        subject = self.attached(ground)
        with ground.stuck(subject.volume, subject.connector):
            error = self.error_of(driver, "force_detach", subject)
            must(
                bool(connections_of(ground, subject)),
                "the ground's session was ended, so it is not stuck",
            )
            seen = error is not None or (
                driver.capabilities.sees_connections and self.observe(driver, subject.volume)
            )
            must(
                bool(seen),
                "force_detach succeeded, and observe does not show the session that is left",
            )

    def _must_be_gone(self, driver: StorageDriver, ground: Ground, subject: Subject) -> None:
        left = connections_of(ground, subject)
        must(not left, f"force_detach succeeded, but this is left: {shown(left)}")
        if driver.capabilities.sees_connections:
            seen = self.observe(driver, subject.volume)
            must(
                comparable(seen) == comparable(ground.truth(subject.volume)),
                f"the host is gone, but observe shows {shown(seen)}",
            )

    @staticmethod
    def _needs_to_end_sessions(driver: StorageDriver) -> None:
        can = driver.capabilities
        if not (can.ends_sessions or can.acts_through_cinder):
            pytest.skip("the driver declares that it cannot end sessions")


class SparingClauses(Clauses):
    """What ``force_detach`` must not do to hosts and volumes that it is not called for."""

    def test_bystander_keeps_its_access(self, driver: StorageDriver, ground: Ground) -> None:
        """A second host is connected to the volume -> it stays so when the first is released."""
        subject = self.attached(ground)
        other = self.beside(ground, subject)
        before = connections_of(ground, other)
        self.force_detach(driver, subject)
        kept = connections_of(ground, other)
        must(
            comparable(kept) == comparable(before),
            f"of the bystander's {shown(before)} "
            f"this is left: {shown(kept)}; a live guest lost its disk",
        )

    def test_other_volume_of_the_host_keeps_its_access(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """The host is connected to another volume as well -> that one stays connected."""
        subject, other = self.attached(ground), self.attached(ground)
        before = connections_of(ground, other)
        self.force_detach(driver, subject)
        kept = connections_of(ground, other)
        must(
            comparable(kept) == comparable(before),
            f"of the host's other volume's {shown(before)} this is left: {shown(kept)}",
        )

    def test_host_under_another_name_is_left_alone_and_told(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """The host came back under a new initiator name -> it keeps access, and is seen.

        The recorded connector names the old one. Whether the new one is the same guest is for a
        person to find out.
        """
        recorded = Subject.of(ground.volume(), ground.connector("host-a"))
        present = self.connected(ground, recorded.volume, ground.another_name(recorded.connector))
        before = connections_of(ground, present)
        self.release_of_nobody(driver, recorded)
        must(
            comparable(connections_of(ground, present)) == comparable(before),
            "the host reconnected under another name, which no connector has, and lost its access",
        )
        if driver.capabilities.sees_connections:
            seen = self.observe(driver, present.volume)
            must(
                bool(seen),
                "the host is connected under another name, and observe shows no connection",
            )

    def test_client_that_came_instead_keeps_its_access(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """The learned client is gone and another of the host has the volume -> it keeps it.

        Whoever has it open at a failure may be the guest's new process. Success is as good as a
        refusal here; to end what was never learned is neither.
        """
        if not driver.capabilities.by_learned_client:
            pytest.skip("the driver does not declare by_learned_client")
        subject = self.attached(ground)
        ground.replace_client(subject.volume, subject.connector)
        before = connections_of(ground, subject)
        must(bool(before), "the ground did not connect another client")
        self.error_of(driver, "force_detach", subject)
        kept = connections_of(ground, subject)
        must(
            comparable(kept) == comparable(before),
            f"{shown(before)} had come instead of the learned client; this is left: {shown(kept)}",
        )

    def test_client_that_was_never_learned_keeps_its_access(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """No client was learned, and one has the volume -> PermanentError, and it keeps it."""
        if not driver.capabilities.by_learned_client:
            pytest.skip("the driver does not declare by_learned_client")
        subject = self.attached(ground)
        before = connections_of(ground, subject)
        error = self.error_of(driver, "force_detach", Subject.of(subject.volume, subject.connector))
        kept = connections_of(ground, subject)
        must(
            isinstance(error, PermanentError) and comparable(kept) == comparable(before),
            f"no client was learned: must be refused, not {error!r}; this is left: {shown(kept)}",
        )

    def test_host_of_another_case_keeps_its_access(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Two hosts' names differ by case only -> each is released alone, the other one stays."""
        subject = self.attached(ground)
        other = self.connected(ground, subject.volume, ground.another_case(subject.connector))
        before = connections_of(ground, subject)
        self.force_detach(driver, other)
        left, kept = connections_of(ground, other), connections_of(ground, subject)
        must(not left, f"force_detach succeeded, but this is left: {shown(left)}")
        must(
            comparable(kept) == comparable(before),
            f"of {shown(before)} this is left: {shown(kept)}; names that differ by case are two",
        )
        self.force_detach(driver, subject)
        left = connections_of(ground, subject)
        must(not left, f"force_detach succeeded, but this is left: {shown(left)}")

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
            comparable(ground.truth(subject.volume)) == comparable(before),
            "without a connector a host lost its access",
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
