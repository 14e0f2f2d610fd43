"""Sending round again, on each database."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import (
    CaseRecord,
    HistoryKind,
    HistoryRecord,
    Ledger,
    NoSuchCaseError,
    Replay,
    Replayed,
    ReplayRefusedError,
)
from consumer.ledger.database.tables import cases, connectors
from drivers.base import Connector
from handlers.case import CaseState, Conclusion, StepKind, Trigger
from handlers.notification import Notification, Operation, Phase
from tests.unit.consumer.ledger.breaking import crashing, lose_next_commit
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    CONNECTOR,
    REQUEST,
    accept,
    at_once,
    attach_error,
    claim_one,
    due_case,
    outcome,
    places,
    seen,
    told,
)

_hashes = itertools.count(1)


def sent(**changes: Any) -> Replay:
    """Return a replay, as a delivery of its own."""
    values: dict[str, Any] = {
        "delivery_id": f"replay:{uuid.uuid4()}",
        "body_sha256": f"{next(_hashes):064d}",
        "bus": "replay",
        "actor": "alice",
        "reason": "the array is back",
    }
    return Replay(**values | changes)


def left(ledger: Ledger, state: CaseState, **more: Any) -> str:
    """Make a case that an attempt left in this state; return its id."""
    case_id = due_case(ledger)
    ledger.finish(claim_one(ledger), outcome(state, **more))
    return case_id


def rearmings(ledger: Ledger, case_id: str) -> list[HistoryRecord]:
    """Return the lines of its history that tell of a replay."""
    kinds = (HistoryKind.REARMED, HistoryKind.OPENED)
    history = ledger.case(case_id).history
    return [line for line in history if line.kind in kinds and "delivery_id" in (line.detail or {})]


def age(ledger: Ledger, case_id: str, **values: Any) -> None:
    """Write what time, or a life before, has left of a case."""
    with ledger._database.engine.begin() as connection:
        connection.execute(cases.update().where(cases.c.case_id == case_id).values(values))


def only(ledger: Ledger) -> CaseRecord:
    """Return the one case there is."""
    (summary,) = ledger.cases()
    return ledger.case(summary.case_id)


# --- a case by its id ---


@pytest.mark.parametrize(
    ("state", "more"),
    [
        pytest.param(CaseState.CLOSED, {}, id="closed"),
        pytest.param(CaseState.PARKED, {}, id="parked"),
        pytest.param(CaseState.AWAITING_APPROVAL, {"fingerprint": "p1"}, id="awaiting-approval"),
        pytest.param(CaseState.SETTLING, {"delay_seconds": 3600.0}, id="settling"),
        pytest.param(CaseState.DUE, {"delay_seconds": 3600.0}, id="due later"),
    ],
)
def test_case_goes_round_again(ledger: Ledger, state: CaseState, more: dict[str, Any]) -> None:
    """A case in any state of rest -> due at once, with who and why; all its history is kept."""
    case_id = left(ledger, state, **more)
    before = ledger.case(case_id).history
    replay = sent()
    assert ledger.replay(replay, case_id[:8]) == Replayed(case_id, state)
    record = ledger.case(case_id)
    assert (record.case.state, record.case.trigger) == (CaseState.DUE, Trigger.REPLAY)
    assert (record.case.closed_at, record.case.conclusion) == (None, None)
    assert record.history[: len(before)] == before
    line = record.history[-1]
    assert (line.kind, line.actor, line.reason, line.state) == (
        HistoryKind.REARMED, "alice", "the array is back", CaseState.DUE,
    )  # fmt: skip
    assert line.detail is not None
    assert (line.detail["delivery_id"], line.detail["before"]) == (replay.delivery_id, state.value)
    assert claim_one(ledger).case.case_id == case_id


def test_waiting_case_does_not_wait_any_more(ledger: Ledger) -> None:
    """A start that waits for its end -> due now; its end, coming then, is judged by the look."""
    accept(ledger, told(attachment_id=ATTACHMENT))
    case_id = only(ledger).case.case_id
    ledger.replay(sent(), case_id)
    accept(ledger, told(phase=Phase.END, attachment_id=ATTACHMENT))
    assert claim_one(ledger).case.end_seen


def test_new_round_starts_from_nothing(ledger: Ledger) -> None:
    """Spent, once clean, once approved, opened long ago -> none of it counts in the new round."""
    case_id = left(ledger, CaseState.CLOSED, clean=True, fingerprint="plan-1")
    record = ledger.case(case_id)
    long_ago = record.case.opened_at - timedelta(days=30)
    age(
        ledger, case_id, opened_at=long_ago, failures=7, crashes=3,
        mended_at=long_ago, mended_attempt=1, approved_by="bob", approved_fingerprint="plan-1",
    )  # fmt: skip
    ledger.replay(sent(), case_id)
    case = claim_one(ledger).case
    assert (case.failures, case.crashes, case.first_clean_at) == (0, 0, None)
    assert (case.approved_by, case.approved_fingerprint, case.approved_at) == (None, None, None)
    assert case.round_began_at >= record.case.opened_at, "guards that ask its age ask for this"
    assert (case.mended_attempt, case.attempts) == (1, 2)
    assert ledger.case(case_id).case.opened_at == long_ago


def test_brought_forward_is_no_new_round(ledger: Ledger) -> None:
    """A case that settles -> looked at now, but what was clean and approved still is."""
    case_id = left(ledger, CaseState.SETTLING, clean=True, delay_seconds=3600.0)
    age(ledger, case_id, approved_by="bob", approved_fingerprint="plan-1")
    before = ledger.case(case_id).case
    ledger.replay(sent(), case_id)
    case = claim_one(ledger).case
    assert case.first_clean_at == before.first_clean_at is not None
    assert case.approved_fingerprint == before.approved_fingerprint is not None
    assert case.round_began_at == before.round_began_at == before.opened_at


def test_while_it_is_worked(ledger: Ledger) -> None:
    """A worker has the case in hand -> what it finds is not final: the case is due again."""
    case_id = due_case(ledger)
    claim = claim_one(ledger)
    ledger.replay(sent(), case_id)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    assert ledger.case(case_id).case.state is CaseState.DUE
    assert claim_one(ledger).case.trigger is Trigger.REPLAY


@pytest.mark.parametrize("case_id", ["00000000", "abc", "%%%%", "____", ""])
def test_no_such_case(ledger: Ledger, case_id: str) -> None:
    """An id that is no case's -> told, and nothing is done."""
    left(ledger, CaseState.PARKED)
    with pytest.raises(NoSuchCaseError):
        ledger.replay(sent(), case_id)
    assert only(ledger).case.state is CaseState.PARKED


