"""One look as a person reads it: the three sides, the parties, the rule, the guards, the plan.

Pure. It is made of the plain JSON of a look (``summary``), so that the record and a live look read
alike, and that history holds all that is shown. What a look did not record is told as that.

1. The four answers read differently in every text: a fact, absent (with its control), unknown (with
   its reason), and that the backend cannot be seen. What was not asked is none of them.
2. A guard that asks of what nobody could see, or of a record that is not there, was not asked.
3. The sentences are those of the rules, facts and guards of this version of detachd.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from handlers.case import ORDERED_OF_PARKED, Action, CaseState, StepKind
from handlers.judgement import facts
from handlers.judgement.facts import Predicate
from handlers.judgement.guards import ASKS, NEEDS_SIGHT, OF_THE_RECORD, Becomes, Guard, bars
from handlers.judgement.parties import By
from handlers.judgement.rule import ACTING, Verdict
from handlers.recovery import sides
from handlers.recovery.sides import AnswerKind, Side

FACTS = {fact.name: fact for fact in vars(facts).values() if isinstance(fact, Predicate)}
NOT_RECORDED = "not recorded: an older version of detachd made this look"
SHOWN_ID, SHOWN_FINGERPRINT = 8, 12
"""How many characters of a case's id and of a fingerprint a command is shown with."""

EXPLAINED: Mapping[By, str] = {
    By.ATTACHMENT: "explained by attachment {of}",
    By.DEVICE: "explained by a block device of its server",
    By.MAYBE: "may be of an attachment whose host cannot be told",
    By.NO_SERVER: "of no server, so Nova has nothing to say of it",
    By.RESIZE: "a resize to another cell that may be reverted",
    By.AT_WORK: "not known: Nova is at work on its server",
    By.UNANSWERED: "not known: Nova gave no answer for its server",
}
UNEXPLAINED = "UNEXPLAINED: no record says why it is there"

TAKE_A_CONNECTOR = frozenset({StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_FORCE_DETACH})
CALLS: Mapping[StepKind, str] = {
    StepKind.CINDER_RESERVE: "Cinder: os-reserve of volume {volume_id}, to keep others out",
    StepKind.CINDER_UNRESERVE: "Cinder: os-unreserve of volume {volume_id}",
    StepKind.CINDER_ROLL_DETACHING: "Cinder: os-roll_detaching of volume {volume_id}",
    StepKind.CINDER_COMPLETE: "Cinder: os-complete of attachment {attachment_id}",
    StepKind.CINDER_DELETE_ATTACHMENT: "Cinder: delete attachment {attachment_id}",
    StepKind.CINDER_FORCE_DETACH: "Cinder: os-force_detach of volume {volume_id}",
    StepKind.BACKEND_FORCE_DETACH: "storage driver: force_detach of volume {volume_id}",
    StepKind.NOVA_DETACH: "Nova: detach volume {volume_id} from server {instance_id}",
}


class Outlook(enum.Enum):
    """What the verdict and the guards come to, for a person or a script."""

    NOTHING = "nothing to do"
    ACT = "would act"
    PERSON = "needs a person"
    WAIT = "waits"


class GuardAnswer(enum.Enum):
    """What a guard said."""

    PASS = "pass"  # noqa: S105 - no password
    STOP = "stop"
    NOT_ASKED = "not asked"


@dataclasses.dataclass(frozen=True, slots=True)
class ToldParty:
    """A party of the volume; ``why`` says what explains it, or that nothing does."""

    who: str
    explained: bool
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class ToldFact:
    """A fact that the rule asks for, and its sentence."""

    name: str
    sentence: str


@dataclasses.dataclass(frozen=True, slots=True)
class ToldGuard:
    """A guard and its answer. ``decides``: it is the one that is reported."""

    name: str
    answer: GuardAnswer
    decides: bool
    sentence: str
    becomes: str
    wait_seconds: float | None

    @property
    def in_full(self) -> str:
        """Its answer and name; of one that stops also why, and what becomes of the case."""
        if self.answer is not GuardAnswer.STOP:
            return f"{self.answer.value:<9} {self.name}"
        mark = "STOP, decides" if self.decides else "STOP"
        wait = f"; {self.wait_seconds:.0f} s more" if self.wait_seconds else ""
        return f"{mark}: {self.name}: {self.sentence} ({self.becomes}{wait})"


