"""What recovery writes while it works on a case, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumer.ledger import Claim, HistoryKind, Ledger
from handlers.case import (
    CaseFile,
    CaseState,
    ClaimLostError,
    Grounds,
    PausedError,
    StepKind,
    StepResult,
    UseCase,
)
from handlers.notification import Operation
from tests.unit.consumer.ledger.breaking import lose_next_commit
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    attach_error,
    claim_one,
    due_case,
    expire_leases,
    outcome,
    told,
)

EVIDENCE = {"volume": {"status": "detaching"}, "rows": ["att-1"], "note": "größer"}
TARGET = {"attachment_id": "att-1", "instance_id": "inst-1", "host": "compute1"}


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    """Return a claim of a due case."""
    due_case(ledger)
    return claim_one(ledger)


def intend(casefile: CaseFile, request_id: str = "req-ours", **more: object) -> None:
    """Write down one call."""
    known: dict[str, object] = {
        "target": TARGET, "evidence": EVIDENCE, "lease_seconds": 5.0, "announcement": None,
    }  # fmt: skip
    casefile.intend(StepKind.CINDER_DELETE_ATTACHMENT, request_id=request_id, **known | more)


def test_casefile_is_the_claims(ledger: Ledger, claim: Claim) -> None:
    """A case file of a claim -> its case, and the database's time of the claim."""
    casefile = ledger.casefile(claim)
    assert casefile.case == claim.case
    assert casefile.now == claim.claimed_at
    assert abs(casefile.now - datetime.now(UTC)) < timedelta(seconds=30)


def test_intent_and_result(ledger: Ledger, claim: Claim) -> None:
    """A call is meant, then made -> intent, evidence, target and result are on record."""
    casefile = ledger.casefile(claim)
    intend(casefile)
    (before,) = ledger.case(claim.case.case_id).intents
    casefile.result("req-ours", StepResult.INDETERMINATE, "no answer within 60 s")
    (record,) = ledger.case(claim.case.case_id).intents
    assert (before.result, before.result_at) == (StepResult.INTENDED, None)
    assert (record.kind, record.attempt) == (StepKind.CINDER_DELETE_ATTACHMENT, 1)
    assert (record.target, record.evidence) == (TARGET, EVIDENCE)
    assert (record.result, record.detail) == (StepResult.INDETERMINATE, "no answer within 60 s")
    kinds = [line.kind for line in ledger.case(claim.case.case_id).history]
    assert kinds == [HistoryKind.OPENED, HistoryKind.INTENDED, HistoryKind.RESULT]


def test_case_is_about_what_it_acts_on(ledger: Ledger, claim: Claim) -> None:
    """No message named an attachment, and one is acted on -> the case is about that one, for good.

    A later call for another one, or a message that another joins it by, changes nothing.
    """
    assert claim.case.attachment_id is None
    casefile = ledger.casefile(claim)
    intend(casefile)
    intend(casefile, "req-2", target=TARGET | {"attachment_id": "att-2", "host": "compute2"})
    known = ledger.case(claim.case.case_id).case
    assert (known.attachment_id, known.host) == ("att-1", "compute1")
    assert known.instance_id == claim.case.instance_id
    ledger.finish(claim, outcome(CaseState.SETTLING, mended=True))
    other = told(Operation.ATTACH, instance_id=known.instance_id, attachment_id="att-2")
    accept(ledger, other)
    assert len(ledger.cases()) == 2


def test_call_for_no_attachment_names_none(ledger: Ledger, claim: Claim) -> None:
    """A reserve, which is about a volume alone -> the case is as it was."""
    intend(ledger.casefile(claim), target=TARGET | {"attachment_id": None})
    known = ledger.case(claim.case.case_id).case
    assert (known.attachment_id, known.host) == (None, claim.case.host)


def test_next_attempt_knows_why_it_was_meant(ledger: Ledger, claim: Claim) -> None:
    """An attempt ends without a word -> the next knows on which verdict and rule it acted."""
    why = {"verdict": "release", "rule": "UC1.unfinished", "use_case": "UC1"}
    intend(ledger.casefile(claim), "req-1", evidence=EVIDENCE | why)
    ledger.finish(claim, outcome(CaseState.DUE, delay_seconds=0.0))
    (intent,) = claim_one(ledger).case.intents
    assert intent.grounds == Grounds("release", "UC1.unfinished", UseCase.UC1)


def test_next_attempt_knows_the_intents(ledger: Ledger, claim: Claim) -> None:
    """Calls of an attempt -> the next one knows them, in their order."""
    casefile = ledger.casefile(claim)
    for number, result in enumerate([StepResult.DONE, StepResult.TRANSIENT]):
        intend(casefile, f"req-{number}-ours")
        casefile.result(f"req-{number}-ours", result, "")
    ledger.finish(claim, outcome(CaseState.DUE, delay_seconds=0.0, failed=True))
    again = claim_one(ledger, "w2")
    assert [(i.request_id, i.result, i.attempt) for i in again.case.intents] == [
        ("req-0-ours", StepResult.DONE, 1),
        ("req-1-ours", StepResult.TRANSIENT, 1),
    ]
    assert (again.case.attempts, again.case.failures) == (2, 1)