def test_case_of_another_cloud(ledger: Ledger, ledger_url: str) -> None:
    """A case of another cloud in the same database -> none of ours."""
    case_id = left(ledger, CaseState.PARKED)
    other = Ledger(ledger_url, cloud="other")
    with pytest.raises(NoSuchCaseError):
        other.replay(sent(), case_id)
    other.close()


# --- once, however often it comes ---


def test_redelivered_once(ledger: Ledger) -> None:
    """The same delivery again, even after the look that it asked for -> nothing happens twice."""
    case_id = left(ledger, CaseState.PARKED)
    replay = sent()
    ledger.replay(replay, case_id)
    assert ledger.replay(replay, case_id).repeated
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED))
    assert ledger.replay(replay, case_id) == Replayed(case_id, CaseState.PARKED, repeated=True)
    assert ledger.case(case_id).case.state is CaseState.PARKED
    assert len(rearmings(ledger, case_id)) == 1


def test_another_delivery_counts_again(ledger: Ledger) -> None:
    """The same order sent twice by a person -> two replays, both in the history."""
    case_id = left(ledger, CaseState.PARKED)
    ledger.replay(sent(), case_id)
    ledger.replay(sent(), case_id)
    assert len(rearmings(ledger, case_id)) == 2


def test_perhaps_seen_and_still_waiting(ledger: Ledger) -> None:
    """No id to tell by, the same body waits for its look -> the same replay: nothing is added."""
    case_id = left(ledger, CaseState.PARKED)
    first = sent()
    ledger.replay(first, case_id)
    again = sent(body_sha256=first.body_sha256, maybe_repeated=True)
    assert ledger.replay(again, case_id).repeated
    other = sent(maybe_repeated=True)
    assert not ledger.replay(other, case_id).repeated


