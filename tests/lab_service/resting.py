"""What a volume's cases come to: at rest, or looked at again and again and left alone."""

from __future__ import annotations

import dataclasses

from consumer.ledger import CaseRecord
from handlers.case import CaseState, StepResult
from handlers.judgement.rule import Verdict
from tests.lab.openstack import until
from tests.lab_service.situations import Holds, holds
from tests.lab_service.stage import CASE_SECONDS, Stage

LOOKS = 2
AT_REST = (CaseState.CLOSED, CaseState.PARKED)
WAIT = (Verdict.IN_FLIGHT.value, Verdict.UNKNOWN.value)
Decided = tuple[str | None, str | None, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Rested:
    """What came of a situation, and what all three sides hold by then."""

    decided: Decided
    done: tuple[str, ...]
    holds: Holds


def rested(stage: Stage, *, waiting: bool = True) -> Rested:
    """Wait until it is concluded; then look at all three sides."""
    return Rested(*concluded(stage, waiting=waiting), holds(stage))


def concluded(stage: Stage, *, waiting: bool = True) -> tuple[Decided, tuple[str, ...]]:
    """Wait until each case is at rest; ``waiting``: or was looked at twice and has to wait.

    Returns what was decided, and what was done.
    """

    def at_rest() -> list[CaseRecord]:
        cases = stage.site.cases(stage.volume_id)
        over = all(c.case.state in AT_REST or (waiting and _only_waits(c)) for c in cases)
        return [c for c in cases if c.case.attempts] if over else []

    until(at_rest, "each case is at rest", CASE_SECONDS)
    record = max(at_rest(), key=_weight)
    done = tuple(i.kind.value for i in record.intents if i.result is StepResult.DONE)
    return _decided(record), done


def _weight(record: CaseRecord) -> tuple[int, bool, bool, int]:
    """Return what makes a case the one that matters: the attach before it has a case too.

    Of two that are for a person for one reason the second is closed, as joined to the first.
    """
    parked = record.case.state is CaseState.PARKED
    at_rest = record.case.state in AT_REST
    return len(record.intents), parked, at_rest, record.case.attempts


def _only_waits(record: CaseRecord) -> bool:
    return record.case.verdict in WAIT and record.case.attempts >= LOOKS


def _decided(record: CaseRecord) -> Decided:
    """Return verdict and rule of the first look that acted, of the last where none did; state."""
    for sent in record.outbox:
        return sent.payload["verdict"], sent.payload["rule"], record.case.state.value
    return record.case.verdict, record.case.rule, record.case.state.value
