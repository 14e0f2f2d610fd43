"""Clauses on what a driver declares: the plan takes its shape from it, so it has to be true."""

from __future__ import annotations

import re
import time

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import (
    GRACE_SECONDS,
    Clauses,
    held,
    must,
    needs_eyes,
    shown,
)
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError

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
        """A host is connected -> its connector finds it among those told, if sees_hosts says so."""
        needs_eyes(driver)
        subject = self.attached(ground)
        seen = driver.observe(subject.volume, timeout_seconds=self.timeout_seconds)
        found, declared = bool(seen.of(subject.connector)), driver.capabilities.sees_hosts
        must(
            found == declared,
            f"sees_hosts is declared {declared}, and the host's connector finds "
            f"{'it' if found else 'nobody'} in {shown(seen.connections)}",
        )

    def test_sessions_end_only_where_declared(self, driver: StorageDriver, ground: Ground) -> None:
        """A connected host is released -> its sessions are ended exactly if ends_sessions says so.

        Ending them without having said so would cut other volumes behind the same session.
        """
        self._needs_own_hands(driver)
        subject, declared = self.attached(ground), driver.capabilities.ends_sessions
        self.error_of(driver, "force_detach", subject)
        live = sum(c.sessions for c in held(ground, subject))
        must(
            (live == 0) == declared,
            f"ends_sessions is declared {declared}, and {live} sessions are left",
        )

    def test_access_goes_where_declared(self, driver: StorageDriver, ground: Ground) -> None:
        """A connected host is released -> let in no more exactly if revokes_access says so."""
        self._needs_own_hands(driver)
        subject, declared = self.attached(ground), driver.capabilities.revokes_access
        self.error_of(driver, "force_detach", subject)
        access = any(c.access for c in held(ground, subject))
        must(
            access != declared,
            f"revokes_access is declared {declared}, and the host is "
            f"{'still' if access else 'no longer'} let in",
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
    def _needs_own_hands(driver: StorageDriver) -> None:
        if driver.capabilities.acts_through_cinder:
            pytest.skip("what is revoked and ended is Cinder's doing, not this driver's")
