"""Lists of nothing."""

from __future__ import annotations

import json

import pytest

from consumer.ledger import Ledger
from tests.unit.consumer.cli.conftest import Run

LISTS = {
    "case": "no cases",
    "fence": "no fences",
    "host": "no host was said to be off",
    "quarantine": "no messages in quarantine",
    "sweep": "no findings",
    "replica": "no services",
    "announcement": "no announcements that reached no queue",
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_of_nothing_says_what_there_is_not(ledger: Ledger, run: Run, what: str) -> None:
    """An empty ledger -> one line of words to stderr; for a program an empty list."""
    del ledger
    assert run(what, "list") == (0, "", f"{LISTS[what]}\n")
    code, out, err = run(what, "list", "-f", "json")
    assert (code, json.loads(out), err) == (0, [], "")
