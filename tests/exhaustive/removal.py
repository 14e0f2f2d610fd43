"""Takes one safeguard of the real code away, so that the search can show what it is there for.

The guards, the conditions of the steps, the facts of the rules and the re-reads are taken as they
stand in the code: one that is added there is taken away here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from handlers import intents
from handlers.case import StepKind
from handlers.judgement import diagnosis, guards, plan, rules
from handlers.judgement.facts import Predicate
from handlers.judgement.guards import Guard
from handlers.judgement.plan import Condition
from handlers.judgement.rule import ACTING, Rule
from handlers.recovery import attempt as attempts
from handlers.recovery import conclusion, recovery, steps


@dataclasses.dataclass(frozen=True, slots=True)
class Safeguard:
    """One thing that can be taken away; ``away`` does it for as long as its context lasts."""

    name: str
    away: Callable[[], AbstractContextManager[Any]]


def safeguards() -> tuple[Safeguard, ...]:
    """Return all of them."""
    return (*_guards(), *_conditions(), *_controls())


def facts() -> tuple[Safeguard, ...]:
    """Return each fact that a rule which acts asks for, and each rule that turns a case away."""
    return tuple(_facts())


TWICE = (
    ("guard LIVE_SESSION", "condition QUIET"),
    ("guard FOREIGN_CONNECTION", "condition ALONE"),
    ("guard OBSERVE", "the mode asked again before each call"),
    ("guard LATE_DETACH", "detaches that began since the claim, before a call"),
)
"""What is asked twice: a guard of the plan, and a condition of the step right before its call."""


def pairs() -> tuple[Safeguard, ...]:
    """Return those that are asked twice, to be taken away together."""
    by_name = {one.name: one for one in safeguards()}
    return tuple(_both(by_name[one], by_name[other]) for one, other in TWICE)


def _both(one: Safeguard, other: Safeguard) -> Safeguard:
    @contextmanager
    def away() -> Iterator[None]:
        with one.away(), other.away():
            yield

    return Safeguard(f"{one.name}, and {other.name}", away)


# -- guards and conditions -------------------------------------------------------------------------


def _guards() -> Iterator[Safeguard]:
    for guard in Guard:
        yield Safeguard(f"guard {guard.name}", _without_guard(guard))


def _without_guard(guard: Guard) -> Callable[[], AbstractContextManager[Any]]:
    never = {**guards.QUESTIONS, guard: lambda _: False}
    return lambda: mock.patch.object(guards, "QUESTIONS", never)


def _conditions() -> Iterator[Safeguard]:
    for condition in Condition:
        yield Safeguard(f"condition {condition.name}", _without_condition(condition))


def _without_condition(condition: Condition) -> Callable[[], AbstractContextManager[Any]]:
    real = plan._met
    return lambda: mock.patch.object(plan, "_met", lambda c, s: c is condition or real(c, s))


# -- looks that are repeated, and waits ------------------------------------------------------------


def _controls() -> Iterator[Safeguard]:
    yield Safeguard("the look before each call", _patched(steps, "unmet", lambda *_: None))
    yield Safeguard("the mode asked again before each call", _patched(
        steps, "_only_observes", lambda _: False))  # fmt: skip
    yield Safeguard("the verdict asked anew before each call", _patched(
        plan, "_carries_on", lambda step, now: True))  # fmt: skip
    yield Safeguard("rows and status read again before each call", _patched(
        plan, "_changed", lambda *_: None))  # fmt: skip
    yield Safeguard("detaches that began since the claim, before a call", _patched(
        steps, "_under_way", lambda *_: None))  # fmt: skip
    yield Safeguard("detaches that began since the claim, before an end", _patched(
        recovery.Recovery, "_conclude", _conclude_at_once))  # fmt: skip
    yield Safeguard("the wait for calls under way before an end", _patched(
        intents, "terminating_seconds", lambda *_: 0.0))  # fmt: skip
    yield Safeguard("the second look a late horizon later", _patched(
        conclusion, "_settling_seconds", lambda _: 0.0))  # fmt: skip
    yield Safeguard("the second look before a person is asked", _patched(
        recovery.Recovery, "_confirmed", lambda *_: True))  # fmt: skip
    yield Safeguard("the reserve that keeps others out", _patched(
        attempts, "make_plan", _without_reserve))  # fmt: skip
    yield Safeguard("the backend first, then Cinder", _patched(
        attempts, "make_plan", _cinder_first))  # fmt: skip


def _patched(module: Any, name: str, to: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch.object(module, name, to)


def _conclude_at_once(_: Any, attempt: Any, evidence: Any, found: Any) -> Any:
    return conclusion.conclude(attempt.came_to(evidence, found))


def _without_reserve(found: Any, capabilities: Any) -> Any:
    made = plan.make_plan(found, capabilities)
    return tuple(
        dataclasses.replace(
            step,
            statuses=step.statuses | {"available"},
            conditions=step.conditions - {Condition.HELD},
        )
        for step in made
        if step.kind is not StepKind.CINDER_RESERVE
    )


def _cinder_first(found: Any, capabilities: Any) -> Any:
    made = plan.make_plan(found, capabilities)
    return tuple(
        dataclasses.replace(
            step,
            statuses=step.statuses | {"available", "in-use"},
            conditions=step.conditions - {Condition.CLEAN},
        )
        for step in (made[::-1] if len(made) == 2 else made)
    )


# -- the rules -------------------------------------------------------------------------------------


def _facts() -> Iterator[Safeguard]:
    for rule in rules.RULES:
        if rule.verdict in ACTING:
            for fact in dict.fromkeys(rule.when):
                yield Safeguard(f"{rule.rule_id} when {fact.name}", _without_fact(rule, fact))
            for other in rule.unless:
                name = other if isinstance(other, str) else other.name
                yield Safeguard(f"{rule.rule_id} unless {name}", _without_unless(rule, other))
        elif rule.when:
            yield Safeguard(f"rule {rule.rule_id}", _without_rule(rule))


def _without_fact(rule: Rule, fact: Predicate) -> Callable[[], AbstractContextManager[Any]]:
    when = tuple(f for f in rule.when if f is not fact)
    return _with_rules(rule, dataclasses.replace(rule, when=when))


def _without_unless(
    rule: Rule, other: Predicate | str
) -> Callable[[], AbstractContextManager[Any]]:
    unless = tuple(o for o in rule.unless if o is not other)
    return _with_rules(rule, dataclasses.replace(rule, unless=unless))


def _with_rules(rule: Rule, changed: Rule) -> Callable[[], AbstractContextManager[Any]]:
    table = tuple(changed if r is rule else r for r in rules.RULES)
    return lambda: mock.patch.multiple(diagnosis, RULES=table, _BY_ID={r.rule_id: r for r in table})


def _without_rule(rule: Rule) -> Callable[[], AbstractContextManager[Any]]:
    """Let the rule decide nothing; where another one leaves to it, that still counts."""
    table = tuple(r for r in rules.RULES if r is not rule)
    return lambda: mock.patch.object(diagnosis, "RULES", table)
