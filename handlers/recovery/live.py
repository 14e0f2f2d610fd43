"""One look that writes nothing: what the service would see and mean now, for a person who asks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from drivers.base import ClientInstance, Connector
from handlers.brakes import Spending
from handlers.case import (
    Announcement,
    Case,
    LateCalls,
    LearnedClient,
    OffWord,
    StepKind,
    StepResult,
)
from handlers.judgement.diagnosis import condemn
from handlers.judgement.rule import ACTING
from handlers.recovery.attempt import Attempt
from handlers.recovery.looking import Viewer
from handlers.recovery.recovery import NOT_LOOKED
from handlers.recovery.summary import summarise


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOnlyFile:
    """A case file that nothing can be written to. ``now``: database time when it was read."""

    case: Case
    now: datetime
    learned: Callable[[str], Connector | None]
    words: Callable[[str], OffWord | None] = lambda _: None
    clients: Callable[[str], Mapping[str, ClientInstance]] = lambda _: {}

    def locate(self, backend: str) -> None:
        """Keep nothing."""

    def late(self) -> LateCalls:
        """Return what may still act on the volume, as it was read."""
        return self.case.late

    def connector_of(self, host: str) -> Connector | None:
        """Return the connector last learned for a compute host."""
        return self.learned(host)

    def spend(self, spending: Spending) -> NoReturn:
        """Refuse: a look begins no plan."""
        raise AssertionError(f"a look was to write on {spending.backend}")

    def off_word(self, host: str) -> OffWord | None:
        """Return a person's word that the host is powered off, if it stands now."""
        return self.words(host)

    def word_counted(self, host: str) -> None:
        """Keep nothing."""

    def heard_of(self, host: str, why: str, *, seen_anew: bool = False) -> None:
        """Keep nothing: a look that changes nothing ends no word."""

    def learned_clients(self) -> Mapping[str, ClientInstance]:
        """Return the clients that were learned for attachments of the volume."""
        return self.clients(self.case.volume_id)

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep nothing."""

    def intend(
        self,
        kind: StepKind,
        *,
        request_id: str,
        target: Mapping[str, Any],
        evidence: Mapping[str, Any],
        lease_seconds: float,
        announcement: Announcement | None,
    ) -> NoReturn:
        """Refuse: a look intends nothing."""
        del request_id, target, evidence, lease_seconds, announcement
        raise AssertionError(f"a look was to write: {kind.value}")

    def result(self, request_id: str, result: StepResult, detail: str) -> NoReturn:
        """Refuse: a look has no result of a call."""
        del request_id, detail
        raise AssertionError(f"a look was to write: {result.value}")


def look_now(viewer: Viewer, file: ReadOnlyFile) -> Mapping[str, Any]:
    """Look at all three sides as an attempt does, and return what history would hold of it.

    Blocks for the look. Only reads; raises nothing for an outside failure.
    """
    case = file.case
    if (condemned := condemn(case)) is not None:
        return summarise(NOT_LOOKED, condemned)
    policy = viewer.policy_of(case.backend or "")
    attempt = Attempt(file, case, policy, time.monotonic())
    evidence, diagnosis = viewer.look(attempt)
    s = diagnosis.situation
    if diagnosis.verdict not in ACTING or s is None:
        return attempt.came_to(evidence, diagnosis).evidence
    # From here as ``Recovery`` does it, so that a person sees the plan and the guards of the
    # service.
    capabilities = viewer.driver_of(s.volume.ref.backend).capabilities
    steps, judged = attempt.judge(diagnosis, s, capabilities, viewer.cinder.has_service_token)
    return attempt.came_to(evidence, diagnosis, steps, judged).evidence
