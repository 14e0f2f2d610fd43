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


def test_one_backend_is_paused(ledger: Ledger, second: Ledger) -> None:
    """One backend is paused -> that one and no other; the pause of all is another one."""
    ledger.pause("alice", "the array is in maintenance", backend="h@lvm")
    assert second.paused() is None
    assert second.paused("h@ceph") is None
    assert (pause := second.paused("h@lvm")) is not None
    assert pause.words == "backend h@lvm is paused by alice: the array is in maintenance"
    assert pause.resume == "detachd resume --backend h@lvm"
    ledger.pause("bob", "all")
    assert (whole := second.paused("h@lvm")) is not None
    assert (whole.actor, whole.backend) == ("bob", None)
    assert [p.backend for p in second.pauses()] == ["h@lvm", None]


def test_each_resume_ends_its_own_pause(ledger: Ledger) -> None:
    """A backend and all are paused -> resuming one leaves the other; twice does nothing."""
    ledger.pause("alice", "array", backend="h@lvm")
    ledger.pause("bob", "all")
    ledger.resume("carol")
    assert [p.backend for p in ledger.pauses()] == ["h@lvm"]
    ledger.resume("carol")
    ledger.resume("carol", backend="h@ceph")
    assert [p.backend for p in ledger.pauses()] == ["h@lvm"]
    ledger.resume("carol", "done", backend="h@lvm")
    assert ledger.pauses() == ()
    assert [(d.kind, d.detail) for d in ledger.take_decisions()] == [
        (DecisionKind.PAUSED, {"backend": "h@lvm"}), (DecisionKind.PAUSED, {}),
        (DecisionKind.RESUMED, {}), (DecisionKind.RESUMED, {"backend": "h@lvm"}),
    ]  # fmt: skip


def test_a_backend_is_named_exactly(ledger: Ledger) -> None:
    """A name that differs in case, or is a part of another -> another backend, on each database."""
    ledger.pause("alice", "array", backend="h@lvm")
    for other in ("H@lvm", "h@lvm2", "h@lv", "h@lvm ", "", "%"):
        assert ledger.paused(other) is None
