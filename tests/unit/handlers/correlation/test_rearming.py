"""Which case a replayed notification is about, and what becomes of it: pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from consumer.ledger import ReplayRefusedError
from drivers.base import Connector
from handlers.case import Case, CaseState, Conclusion, Trigger
from handlers.correlation.rearming import chosen, opened_by_replay, rearmed, reminded
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    CONNECTOR,
    INSTANCE,
    NOW,
    REQUEST,
    attach_error,
    known,
    released,
    seen,
    told,
)

NAMED = {"attachment_id": ATTACHMENT}


def over(case_id: str = "over", **fields: Any) -> Case:
    """Return a finished case."""
    return known(case_id=case_id, state=CaseState.CLOSED, conclusion=Conclusion.ENDED, **fields)


def parked(case_id: str = "parked", **fields: Any) -> Case:
    """Return a case that waits for a person."""
    return known(case_id=case_id, state=CaseState.PARKED, **fields)


def pick(notification: Any, *cases: Case, filed: str | None = None) -> str | None:
    """Return the id of the case that is chosen."""
    case = chosen(cases, notification, {filed} if filed else set())
    return case.case_id if case else None


@pytest.mark.parametrize(
    ("cases", "filed", "picked"),
    [
        pytest.param([over()], None, "over", id="only a finished one -> that one"),
        pytest.param([parked()], None, "parked", id="only a parked one -> that one"),
        pytest.param([over(), parked()], None, "parked", id="both -> the open one"),
        pytest.param([over(), parked()], "over", "parked", id="open one before where it was filed"),
        pytest.param([over("a"), over("b")], None, "b", id="two finished -> the newest"),
        pytest.param([over("a"), over("b")], "a", "a", id="two finished -> where it was filed"),
        pytest.param([], None, None, id="none -> none"),
        pytest.param([over(attachment_id="other")], None, None, id="another attachment's -> none"),
        pytest.param(
            [over(operation=Operation.DETACH)], None, None, id="the other operation's -> none"
        ),
    ],
)
def test_case_of_an_attachment(cases: list[Case], filed: str | None, picked: str) -> None:
    """A message that names the attachment -> the case of that attachment."""
    assert pick(told(phase=Phase.END, **NAMED), *cases, filed=filed) == picked


def test_finished_case_must_be_proven() -> None:
    """Same instance, nothing else in common -> an open case is meant, a finished one is not."""
    message = attach_error(request_id="req-other")
    assert pick(message, over(attachment_id=None)) is None
    assert pick(message, parked(attachment_id=None)) == "parked"


def test_finished_case_of_the_same_request() -> None:
    """Nova's message without an attachment, the request of a finished case -> that case."""
    assert pick(attach_error(), over()) == "over"


def test_filed_under_what_nothing_else_tells() -> None:
    """The original was filed by our own request id -> that case, though nothing else fits."""
    message = told(attachment_id="other", instance_id="other", request_id="req-ours")
    assert pick(message, over(), filed="over") == "over"


def test_message_without_a_volume() -> None:
    """compute.exception -> the newest case of its request, an open one before a finished one."""
    message = told(None, Phase.ERROR, volume_id=None, request_id=REQUEST)
    assert pick(message, over("a"), over("b")) == "b"
    assert pick(message, parked("a"), over("b")) == "a"
    assert pick(message, over(request_ids=("req-other",))) is None


def test_signature_of_uc5_belongs_to_the_attach() -> None:
    """A reserved row let go unasked -> the attach case of that attachment, not a detach case."""
    detach = over("detach", operation=Operation.DETACH)
    assert pick(released(), over("attach"), detach) == "attach"


def test_end_that_follows_the_signature() -> None:
    """The detach's end in the same request -> the attach case that was let go unasked."""
    message = told(Operation.DETACH, Phase.END, request_id=REQUEST, **NAMED)
    assert pick(message, over("attach", released_unasked=True)) == "attach"
    assert pick(message, over("attach")) is None


# --- what becomes of it ---


@pytest.mark.parametrize("state", list(CaseState))
def test_rearmed(state: CaseState) -> None:
    """A case in any state -> due now, by a replay, open, and newer than any attempt that runs."""
    case = rearmed(known(state=state, next_attempt_at=None, conclusion=Conclusion.ENDED), NOW)
    assert (case.state, case.trigger, case.next_attempt_at) == (CaseState.DUE, Trigger.REPLAY, NOW)
    assert (case.signal_seq, case.conclusion) == (2, None)


def test_rearmed_never_later() -> None:
    """A case that was due before -> keeps its place in the queue."""
    before = NOW - timedelta(seconds=60)
    assert rearmed(known(next_attempt_at=before), NOW).next_attempt_at == before


def test_reminded_of_what_it_does_not_know() -> None:
    """A case that knows little -> what the old message says, as far as it is not known."""
    bare = known(attachment_id=None, instance_id=None, starts=0)
    message = told(attachments=(seen("attaching", connector=CONNECTOR),), host="compute1", **NAMED)
    case = reminded(bare, message)
    assert (case.attachment_id, case.instance_id) == (ATTACHMENT, INSTANCE)
    assert (case.host, case.connector) == ("compute1", CONNECTOR)
    assert (case.starts, case.signal_seq) == (1, bare.signal_seq)


def test_reminded_of_nothing_newer() -> None:
    """A case that has a connector and its start -> neither replaced nor counted twice."""
    newer = Connector(host="compute1", initiator="iqn.newer")
    message = told(attachments=(seen("attaching", connector=CONNECTOR),), **NAMED)
    case = reminded(known(connector=newer, starts=1), message)
    assert (case.connector, case.starts) == (newer, 1)


@pytest.mark.parametrize("phase", list(Phase))
def test_opened(phase: Phase) -> None:
    """Any phase, an end too, and no case -> one is opened, due now."""
    case = opened_by_replay(told(phase=phase, **NAMED), "default", NOW)
    assert (case.state, case.trigger, case.next_attempt_at) == (CaseState.DUE, Trigger.REPLAY, NOW)
    assert (case.operation, case.attachment_id) == (Operation.ATTACH, ATTACHMENT)


def test_opened_by_the_signature_of_uc5() -> None:
    """UC5's signature and no case -> an attach case that knows of it."""
    case = opened_by_replay(released(), "default", NOW)
    assert (case.operation, case.released_unasked) == (Operation.ATTACH, True)


def test_nothing_to_open() -> None:
    """A message without a volume and no case of its request -> refused, in words."""
    with pytest.raises(ReplayRefusedError, match="exception names no volume"):
        opened_by_replay(told(None, Phase.ERROR, volume_id=None), "default", NOW)
