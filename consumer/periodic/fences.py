"""Watches the fences: makes those again that have ended too early, and notices what is over.

A cluster refuses a fenced client only for a time. Its process may have been cut off, or stopped,
all that time, and know nothing of the fence: it would write again (docs/decisions/0024). So:

1. A fence that has run out is made again at once, until a person lifts it. While a person's word
   says that the host is powered off (and the operator lets such a word count), it is not.
2. It is not prolonged before: Ceph keeps the time of an entry that it has. So a fence is made for
   years, and one that ends earlier, because somebody else had made it, is watched closely.
3. One that somebody removed in the cluster before its time is left removed, and told. That it was
   before its time is said by the cluster's own clock. Where that leaves it open, the fence had run
   out: to fence a client again that somebody has let in costs less than the other error.
4. While detachd is paused, the kill switch is on, or the backend is in mode observe, nothing is
   fenced. A client that is let in by that is told.
5. A list of fences counts only if it is of the cluster that has the fence. Where the backend is
   another cluster by now, the fence stays on record as it is, and that is logged.

Several services may watch: to fence twice does no harm.
"""

from __future__ import annotations

import enum
import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import assert_never

from consumer.counting import Happened
from consumer.ledger import Ledger
from consumer.ledger.periodic.fences import Fence, FenceState
from consumer.periodic.loop import one_turn
from drivers.base import Fences, StorageDriver
from drivers.errors import OutsideError
from handlers.judgement.policy import BackendPolicy, Mode

LOG = logging.getLogger(__name__)

POLL_SECONDS = 60.0
CLOSE_SECONDS = 1.0
"""How often a fence is looked at that is about to run out."""
LOOK_SECONDS = 20.0
UNSURE = timedelta(hours=1)
"""How long a fence that may have been made is looked for: a call that gave no answer acts late."""
SKEW = timedelta(seconds=60)
"""How far the clocks of two monitors may be from one another; Ceph warns from 0.05 s on. Where the
cluster does not tell its time: how far its clock may be from that of the database."""
DETACHD = "detachd"
STILL_REFUSED = "a person lifts it, and the cluster refuses the client still; lift it again"
LET_IN = "it has run out, and is not made again while detachd is paused or only observes"


class Doing(enum.Enum):
    """What is done about one fence at one look."""

    NOTHING = "nothing"
    NOTE = "what the cluster says is noted"
    MAKE_AGAIN = "it had run out, and is made again"
    RAN_OUT = "it ran out; its host is said to be powered off"
    REMOVED = "somebody removed it in the cluster before its time"
    NEVER_MADE = "it was never made: the call that was to make it did not act"
    LIFTED = "it was lifted"


OVER = frozenset({Doing.RAN_OUT, Doing.REMOVED, Doing.NEVER_MADE, Doing.LIFTED})


def decide(
    fence: Fence,
    until: datetime | None,
    now: datetime,
    *,
    host_off: bool,
    as_of: datetime | None = None,
) -> Doing:
    """Return what is to be done about a fence. Pure.

    ``until``: how long the cluster refuses the client, None where it does not. ``now``: of the
    database. ``as_of``: of the cluster, when it has refused it for the last time at the latest.
    ``host_off``: a word that counts says that its host is powered off, since it was fenced.
    """
    if until is not None:
        is_news = fence.until != until or fence.state is FenceState.INTENDED
        return Doing.NOTE if is_news else Doing.NOTHING
    match fence.state:
        case FenceState.INTENDED:
            return Doing.NEVER_MADE if now - fence.fenced_at > UNSURE else Doing.NOTHING
        case FenceState.LIFTING:
            return Doing.LIFTED
        case FenceState.STANDING:
            if fence.until is not None and (as_of or now) < fence.until - SKEW:
                return Doing.REMOVED
            return Doing.RAN_OUT if host_off else Doing.MAKE_AGAIN
        case FenceState.OVER:
            return Doing.NOTHING
        case _:
            assert_never(fence.state)


def is_about_to_end(fence: Fence, now: datetime) -> bool:
    """Tell whether a fence that stands runs out within the next two looks, or has. Pure."""
    soon = now + timedelta(seconds=2 * POLL_SECONDS)
    return fence.state is FenceState.STANDING and fence.until is not None and fence.until < soon