def test_perhaps_seen_and_looked_at_since(ledger: Ledger) -> None:
    """No id to tell by, the same body's look is done -> a new replay: rather twice than lost."""
    case_id = left(ledger, CaseState.PARKED)
    first = sent()
    ledger.replay(first, case_id)
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED))
    again = sent(body_sha256=first.body_sha256, maybe_repeated=True)
    assert not ledger.replay(again, case_id).repeated
    assert ledger.case(case_id).case.state is CaseState.DUE


def test_same_delivery_by_two_replicas_at_once(ledger: Ledger, second: Ledger) -> None:
    """One delivery taken in by two processes at the same time -> one of them does it."""
    case_id, replay, message = left(ledger, CaseState.PARKED), sent(), attach_error()
    works = [lambda one=one: one.replay(replay, case_id) for one in (ledger, second)]
    answers = at_once(*works)
    assert sorted(answer.repeated for answer in answers) == [False, True]
    other = sent()
    works = [lambda one=one: one.replay(other, message) for one in (ledger, second)]
    answers = at_once(*works)
    assert sorted(answer.repeated for answer in answers) == [False, True]


def test_commit_without_an_answer(ledger: Ledger) -> None:
    """The connection breaks as the commit holds -> done once, and known to be done."""
    case_id = left(ledger, CaseState.PARKED)
    loss = lose_next_commit(ledger)
    assert ledger.replay(sent(), case_id).case_id == case_id
    assert loss.times == 1
    assert len(rearmings(ledger, case_id)) == 1


def test_crash_before_the_commit(ledger: Ledger) -> None:
    """The process dies in the midst -> nothing is written; delivered again it is done."""
    accept(ledger, attach_error())
    record, replay = only(ledger), sent()
    message = attach_error(request_id="req-other", instance_id="other")
    with crashing(ledger):
        ledger.replay(replay, message)
    assert ledger.cases() == (record.case,)
    assert not ledger.replay(replay, message).repeated


# --- a notification ---


def finished(ledger: Ledger) -> tuple[Notification, str]:
    """Make a case that its end has closed; return the start's message and the case's id."""
    start = told(attachment_id=ATTACHMENT, request_id=REQUEST)
    accept(ledger, start, told(phase=Phase.END, attachment_id=ATTACHMENT))
    assert only(ledger).case.state is CaseState.CLOSED
    return start, only(ledger).case.case_id


def test_original_of_a_closed_case(ledger: Ledger) -> None:
    """The start of a finished case -> that case is due again; both messages are on record."""
    start, case_id = finished(ledger)
    replay = sent()
    assert ledger.replay(replay, start) == Replayed(case_id, CaseState.CLOSED)
    record = only(ledger)
    assert (record.case.state, record.case.trigger) == (CaseState.DUE, Trigger.REPLAY)
    assert record.case.closed_at is None
    last = record.notifications[-1].notification
    assert last == dataclasses.replace(start, message_id=replay.delivery_id)
    assert [line.kind for line in record.history] == [
        HistoryKind.OPENED, HistoryKind.CLOSED, HistoryKind.REARMED,
    ]  # fmt: skip
    detail = record.history[-1].detail
    assert detail is not None
    assert detail["original_message_id"] == start.message_id
    assert detail["delivery_id"] == replay.delivery_id


def test_notification_redelivered_once(ledger: Ledger) -> None:
    """The same delivery again, whatever became of the case -> nothing happens twice."""
    start, case_id = finished(ledger)
    replay = sent()
    ledger.replay(replay, start)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    assert ledger.replay(replay, start).repeated
    assert ledger.case(case_id).case.state is CaseState.CLOSED
    assert len(rearmings(ledger, case_id)) == 1
    assert len(ledger.case(case_id).notifications) == 3


def test_notification_perhaps_seen(ledger: Ledger) -> None:
    """Delivered again without an id to tell by, before any look -> the same replay."""
    start, case_id = finished(ledger)
    first = sent()
    ledger.replay(first, start)
    assert ledger.replay(sent(body_sha256=first.body_sha256, maybe_repeated=True), start).repeated
    assert len(rearmings(ledger, case_id)) == 1


