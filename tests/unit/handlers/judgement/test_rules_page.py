"""The page of rules and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from handlers.judgement.guards import Guard
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rules import RULES, Verdict, rule_ids

PAGE = Path(__file__).parents[4] / "docs" / "rules.md"


def sections() -> dict[str, str]:
    """Return the text under each heading of the third level."""
    parts = re.split(r"^### (\S+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_rule_and_guard_is_on_the_page_and_nothing_else() -> None:
    """A rule or guard without a paragraph, or a paragraph without one -> the difference."""
    assert set(sections()) == {*rule_ids(), *(guard.name for guard in Guard)}


def test_the_page_has_the_order_of_the_table() -> None:
    """The order in which the rules are asked -> the order in which one reads them."""
    rules = [name for name in sections() if "." in name]
    assert rules == list(rule_ids())


def test_every_rule_says_what_is_seen_meant_and_done_and_where_it_comes_from() -> None:
    """A rule's paragraph -> these four, each said."""
    for rule_id in rule_ids():
        text = sections()[rule_id]
        missing = [word for word in ("Seen:", "Meant:", "Done:", "From:") if word not in text]
        assert not missing, rule_id


def test_what_is_done_is_what_the_table_says() -> None:
    """A rule's verdict -> the paragraph's "Done" names it, or does nothing for a healthy one."""
    words = {
        Verdict.HEALTHY: "nothing",
        Verdict.PARK: "parked",
        Verdict.TERMINATE: "terminate|the driver",
        Verdict.NOVA_DETACH: "nova-detach|Nova is asked to detach",
    }
    for rule in RULES:
        done = sections()[rule.rule_id].partition("Done:")[2]
        assert re.search(words.get(rule.verdict, rule.verdict.value), done), rule.rule_id


def test_every_guard_says_what_then_becomes_of_the_case() -> None:
    """A guard's paragraph -> parked, or when it is tried again."""
    for guard in Guard:
        assert re.search("Parked|again|Tried|Waits", sections()[guard.name]), guard.name


def test_every_verdict_is_explained() -> None:
    """The verdicts of the code -> each has its line."""
    text = PAGE.read_text().partition("## Before any look")[0]
    for verdict in Verdict:
        assert re.search(rf"^\|.*\b{verdict.value}\b.*\|.*\|$", text, re.MULTILINE), verdict


def test_the_settings_that_the_page_names_exist() -> None:
    """A setting in the text -> a field of the policy, so that the page does not outlive it."""
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE.read_text()))
    known = set(BackendPolicy.__dataclass_fields__)
    assert named <= known, named - known
