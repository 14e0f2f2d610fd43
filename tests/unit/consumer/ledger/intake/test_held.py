"""What people see and decide of quarantined bodies, on each database."""

from __future__ import annotations

import pytest

from consumer.ledger import BodyState, Ledger, NoSuchBodyError

ONE, TWO = "a1" * 32, "a2" * 32


def put(ledger: Ledger, body_sha256: str = ONE, reason: str = "not JSON") -> None:
    """Quarantine a body."""
    ledger.quarantine("nova", "notifications.error", body_sha256, 17, reason, "{oops")


def decide(ledger: Ledger, state: BodyState) -> bool:
    """Decide of the one body."""
    body = ledger.quarantined_body(ONE)
    return ledger.decide_quarantined(body, state, actor="alice", decision="looked at it")


def test_listed(ledger: Ledger) -> None:
    """Two bodies, one of them twice -> both, the last one first, with all that is known."""
    put(ledger)
    put(ledger, TWO)
    put(ledger)
    one, two = ledger.quarantined()
    assert (one.body_sha256, one.times, one.state) == (ONE, 2, BodyState.HELD)
    assert (two.body_sha256, two.times) == (TWO, 1)
    assert (one.bus, one.routing_key, one.size) == ("nova", "notifications.error", 17)
    assert (one.reason, one.excerpt) == ("not JSON", "{oops")
    assert one.first_at <= one.last_at
    assert (one.decided_at, one.decided_by, one.decision) == (None, None, None)
    assert [body.body_sha256 for body in ledger.quarantined(limit=1)] == [ONE]


@pytest.mark.parametrize("state", [BodyState.REPLAYED, BodyState.DISCARDED])
def test_decided(ledger: Ledger, state: BodyState) -> None:
    """A person decides -> kept with who, when and why, and listed under it."""
    put(ledger)
    assert decide(ledger, state)
    body = ledger.quarantined_body(ONE)
    assert (body.state, body.decided_by, body.decision) == (state, "alice", "looked at it")
    assert body.decided_at is not None
    assert ledger.quarantined(state=BodyState.HELD) == ()
    assert ledger.quarantined(state=state) == (body,)


def test_comes_again_after_the_decision(ledger: Ledger) -> None:
    """The same body again, for another reason -> held again, with the reason that holds now."""
    put(ledger)
    decide(ledger, BodyState.REPLAYED)
    put(ledger, reason="no payload")
    body = ledger.quarantined_body(ONE)
    assert (body.state, body.reason, body.times) == (BodyState.HELD, "no payload", 2)
    assert body.decided_by == "alice"


def test_comes_again_before_the_decision_is_noted(ledger: Ledger) -> None:
    """Decided of what was seen, but it came again meanwhile -> not noted: it is held."""
    put(ledger)
    seen = ledger.quarantined_body(ONE)
    put(ledger)
    put(ledger)
    assert not ledger.decide_quarantined(seen, BodyState.REPLAYED, actor="alice", decision="")
    assert ledger.quarantined_body(ONE).state is BodyState.HELD


def test_named_by_its_beginning(ledger: Ledger) -> None:
    """A beginning that is one body's -> that body; of two, of none, or too short -> told which."""
    put(ledger)
    put(ledger, TWO)
    assert ledger.quarantined_body(ONE[:40].upper()).body_sha256 == ONE
    put(ledger, ONE[:10] + "f" * 54)
    with pytest.raises(NoSuchBodyError, match="several quarantined bodies begin with a1a1"):
        ledger.quarantined_body("a1a1")
    with pytest.raises(NoSuchBodyError, match="there is no quarantined body ffff"):
        ledger.quarantined_body("ffff")
    with pytest.raises(NoSuchBodyError, match="at least 4 characters"):
        ledger.quarantined_body("a1")
    with pytest.raises(NoSuchBodyError, match="no quarantined body %%%%"):
        ledger.quarantined_body("%%%%")


def test_other_cloud(ledger: Ledger, ledger_url: str) -> None:
    """Another cloud in the same database -> sees nothing of ours."""
    put(ledger)
    other = Ledger(ledger_url, cloud="other")
    assert other.quarantined() == ()
    other.close()
