"""Which row a detach was about, where its start showed several: what its end shows no more."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import pytest

from handlers.case import Case, Shown, Trigger
from handlers.correlation.correlation import Recorded, correlate
from handlers.correlation.matching import Signal, Timing
from handlers.notification import Notification, NotifiedAttachment, Operation, Phase, Source
from tests.unit.consumer.ledger.making import INSTANCE, NOW, REQUEST, told

SOURCE = NotifiedAttachment("att-1", "attached", INSTANCE, "compute-1", None)
DESTINATION = NotifiedAttachment("att-2", "attached", INSTANCE, "compute-2", None)
ELSEWHERE = NotifiedAttachment("att-3", "attached", "inst-3", "compute-3", None)
START = told(Operation.DETACH, request_id=REQUEST, attachments=(SOURCE, DESTINATION))
END = told(
    Operation.DETACH, Phase.END, request_id=REQUEST, attachments=(DESTINATION,),
    publisher_id="volume.labhost",
)  # fmt: skip


def cases_after(*batches: Sequence[Notification]) -> tuple[Case, ...]:
    """Correlate one batch after the other."""
    numbers, cases = itertools.count(1), ()
    for batch in batches:
        changes = correlate(
            Recorded("default", cases, frozenset(), (), {}), batch,
            timing=Timing(), now=NOW, new_id=lambda: f"new-{next(numbers)}",
        )  # fmt: skip
        changed = {before.case_id: after for before, after in changes.changed}
        cases = (*(changed.get(c.case_id, c) for c in cases), *changes.opened)
    return cases


def about(case: Case) -> tuple[str | None, str | None, str | None]:
    """Return what the case is about."""
    return case.attachment_id, case.instance_id, case.host


@pytest.mark.parametrize("batches", [[(START, END)], [(START,), (END,)]], ids=["at once", "later"])
def test_the_row_that_went(batches: Sequence[Sequence[Notification]]) -> None:
    """Two rows of one server at the start, one at the end -> the other is what was detached."""
    (case,) = cases_after(*batches)
    assert about(case) == ("att-1", INSTANCE, "compute-1")


def test_the_end_overtook_its_start() -> None:
    """The end comes first, and is kept for its start -> the same."""
    numbers = itertools.count(1)
    changes = correlate(
        Recorded("default", (), frozenset(), (Signal.of(END),), {}), [START],
        timing=Timing(), now=NOW, new_id=lambda: f"new-{next(numbers)}",
    )  # fmt: skip
    (case,) = changes.opened
    assert about(case) == ("att-1", INSTANCE, "compute-1")


def test_the_destination_s_row_went() -> None:
    """A migration was given up -> the same, of the row that went."""
    (case,) = cases_after((START,), (dataclasses.replace(END, attachments=(SOURCE,)),))
    assert about(case) == ("att-2", INSTANCE, "compute-2")


def test_a_repeated_start_that_shows_fewer_rows_changes_nothing() -> None:
    """Cinder's start is repeated when one of the rows is gone -> the first start counts."""
    again = dataclasses.replace(START, message_id="again", attachments=(ELSEWHERE, DESTINATION))
    (case,) = cases_after((START, again), (END,))
    assert about(case) == ("att-1", INSTANCE, "compute-1")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, dataclasses.replace(END, attachments=())),
        (START, dataclasses.replace(END, attachments=(SOURCE, DESTINATION))),
        (START, dataclasses.replace(END, source=Source.NOVA_LEGACY, instance_id=INSTANCE)),
        (dataclasses.replace(START, attachments=()), END),
    ],
    ids=["both went", "none went", "Nova's end shows no rows", "the start showed none"],
)
def test_not_told_apart(start: Notification, end: Notification) -> None:
    """One thing otherwise -> it is not known which row went."""
    (case,) = cases_after((start,), (end,))
    assert case.attachment_id is None


def test_not_told_apart_by_the_end_of_another_request() -> None:
    """Another detach of the volume ended -> nothing is known of this one."""
    (case,) = cases_after((START,), (dataclasses.replace(END, request_id="req-9"),))
    assert case.attachment_id is None


def test_not_the_row_of_another_server() -> None:
    """The messages name the server, and what went is another's -> it is another detach's."""
    start = dataclasses.replace(START, attachments=(DESTINATION, ELSEWHERE))
    begun = told(
        Operation.DETACH, source=Source.NOVA_VERSIONED, request_id=REQUEST, instance_id=INSTANCE
    )
    (case,) = cases_after((begun, start), (END,))
    assert case.attachment_id is None


def test_an_ordinary_start_keeps_nothing() -> None:
    """The start shows one row, which it is about -> no rows are remembered."""
    (case,) = cases_after((dataclasses.replace(START, attachments=(SOURCE,),
        attachment_id="att-1"),))  # fmt: skip
    assert case.shown == ()
    (several,) = cases_after((START,))
    assert several.shown == (
        Shown("att-1", INSTANCE, "compute-1"), Shown("att-2", INSTANCE, "compute-2")
    )  # fmt: skip


RESERVED = (
    NotifiedAttachment("att-1", "reserved", INSTANCE, None, None),
    NotifiedAttachment("att-3", "reserved", "inst-3", None, None),
)
BEGAN = told(request_id=REQUEST, instance_id=INSTANCE, attachments=RESERVED)
BY_API = told(
    Operation.DETACH, request_id=REQUEST, attachments=(*RESERVED, DESTINATION),
    publisher_id="volume.labhost",
)  # fmt: skip
WENT = told(
    Operation.DETACH, Phase.END, request_id=REQUEST, attachments=(RESERVED[1], DESTINATION),
    publisher_id="volume.labhost",
)  # fmt: skip


def test_reserved_row_that_went_beside_another_one() -> None:
    """Cinder's API deletes one of two reserved rows -> the attach of that one may have leaked."""
    attach, detach = cases_after((BEGAN, BY_API, WENT))
    assert (attach.operation, attach.attachment_id) == (Operation.ATTACH, "att-1")
    assert (attach.released_unasked, attach.trigger) == (True, Trigger.RELEASED_UNASKED)
    assert {shown.attachment_id for shown in detach.shown} == {"att-1", "att-3"}
    assert detach.attachment_id == "att-1"


def test_row_that_the_backend_was_asked_for() -> None:
    """The backend itself begins with one of several rows -> nothing is suspected at its end."""
    asked = dataclasses.replace(BY_API, publisher_id="volume.labhost@lab")
    attach, _ = cases_after((BEGAN, asked, WENT))
    assert not attach.released_unasked


def test_attach_of_another_request() -> None:
    """The attach that is open is of another server and request -> it is not suspected."""
    elsewhere = dataclasses.replace(BEGAN, request_id="req-9", instance_id="inst-3")
    attach, _ = cases_after((elsewhere, BY_API, WENT))
    assert (attach.released_unasked, attach.attachment_id) == (False, None)
