"""Lists with nothing in them."""

from __future__ import annotations

import json

import pytest

from tests.unit.consumer.cli.conftest import Run

LISTS = {
    "announcement list": "no announcement was returned for want of a queue",
    "fence list": "no fence to list",
    "host list": "no word was said of a host",
    "quarantine list": "no quarantined message to list",
    "replica list": "no service uses this ledger",
    "sweep list": "the sweeps found nothing that is still there",
}


@pytest.mark.parametrize("command", LISTS)
@pytest.mark.usefixtures("ledger")
def test_an_empty_list_says_so(command: str, run: Run) -> None:
    """Nothing to list -> a sentence on stderr and nothing on stdout; programs get an empty list."""
    assert run(*command.split()) == (0, "", f"{LISTS[command]}\n")
    code, out, err = run(*command.split(), "-f", "json")
    assert (code, json.loads(out), err) == (0, [], "")
