"""``detachd rule list|show``: the same as docs/rules.md, in the terminal."""

from __future__ import annotations

import json

import pytest

from consumer.cli.app import main
from handlers.judgement.diagnosis import rule_ids

Captured = pytest.CaptureFixture[str]


def test_the_rules_are_listed_in_the_order_in_which_they_are_asked(capsys: Captured) -> None:
    """`rule list` -> every rule once, the first one that is asked on top."""
    assert main(["rule", "list", "-f", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(row["Rule"] for row in listed) == rule_ids()
    assert {row["Verdict"] for row in listed} >= {"healthy", "release", "park"}


@pytest.mark.parametrize("rule_id", rule_ids())
def test_a_rule_is_shown_with_what_it_asks_for(rule_id: str, capsys: Captured) -> None:
    """`rule show` of each -> seen, meant, done and from, each with words."""
    assert main(["rule", "show", rule_id]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{rule_id}: ")
    for word in ("Seen: ", "Meant: ", "Done: ", "From: "):
        (line,) = [line for line in out.splitlines() if line.startswith(word)]
        assert len(line) > len(word)


def test_a_rule_that_there_is_not_is_bad_input(capsys: Captured) -> None:
    """`rule show` of an unknown id -> exit 2, and the words name it."""
    assert main(["rule", "show", "H9.none"]) == 2
    assert "H9.none" in capsys.readouterr().err