class FenceWatch:
    """Looks at the fences of each backend that has any. ``held``: nothing may be written now."""

    def __init__(
        self,
        ledger: Ledger,
        driver_of: Callable[[str], StorageDriver],
        policy_of: Callable[[str], BackendPolicy],
        *,
        held: Callable[[str], bool],
        count: Callable[[Happened], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._driver_of = driver_of
        self._policy_of = policy_of
        self._held = held
        self._count = count
        self._poll_seconds = poll_seconds
        self._behind: dict[str, timedelta] = {}

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set. Returns at most one look later."""
        pause_seconds = self._poll_seconds
        while not stop.wait(pause_seconds):
            pause_seconds = self._poll_seconds
            with one_turn(LOG, "watching the fences", self._count, "fences"):
                if self.watch_once():
                    pause_seconds = min(CLOSE_SECONDS, self._poll_seconds)

    def watch_once(self) -> bool:
        """Look at all of them once; tell whether one is about to run out.

        Blocks for each backend that has one, and the ledger. Raises LedgerUnavailableError. A
        backend without an answer is looked at the next time.
        """
        # By backend, so that each is asked for its list once.
        standing = sorted(self._ledger.fences.standing(), key=lambda fence: fence.backend)
        for backend, its in itertools.groupby(standing, key=lambda fence: fence.backend):
            try:
                self._watch(self._driver_of(backend), its)
            except OutsideError as error:
                LOG.warning("the fences of backend %s were not looked at: %s", backend, error)
        # Nearly always: then no second statement.
        if not standing:
            return False
        now = self._ledger.now()
        return any(
            is_about_to_end(fence, now + self._behind.get(fence.backend, timedelta()))
            for fence in self._ledger.fences.standing()
        )

    def _compare_clocks(self, backend: str, as_of: datetime | None) -> None:
        """Note how far the database's clock is behind the cluster's at least, where that shows."""
        behind = as_of - self._ledger.now() if as_of else timedelta()
        if behind > max(SKEW, 2 * self._behind.get(backend, timedelta())):
            seconds = behind.total_seconds()
            LOG.warning(
                "the clock of the database is %.0f s behind that of the cluster of backend %s",
                seconds, backend,
            )  # fmt: skip
        self._behind[backend] = max(behind, self._behind.get(backend, timedelta()))

    def _watch(self, driver: StorageDriver, its: Iterable[Fence]) -> None:
        seen = driver.fences(timeout_seconds=LOOK_SECONDS)
        self._compare_clocks(driver.backend, seen.as_of)
        for fence in its:
            if fence.cluster not in (None, seen.cluster):
                self._tell_of_another_cluster(fence, seen.cluster)
                continue
            until = seen.until.get(fence.address)
            now, off = self._ledger.now(), self._is_off(fence)
            doing = decide(fence, until, now, host_off=off, as_of=seen.as_of)
            self._do(driver, fence, doing, seen)

    def _do(self, driver: StorageDriver, fence: Fence, doing: Doing, seen: Fences) -> None:
        if doing is Doing.MAKE_AGAIN:
            self._make_again(driver, fence)
        elif doing is Doing.NOTHING and fence.state is FenceState.LIFTING:
            self._note(fence, STILL_REFUSED)
        elif doing is Doing.NOTHING:
            self._note(fence, None)
        elif doing is Doing.NOTE:
            self._ledger.fences.seen(fence.fence_id, seen.cluster, seen.until[fence.address])
        elif doing in OVER:
            # Somebody has let a client in that detachd had shut out.
            level = logging.WARNING if doing is Doing.REMOVED else logging.INFO
            LOG.log(level, "fence %d of %s is over: %s", fence.fence_id, fence.address, doing.value)
            self._ledger.fences.over(fence.fence_id, DETACHD, doing.value)

    def _make_again(self, driver: StorageDriver, fence: Fence) -> None:
        """Fence the client again, unless nothing may be written, or a person lifts it just now."""
        number, address = fence.fence_id, fence.address
        # Read again right before the call: a person may have begun to lift it since.
        if self._ledger.fences.one(number).state is not fence.state:
            return
        if self._held(fence.backend) or self._policy_of(fence.backend).mode is Mode.OBSERVE:
            self._note(fence, LET_IN)
            LOG.warning(
                "fence %d of %s has run out, and is not made again now: backend %s is paused or in "
                "mode observe", number, address, fence.backend,
            )  # fmt: skip
            return
        seen = driver.renew_fence(address, timeout_seconds=LOOK_SECONDS)
        if (until := seen.until.get(address)) is None:
            LOG.warning("fence %d of %s was made again and does not stand", number, address)
            return
        self._ledger.fences.renewed(number, seen.cluster, until)
        ends = until.isoformat(timespec="seconds")
        LOG.warning("fence %d of %s had run out; made again, until %s", number, address, ends)

    def _is_off(self, fence: Fence) -> bool:
        """Tell whether a word that counts says that its host is off, and was said since."""
        if fence.host is None or not self._policy_of(fence.backend).trust_off_word:
            return False
        word = self._ledger.off_word(fence.host)
        # The host must have been powered off since: one that was switched on again may have the
        # client that was fenced (docs/decisions/0024).
        return word is not None and word.said_at > fence.fenced_at

    def _tell_of_another_cluster(self, fence: Fence, cluster: str) -> None:
        self._note(
            fence,
            f"the backend is cluster {cluster} now; whether cluster {fence.cluster} still has it "
            "is not known",
        )
        LOG.warning(
            "backend %s is cluster %s now; whether cluster %s still has fence %d of %s is not "
            "known", fence.backend, cluster, fence.cluster, fence.fence_id, fence.address,
        )  # fmt: skip

    def _note(self, fence: Fence, trouble: str | None) -> None:
        if fence.trouble != trouble:
            self._ledger.fences.note_trouble(fence.fence_id, trouble)