@dataclasses.dataclass(frozen=True, slots=True)
class ToldCall:
    """One call of the plan: what is called, and on what. No secret is among it."""

    number: int
    step: str
    call: str
    attachment_id: str | None
    host: str | None
    connector_keys: tuple[str, ...]
    client: str | None = None
    also_loses: tuple[str, ...] | None = None
    service_token: bool = False

    @property
    def in_full(self) -> str:
        """The call with the attachment, the host and the keys of the connector that it is about."""
        attachment = self.attachment_id
        of = f"attachment {attachment}" if attachment and attachment not in self.call else ""
        on = f"host {self.host}" if self.host else ""
        keys = f"connector {', '.join(self.connector_keys)}" if self.connector_keys else ""
        token = "with a service token: Cinder does not ask Nova" if self.service_token else ""
        with_ = "; ".join(text for text in (of, on, keys, self._fence, token) if text)
        return f"{self.call} ({with_})" if with_ else self.call

    @property
    def _fence(self) -> str:
        """Which client is fenced, and what it loses with the volume."""
        if self.client is None:
            return ""
        match self.also_loses:
            case None:
                also = "what else it has open is not known"
            case ():
                also = "it has no other volume open"
            case others:
                also = f"it also loses {', '.join(others)}"
        return f"ends client {self.client} alone; {also}"


@dataclasses.dataclass(frozen=True, slots=True)
class ToldInstead:
    """A plan that only a person may order, by ``case approve --action``.

    ``stops`` are the sentences of the guards that stand against it, but for those that wait for a
    person's yes alone; ``waits`` of those that it would wait for.
    """

    action: str
    plan: tuple[ToldCall, ...]
    fingerprint: str
    stops: tuple[str, ...]
    waits: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """All that a person needs to understand one look, and to decide.

    ``parties`` and ``guards`` are None where the look did not record them.
    """

    verdict: str
    rule: str
    use_case: str | None
    reason: str
    outlook: Outlook
    sides: tuple[Side, ...]
    parties: tuple[ToldParty, ...] | None
    facts: tuple[ToldFact, ...]
    plan: tuple[ToldCall, ...]
    fingerprint: str | None
    guards: tuple[ToldGuard, ...] | None
    instead: tuple[ToldInstead, ...]
    missing: tuple[str, ...]
    next: tuple[str, ...]

    @property
    def judged(self) -> str:
        """The verdict, the rule that gave it, the use case and the reason."""
        use_case = f", {self.use_case}" if self.use_case else ""
        return f"{self.verdict} by {self.rule}{use_case}: {self.reason}"

    @property
    def guards_in_short(self) -> str:
        """How many guards passed, were not asked and stop; and the names of those that stop."""
        answers = [guard.answer for guard in self.guards or ()]
        if set(answers) <= {GuardAnswer.NOT_ASKED}:
            return "none was asked"
        order = (GuardAnswer.PASS, GuardAnswer.NOT_ASKED, GuardAnswer.STOP)
        counted = ", ".join(f"{answers.count(a)} {a.value}" for a in order if a in answers)
        stops = [guard.name for guard in self.guards or () if guard.answer is GuardAnswer.STOP]
        return f"{counted}: {', '.join(stops)}" if stops else counted

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        made: dict[str, Any] = dataclasses.asdict(self, dict_factory=_plain)
        return made


