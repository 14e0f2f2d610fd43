"""The end of an attempt, on each database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consumer.ledger import Claim, HistoryKind, Ledger
from handlers.case import CaseState, Conclusion, ReasonKind, UseCase, VerifiedBy
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.breaking import lose_next_commit
from tests.unit.consumer.ledger.making import (
    REQUEST,
    accept,
    announcement,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
    told,
)

END = told(Operation.ATTACH, Phase.END, request_id=REQUEST)


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    """Return a claim of a due case."""
    due_case(ledger)
    return claim_one(ledger)


def test_closed(ledger: Ledger, claim: Claim) -> None:
    """A case is closed -> conclusion and time are on record, and time never moves it again."""
    ledger.finish(claim, outcome(CaseState.CLOSED, conclusion=Conclusion.GONE, delay_seconds=5.0))
    case = ledger.case(claim.case.case_id).case
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.GONE)
    assert case.closed_at is not None
    assert case.next_attempt_at is None


@pytest.mark.parametrize(
    "state",
    [CaseState.DUE, CaseState.SETTLING, CaseState.AWAITING_APPROVAL, CaseState.PARKED],
)
def test_state_and_delay(ledger: Ledger, claim: Claim, state: CaseState) -> None:
    """Each state with and without a delay -> due after it by database time, or never by itself."""
    ledger.finish(claim, outcome(state, delay_seconds=120.0))
    case = ledger.case(claim.case.case_id).case
    assert (case.state, case.closed_at) == (state, None)
    assert case.next_attempt_at == case.updated_at + timedelta(seconds=120)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(state))
    assert ledger.case(claim.case.case_id).case.next_attempt_at is None


def test_concluded(ledger: Ledger, claim: Claim) -> None:
    """An outcome with all it may say -> columns and history say the same."""
    ledger.finish(
        claim,
        outcome(
            CaseState.AWAITING_APPROVAL,
            rule="uc4.detach",
            verdict="mend",
            reason="the wish to detach is on record",
            use_case=UseCase.UC4,
            verified_by=VerifiedBy.PROBE,
            fingerprint="f" * 64,
            attachment_id="att-found",
            instance_id="inst-other",
            backend="labhost@lab",
        ),
    )
    record = ledger.case(claim.case.case_id)
    case, line = record.case, record.history[-1]
    assert (case.rule, case.verdict) == ("uc4.detach", "mend")
    assert (case.use_case, case.verified_by) == (UseCase.UC4, VerifiedBy.PROBE)
    assert (case.attachment_id, case.backend) == ("att-found", "labhost@lab")
    assert case.instance_id == claim.case.instance_id, "known already: kept"
    assert case.fingerprint == "f" * 64
    assert (line.kind, line.actor, line.rule) == (HistoryKind.CONCLUDED, "w1", "uc4.detach")
    assert line.detail is not None
    assert line.detail["evidence"] == {"volume": {"status": "available"}}


def test_mended_and_clean(ledger: Ledger, claim: Claim) -> None:
    """Mended, clean again, then not clean -> the times are set, kept, and the clean one cleared."""
    ledger.finish(claim, outcome(CaseState.SETTLING, delay_seconds=0.0, mended=True, clean=True))
    mended = claim_one(ledger)
    ledger.finish(mended, outcome(CaseState.SETTLING, delay_seconds=0.0, clean=True))
    clean = claim_one(ledger)
    ledger.finish(clean, outcome(CaseState.DUE, delay_seconds=0.0, failed=True))
    dirty = claim_one(ledger)
    assert (claim.case.mended_at, claim.case.first_clean_at) == (None, None)
    assert mended.case.mended_at is not None
    assert (mended.case.mended_attempt, mended.case.failures) == (1, 0)
    assert mended.case.first_clean_at == clean.case.first_clean_at == mended.case.mended_at
    assert (dirty.case.mended_at, dirty.case.first_clean_at) == (mended.case.mended_at, None)
    assert (dirty.case.mended_attempt, dirty.case.failures, dirty.case.attempts) == (1, 1, 4)


def test_announced(ledger: Ledger, claim: Claim) -> None:
    """An outcome with announcements -> one outbox row each, in their order."""
    told_in_order = (announcement("error", n=1), announcement("parked", n=2))
    ledger.finish(claim, outcome(CaseState.PARKED, announcements=told_in_order))
    rows = ledger.case(claim.case.case_id).outbox
    assert [(r.event_type, r.payload) for r in rows] == [
        ("volume.force_detach.error", {"n": 1}),
        ("volume.force_detach.parked", {"n": 2}),
    ]
    assert len({r.message_id for r in rows}) == 2


def test_held(ledger: Ledger, claim: Claim) -> None:
    """A look at a parked case shows nothing else -> what was told stays, history has the look."""
    told_of = {"rule": "P6", "verdict": "park", "reason": "a guest", "fingerprint": "f" * 64}
    ledger.finish(claim, outcome(CaseState.PARKED, delay_seconds=0.0, **told_of))
    looked = outcome(CaseState.PARKED, rule="X1", verdict="unknown", reason="away", held=True)
    ledger.finish(claim_one(ledger), looked)
    record = ledger.case(claim.case.case_id)
    case, line = record.case, record.history[-1]
    assert {name: getattr(case, name) for name in told_of} == told_of
    assert (line.rule, line.verdict, line.reason) == ("X1", "unknown", "away")


def test_news_of_what_a_person_has(ledger: Ledger, claim: Claim) -> None:
    """A reason of a kind that was not told yet -> it is the reason now, once; the rule stays."""
    told_of = {"rule": "P6", "verdict": "park", "reason": "a guest"}
    at_once = {"delay_seconds": 0.0, "held": True}
    parked = outcome(CaseState.PARKED, reason_kind=ReasonKind.RULE, delay_seconds=0.0, **told_of)
    ledger.finish(claim, parked)
    for reason in ("danger: first", "danger: again"):
        seen = {"rule": "X2", "reason": reason, "reason_kind": ReasonKind.DANGER}
        ledger.finish(claim_one(ledger), outcome(CaseState.PARKED, **at_once, **seen))
    case = ledger.case(claim.case.case_id).case
    assert (case.rule, case.reason) == ("P6", "danger: first")
    assert case.told == (ReasonKind.RULE, ReasonKind.DANGER)


def test_what_is_no_more_with_a_person_is_told_anew(ledger: Ledger, claim: Claim) -> None:
    """A case waits again -> what was told before does not count any more."""
    told_of = {"reason_kind": ReasonKind.DANGER, "delay_seconds": 0.0}
    ledger.finish(claim, outcome(CaseState.DUE, **told_of))
    assert ledger.case(claim.case.case_id).case.told == (ReasonKind.DANGER,)
    ledger.finish(claim_one(ledger), outcome(CaseState.DUE, delay_seconds=0.0))
    assert ledger.case(claim.case.case_id).case.told == ()


def test_newer_signal_of_what_a_person_has(ledger: Ledger, claim: Claim) -> None:
    """A signal came while a parked case was looked at -> it stays parked, and is due at once."""
    ledger.finish(claim, outcome(CaseState.PARKED, delay_seconds=0.0))
    again = claim_one(ledger)
    accept(ledger, attach_error())
    ledger.finish(again, outcome(CaseState.PARKED, held=True, delay_seconds=900.0))
    case = ledger.case(claim.case.case_id).case
    assert (case.state, case.next_attempt_at) == (CaseState.PARKED, case.updated_at)


@pytest.mark.parametrize("state", [s for s in CaseState if s is not CaseState.WAITING])
def test_newer_signal(ledger: Ledger, claim: Claim, state: CaseState) -> None:
    """A signal came while the attempt ran -> whatever the outcome, the case is due at once."""
    accept(ledger, END)
    ledger.finish(claim, outcome(state, delay_seconds=None if state is CaseState.CLOSED else 900.0))
    record = ledger.case(claim.case.case_id)
    assert (record.case.state, record.case.conclusion) == (CaseState.DUE, None)
    assert record.case.closed_at is None
    line = record.history[-1]
    assert (line.kind, line.state, line.verdict) == (HistoryKind.CONCLUDED, CaseState.DUE, "clean")
    assert line.detail is not None
    assert (line.detail["wanted_state"], line.detail["newer_signal"]) == (state.value, True)
    again = claim_one(ledger)
    assert again.case.end_seen
    ledger.finish(again, outcome(CaseState.CLOSED))
    assert ledger.case(claim.case.case_id).case.state is CaseState.CLOSED


def test_newer_signal_keeps_what_was_done(ledger: Ledger, claim: Claim) -> None:
    """A signal came while a case was mended -> mended_at and the announced end are kept."""
    accept(ledger, END)
    done = (announcement("end"),)
    ledger.finish(
        claim, outcome(CaseState.SETTLING, mended=True, delay_seconds=9.0, announcements=done)
    )
    assert [o.event_type for o in ledger.case(claim.case.case_id).outbox] == [
        "volume.force_detach.end"
    ]
    assert claim_one(ledger).case.mended_at is not None


def test_newer_signal_parks_nobody(ledger: Ledger, claim: Claim) -> None:
    """A signal came before a parking -> the failure is announced, the parking is not."""
    accept(ledger, END)
    both = (announcement("error"), announcement("parked"))
    ledger.finish(claim, outcome(CaseState.PARKED, failed=True, announcements=both))
    assert [o.event_type for o in ledger.case(claim.case.case_id).outbox] == [
        "volume.force_detach.error"
    ]
    assert claim_one(ledger).case.failures == 1


def test_waiting_case_gets_a_repeated_start_in_hand(ledger: Ledger) -> None:
    """A waiting case in hand whose start is repeated -> it is looked at again, not closed."""
    start = {"attachment_id": "att-1", "request_id": REQUEST}
    accept(ledger, told(**start))
    make_due(ledger)
    claim = claim_one(ledger)
    accept(ledger, told(**start))
    ledger.finish(claim, outcome(CaseState.CLOSED))
    assert ledger.case(claim.case.case_id).case.state is CaseState.DUE


def test_finish_twice(ledger: Ledger, claim: Claim) -> None:
    """A claim is finished a second time -> refused, and nothing of it is written."""
    ledger.finish(claim, outcome(CaseState.CLOSED))
    with pytest.raises(Exception, match="has ended"):
        ledger.finish(claim, outcome(CaseState.PARKED, announcements=(announcement("parked"),)))
    record = ledger.case(claim.case.case_id)
    assert (record.case.state, record.outbox) == (CaseState.CLOSED, ())


def test_commit_of_unknown_fate(ledger: Ledger, claim: Claim) -> None:
    """The connection is lost in a commit that held -> finishing succeeds, nothing is twice."""
    lost = lose_next_commit(ledger)
    ledger.finish(claim, outcome(CaseState.SETTLING, announcements=(announcement("end"),)))
    record = ledger.case(claim.case.case_id)
    assert lost.times == 1
    assert [h.kind for h in record.history].count(HistoryKind.CONCLUDED) == 1
    assert len(record.outbox) == 1


def test_strange_text(ledger: Ledger, claim: Claim) -> None:
    """An outside error's text with NUL and half a pair -> stored, as far as it can be."""
    ledger.finish(
        claim, outcome(CaseState.PARKED, reason="a\0b\ud800", evidence={"said": "c\0d\ud800e"})
    )
    line = ledger.case(claim.case.case_id).history[-1]
    assert line.reason == "a\ufffdb?"
    assert line.detail is not None
    assert line.detail["evidence"] == {"said": "c\0d?e"}


def test_error_while_closed(ledger: Ledger, claim: Claim) -> None:
    """An error after the case was closed -> a new case; the closed one stays closed."""
    ledger.finish(claim, outcome(CaseState.CLOSED))
    accept(ledger, attach_error())
    assert {c.state for c in ledger.cases()} == {CaseState.CLOSED, CaseState.DUE}
