"""Replays cases a few at first, then the others at a rate, and stops where they fail again.

It watches the ledger for what becomes of each case. It decides nothing about a case.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from handlers.case import Case, CaseState

# A look takes seconds.
POLL_SECONDS = 1.0
RESTS = frozenset({
    CaseState.PARKED, CaseState.AWAITING_APPROVAL, CaseState.CLOSED, CaseState.SETTLING,
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Ramp:
    """How cases are replayed.

    ``canary`` of them come first, the others so many a minute (None: all at once), and no more
    once ``stop_after`` of them are parked again. ``wait_seconds`` is how long the first may take.
    """

    canary: int = 0
    per_minute: float | None = None
    stop_after: int | None = None
    wait_seconds: float = 600.0

    @property
    def watches(self) -> bool:
        """Tell whether it has to know what becomes of the cases."""
        return bool(self.canary) or self.stop_after is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A case that was sent for replay, as it was before that."""

    case_id: str
    rested: bool
    round_began_at: datetime
    updated_at: datetime

    def over(self, now: Case) -> bool:
        """Tell whether the case has come to rest since.

        The replay of one that rests begins a new round; another one only has to move.
        """
        if now.state not in RESTS:
            return False
        if self.rested:
            # The order is carried out later, by a service: until then the case rests as before.
            return now.round_began_at > self.round_began_at and now.attempts > 0
        return now.updated_at > self.updated_at


class StoppedError(Exception):
    """The rest is not replayed; the text says why, and how many are left."""


@dataclasses.dataclass(slots=True)
class Replaying:
    """Sends cases one by one; ``now_of`` reads them again, and ``tell`` says how it goes."""

    ramp: Ramp
    send: Callable[[Case], None]
    now_of: Callable[[Collection[str]], Sequence[Case]]
    tell: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    sent: list[Sent] = dataclasses.field(default_factory=list)

    def run(self, cases: Sequence[Case]) -> None:
        """Replay them. Blocks for the rate and the first ones. Raises StoppedError."""
        first, others = cases[: self.ramp.canary], cases[self.ramp.canary :]
        for case in first:
            self._send(case)
        if first:
            self._await_first(len(others))
        # The rate counts from here: the first ones may have taken minutes.
        began = self.clock()
        for number, case in enumerate(others):
            self._pause_until(began + number * self._pause_seconds)
            # Right before the next is sent, so that at most those under way come too much.
            self._check(len(others) - number)
            self._send(case)

    def parked_again(self) -> int:
        """Return how many of those sent are parked again."""
        return sum(case.state is CaseState.PARKED for case in self._rested())

    @property
    def _pause_seconds(self) -> float:
        return 60.0 / self.ramp.per_minute if self.ramp.per_minute else 0.0

    def _send(self, case: Case) -> None:
        self.send(case)
        rested = case.state in RESTS
        self.sent.append(Sent(case.case_id, rested, case.round_began_at, case.updated_at))

    def _rested(self) -> list[Case]:
        """Return those of the sent ones that have come to rest since."""
        before = {one.case_id: one for one in self.sent}
        return [case for case in self.now_of(before) if before[case.case_id].over(case)]

    def _await_first(self, left: int) -> None:
        ends_at = self.clock() + self.ramp.wait_seconds
        while len(rested := self._rested()) < len(self.sent):
            if self.clock() >= ends_at:
                raise StoppedError(
                    f"of the first {len(self.sent)} only {len(rested)} came to rest within "
                    f"{self.ramp.wait_seconds:g} s; {left} cases were not replayed"
                )
            self.sleep(POLL_SECONDS)
        parked = self.parked_again()
        self.tell(f"the first {len(self.sent)}: {len(self.sent) - parked} well, {parked} parked")
        if parked:
            raise StoppedError(
                f"{parked} of the first {len(self.sent)} are parked again; {left} cases were not "
                "replayed"
            )

    def _check(self, left: int) -> None:
        limit = self.ramp.stop_after
        if limit is not None and self.sent and (parked := self.parked_again()) >= limit:
            raise StoppedError(f"{parked} are parked again; {left} cases were not replayed")

    def _pause_until(self, at: float) -> None:
        if (seconds := at - self.clock()) > 0:
            self.sleep(seconds)