def _plain(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {name: v.value if isinstance(v, enum.Enum) else v for name, v in pairs}


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """Whose look it is: the case, if there is one, as it stands now.

    ``ledger_away`` says why the ledger could not be read, where it could not. ``live``: the look
    was made just now, and is on no record. ``paused`` says who paused detachd, or this
    backend, and what ends that.
    """

    case_id: str | None = None
    state: CaseState | None = None
    fingerprint: str | None = None
    ledger_away: str | None = None
    live: bool = False
    paused: str | None = None


def explain(look: Mapping[str, Any], about: About) -> Explanation:
    """Return what a look means. ``look`` is what ``summarise`` made, now or in an older version."""
    guards = _guards(look, about)
    told = Explanation(
        verdict=look.get("verdict") or "none",
        rule=look.get("rule") or "none",
        use_case=look.get("use_case"),
        reason=look.get("reason") or "no look is on record",
        outlook=_outlook(look, guards, about),
        sides=sides.of(look),
        parties=tuple(_party(p) for p in look["parties"]) if "parties" in look else None,
        facts=tuple(_facts(look)),
        plan=tuple(_call(n, step) for n, step in enumerate(look.get("plan") or (), start=1)),
        fingerprint=_fingerprint(look, about),
        guards=guards,
        instead=tuple(_instead(look)),
        missing=(),
        next=(),
    )
    told = dataclasses.replace(told, missing=tuple(_missing(told, about)))
    return dataclasses.replace(told, next=tuple(_next(told, about, _backend(look))))


def _fingerprint(look: Mapping[str, Any], about: About) -> str | None:
    """Return the name of the look's plan; that of the case where an old look does not say."""
    if "guards" not in look:
        return about.fingerprint
    mark: str | None = (look["guards"] or {}).get("fingerprint")
    return mark


def _backend(look: Mapping[str, Any]) -> str:
    return (look.get("cinder") or {}).get("backend") or "HOST@BACKEND"


def _party(party: Mapping[str, Any]) -> ToldParty:
    by = party.get("by")
    why = EXPLAINED[By(by)].format(of=party.get("of")) if by else UNEXPLAINED
    return ToldParty(party["who"], by is not None, why)


def _facts(look: Mapping[str, Any]) -> Iterator[ToldFact]:
    backend = look.get("backend") or {}
    blind = bool(backend.keys() & {"blind", "unknown"})
    for name in look.get("facts") or ():
        fact = FACTS.get(name)
        yield ToldFact(name, fact.told(blind=blind) if fact else name.replace("_", " "))


def _instead(look: Mapping[str, Any]) -> Iterator[ToldInstead]:
    yes = {guard.name for guard in ASKS}
    known = {guard.name: guard.sentence for guard in Guard}
    for action, told in (look.get("instead") or {}).items():
        held = told["guards"]["held"]
        yield ToldInstead(
            action,
            tuple(_call(n, step) for n, step in enumerate(told["plan"], start=1)),
            told["guards"]["fingerprint"],
            tuple(known.get(name, name) for name in held if bars(action, name)),
            tuple(known[name] for name in held if name not in yes and not bars(action, name)),
        )


def _call(number: int, step: Mapping[str, Any]) -> ToldCall:
    known = {kind.value: words for kind, words in CALLS.items()}
    words = known.get(step["step"], "{step}").format(**step)
    named = step["step"] in {kind.value for kind in TAKE_A_CONNECTOR}
    return ToldCall(
        number,
        step["step"],
        words,
        step.get("attachment_id"),
        step.get("host"),
        tuple(step.get("connector") or ()) if named else (),
        step.get("client"),
        tuple(step["also_loses"]) if step.get("also_loses") is not None else None,
        step.get("service_token", False),
    )


# -- the guards ------------------------------------------------------------------------------------


def _guards(look: Mapping[str, Any], about: About) -> tuple[ToldGuard, ...] | None:
    """Return every guard with its answer, in their order; None where the look does not say."""
    if "guards" not in look:
        return None
    held = (look["guards"] or {}).get("held") or {}
    decides = next(iter(held), None)
    unknown = _not_asked(look, about)
    known = [_guard(g, held, decides, asked=g not in unknown) for g in Guard]
    # A record of another version may name a guard that this one does not know: it is shown bare.
    gone = [name for name in held if name not in Guard.__members__]
    renamed = [ToldGuard(n, GuardAnswer.STOP, n == decides, n, "", held[n]) for n in gone]
    return (*known, *renamed)


def _guard(
    guard: Guard, held: Mapping[str, float | None], decides: str | None, *, asked: bool
) -> ToldGuard:
    answer = GuardAnswer.PASS if asked else GuardAnswer.NOT_ASKED
    if guard.name in held:
        answer = GuardAnswer.STOP
    return ToldGuard(
        guard.name,
        answer,
        guard.name == decides,
        guard.sentence,
        guard.becomes.value,
        held.get(guard.name),
    )


def _not_asked(look: Mapping[str, Any], about: About) -> frozenset[Guard]:
    """Return the guards that were not asked, or that could not have said anything else.

    None was asked without a plan. Of an older or newer version it is not known which ones were.
    """
    asked = look["guards"]
    if asked is None or asked.get("asked") != len(Guard):
        return frozenset(Guard)
    backend = look.get("backend") or {}
    unseen = NEEDS_SIGHT if backend.keys() & {"blind", "unknown"} else frozenset()
    return unseen | (OF_THE_RECORD if about.ledger_away else frozenset())


# -- what it comes to ------------------------------------------------------------------------------


def _outlook(look: Mapping[str, Any], guards: Sequence[ToldGuard] | None, about: About) -> Outlook:
    verdict = look.get("verdict")
    if verdict in {Verdict.HEALTHY.value, Verdict.CLEAN.value, Verdict.GONE.value}:
        return Outlook.NOTHING
    if verdict not in {v.value for v in ACTING}:
        return Outlook.PERSON if verdict == Verdict.PARK.value else Outlook.WAIT
    decides = next((guard for guard in guards or () if guard.decides), None)
    if decides is None:
        return Outlook.WAIT if about.ledger_away or about.paused else Outlook.ACT
    return Outlook.WAIT if decides.becomes == Becomes.LATER.value else Outlook.PERSON


def _awaits_another(told: Explanation, about: About) -> bool:
    """Tell whether what awaits approval is not the plan of this look, and so is not shown."""
    awaits = about.state is CaseState.AWAITING_APPROVAL
    return awaits and not about.live and told.fingerprint != about.fingerprint


def _missing(told: Explanation, about: About) -> Iterator[str]:
    if about.ledger_away:
        yield (
            f"the ledger ({about.ledger_away}): what the bus told, which calls may still act, and "
            "the connectors of hosts are not known"
        )
    if about.paused:
        yield about.paused
    if _awaits_another(told, about):
        yield "the plan that awaits approval: the last look does not ask for it any more"
    for side in told.sides:
        for answer in side.answers:
            if answer.kind is AnswerKind.UNKNOWN and told.outlook is not Outlook.NOTHING:
                yield f"{side.name}: {answer.text}"
    decides = next((guard for guard in told.guards or () if guard.decides), None)
    if decides is not None:
        wait = f" ({decides.wait_seconds:.0f} s more)" if decides.wait_seconds else ""
        yield decides.sentence + wait
    elif told.verdict == Verdict.PARK.value:
        yield (
            f"a person's decision; `detachd rule show {told.rule}` says why, the runbook "
            "DetachdCasesParked what to do"
        )


def _next(told: Explanation, about: About, backend: str) -> Iterator[str]:
    """Yield the commands to type next, each with what it is for."""
    case = about.case_id and about.case_id[:SHOWN_ID]
    settled = about.state is CaseState.CLOSED or told.outlook is Outlook.NOTHING
    if not case:
        if not settled:
            yield "detachd sweep list  # no case yet; the sweep opens one if this stays"
    elif about.state is CaseState.AWAITING_APPROVAL and not about.live:
        yield from _to_approve(told, about, case)
    elif not settled:
        yield from _to_go_on(told, about, case, backend)


def _to_approve(told: Explanation, about: About, case: str) -> Iterator[str]:
    if _awaits_another(told, about) or told.fingerprint is None:
        yield f"detachd explain {case}  # looks now, changes nothing"
        return
    plan = told.fingerprint[:SHOWN_FINGERPRINT]
    yield f'detachd case approve {case} --plan {plan} --reason "..."'
    yield from _to_order(told, case, tuple(Action))
    if _decides(told) == Guard.UNSEEN_FINDING.name:
        yield 'detachd sweep acknowledge --reason "..."  # all that the first found'


def _to_order(told: Explanation, case: str, actions: Collection[Action]) -> Iterator[str]:
    """Yield how to order what a person may order instead of the plan."""
    names = {action.value for action in actions}
    for one in told.instead:
        if one.action in names and not one.stops:
            order = f"--action {one.action} --plan {one.fingerprint[:SHOWN_FINGERPRINT]}"
            yield f'detachd case approve {case} {order} --reason "..."  # instead'


def _to_go_on(told: Explanation, about: About, case: str, backend: str) -> Iterator[str]:
    replay = f'detachd replay case {case} --reason "..."'
    if _decides(told) == Guard.OBSERVE.name:
        yield f"set mode = approve in [backend:{backend}], restart, then:"
        yield replay
    elif about.state is CaseState.PARKED:
        yield f"{replay}  # once the cause is gone"
        if not about.live:
            yield from _to_order(told, case, ORDERED_OF_PARKED)
    else:
        again = "case show" if about.live else "explain"
        yield f"detachd {again} {case}"


def _decides(told: Explanation) -> str | None:
    return next((guard.name for guard in told.guards or () if guard.decides), None)
