"""Which safeguards make a difference in a world at all, found while it is searched as it is.

Where a guard is never the reason, a condition never unmet and a rule never decided by one fact
alone, a search without it takes the same steps: what it comes to is known, and it is not made.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from handlers.judgement import diagnosis, plan, rules
from handlers.judgement.guards import objections
from handlers.judgement.rule import Rule
from handlers.judgement.situation import Situation, situate
from handlers.recovery import attempt
from tests.exhaustive.search import Search, Setting

KINDS = ("guard ", "condition ", "rule ")


@functools.cache
def made_a_difference(setting: Setting) -> frozenset[str]:
    """Return the names of the safeguards that decided something somewhere in this world."""
    found: set[str] = set()
    with _watched(found):
        Search(setting).run()
    return frozenset(found)


def may_differ(name: str, setting: Setting) -> bool:
    """Tell whether a search without the safeguard could come to something else."""
    told = name.startswith(KINDS) or " when " in name or " unless " in name
    return not (told and ", and " not in name) or name in made_a_difference(setting)


@contextmanager
def _watched(found: set[str]) -> Iterator[None]:
    met = plan._met

    def situated(*asked: Any) -> Situation:
        s = situate(*asked)
        found.update(_decisive(s))
        return s

    def guarded(*asked: Any) -> Any:
        held = objections(*asked)
        found.update(f"guard {objection.guard.name}" for objection in held[:1])
        return held

    def condition_met(condition: Any, s: Situation) -> bool:
        if not (is_met := met(condition, s)):
            found.add(f"condition {condition.name}")
        return is_met

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(diagnosis, "situate", situated))
        stack.enter_context(mock.patch.object(attempt, "objections", guarded))
        stack.enter_context(mock.patch.object(plan, "_met", condition_met))
        yield


def _decisive(s: Situation) -> Iterator[str]:
    """Yield the rule that decides, and each fact without which a rule would say something else."""
    decided = False
    for rule in rules.RULES:
        only = _only_obstacle(rule, s)
        if only:
            yield f"{rule.rule_id} {only}"
        if not decided and only is None:
            decided = True
            yield f"rule {rule.rule_id}"


def _only_obstacle(rule: Rule, s: Situation) -> str | None:
    """Return the one fact for which the rule does not hold, "" for several; None: it holds."""
    against = ""
    for words in _against(rule, s):
        if against:
            return ""
        against = words
    return against or None


def _against(rule: Rule, s: Situation) -> Iterator[str]:
    for fact in dict.fromkeys(rule.when):
        if not fact.holds(s):
            yield f"when {fact.name}"
    for other in rule.unless:
        if diagnosis._left_to(other, s):
            yield f"unless {other if isinstance(other, str) else other.name}"
