"""Breadth first through all that may happen: the shortest way to each state is found first."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import NamedTuple

from handlers.announcement import Event
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Notification
from tests.exhaustive import calls, ledger, nova, promises
from tests.exhaustive.attempts import POLICY, Answer, LookNext, see, still_clock
from tests.exhaustive.calls import Call
from tests.exhaustive.ends import ends
from tests.exhaustive.ledger import Attempts, Mind, Truth
from tests.exhaustive.sweeping import swept
from tests.exhaustive.world import World, spend


class State(NamedTuple):
    """The world and, by its number, what detachd knows."""

    world: World
    mind: int


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Where a search begins and what holds in it.

    ``known`` are the hosts whose connector was learned before. ``slow``: an operation of Nova's may
    last longer than a late horizon, so that a deadline comes in its midst. ``early``: the sweep
    comes while users may still want something, and not only when nothing else happens. ``orders``:
    a person orders a detach wherever that is offered, at any time.
    """

    name: str
    world: World
    policy: BackendPolicy = POLICY
    known: tuple[str, ...] = ("h1", "h2")
    slow: bool = False
    early: bool = False
    orders: bool = False


class Next(NamedTuple):
    """What happens next, in words, and the state after it; ``wrong``: a promise that it breaks."""

    words: str
    state: State
    wrong: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a search came to. ``trace``: the numbered steps to the promise that was broken."""

    states: int
    depth: int
    seconds: float
    whole: bool
    wrong: str = ""
    trace: tuple[str, ...] = ()
    ends: int = 0

    def __str__(self) -> str:
        """Return the counts, and the trace where there is one."""
        whole = "all of them" if self.whole else "not all"
        counted = (
            f"{self.states:,} states ({whole}), {self.depth} steps deep, {self.ends:,} ends, "
            f"{self.seconds:.1f} s"
        )
        return "\n".join(
            [counted, *((f"BROKEN: {self.wrong}",) if self.wrong else ()), *self.trace]
        )


class Search:
    """One search from one beginning. It remembers what detachd does, whatever the world."""

    def __init__(self, setting: Setting) -> None:
        self._start = setting.world
        self._slow = setting.slow
        self._early = setting.early
        self._policy = setting.policy
        self._orders = setting.orders
        self._known = setting.known
        self._attempts = Attempts(setting.policy)
        self._minds: list[Mind] = []
        self._numbers: dict[Mind, int] = {}
        self._heard: dict[tuple[int, tuple[Notification, ...]], int] = {}
        self._answers: dict[tuple[int, Answer, Truth], int] = {}
        self._claims: dict[tuple[int, str], int] = {}
        self._later: dict[int, int] = {}

    def run(self, *, most: int = 10_000_000) -> Found:
        """Search until a promise is broken, all is seen, or ``most`` states are."""
        start = State(self._start, self._number(Mind(known=self._known)))
        way = _Way({start: (None, "")}, time.monotonic())
        level = [start]
        with still_clock():
            while level and len(way.came) < most:
                following: list[State] = []
                for state in level:
                    if broken := self._visit(state, way, following):
                        return broken
                level, way.depth = following, way.depth + 1
        return way.found(whole=False) if level else self._judged(way)

    def _visit(self, state: State, way: _Way, following: list[State]) -> Found | None:
        """Take every step from a state; return what was found where one breaks a promise."""
        after: list[State] = []
        for step in self._next(state):
            if step.wrong:
                return way.found(state, step.words, wrong=step.wrong)
            after.append(step.state)
            if step.state not in way.came:
                way.came[step.state] = (state, step.words)
                following.append(step.state)
        way.after.append(after)
        return None

    def _judged(self, way: _Way) -> Found:
        """Judge each end: there, every state in which no attempt is under way has to be a good one.

        The states were taken in the order in which they were come to.
        """
        states = list(way.came)
        number = {state: n for n, state in enumerate(states)}
        for end in ends([[number[state] for state in after] for after in way.after]):
            way.ends += 1
            for state in (states[n] for n in sorted(end)):
                mind = self._minds[state.mind]
                wrong = "" if mind.going else promises.at_the_end(state.world, mind)
                if wrong:
                    return way.found(state, wrong=wrong, whole=True)
        return way.found(whole=True)

    # -- what may happen next ----------------------------------------------------------------------

    def _next(self, state: State) -> Iterator[Next]:
        world, mind = state.world, self._minds[state.mind]
        calling = mind.going is not None and mind.going.calls
        for move in nova.moves(world):
            if calling and move.long:
                continue  # no RPC timeout goes by between a look of ours and the call after it
            after = State(move.world, self._hear(state.mind, move.told))
            yield Next(move.words, after, move.wrong)
        for left in dict.fromkeys(world.left):
            made = calls.arrive(world, left)
            yield Next(f"detachd: {made.words}", State(made.world, state.mind), made.wrong)
        if mind.going is not None:
            yield from self._attempt(state, mind)
            return
        for case_id in ledger.due(mind):
            yield Next(f"detachd: claims {case_id}", State(world, self._claim(state.mind, case_id)))
        for case_id, mark in mind.offers if self._orders else ():
            yield self._order(state, case_id, mark)
        if self._time_may_go_by(world):
            yield self._time_goes_by(state)
        yield from self._swept(state, mind)

    def _order(self, state: State, case_id: str, mark: str) -> Next:
        mind = ledger.order(self._minds[state.mind], case_id, mark)
        return Next(f"a person orders a detach: {case_id}", State(state.world, self._number(mind)))

    def _time_may_go_by(self, world: World) -> bool:
        """Tell whether nothing is under way that must be over within a late horizon."""
        calls_end = all(late.long for late in world.late) and all(c.long for c in world.left)
        at_the_backend = any(job.stage.startswith("asked") for job in world.jobs)
        at_work = any(not world.stalled(job) for job in world.jobs)
        return calls_end and (self._slow or not at_work) and not at_the_backend

    def _attempt(self, state: State, mind: Mind) -> Iterator[Next]:
        assert mind.going is not None
        assert mind.going.stopped is not None
        match mind.going.stopped.question:
            case LookNext():
                seen = see(state.world, mind.known, mind.tried)
                truth = Truth(promises.troubles(state.world), state.world.access)
                after = State(state.world, self._answer(state.mind, seen, truth))
                yield Next(f"detachd: looks; {self._intention(after.mind)}", after)
            case Call() as call:
                yield from self._call(state, call)
            case None:
                yield self._finish(state, mind)
                yield from self._crash(
                    state, "detachd: the process dies before it writes that down"
                )

    def _call(self, state: State, call: Call) -> Iterator[Next]:
        going = self._minds[state.mind].going
        assert going is not None
        for made in calls.make(state.world, call, going.truth.let_in):
            number = state.mind
            if made.answer == calls.UNANSWERED and call.reaches_backend:
                number = self._number(ledger.tried_by_us(self._minds[number]))
            after = State(made.world, self._answer(number, made.answer, Truth()))
            wrong = promises.of_a_call(call, state.world, self._policy, going.claimed)
            wrong = wrong or made.wrong
            yield Next(f"detachd: {made.words}", after, wrong)
            if state.world.budget.crashes:
                dead = State(spend(made.world, "crashes"), self._crashed(state.mind))
                yield Next(f"detachd: {made.words}, and the process dies", dead, made.wrong)
        if state.world.budget.crashes:
            world = calls.leave(spend(state.world, "crashes"), call)
            words = f"detachd: the process dies or stalls with {calls.words(call)} on its way"
            yield Next(words, State(world, self._crashed(state.mind)))
        yield from self._crash(state, f"detachd: the process dies before {calls.words(call)}")

    def _crash(self, state: State, words: str) -> Iterator[Next]:
        if state.world.budget.crashes:
            yield Next(words, State(spend(state.world, "crashes"), self._crashed(state.mind)))

    def _finish(self, state: State, mind: Mind) -> Next:
        outcome = ledger.outcome_of(mind)
        wrong = promises.of_an_outcome(outcome, mind, state.world)
        told = "".join(f", announces {Event(a.event_type).name}" for a in outcome.announcements)
        words = f"detachd: writes {outcome.state.value}, {outcome.rule}: {outcome.reason}{told}"
        return Next(words, State(state.world, self._number(ledger.finished(mind))), wrong)

    def _time_goes_by(self, state: State) -> Next:
        late = tuple(late._replace(long=False) for late in state.world.late)
        left = tuple(left._replace(long=False) for left in state.world.left)
        world = state.world._replace(late=late, left=left)
        if state.mind not in self._later:
            self._later[state.mind] = self._number(ledger.later(self._minds[state.mind]))
        return Next("a late horizon goes by", State(world, self._later[state.mind]))

    def _swept(self, state: State, mind: Mind) -> Iterator[Next]:
        """Sweep early, as often as the bounds say, and whenever all is at rest and forgotten."""
        world = state.world
        if world.jobs or world.late or any(ledger.due(mind)):
            return
        early = self._early and world.budget.sweeps > 0
        at_rest = not any(nova.moves(world)) and not any(case.open for case in mind.cases)
        if (early or at_rest) and (found := swept(world)):
            after = State(spend(world, "sweeps") if early else world, self._hear(state.mind, found))
            yield Next(f"detachd: sweeps, finds {len(found)}", after)

    # -- what detachd makes of it, remembered ------------------------------------------------------

    def _number(self, mind: Mind) -> int:
        number = self._numbers.setdefault(mind, len(self._minds))
        if number == len(self._minds):
            self._minds.append(mind)
        return number

    def _hear(self, number: int, told: tuple[Notification, ...]) -> int:
        if not told:
            return number
        if (number, told) not in self._heard:
            self._heard[number, told] = self._number(ledger.hear(self._minds[number], told))
        return self._heard[number, told]

    def _claim(self, number: int, case_id: str) -> int:
        key = number, case_id
        if key not in self._claims:
            mind = self._attempts.begun(self._minds[number], case_id)
            self._claims[key] = self._number(mind)
        return self._claims[key]

    def _answer(self, number: int, answer: Answer, truth: Truth) -> int:
        key = number, answer, truth
        if key not in self._answers:
            mind = self._attempts.answered(self._minds[number], answer, truth)
            self._answers[key] = self._number(mind)
        return self._answers[key]

    def _crashed(self, number: int) -> int:
        return self._number(ledger.crashed(self._minds[number]))

    def _intention(self, number: int) -> str:
        going = self._minds[number].going
        assert going is not None
        assert going.stopped is not None
        match going.stopped.question:
            case Call() as call:
                return f"will make {calls.words(call)}"
            case LookNext():
                intents = [w.intent for w in going.stopped.writes if w.intent is not None]
                meant = f" and means {intents[-1].kind.value}" if intents else ""
                return f"will look once more{meant}"
            case None:
                assert going.stopped.outcome is not None
                return f"says {going.stopped.outcome.rule}"


@dataclasses.dataclass(slots=True)
class _Way:
    """How each state was come to, and what has been counted meanwhile."""

    came: dict[State, tuple[State | None, str]]
    began: float
    after: list[list[State]] = dataclasses.field(default_factory=list)
    depth: int = 0
    ends: int = 0

    def found(self, state: State | None = None, words: str = "", *, wrong: str = "",
              whole: bool = False) -> Found:  # fmt: skip
        """Return what the search came to, with the way to a state where a promise is broken."""
        steps = [*self._to(state), words] if state else []
        trace = tuple(f"{n:3}. {said}" for n, said in enumerate(filter(None, steps), 1))
        seconds = time.monotonic() - self.began
        return Found(len(self.came), self.depth, seconds, whole, wrong, trace, self.ends)

    def _to(self, state: State) -> list[str]:
        words: list[str] = []
        at: State | None = state
        while at is not None:
            at, said = self.came[at]
            words.append(said)
        return words[::-1]
