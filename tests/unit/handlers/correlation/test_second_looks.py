"""Which cases that the bus said had ended are looked at once more, and when."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import timedelta

import pytest

from handlers.case import Case, CaseState, Conclusion, Trigger
from handlers.correlation.correlation import Changes, Recorded, correlate
from handlers.correlation.matching import Timing
from handlers.notification import Notification, NotifiedAttachment, Operation, Phase, Source
from tests.unit.consumer.ledger.making import ATTACHMENT, INSTANCE, NOW, REQUEST, known, told

TIMING = Timing(error_settle_seconds=15, second_look_seconds=600)
LOOK_AT, SETTLED_AT = NOW + timedelta(seconds=600), NOW + timedelta(seconds=15)
END = told(Operation.ATTACH, Phase.END, attachment_id=ATTACHMENT, request_id=REQUEST)
ROW = NotifiedAttachment(ATTACHMENT, "attached", INSTANCE, None, None)
OTHER_ROW = dataclasses.replace(ROW, attachment_id="att-2")
DETACHING = known(case_id="case-2", operation=Operation.DETACH, request_ids=("req-2",))
DETACHED = told(Operation.DETACH, Phase.END, request_id="req-2")


def after(
    notifications: Sequence[Notification], cases: Sequence[Case] = (), *, spare: int = 0
) -> Changes:
    """Correlate, with so many looks to spare."""
    numbers = itertools.count(1)
    return correlate(
        Recorded("default", tuple(cases), frozenset(), (), {}),
        notifications,
        timing=TIMING,
        now=NOW,
        new_id=lambda: f"new-{next(numbers)}",
        spare_looks=spare,
    )


def final(changes: Changes) -> dict[str, Case]:
    """Return the cases as they are to be."""
    return {c.case_id: c for c in (*changes.opened, *(after for _, after in changes.changed))}


def looked_at(changes: Changes) -> list[str]:
    """Return the cases that are to be looked at once more."""
    return [c.case_id for c in final(changes).values() if c.only_ended and c.open]


def test_usual_end_within_the_budget() -> None:
    """All went well and there is a look to spare -> one look, late; the end is the first clean."""
    changes = after([END], [known()], spare=1)
    (case,) = final(changes).values()
    assert (case.state, case.trigger, case.conclusion) == (CaseState.SETTLING, Trigger.END, None)
    assert (case.next_attempt_at, case.first_clean_at) == (LOOK_AT, NOW)
    assert changes.second_looks == 1


def test_usual_end_beyond_the_budget() -> None:
    """All went well and no look is to spare -> closed, and nobody is asked."""
    changes = after([END], [known()])
    (case,) = final(changes).values()
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.ENDED)
    assert changes.second_looks == 0


def test_budget_of_a_batch() -> None:
    """Two volumes end in one batch and one look is to spare -> one of them is looked at."""
    elsewhere = dataclasses.replace(
        known(case_id="case-2"), volume_id="vol-2", request_ids=("req-2",)
    )
    second = dataclasses.replace(END, message_id="end-2", volume_id="vol-2", request_id="req-2")
    assert len(looked_at(after([END, second], [known(), elsewhere], spare=1))) == 1


@pytest.mark.parametrize(
    ("end", "case", "rows"),
    [
        pytest.param(END, known(), (ROW, OTHER_ROW), id="attach beside another row"),
        pytest.param(DETACHED, DETACHING, (OTHER_ROW,), id="detach that leaves a row"),
    ],
)
def test_end_that_shows_others(
    end: Notification, case: Case, rows: tuple[NotifiedAttachment, ...]
) -> None:
    """The end shows another attachment of the volume -> looked at whatever the budget."""
    told_rows = dataclasses.replace(end, attachments=rows)
    assert looked_at(after([told_rows], [case])) == [case.case_id]
    alone = dataclasses.replace(end, attachments=rows[:-1])
    assert looked_at(after([alone], [case])) == []


def test_unusual_end_is_remembered_until_nova_s() -> None:
    """Cinder's end shows another row and Nova's own comes later -> looked at after Nova's."""
    cinder = dataclasses.replace(END, attachments=(ROW, OTHER_ROW))
    nova = told(Operation.ATTACH, Phase.END, request_id=REQUEST, source=Source.NOVA_VERSIONED)
    (waiting,) = final(after([cinder], [known(nova_started=True)])).values()
    assert waiting.state is CaseState.WAITING
    assert looked_at(after([nova], [waiting])) == [waiting.case_id]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"attachment_id": "att-2"}, id="of another attachment"),
        pytest.param(
            {"state": CaseState.CLOSED, "conclusion": Conclusion.MENDED}, id="that was mended"
        ),
    ],
)
def test_unusual_company(other: dict[str, object]) -> None:
    """The volume has a case of another attachment, or one that was mended -> looked at."""
    beside = dataclasses.replace(known(case_id="case-9", request_ids=("req-9",)), **other)  # type: ignore[arg-type]
    assert looked_at(after([END], [beside, known()])) == [known().case_id]


def test_one_look_for_an_attach_and_its_detach() -> None:
    """An attach that is to be looked at, and its detach ends -> only the detach is looked at."""
    (attached,) = final(after([END], [known()], spare=9)).values()
    changes = after([DETACHED], [attached, DETACHING], spare=9)
    assert looked_at(changes) == [DETACHING.case_id]
    assert final(changes)[attached.case_id].conclusion is Conclusion.ENDED


def test_no_second_look_beside_a_case_that_is_due() -> None:
    """A failed attach, cleaned up by a detach that ended well -> one look, that of the attach."""
    failed = known(state=CaseState.DUE)
    assert looked_at(after([DETACHED], [failed, DETACHING], spare=9)) == []


def test_second_look_beside_an_old_parked_case() -> None:
    """A parked case of another attachment -> it does not stand in the way of the look."""
    parked = known(case_id="case-9", attachment_id="att-2", request_ids=(), state=CaseState.PARKED)
    assert looked_at(after([END], [parked, known()])) == [known().case_id]


def test_next_attach_of_the_instance_is_another_case() -> None:
    """The same instance attaches again before the look -> a case of its own."""
    (attached,) = final(after([END], [known(instance_id=INSTANCE)], spare=9)).values()
    nova = told(source=Source.NOVA_VERSIONED, instance_id=INSTANCE, request_id="req-7")
    assert [c.state for c in after([nova], [attached]).opened] == [CaseState.WAITING]


def test_error_after_the_end() -> None:
    """An error of the same operation -> the same case is due soon, and the end proves nothing."""
    (attached,) = final(after([END], [known()], spare=9)).values()
    error = told(Operation.ATTACH, Phase.ERROR, attachment_id=ATTACHMENT)
    (case,) = final(after([error], [attached])).values()
    assert (case.state, case.next_attempt_at) == (CaseState.DUE, SETTLED_AT)
    assert case.first_clean_at is None