def test_next_attempt_knows_the_backend(ledger: Ledger, claim: Claim) -> None:
    """Cinder says where the volume is, then the attempt dies -> the next claim is of that one."""
    heard: list[str] = []
    ledger.casefile(claim, located=heard.append).locate("lab@one")
    expire_leases(ledger)
    assert claim_one(ledger, "w2").case.backend == "lab@one"
    assert heard == ["lab@one"]


def test_backend_that_a_message_told_stays(ledger: Ledger, claim: Claim) -> None:
    """A message names the backend while Cinder is asked -> the message's stays, as without us."""
    accept(ledger, attach_error(backend="lab@told"))
    ledger.casefile(claim).locate("lab@one")
    assert ledger.case(claim.case.case_id).case.backend == "lab@told"


def test_backend_from_a_claim_that_is_lost(ledger: Ledger, claim: Claim) -> None:
    """The lease ran out, another worker has the case -> refused, nothing written, nobody told."""
    expire_leases(ledger)
    claim_one(ledger, "w2")
    heard: list[str] = []
    with pytest.raises(ClaimLostError):
        ledger.casefile(claim, located=heard.append).locate("lab@one")
    assert ledger.case(claim.case.case_id).case.backend is None
    assert heard == []


def test_intent_extends_the_lease(ledger: Ledger, claim: Claim) -> None:
    """A long call is meant -> the lease outlasts it; a short one -> the lease is not shortened."""
    casefile = ledger.casefile(claim)
    intend(casefile, "req-long", lease_seconds=600.0)
    longer = ledger.case(claim.case.case_id).lease_expires_at
    intend(casefile, "req-short", lease_seconds=1.0)
    assert longer is not None
    assert longer >= claim.claimed_at + timedelta(seconds=600)
    assert ledger.case(claim.case.case_id).lease_expires_at == longer


def test_announced_with_the_intent(ledger: Ledger, claim: Claim) -> None:
    """An intent with an announcement -> exactly one outbox row."""
    intend(ledger.casefile(claim), announcement=announcement("start", case="c"))
    (row,) = ledger.case(claim.case.case_id).outbox
    assert (row.event_type, row.payload) == ("volume.force_detach.start", {"case": "c"})


def test_paused(ledger: Ledger, claim: Claim) -> None:
    """Paused -> the next intent is refused, says by whom and why, and nothing of it is written."""
    ledger.pause("alice", "storage maintenance")
    with pytest.raises(PausedError, match=r"alice.*storage maintenance.*detachd resume"):
        intend(ledger.casefile(claim), announcement=announcement("start"), lease_seconds=900.0)
    record = ledger.case(claim.case.case_id)
    assert (record.intents, record.outbox) == ((), ())
    assert record.lease_expires_at == claim.lease_expires_at
    ledger.resume("alice")
    intend(ledger.casefile(claim))


def test_paused_for_its_backend(ledger: Ledger, claim: Claim) -> None:
    """The backend on which Cinder has the volume is paused -> the next intent is refused."""
    ledger.pause("alice", "the array", backend="h@lvm")
    casefile = ledger.casefile(claim)
    intend(casefile, request_id="req-before")
    casefile.locate("h@lvm")
    with pytest.raises(PausedError, match=r"alice.*the array.*detachd resume --backend h@lvm"):
        intend(casefile)
    ledger.resume("alice", backend="h@lvm")
    ledger.pause("alice", "another array", backend="h@ceph")
    intend(casefile)


def test_request_id_used_before(ledger: Ledger, claim: Claim) -> None:
    """A request id is used for a second intent -> refused: it could not tell two calls apart."""
    casefile = ledger.casefile(claim)
    intend(casefile)
    with pytest.raises(ValueError, match="req-ours"):
        intend(casefile, announcement=announcement("start"))
    record = ledger.case(claim.case.case_id)
    assert (len(record.intents), record.outbox) == (1, ())


def test_result_without_intent(ledger: Ledger, claim: Claim) -> None:
    """A result of a call that was never meant -> refused."""
    with pytest.raises(KeyError, match="req-other"):
        ledger.casefile(claim).result("req-other", StepResult.DONE, "")
    assert ledger.case(claim.case.case_id).history[-1].kind is HistoryKind.OPENED


def test_commit_of_unknown_fate(ledger: Ledger, claim: Claim) -> None:
    """The connection is lost in a commit that held -> repeating the intent writes nothing twice."""
    lose_next_commit(ledger)
    intend(ledger.casefile(claim), announcement=announcement("start"))
    record = ledger.case(claim.case.case_id)
    assert (len(record.intents), len(record.outbox)) == (1, 1)
