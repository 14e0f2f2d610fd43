"""What one attempt carries from round to round, and what one round is about to do."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from drivers.base import Capabilities
from handlers.case import Action, Case, CaseFile, Intent, StepKind, StepResult
from handlers.judgement.approval import fingerprint
from handlers.judgement.evidence import Evidence
from handlers.judgement.guards import OF_AN_ORDER, Means, approved, objections
from handlers.judgement.plan import Step, make_plan, ordered
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation
from handlers.recovery.conclusion import Attempted
from handlers.recovery.summary import Instead, Judged, summarise


@dataclasses.dataclass(slots=True)
class Attempt:
    """One attempt at a case, while it is made.

    ``case`` has the intents of this attempt too. ``started``: its start is announced. ``parked_by``
    is the reason that the last look gave to park, ``refused`` what was refused for good,
    ``trouble`` what last went wrong. ``asked_at``: when the last look asked each side first.
    ``counted``: the hosts of which a person's word counted in a look of this attempt.
    """

    file: CaseFile
    case: Case
    policy: BackendPolicy
    began: float
    started: bool = False
    parked_by: str | None = None
    refused: dict[StepKind, str] = dataclasses.field(default_factory=dict)
    setbacks: int = 0
    asked_at: dict[str, datetime] = dataclasses.field(default_factory=dict)
    trouble: str | None = None
    counted: set[str] = dataclasses.field(default_factory=set)

    @property
    def now(self) -> datetime:
        """Database time, carried on by our own monotonic clock."""
        return self.file.now + timedelta(seconds=time.monotonic() - self.began)

    def locate(self, backend: str) -> None:
        """Record on which backend Cinder has the volume, where the case does not know it yet.

        Raises ClaimLostError and CrowdedError.
        """
        if self.case.backend is None:
            self.file.locate(backend)
            self.case = dataclasses.replace(self.case, backend=backend)

    def hear_of_late_calls(self) -> None:
        """Read what may still act on the volume: it may have changed since the claim.

        A detach may have begun; and a call of ours that was given up may still be under way, in
        this process or in another one.
        """
        heard = self.file.late()
        calls = dataclasses.replace(
            self.case.late, detach_tried_at=heard.detach_tried_at, asked_at=heard.asked_at
        )
        self.case = dataclasses.replace(self.case, late=calls)

    def note(self, intent: Intent, result: StepResult) -> None:
        """Keep an intent of this attempt beside those that the ledger gave."""
        ended = dataclasses.replace(intent, result=result)
        self.case = dataclasses.replace(self.case, intents=(*self.case.intents, ended))

    def judge(
        self,
        diagnosis: Diagnosis,
        s: Situation,
        capabilities: Capabilities,
        has_service_token: Callable[[], bool],
    ) -> tuple[tuple[Step, ...], Judged]:
        """Return the plan that a diagnosis asks for, and what the guards say of it now.

        It is the plan that a person ordered instead, where that was approved as it is now.
        """
        instead = []
        # All that may be ordered is judged, also what was not: a person is shown what he may
        # choose.
        for action in Action:
            if steps := ordered(diagnosis, capabilities, action):
                token = action is Action.SERVICE_TOKEN and has_service_token()
                means = self._means(diagnosis, capabilities, steps, service_token=token)
                judged = Judged(means.fingerprint, objections(s, steps, means))
                if self._is_ordered(action, judged) and approved(s, steps, means):
                    return steps, judged
                instead.append(Instead(action, steps, judged))
        steps = make_plan(diagnosis, capabilities)
        means = self._means(diagnosis, capabilities, steps)
        held = objections(s, steps, means)
        return steps, Judged(means.fingerprint, held, tuple(instead))

    def _means(
        self,
        diagnosis: Diagnosis,
        able: Capabilities,
        steps: tuple[Step, ...],
        *,
        service_token: bool = False,
    ) -> Means:
        mark = fingerprint(diagnosis, steps)
        return Means(able, self.policy, self.now, mark, service_token)

    def _is_ordered(self, action: Action, judged: Judged) -> bool:
        """Tell whether a person ordered this very plan, and it is still possible."""
        case = self.case
        unfit = any(held.guard in OF_AN_ORDER for held in judged.objections)
        same = case.approved_fingerprint == judged.fingerprint
        return same and case.approved_action is action and not unfit

    def came_to(
        self,
        evidence: Evidence,
        diagnosis: Diagnosis,
        steps: tuple[Step, ...] = (),
        judged: Judged | None = None,
    ) -> Attempted:
        """Return the attempt as it stands, with the look that it rests on."""
        look = summarise(evidence, diagnosis, steps, judged=judged, asked_at=self.asked_at)
        return Attempted(
            case=self.case,
            diagnosis=diagnosis,
            policy=self.policy,
            now=self.now,
            started=self.started,
            evidence=look,
            trouble=self.trouble or next(reversed(self.refused.values()), None),
        )

    def updated(self, attempted: Attempted) -> Attempted:
        """Return the same look with what has been done since."""
        return dataclasses.replace(attempted, case=self.case, started=self.started, now=self.now)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The steps that one round is about to make, and on what grounds."""

    diagnosis: Diagnosis
    situation: Situation
    steps: tuple[Step, ...]
    attempted: Attempted
