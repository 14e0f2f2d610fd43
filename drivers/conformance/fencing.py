"""Clauses on fences: of a driver that ends single clients, which stay refused for a time."""

from __future__ import annotations

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import Clauses, Subject, fail, must
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError


class FencingClauses(Clauses):
    """What a driver owes to the clients that it has fenced, and to those that it has not."""

    def test_released_client_is_listed_as_fenced(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """A client was released -> the list of fences has its full address, and until when."""
        address = self._fenced(driver, ground, self.attached(ground))
        seen = driver.fences(timeout_seconds=self.timeout_seconds)
        must(address in seen.until, f"{address} is fenced, and the driver does not list it")
        must(bool(seen.cluster), "the list does not say of which cluster it is")

    def test_lifted_fence_is_that_of_one_client(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Two clients of one host are fenced, one is let in again -> the other is refused still."""
        lifted = self._fenced(driver, ground, self.attached(ground))
        other = self._fenced(driver, ground, self.attached(ground))
        left = driver.lift_fence(lifted, timeout_seconds=self.timeout_seconds)
        must(lifted not in ground.fenced(), f"{lifted} was lifted, and is refused still")
        must(other in ground.fenced(), f"{lifted} was lifted, and {other} is let in too")
        must(other in left.until, "what the driver returns leaves a fence out that stands")

    def test_lifted_twice_is_success(self, driver: StorageDriver, ground: Ground) -> None:
        """The fence is lifted already -> to lift it succeeds, and changes nothing."""
        address = self._fenced(driver, ground, self.attached(ground))
        driver.lift_fence(address, timeout_seconds=self.timeout_seconds)
        before = ground.fenced()
        try:
            driver.lift_fence(address, timeout_seconds=self.timeout_seconds)
        except PermanentError as error:
            fail(f"{address} is let in already, yet {error!r}")
        must(ground.fenced() == before, "there was nothing to lift, yet it changed")

    def test_renewed_fence_is_of_one_client(self, driver: StorageDriver, ground: Ground) -> None:
        """A fence has ended and is made again -> this client is refused, no other of its host."""
        address = self._fenced(driver, ground, self.attached(ground))
        self.attached(ground)
        driver.lift_fence(address, timeout_seconds=self.timeout_seconds)
        before = ground.fenced()
        driver.renew_fence(address, timeout_seconds=self.timeout_seconds)
        more = ground.fenced() - before
        must(more == {address}, f"{address} was to be refused again, and {sorted(more)} are")

    @pytest.mark.parametrize("method", ["renew_fence", "lift_fence"])
    def test_whole_host_is_refused(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """An address that is more than one client's -> PermanentError, and nothing is done."""
        address = self._fenced(driver, ground, self.attached(ground))
        before = ground.fenced()
        try:
            getattr(driver, method)(
                ground.whole_host(address), timeout_seconds=self.timeout_seconds
            )
        except PermanentError:
            must(ground.fenced() == before, "it was refused, yet something was done")
        else:
            fail(f"{method} took an address that is a whole host's")

    def _fenced(self, driver: StorageDriver, ground: Ground, subject: Subject) -> str:
        """Release an attachment, and return the address of the client that is fenced then."""
        if not driver.capabilities.by_learned_client:
            pytest.skip("the driver ends no single clients")
        self.force_detach(driver, subject)
        learned = subject.attachment.learned
        if learned is None:
            fail("the ground has learned no client of a host that it has connected")
        must(learned.address in ground.fenced(), f"{learned.address} is not refused")
        return learned.address
