"""The page of rules and the code say the same."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from drivers.base import CONNECTOR_LISTS, CONNECTOR_TEXTS, Capabilities
from drivers.openstack import session
from handlers.judgement import facts, rules
from handlers.judgement.diagnosis import rule_ids
from handlers.judgement.facts import Predicate
from handlers.judgement.guards import Guard
from handlers.judgement.page import page
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import Rule, Verdict
from handlers.judgement.rules import RULES

OF_OTHER_FACTS = {"no_connection"}
"""Facts that no rule names: they are part of another fact."""

PAGE = Path(__file__).parents[4] / "docs" / "rules.md"


def sections() -> dict[str, str]:
    """Return the text under each heading of the third level."""
    parts = re.split(r"^### (\S+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_is_current() -> None:
    """A rule, a fact or a guard changed and `make docs` was not run -> the difference."""
    assert page(PAGE.read_text()) == PAGE.read_text()


def test_every_rule_and_guard_is_on_the_page_and_nothing_else() -> None:
    """A rule or guard without a paragraph, or a paragraph without one -> the difference."""
    assert list(sections()) == [*rule_ids(), *(guard.name for guard in Guard)]


@pytest.mark.parametrize("rule", [r for s in rules.PAGE for r in s.rules], ids=rule_ids())
def test_a_rule_says_what_is_meant_and_done_and_where_it_comes_from(rule: Rule) -> None:
    """A rule -> these three are said, each as a sentence."""
    for text in (rule.meant, rule.done, rule.source):
        assert text[:1].isupper() or text.startswith("`"), text
        assert text.endswith("."), text


def test_what_is_done_is_what_the_table_says() -> None:
    """A rule's verdict -> its "Done" names it, or does nothing for a healthy one."""
    words = {
        Verdict.HEALTHY: "nothing",
        Verdict.PARK: "parked",
        Verdict.TERMINATE: "terminate|the driver",
        Verdict.NOVA_DETACH: "nova-detach|Nova is asked to detach",
    }
    for rule in RULES:
        found = re.search(words.get(rule.verdict, rule.verdict.value), rule.done, re.IGNORECASE)
        assert found, rule.rule_id


def test_a_rule_that_is_left_to_is_one_of_the_table() -> None:
    """An id in a rule's unless -> a rule, and no circle of rules that wait for each other."""
    left_to = {
        rule.rule_id: {other for other in rule.unless if isinstance(other, str)} for rule in RULES
    }
    assert set().union(*left_to.values()) <= set(left_to)
    assert list(TopologicalSorter(left_to).static_order())


def test_every_fact_is_asked_by_a_rule_and_has_a_sentence() -> None:
    """A fact that no rule asks -> it is dead; each sentence ends as one."""
    asked = {
        fact.name
        for rule in RULES
        for fact in (*rule.when, *rule.unless)
        if isinstance(fact, Predicate)
    }
    known = {name: f for name, f in vars(facts).items() if isinstance(f, Predicate)}
    assert set(known) - asked - OF_OTHER_FACTS == set()
    for fact in known.values():
        assert fact.sentence.endswith("."), fact.name


def test_every_verdict_is_explained() -> None:
    """The verdicts of the code -> each has its line."""
    text = PAGE.read_text().partition("## Before any look")[0]
    for verdict in Verdict:
        assert re.search(rf"^\|.*\b{verdict.value}\b.*\|.*\|$", text, re.MULTILINE), verdict


def test_the_settings_that_the_page_names_exist() -> None:
    """A setting in the text -> a field of the policy, so that the page does not outlive it.

    Or a key of a connector, what a driver can do, or an option of ``[service_user]``, which look
    the same.
    """
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE.read_text()))
    known = {*BackendPolicy.__dataclass_fields__, *Capabilities.__dataclass_fields__}
    known |= {*CONNECTOR_TEXTS, *CONNECTOR_LISTS}
    known |= {option.dest for option in session.options(session.SERVICE_USER)}
    assert named <= known, named - known
