"""``detachd announcement list|resend`` on a real ledger."""

from __future__ import annotations

import json

import pytest

from consumer.ledger import Ledger
from handlers.case import Announcement, CaseState, Priority
from tests.unit.consumer.cli.cases.test_listing import worked
from tests.unit.consumer.cli.conftest import Run

WHY = ("--reason", "the subscriber is back", "--actor", "alice")


@pytest.fixture
def unrouted(ledger: Ledger) -> str:
    """Let one announcement reach no queue; return its message_id."""
    told = Announcement("volume.force_detach.parked", Priority.ERROR, {"volume": "v"})
    worked(ledger, CaseState.PARKED, announcements=(told,))
    (out,) = ledger.outbox_lease("p", limit=10, lease_seconds=60)
    ledger.outbox_unrouted([out.outbox_id])
    return out.message_id


def test_list_names_them_and_their_cases(unrouted: str, run: Run) -> None:
    """One that reached no queue -> its id, event and case; none since tomorrow."""
    (listed,) = json.loads(run("announcement", "list", "-f", "json")[1])
    assert (listed["Message"], listed["Event"]) == (unrouted, "volume.force_detach.parked")
    assert run("announcement", "list", "-f", "json", "--since", "2199-01-01")[1] == "[]\n"


@pytest.mark.parametrize("how", ["by id", "--all", "--since"])
def test_resent_is_due_again(unrouted: str, run: Run, ledger: Ledger, how: str) -> None:
    """By its id, all, or since an hour -> due, under the same id."""
    words = {"by id": (unrouted,), "--all": ("--all",), "--since": ("--since", "1h")}[how]
    assert run("announcement", "resend", *words, *WHY)[:2] == (
        0, "1 announcements are sent again\n",
    )  # fmt: skip
    (out,) = ledger.outbox_lease("p", limit=10, lease_seconds=60)
    assert out.message_id == unrouted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name announcements by message_id, or give --all or --since"),
        (("some-id", "--all"), "name announcements by message_id, or give --all or --since"),
        (("some-id",), "1 of 1 are not on record as unrouted"),
    ],
    ids=["nothing", "both", "unknown"],
)
def test_what_is_not_clear_sends_nothing(
    unrouted: str, run: Run, ledger: Ledger, words: tuple[str, ...], said: str
) -> None:
    """None named, both ways, an unknown id -> exit 2, words, nothing due."""
    code, out, err = run("announcement", "resend", *words, *WHY)
    assert (code, out) == (2, "")
    assert said in err
    assert ledger.outbox_pending() == (0, 0.0)
