"""Clauses on looking: everybody who is there is told, and nothing that is not known."""

from __future__ import annotations

from drivers.base import StorageDriver
from drivers.conformance.clause import (
    KINDS,
    Clauses,
    Subject,
    fail,
    held,
    must,
    needs_eyes,
    shown,
    told,
)
from drivers.conformance.ground import Ground
from drivers.errors import NotFoundError


class SeeingClauses(Clauses):
    """What ``observe`` owes."""

    def test_connected_hosts_are_seen_as_they_are(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Two hosts are connected -> both are told, each with its access and its sessions."""
        needs_eyes(driver)
        subject = self.attached(ground)
        self.beside(ground, subject)
        self._must_see_the_truth(driver, ground, subject)

    def test_every_session_is_counted(self, driver: StorageDriver, ground: Ground) -> None:
        """A host holds three sessions -> observe tells three, not that there is one host."""
        needs_eyes(driver)
        self._must_see_the_truth(driver, ground, self.attached(ground, sessions=3))

    def test_access_without_a_session_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """A host is let in and has not come yet -> it is told; it may come at any time."""
        needs_eyes(driver)
        self._must_see_the_truth(driver, ground, self.attached(ground, sessions=0))

    def test_session_without_access_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """A host's access was taken and its session goes on -> it is told; it may be writing."""
        needs_eyes(driver)
        subject = self.attached(ground)
        ground.withdraw(subject.volume, subject.connector)
        self._must_see_the_truth(driver, ground, subject)

    def test_idle_volume_is_seen_idle(self, driver: StorageDriver, ground: Ground) -> None:
        """Nobody is connected -> nobody is told, not the driver either, and a positive control."""
        needs_eyes(driver)
        volume = ground.volume()
        for _ in range(2):
            seen = self.observe(driver, volume)
            must(not seen, f"nobody is connected, yet observe tells {shown(seen)}")

    def test_migrated_volume_is_found(self, driver: StorageDriver, ground: Ground) -> None:
        """The backend has the volume by its name_id -> it is found there, and so is its host."""
        needs_eyes(driver)
        subject = Subject.of(ground.migrated(), ground.connector("host-a"))
        ground.connect(subject.volume, subject.connector)
        self._must_see_the_truth(driver, ground, subject)

    def test_unknown_volume_is_not_clean(self, driver: StorageDriver, ground: Ground) -> None:
        """A volume that the backend does not know -> NotFoundError, never an empty observation."""
        needs_eyes(driver)
        try:
            seen = driver.observe(ground.missing(), timeout_seconds=self.timeout_seconds)
        except NotFoundError:
            return
        fail(f"a volume that does not exist was called clean: {seen}")

    def test_wrong_place_is_not_clean(self, ground: Ground) -> None:
        """The driver looks at the wrong daemon, pool or port -> an error, never "nobody"."""
        lost = ground.elsewhere()
        needs_eyes(lost)
        subject = self.attached(ground)
        try:
            seen = lost.observe(subject.volume, timeout_seconds=self.timeout_seconds)
        except KINDS:
            return
        fail(f"the driver looked where the volume is not, and said {seen}")

    def test_observe_changes_nothing(self, driver: StorageDriver, ground: Ground) -> None:
        """Observe -> the backend holds what it held before."""
        needs_eyes(driver)
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        self.observe(driver, subject.volume)
        must(
            told(ground.truth(subject.volume)) == told(before),
            "observe is read-only, but the backend has changed",
        )

    def _must_see_the_truth(self, driver: StorageDriver, ground: Ground, subject: Subject) -> None:
        """Compare; a driver that cannot tell hosts may call a connection what it likes."""
        seen, true = self.observe(driver, subject.volume), ground.truth(subject.volume)
        must(bool(held(ground, subject)), "the ground did not connect the host")
        words = f"the backend holds {shown(true)}, and observe tells {shown(seen)}"
        if driver.capabilities.sees_hosts:
            must(told(seen) == told(true), words)
        else:
            same = sum(c.sessions for c in seen) == sum(c.sessions for c in true)
            must(bool(seen) and same, words)
