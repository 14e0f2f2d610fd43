"""A pause of detachd, on each database."""

from __future__ import annotations

from consumer.ledger import DecisionKind, Ledger


def test_pause_and_resume(ledger: Ledger, second: Ledger) -> None:
    """Paused in one process -> every process knows by whom and why, until it is resumed."""
    assert second.paused() is None
    ledger.pause("alice", "maintenance")
    pause = second.paused()
    assert pause is not None
    assert (pause.actor, pause.reason) == ("alice", "maintenance")
    second.resume("bob")
    assert ledger.paused() is None


def test_pause_twice(ledger: Ledger) -> None:
    """A second pause -> the first one's reason stays; one resume ends it."""
    ledger.pause("alice", "maintenance")
    ledger.pause("bob", "lunch")
    pause = ledger.paused()
    assert pause is not None
    assert pause.actor == "alice"
    ledger.resume("bob")
    ledger.resume("bob")
    assert ledger.paused() is None


def test_pause_and_resume_are_decisions(ledger: Ledger, second: Ledger) -> None:
    """Paused, paused again, resumed, resumed again -> what changed something is logged once."""
    ledger.pause("alice", "maintenance")
    ledger.pause("bob", "lunch")
    ledger.resume("bob", "done")
    ledger.resume("carol")
    found = second.take_decisions()
    assert [(d.kind, d.actor, d.reason) for d in found] == [
        (DecisionKind.PAUSED, "alice", "maintenance"), (DecisionKind.RESUMED, "bob", "done"),
    ]  # fmt: skip
    assert ledger.take_decisions() == ()
