"""What a refused approval says: what changed between the look that was shown and the last one."""

from __future__ import annotations

from handlers.recovery.changes import MOST_LINES, changes
from tests.unit.consumer.cli.told import look
from tests.unit.handlers.judgement.acting_pictures import UC1, UC4
from tests.unit.handlers.judgement.pictures import UNSEEN


def test_rule_and_plan_come_first() -> None:
    """Two use cases, much differs -> the rule, the plan, then the rest; no more than fit."""
    before, now = look(UC4), look(UC1)
    plan, rule, *others = changes(before, now)
    assert rule == f"rule: {before['rule']} -> {now['rule']}"
    assert plan.startswith("plan: cinder.roll_detaching, then nova.detach -> ")
    assert others
    assert len(others) <= MOST_LINES


def test_what_only_follows_is_not_told() -> None:
    """Guards, parties, facts and times -> no line: they would hide what changed."""
    lines = changes(look(UC4), look(UC1))
    assert not any(line.startswith(("guards", "parties", "facts", "asked_at")) for line in lines)


def test_side_that_cannot_be_seen_any_more_is_told() -> None:
    """The same case, the backend silent now -> that, by name."""
    lines = changes(look(UC1), look(UC1.but(backend=UNSEEN, hosts_known=False)))
    assert any(line.startswith("backend") for line in lines)


def test_same_look_has_no_change() -> None:
    """Nothing differs -> no line."""
    assert changes(look(UC4), look(UC4)) == ()
