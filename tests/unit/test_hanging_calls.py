"""A write of a storage driver that hangs is under way until its thread returns.

The ledger, recovery and a simulated cloud, without a bus. Another server gets the volume as soon as
Cinder calls it available; then the hanging call acts, or returns. The guest that runs by then must
keep its disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.ledger import HistoryKind, Ledger, LedgerUnavailableError, Timing
from consumer.work.driver_calls import BoundedDrivers
from consumer.work.hanging import HangingWrites, UntoldError
from drivers.base import StorageDriver
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.scenes import uc5
from handlers.case import CaseState, Outcome, StepKind, StepResult
from handlers.judgement.guards import Guard
from handlers.judgement.policy import Mode
from handlers.notification import Operation, Phase, Source
from handlers.recovery.recovery import Recovery
from tests.bus import until
from tests.services import ledgers
from tests.time_limits import TimeLimits
from tests.unit.consumer.due import backends
from tests.unit.consumer.ledger.making import accept, claim_one, seen, told
from tests.unit.handlers.recovery.trial import LEASE_SECONDS
from tests.unit.test_late_calls import (
    NOVA,
    nobody_is_cut_off,
    status,
    time_passes,
    user_attaches_if_offered,
)

SHORT: dict[str, Any] = {
    "mode": Mode.AUTO, "look_timeout_seconds": 20.0, "call_timeout_seconds": 20.0,
    "driver_grace_seconds": 5.0, "try_backoff_seconds": 0.0005, "try_backoff_max_seconds": 0.0005,
    "nova_detach_wait_seconds": 0.02, "tries": 2,
}  # fmt: skip


class HangsOnce(SimulatorDriver):
    """The simulated backend's driver, the first release of which hangs until it is let go."""

    def __init__(self, cloud: Cloud, limits: TimeLimits, *, acts_first: bool) -> None:
        super().__init__(DEFAULT_BACKEND, {}, cloud=cloud)
        self.limits = limits
        self.acts_first = acts_first
        self.let_go = threading.Event()
        self.hung = False

    def force_detach(self, *arguments: Any, **named: Any) -> None:
        """Release; the first time hang, before or after that."""
        hangs, self.hung = not self.hung, True
        if self.acts_first or not hangs:
            super().force_detach(*arguments, **named)
        if hangs:
            self.limits.is_up()
            assert self.let_go.wait(60)
            if not self.acts_first:
                super().force_detach(*arguments, **named)


class Play:
    """A case of a volume on a backend the driver of which hangs, and the replica that works it."""

    def __init__(
        self, cloud: Cloud, ledger: Ledger, limits: TimeLimits, *, acts_first: bool
    ) -> None:
        self.cloud, self.ledger = cloud, ledger
        self.driver = HangsOnce(cloud, limits, acts_first=acts_first)
        self.settings = backends(**SHORT)
        self.drivers = BoundedDrivers(self._driver, self.settings)
        self.writes = HangingWrites(ledger, self.drivers, self.settings, owner="w1")
        self.scene = uc5(cloud)
        accept(ledger, self._told(Operation.DETACH, Phase.ERROR))

    def _driver(self, _: str) -> StorageDriver:
        return self.driver

    def _told(self, operation: Operation, phase: Phase) -> Any:
        scene = self.scene
        return told(
            operation, phase, source=Source.NOVA_VERSIONED, publisher_id=NOVA,
            volume_id=scene.volume_id, instance_id=scene.instance_id,
            attachment_id=scene.attachment_id,
        )  # fmt: skip

    def work(self, *, elsewhere: bool = False) -> Outcome:
        """Work the case; ``elsewhere``: in another replica, which knows of no hanging thread."""
        drivers = BoundedDrivers(self.cloud.driver, self.settings) if elsewhere else self.drivers
        claim = claim_one(self.ledger, lease_seconds=LEASE_SECONDS)
        policy = self.settings.of(None).policy
        recovery = Recovery(self.cloud.cinder, self.cloud.nova, drivers, lambda _: policy)
        outcome = recovery.attempt(self.ledger.casefile(claim))
        self.ledger.finish(claim, outcome)
        return outcome

    def hang(self) -> None:
        """Work it until its release hangs and is given up."""
        self.work()
        assert [i.result for i in self.intents() if i.kind is StepKind.BACKEND_FORCE_DETACH] == [
            StepResult.INDETERMINATE
        ]

    def intents(self) -> Any:
        """Return what was written of its writes."""
        (case,) = self.ledger.cases(volume_id=self.scene.volume_id)
        return self.ledger.case(case.case_id).intents

    def return_late(self) -> None:
        """Let the hanging call go on, and wait until it has returned and is listed as such."""
        self.driver.let_go.set()
        until(lambda: self.drivers._returned)
        assert self.drivers.hanging() == ()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def ledger(tmp_path: Path, cloud: Cloud) -> Iterator[Ledger]:
    """Return a ledger that has heard how the host presents itself to storage."""
    ledger = Ledger(ledgers.sqlite_in(tmp_path), timing=Timing(error_settle_seconds=0.0))
    attachment = seen("attached", attachment_id="earlier", connector=cloud.connector("compute-1"))
    accept(
        ledger, told(Operation.ATTACH, Phase.END, volume_id="another", attachments=(attachment,))
    )
    yield ledger
    ledger.close()


@pytest.fixture(params=[True, False], ids=["after it acted", "before it acts"])
def play(
    request: pytest.FixtureRequest,
    cloud: Cloud,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Play]:
    play = Play(cloud, ledger, TimeLimits(monkeypatch), acts_first=request.param)
    yield play
    play.driver.let_go.set()


