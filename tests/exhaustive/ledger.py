"""detachd between two moments: its cases, what it has heard, and the attempt that is under way.

What a notification does is decided by the real ``handlers.correlation``, what an outcome does by
the real ``consumer.ledger.work.finish``. The rest stands in for the ledger's SQL, and is as short:
a claim counts the attempt (``claims.py``), calls without an answer and detaches without an end are
what may still act (``late.py``), and what is closed for long is forgotten (``accept.py``).

Time is counted in late horizons. Whatever is shorter (backoffs, the settling of errors) may take
any time, so nothing waits for it; deadlines and second looks are one horizon. It is always
``NOW``: as time goes by, all that is on record grows older instead, up to ``OLDEST`` horizons,
so that states that differ only by their date are one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from consumer.ledger.work import finish
from handlers.announcement import Event
from handlers.case import (
    Action,
    Case,
    CaseState,
    Intent,
    LateCalls,
    Outcome,
    ReasonKind,
    StepResult,
)
from handlers.correlation.correlation import Recorded, correlate
from handlers.correlation.matching import Signal, Timing
from handlers.correlation.transitions import learned
from handlers.intents import ACTS_LATE, UNANSWERED
from handlers.judgement.guards import ASKS
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Notification, Operation, Phase, Source
from handlers.recovery.conclusion import DANGER
from tests.exhaustive.attempts import (
    HORIZON,
    NOW,
    POLICY,
    Answer,
    Stopped,
    Write,
    ago,
    announced,
    go_on,
)
from tests.exhaustive.calls import Call

OLDEST = 2
FLOOR = NOW - OLDEST * HORIZON
TIMING = Timing(
    attach_deadline_seconds=HORIZON.total_seconds(),
    detach_deadline_seconds=HORIZON.total_seconds(),
    error_settle_seconds=0.0,
    second_look_seconds=HORIZON.total_seconds(),
)
TIMES = tuple(f.name for f in dataclasses.fields(Case) if f.name.endswith("_at"))


class Truth(NamedTuple):
    """What was so in the world at the last look: what was wrong, and which hosts were let in."""

    troubles: tuple[str, ...] = ()
    let_in: tuple[str, ...] = ()


UNSEEN = Truth()


@dataclasses.dataclass(frozen=True)
class Going:
    """An attempt under way: the case as it was claimed, and the answers so far.

    Two are the same where they go on in the same way. ``truth`` is for the promises alone.
    """

    claimed: Case
    state: tuple[object, ...]
    truth: Truth = UNSEEN
    answers: tuple[Answer, ...] = dataclasses.field(default=(), compare=False)
    stopped: Stopped | None = dataclasses.field(default=None, compare=False)

    @property
    def calls(self) -> bool:
        """Tell whether it has looked and is about to make a call."""
        return self.stopped is not None and isinstance(self.stopped.question, Call)


@dataclasses.dataclass(frozen=True)
class Mind:
    """All that detachd knows.

    ``tries``: the detaches that Cinder told of without an end: request, own request, and how many
    horizons ago. ``attach_tried``: how many horizons ago an attach last began. ``lease``: a process
    died with the claim of this case. ``untold``: the cases of which a start was announced, and no
    end, error or parking since. ``offers``: by case, the plan that a person may order instead.
    """

    cases: tuple[Case, ...] = ()
    orphans: tuple[Signal, ...] = ()
    tries: tuple[tuple[str, str, int], ...] = ()
    attach_tried: int | None = None
    known: tuple[str, ...] = ()
    going: Going | None = None
    lease: str = ""
    untold: tuple[str, ...] = ()
    offers: tuple[tuple[str, str], ...] = ()

    @property
    def tried(self) -> int | None:
        """How many horizons ago the last detach began that has no end."""
        return min((age for _, _, age in self.tries), default=None)

    def case(self, case_id: str) -> Case:
        """Return the case of this id."""
        return next(case for case in self.cases if case.case_id == case_id)


# -- what it hears ---------------------------------------------------------------------------------


def hear(mind: Mind, told: tuple[Notification, ...]) -> Mind:
    """Take in notifications, one batch each."""
    for notification in told:
        mind = _heard(mind, notification)
    return mind


def _heard(mind: Mind, notification: Notification) -> Mind:
    working = {mind.going.claimed.case_id} if mind.going else {mind.lease} - {""}
    recorded = Recorded("cloud", mind.cases, frozenset(working), mind.orphans, {})
    ids = iter(f"case-{n}" for n in range(1, 99) if not _has(mind, f"case-{n}"))
    changes = correlate(recorded, [notification], timing=TIMING, now=NOW, new_id=lambda: next(ids))
    changed = {before.case_id: after for before, after in changes.changed}
    cases = [changed.get(case.case_id, case) for case in mind.cases] + list(changes.opened)
    orphans = [o for o in mind.orphans if o.message_id not in changes.adopted]
    filed = changes.filed.get(notification.message_id)
    if filed is None and notification.message_id not in changes.adopted:
        orphans.append(Signal.of(notification))
    hosts = tuple(sorted({*mind.known, *learned([notification])}))
    told = dataclasses.replace(
        mind, cases=tuple(plain(case) for case in cases), orphans=tuple(orphans), known=hosts
    )
    return _noted_tries(told, notification)


def _has(mind: Mind, case_id: str) -> bool:
    return any(case.case_id == case_id for case in mind.cases)


def _noted_tries(mind: Mind, n: Notification) -> Mind:
    if n.source is not Source.CINDER:
        return mind
    key = (n.request_id or "", n.own_request_id or "")
    match n.operation, n.phase:
        case Operation.ATTACH, Phase.START:
            return dataclasses.replace(mind, attach_tried=0)
        case Operation.DETACH, Phase.START:
            return dataclasses.replace(mind, tries=tuple(sorted({*mind.tries, (*key, 0)})))
        case Operation.DETACH, Phase.END:
            left = tuple(one for one in mind.tries if one[:2] != key)
            return dataclasses.replace(mind, tries=left)
        case _:
            return mind


def tried_by_us(mind: Mind) -> Mind:
    """Note the start of a detach that our own call caused, and that has no end."""
    return dataclasses.replace(mind, tries=tuple(sorted({*mind.tries, ("ours", "ours", 0)})))


@functools.cache
def plain(case: Case) -> Case:
    """Leave out what no decision rests on, so that cases that differ by it alone are one."""
    danger = tuple(kind for kind in case.told if kind is ReasonKind.DANGER)
    told = DANGER if DANGER in (case.reason or "") else None
    return dataclasses.replace(
        case, rule=None, verdict=None, reason=told,
        told=danger, use_case=None, verified_by=None,
        fingerprint=None, updated_at=NOW, host=case.host, **_attempts(case),
        signal_seq=min(case.signal_seq, 9), failures=min(case.failures, POLICY.max_failures),
    )  # fmt: skip


def _attempts(case: Case) -> dict[str, Any]:
    """Keep the order of the attempts, and distances up to three: no rule asks for more."""
    intents = _without_repetition(case.intents)
    found = sorted({0, case.attempts, case.mended_attempt, *(i.attempt for i in intents)})
    now = {0: 0}
    for before, after in itertools.pairwise(found):
        now[after] = now[before] + min(after - before, 3)
    return {
        "attempts": now[case.attempts],
        "mended_attempt": now[case.mended_attempt],
        "intents": tuple(dataclasses.replace(i, attempt=now[i.attempt]) for i in intents),
    }


def _without_repetition(intents: tuple[Intent, ...]) -> tuple[Intent, ...]:
    """Leave out an intent that the next one repeats, with the same result."""
    pairs = itertools.pairwise(intents)
    return tuple(i for i, after in pairs if not _repeats(i, after)) + intents[-1:]


def _repeats(intent: Intent, after: Intent) -> bool:
    same = (intent.kind, intent.result, intent.attachment_id, intent.grounds)
    return same == (after.kind, after.result, after.attachment_id, after.grounds)


# -- attempts --------------------------------------------------------------------------------------


def due(mind: Mind) -> Iterator[str]:
    """Yield the ids of the cases that may be claimed now."""
    if mind.going is None and not mind.lease:
        for case in mind.cases:
            at = case.next_attempt_at
            if case.state is not CaseState.CLOSED and at is not None and at < NOW + HORIZON:
                yield case.case_id


class Attempts:
    """Runs attempts, and remembers how each one went on."""

    def __init__(self, policy: BackendPolicy) -> None:
        self._policy = policy
        self._run: dict[object, tuple[Going, tuple[Write, ...]]] = {}

    def begun(self, mind: Mind, case_id: str) -> Mind:
        """Claim a case; the attempt then waits for its first look."""
        case = mind.case(case_id)
        counted = dataclasses.replace(case, attempts=case.attempts + 1)
        claimed = dataclasses.replace(counted, late=_late(mind))
        going, _ = self._went_on(Going(claimed, ()), None)
        return dataclasses.replace(_with_case(mind, counted), going=going)

    def answered(self, mind: Mind, answer: Answer, truth: Truth) -> Mind:
        """Give the attempt an answer, and write down what it then writes."""
        assert mind.going is not None
        going, writes = self._went_on(mind.going, answer)
        for write in writes:
            mind = _written(mind, going.claimed.case_id, write)
        return dataclasses.replace(mind, going=dataclasses.replace(going, truth=truth))

    def _went_on(self, going: Going, answer: Answer | None) -> tuple[Going, tuple[Write, ...]]:
        key = (going.claimed, going.state, answer)
        if key not in self._run:
            answers = going.answers if answer is None else (*going.answers, answer)
            stopped = go_on(going.claimed, answers, self._policy)
            before = len(going.stopped.writes) if going.stopped else 0
            after = Going(going.claimed, _state(stopped, answers), UNSEEN, answers, stopped)
            self._run[key] = after, stopped.writes[before:]
        return self._run[key]


def _late(mind: Mind) -> LateCalls:
    asked = [
        i.intended_at
        for case in mind.cases
        for i in case.intents
        if i.kind in ACTS_LATE and i.result in UNANSWERED and i.intended_at
    ]
    return LateCalls(max(asked, default=None), ago(mind.tried), ago(mind.attach_tried))


def _state(stopped: Stopped, answers: tuple[Answer, ...]) -> tuple[object, ...]:
    on_its_way = (stopped.carried, answers[stopped.since :])
    return _what_is_written(stopped.outcome) if stopped.outcome else on_its_way


def _what_is_written(outcome: Outcome) -> tuple[object, ...]:
    return (
        outcome.state, outcome.rule, outcome.verdict, outcome.delay_seconds, outcome.conclusion,
        outcome.failed, outcome.mended, outcome.clean, outcome.attachment_id, outcome.instance_id,
        outcome.backend, announced(outcome), DANGER in outcome.reason, _offered(outcome),
    )  # fmt: skip


def _with_case(mind: Mind, case: Case) -> Mind:
    cases = tuple(case if c.case_id == case.case_id else c for c in mind.cases)
    return dataclasses.replace(mind, cases=cases)


def _written(mind: Mind, case_id: str, write: Write) -> Mind:
    case = mind.case(case_id)
    if write.intent is not None:
        about = case.about(dict(write.target))
        case = dataclasses.replace(about, intents=(*about.intents, write.intent))
        untold = tuple(sorted({*mind.untold, case_id})) if write.started else mind.untold
        mind = dataclasses.replace(mind, untold=untold)
    if write.result is not None:
        ended = dataclasses.replace(case.intents[-1], result=write.result)
        case = dataclasses.replace(case, intents=(*case.intents[:-1], ended))
    return _with_case(mind, case)


def finished(mind: Mind) -> Mind:
    """Write down the outcome of the attempt."""
    going, outcome = mind.going, outcome_of(mind)
    assert going is not None
    before = mind.case(going.claimed.case_id)
    newer = before.signal_seq != going.claimed.signal_seq
    reached = finish._left_due if newer else finish._reached
    after = plain(_closed_at(reached(before, outcome, NOW)))
    ended = {Event.END, Event.ERROR, Event.PARKED}.intersection(announced(outcome))
    untold = tuple(c for c in mind.untold if not (ended and c == after.case_id))
    offers = tuple(o for o in mind.offers if o[0] != after.case_id) + _offer(after, outcome)
    return dataclasses.replace(_with_case(mind, after), going=None, untold=untold, offers=offers)


def _offer(case: Case, outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """Return what a person may order of a case that awaits approval, as the ledger offers it."""
    mark = _offered(outcome)
    asks = case.state is CaseState.AWAITING_APPROVAL
    return ((case.case_id, mark),) if mark is not None and asks else ()


def _offered(outcome: Outcome) -> str | None:
    """Return the fingerprint of the plan with a detach, where no guard stands against it."""
    told = outcome.evidence.get("instead", {}).get(Action.DETACH.value)
    possible = told and {guard.name for guard in ASKS}.issuperset(told["guards"]["held"])
    return str(told["guards"]["fingerprint"]) if possible else None


def order(mind: Mind, case_id: str, mark: str) -> Mind:
    """Let a person order a detach, as ``approving.approve`` writes it down."""
    case = mind.case(case_id)
    ordered = dataclasses.replace(
        case, state=CaseState.DUE, next_attempt_at=NOW, signal_seq=case.signal_seq + 1, crashes=0,
        approved_by="a person", approved_fingerprint=mark, approved_at=NOW,
        approved_action=Action.DETACH,
    )  # fmt: skip
    offers = tuple(offer for offer in mind.offers if offer[0] != case_id)
    return dataclasses.replace(_with_case(mind, plain(ordered)), offers=offers)


def _closed_at(case: Case) -> Case:
    closed = case.state is CaseState.CLOSED
    return dataclasses.replace(case, closed_at=NOW if closed else None)


def outcome_of(mind: Mind) -> Outcome:
    """Return what the attempt came to."""
    assert mind.going is not None
    assert mind.going.stopped is not None
    assert mind.going.stopped.outcome is not None
    return mind.going.stopped.outcome


def newer_signal(mind: Mind) -> bool:
    """Tell whether a message came that the attempt does not know."""
    assert mind.going is not None
    claimed = mind.going.claimed
    return mind.case(claimed.case_id).signal_seq != claimed.signal_seq


def crashed(mind: Mind) -> Mind:
    """End the process in the midst of the attempt; its lease runs on for a horizon.

    A call that it left open may begin as late as the end of the lease.
    """
    assert mind.going is not None
    case = mind.case(mind.going.claimed.case_id)
    intents = tuple(
        dataclasses.replace(i, intended_at=NOW + HORIZON) if i.result is StepResult.INTENDED else i
        for i in case.intents
    )
    left = plain(dataclasses.replace(case, intents=intents, crashes=case.crashes + 1))
    return dataclasses.replace(_with_case(mind, left), going=None, lease=left.case_id)


# -- time ------------------------------------------------------------------------------------------


def later(mind: Mind) -> Mind:
    """Let a late horizon go by, in which no attempt is under way."""
    cases = tuple(_older(case) for case in mind.cases if not _long_closed(case))
    tries = tuple((*one[:2], one[2] + 1) for one in mind.tries if one[2] == 0)
    attach_tried = None if mind.attach_tried is None else min(mind.attach_tried + 1, OLDEST)
    return dataclasses.replace(
        mind, cases=cases, orphans=(), tries=tries, attach_tried=attach_tried, lease="",
        untold=tuple(c for c in mind.untold if any(c == case.case_id for case in cases)),
    )  # fmt: skip


def _long_closed(case: Case) -> bool:
    return case.closed_at is not None and case.closed_at < NOW


@functools.cache
def _older(case: Case) -> Case:
    times: dict[str, Any] = {name: _before(getattr(case, name)) for name in TIMES}
    intents = tuple(
        dataclasses.replace(i, intended_at=_before(i.intended_at)) for i in case.intents
    )
    return plain(dataclasses.replace(case, intents=intents, **times))


def _before(at: datetime | None) -> datetime | None:
    return None if at is None else max(at - timedelta(seconds=HORIZON.total_seconds()), FLOOR)