def test_notification_that_never_came(ledger: Ledger) -> None:
    """No case of its attachment -> one is opened, due at once, with who and why."""
    end = told(Operation.DETACH, Phase.END, attachment_id=ATTACHMENT)
    replayed = ledger.replay(sent(), end)
    assert replayed.before is None
    (line,) = only(ledger).history
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.OPENED, "alice", "the array is back",
    )  # fmt: skip
    claim = claim_one(ledger)
    assert (claim.case.case_id, claim.case.operation) == (replayed.case_id, Operation.DETACH)


def test_end_that_was_kept_without_a_case(ledger: Ledger) -> None:
    """The original was kept for a start that never came -> it is the new case's history too."""
    end = told(phase=Phase.END, attachment_id=ATTACHMENT)
    accept(ledger, end)
    replay = sent()
    replayed = ledger.replay(replay, end)
    wanted = dict.fromkeys([end.message_id, replay.delivery_id], replayed.case_id)
    assert places(ledger) == wanted


def test_message_without_a_volume(ledger: Ledger) -> None:
    """compute.exception -> the finished case of its request; without one it is refused."""
    start, case_id = finished(ledger)
    error = told(None, Phase.ERROR, volume_id=None, request_id=start.request_id)
    assert ledger.replay(sent(), error) == Replayed(case_id, CaseState.CLOSED)
    stranger = told(None, Phase.ERROR, volume_id=None, request_id="req-unknown")
    with pytest.raises(ReplayRefusedError, match="names no volume"):
        ledger.replay(sent(), stranger)


def test_message_that_our_own_call_caused(ledger: Ledger) -> None:
    """The request id of one of our intents -> that intent's case goes round again."""
    due_case(ledger, attachment_id=ATTACHMENT)
    claim = claim_one(ledger)
    ledger.casefile(claim).intend(
        StepKind.CINDER_DELETE_ATTACHMENT, request_id="req-ours", target={}, evidence={},
        lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    ledger.finish(claim, outcome(CaseState.CLOSED, conclusion=Conclusion.MENDED))
    caused = told(Operation.DETACH, attachment_id=ATTACHMENT, request_id="req-ours")
    assert ledger.replay(sent(), caused) == Replayed(claim.case.case_id, CaseState.CLOSED)


def test_worked_case_by_notification(ledger: Ledger) -> None:
    """The case of a replayed message is being worked -> the attempt's result is not final."""
    message = attach_error(attachment_id=ATTACHMENT)
    accept(ledger, message)
    case_id = only(ledger).case.case_id
    ledger.replay(sent(), message)
    claim = claim_one(ledger)
    ledger.replay(sent(), message)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    assert ledger.case(case_id).case.state is CaseState.DUE


def test_old_connector_is_no_news(ledger: Ledger) -> None:
    """A replayed message shows a host's connector -> learned only if none is known of the host."""

    def message(initiator: str, host: str = "compute1") -> Notification:
        connector = Connector(host=host, initiator=initiator)
        row = seen("attached", connector=connector, host=host)
        return told(phase=Phase.END, attachments=(row,), attachment_id=ATTACHMENT)

    accept(ledger, message("iqn.new"))
    ledger.replay(sent(), message("iqn.old"))
    ledger.replay(sent(), message("iqn.only", "compute2"))
    with ledger._database.engine.begin() as connection:
        known = {row.host: row.connector for row in connection.execute(sa.select(connectors))}
    assert known["compute1"]["initiator"] == "iqn.new"
    assert known["compute2"]["initiator"] == "iqn.only"


def test_what_the_database_refuses(ledger: Ledger) -> None:
    """A message whose ids no column takes -> refused in words, and nothing is written."""
    if ledger._database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no lengths")
    with pytest.raises(ReplayRefusedError, match="the ledger refuses the replay"):
        ledger.replay(sent(), told(volume_id="v" * 300, attachment_id=ATTACHMENT))
    assert ledger.cases() == ()


def test_connector_of_the_case_is_used(ledger: Ledger) -> None:
    """A replayed message opens a case -> the connector of its own row is the case's."""
    row = seen("attaching", connector=CONNECTOR)
    ledger.replay(sent(), told(attachment_id=ATTACHMENT, attachments=(row,)))
    assert claim_one(ledger).case.connector == CONNECTOR