def the_new_guest_keeps_its_disk(play: Play) -> None:
    """Offer the volume; whoever takes it is not cut off."""
    user_attaches_if_offered(play.cloud, play.scene)
    nobody_is_cut_off(play.cloud, play.scene)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same replica", "another replica"])
def test_the_volume_is_not_given_away_while_a_call_hangs(play: Play, *, elsewhere: bool) -> None:
    """A release hangs for longer than the late horizon -> nobody gets the volume before it returns.

    Its horizon begins when it has returned.
    """
    play.hang()
    time_passes(play.ledger)
    play.writes.tell_once()
    outcome = play.work(elsewhere=elsewhere)
    assert Guard.OWN_CALL_UNANSWERED.sentence in outcome.reason
    assert outcome.state is not CaseState.CLOSED
    the_new_guest_keeps_its_disk(play)

    play.return_late()
    the_new_guest_keeps_its_disk(play)
    play.writes.tell_once()
    outcome = play.work(elsewhere=elsewhere)  # it is due at once
    assert Guard.OWN_CALL_UNANSWERED.sentence in outcome.reason

    time_passes(play.ledger)
    play.work(elsewhere=elsewhere)
    assert status(play.cloud, play.scene) == "available"
    the_new_guest_keeps_its_disk(play)


def test_a_hang_that_goes_on_during_an_attempt_elsewhere(play: Play) -> None:
    """The horizon seemed to be over when a replica claimed the case -> it reads again, and waits.

    The ledger hears that the call is still under way after the claim.
    """
    play.hang()
    time_passes(play.ledger)
    cinder, tell = play.cloud.cinder, play.writes.tell_once
    looks = iter([tell])

    class Slow:
        """Cinder, which takes so long at first that the other replica writes meanwhile."""

        def __getattr__(self, name: str) -> Any:
            next(looks, lambda: None)()
            return getattr(cinder, name)

    claim = claim_one(play.ledger, "w2", lease_seconds=LEASE_SECONDS)
    policy = play.settings.of(None).policy
    drivers = BoundedDrivers(play.cloud.driver, play.settings)
    slow: Any = Slow()
    outcome = Recovery(slow, play.cloud.nova, drivers, lambda _: policy).attempt(
        play.ledger.casefile(claim)
    )
    assert Guard.OWN_CALL_UNANSWERED.sentence in outcome.reason


def test_a_late_return_writes_through_no_claim(play: Play) -> None:
    """It returns while another replica works the case -> that claim stands; the case is due again.

    The result of the call stays unknown: a look shows what it did.
    """
    play.hang()
    time_passes(play.ledger)
    claim = claim_one(play.ledger, "w2", lease_seconds=LEASE_SECONDS)
    play.return_late()
    play.writes.tell_once()
    policy = play.settings.of(None).policy
    drivers = BoundedDrivers(play.cloud.driver, play.settings)
    recovery = Recovery(play.cloud.cinder, play.cloud.nova, drivers, lambda _: policy)
    play.ledger.finish(claim, recovery.attempt(play.ledger.casefile(claim)))
    (case,) = play.ledger.cases(volume_id=play.scene.volume_id)
    record = play.ledger.case(case.case_id)
    assert case.next_attempt_at is not None
    assert case.next_attempt_at <= play.ledger.now()
    (write,) = [i for i in record.intents if i.kind is StepKind.BACKEND_FORCE_DETACH]
    assert write.result is StepResult.INDETERMINATE
    (line,) = [line for line in record.history if line.kind is HistoryKind.RETURNED_LATE]
    assert line.reason == "force_detach: it succeeded"


def test_a_call_that_hung_in_a_crash_counts_until_the_lease_ended(ledger: Ledger) -> None:
    """The ledger was told that it hangs, then the process died -> it counts to its lease's end."""
    accept(ledger, told(Operation.DETACH, Phase.ERROR, volume_id="v"))
    claim = claim_one(ledger, lease_seconds=0.4)
    ledger.casefile(claim).intend(
        StepKind.BACKEND_FORCE_DETACH, request_id="req-1", target={}, evidence={},
        lease_seconds=0.4, announcement=None,
    )  # fmt: skip
    assert ledger.keep_under_way(["req-1", "req-of-none"]) == 1
    told_at = written(ledger).result_at
    until(lambda: bool(ledger.claim("w2", limit=1, lease_seconds=60.0, deadlines=True)))
    assert told_at is not None
    assert written(ledger).result_at == claim.lease_expires_at or (
        written(ledger).result_at > told_at
    )
    assert written(ledger).result is StepResult.INTENDED


def written(ledger: Ledger) -> Any:
    """Return the one write on record."""
    (case,) = ledger.cases(volume_id="v")
    (write,) = ledger.case(case.case_id).intents
    return write


class Away:
    """A ledger that cannot be reached."""

    def keep_under_way(self, _: Any) -> int:
        """Fail."""
        raise LedgerUnavailableError("no route")


def test_a_process_that_cannot_say_what_hangs_ends(play: Play) -> None:
    """The ledger cannot be told for half a late horizon -> the loop raises, so that it all ends.

    While nothing hangs, or not for as long, a ledger that is away is no reason to.
    """
    away: Any = Away()
    ahead = 0.0
    writes = HangingWrites(
        away, play.drivers, play.settings, owner="w1", clock=lambda: time.monotonic() + ahead
    )
    half_seconds = play.settings.of(None).policy.late_horizon_seconds / 2
    ahead = half_seconds
    writes.tell_once()
    ahead = 0.0
    play.hang()
    ahead = half_seconds
    writes.tell_once()
    ahead = 2 * half_seconds + 10.0
    with pytest.raises(UntoldError, match="force_detach of backend"):
        writes.tell_once()
