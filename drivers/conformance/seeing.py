"""Clauses on looking: every connection is shown, and nothing else; on declarations."""

from __future__ import annotations

import re
import time

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import (
    CROWD,
    GRACE_SECONDS,
    KINDS,
    Clauses,
    Subject,
    comparable,
    connections_of,
    fail,
    live,
    must,
    needs_sight,
    shown,
)
from drivers.conformance.ground import Ground
from drivers.errors import NotFoundError, PermanentError


class SeeingClauses(Clauses):
    """What ``observe`` owes."""

    def test_connected_hosts_are_seen_as_they_are(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Two hosts are connected -> both are shown, each with its access and its sessions."""
        needs_sight(driver)
        subject = self.attached(ground)
        self.beside(ground, subject)
        self._must_see_the_truth(driver, ground, subject)

    def test_every_session_is_counted(self, driver: StorageDriver, ground: Ground) -> None:
        """A host holds three sessions -> observe shows three, not that there is one host."""
        needs_sight(driver)
        if not driver.capabilities.sees_sessions:
            pytest.skip("the driver declares that it sees no sessions")
        self._must_see_the_truth(driver, ground, self.attached(ground, sessions=3))

    def test_every_host_of_a_crowd_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """Nine hosts are connected -> nine are shown; a page that was cut hides who writes."""
        needs_sight(driver)
        subject = self.attached(ground)
        for number in range(1, CROWD):
            self.beside(ground, subject, f"host-{number}")
        self._must_see_the_truth(driver, ground, subject)

    def test_names_that_differ_by_case_are_two_hosts(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Two hosts' names differ by case only -> both are shown, each by its own name."""
        needs_sight(driver)
        subject = self.attached(ground)
        self.connected(ground, subject.volume, ground.another_case(subject.connector))
        self._must_see_the_truth(driver, ground, subject)

    def test_change_between_two_looks_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """A host connects right after a look -> the next look shows it, however soon it comes."""
        needs_sight(driver)
        subject = Subject.of(ground.volume(), ground.connector("host-a"))
        seen = self.observe(driver, subject.volume)
        must(not seen, f"no host is connected, yet observe shows {shown(seen)}")
        ground.connect(subject.volume, subject.connector)
        self._must_see_the_truth(driver, ground, subject)
        self.beside(ground, subject)
        self._must_see_the_truth(driver, ground, subject)

    def test_access_without_a_session_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """A host has access and no session yet -> it is shown; it may connect at any time."""
        needs_sight(driver)
        self._must_see_the_truth(driver, ground, self.attached(ground, sessions=0))

    def test_session_without_access_is_seen(self, driver: StorageDriver, ground: Ground) -> None:
        """A host's access was revoked and its session goes on -> it is shown; it may be writing."""
        needs_sight(driver)
        subject = self.attached(ground)
        ground.withdraw(subject.volume, subject.connector)
        self._must_see_the_truth(driver, ground, subject)

    def test_idle_volume_is_seen_idle(self, driver: StorageDriver, ground: Ground) -> None:
        """No host is connected -> no connection, not the driver's own either, and a control."""
        needs_sight(driver)
        volume = ground.volume()
        # Twice: the first look must not leave a trace that the second one shows.
        for _ in range(2):
            seen = self.observe(driver, volume)
            must(not seen, f"no host is connected, yet observe shows {shown(seen)}")

    def test_migrated_volume_is_found(self, driver: StorageDriver, ground: Ground) -> None:
        """The backend has the volume by its name_id -> it is found there, and so is its host."""
        needs_sight(driver)
        subject = self.connected(ground, ground.migrated(), ground.connector("host-a"))
        self._must_see_the_truth(driver, ground, subject)

    def test_unknown_volume_is_not_clean(self, driver: StorageDriver, ground: Ground) -> None:
        """A volume that the backend does not know -> NotFoundError, never an empty observation."""
        needs_sight(driver)
        try:
            seen = driver.observe(ground.missing(), timeout_seconds=self.timeout_seconds)
        except NotFoundError:
            return
        fail(f"a volume that does not exist was called clean: {seen}")

    def test_wrong_place_is_not_clean(self, ground: Ground) -> None:
        """The driver looks at the wrong daemon, pool or port -> an error, never "no connection"."""
        lost = ground.elsewhere()
        needs_sight(lost)
        subject = self.attached(ground)
        try:
            seen = lost.observe(subject.volume, timeout_seconds=self.timeout_seconds)
        except KINDS:
            return
        fail(f"the driver looked where the volume is not, and answered {seen}")

    def test_observe_changes_nothing(self, driver: StorageDriver, ground: Ground) -> None:
        """Observe -> the backend holds what it held before."""
        needs_sight(driver)
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        self.observe(driver, subject.volume)
        must(
            comparable(ground.truth(subject.volume)) == comparable(before),
            "observe is read-only, but the backend has changed",
        )

    def _must_see_the_truth(self, driver: StorageDriver, ground: Ground, subject: Subject) -> None:
        """Compare; a driver that cannot tell hosts may give a connection any name."""
        seen, true = self.observe(driver, subject.volume), ground.truth(subject.volume)
        must(bool(connections_of(ground, subject)), "the ground did not connect the host")
        words = f"the backend holds {shown(true)}, and observe shows {shown(seen)}"
        able = driver.capabilities
        if able.sees_hosts:
            as_shown = comparable(seen, sessions=able.sees_sessions)
            must(as_shown == comparable(true, sessions=able.sees_sessions), words)
        else:
            same = not able.sees_sessions or live(seen) == live(true)
            must(bool(seen) and same, words)


SECRET = re.compile(r"passw|passphrase|secret|token|(^|_|auth|api)key$")


class DeclaringClauses(Clauses):
    """What capabilities and options owe."""

    def test_blind_driver_refuses_to_look(self, driver: StorageDriver, ground: Ground) -> None:
        """A blind driver is asked all the same -> PermanentError, never an observation."""
        if driver.capabilities.sees_connections:
            pytest.skip("the driver declares that it sees")
        error = self.error_of(driver, "observe", self.attached(ground))
        must(
            isinstance(error, PermanentError),
            f"a blind driver must refuse to look with PermanentError, not {error!r}",
        )

    def test_hosts_are_told_only_where_declared(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host is connected -> its connector finds it there, if sees_hosts says so."""
        needs_sight(driver)
        subject = self.attached(ground)
        seen = driver.observe(subject.volume, timeout_seconds=self.timeout_seconds)
        found, declared = bool(seen.of(subject.connector)), driver.capabilities.sees_hosts
        must(
            found == declared,
            f"sees_hosts is declared {declared}, and the host's connector finds "
            f"{'it' if found else 'no connection'} in {shown(seen.connections)}",
        )

    def test_sessions_are_told_only_where_declared(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A host is in session -> a session is shown, exactly if sees_sessions says so."""
        needs_sight(driver)
        subject, declared = self.attached(ground), driver.capabilities.sees_sessions
        shows = live(self.observe(driver, subject.volume)) > 0
        must(
            shows == declared,
            f"sees_sessions is declared {declared}, and observe shows "
            f"{'a session' if shows else 'no session'} of a host that is in session",
        )

    def test_sessions_end_only_where_declared(self, driver: StorageDriver, ground: Ground) -> None:
        """A connected host is released -> its sessions are ended exactly if ends_sessions says so.

        Ending them without having said so would disconnect other volumes behind the same session.
        """
        self._needs_own_release(driver)
        subject, declared = self.attached(ground), driver.capabilities.ends_sessions
        self.error_of(driver, "force_detach", subject)
        left = live(connections_of(ground, subject))
        must(
            (left == 0) == declared,
            f"ends_sessions is declared {declared}, and {left} sessions are left",
        )

    def test_access_goes_where_declared(self, driver: StorageDriver, ground: Ground) -> None:
        """A connected host is released -> it has no access exactly if revokes_access says so."""
        self._needs_own_release(driver)
        if driver.capabilities.by_learned_client:
            pytest.skip("the driver ends one client; its host has access by its key")
        subject, declared = self.attached(ground), driver.capabilities.revokes_access
        self.error_of(driver, "force_detach", subject)
        access = any(c.access for c in connections_of(ground, subject))
        must(
            access != declared,
            f"revokes_access is declared {declared}, and the host "
            f"{'still has' if access else 'no longer has'} access",
        )

    def test_driver_is_made_without_asking_the_backend(self, ground: Ground) -> None:
        """The backend gives no answer -> the driver can be made, so that the service starts."""
        with ground.freeze():
            began = time.monotonic()
            ground.driver()
            took = time.monotonic() - began
        must(took <= GRACE_SECONDS, f"making the driver took {took:.1f} s on a frozen backend")

    def test_options_are_explained(self, driver: StorageDriver) -> None:
        """An option of the driver's own -> a help, which the sample configuration shows."""
        silent = sorted(opt.dest for opt in driver.opts if not opt.help)
        must(not silent, f"these options have no help: {', '.join(silent)}")

    def test_secret_options_are_marked(self, driver: StorageDriver) -> None:
        """An option is called like a secret -> it is declared secret, so that logs mask it."""
        bare = sorted(o.dest for o in driver.opts if SECRET.search(o.dest) and not o.secret)
        must(not bare, f"these options look like secrets, and do not say so: {', '.join(bare)}")

    @staticmethod
    def _needs_own_release(driver: StorageDriver) -> None:
        if driver.capabilities.acts_through_cinder:
            pytest.skip("what is revoked and ended is Cinder's doing, not this driver's")
