"""Whatever order messages arrive in, the cases that come out are the same.

Brokers redeliver, publishers repeat, and two services on two hosts overtake each other. Recorded
sequences are shuffled, some messages dropped, some given twice, and taken in by a real ledger in
batches of any size. What comes out depends on which messages came, and on nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.ledger import Arrival, Ledger
from consumer.ledger.database.records import CASES
from consumer.ledger.database.tables import cases
from handlers.case import Case, CaseState
from handlers.notification import Notification, parse
from tests import recordings
from tests.services import ledgers

NAMES = [name for name in recordings.names() if name.endswith(".jsonl")]
TOLD = [name for name in NAMES if name != "cinder/uc5_available__fd_c.jsonl"]  # tells of nothing

Outcome = tuple[str | bool | None, ...]


@functools.cache
def told(name: str) -> tuple[Notification, ...]:
    """Return what a recording says of attachments, in its order."""
    parsed = map(parse, recordings.bodies(name))
    return tuple(each for each in parsed if isinstance(each, Notification))


def outcome(case: Case) -> Outcome:
    """Return what must not depend on the order.

    Not compared, because it is timing only: whether an open case waits or is due already, and when
    it is looked at. An end that names nothing brings the look at the only open case forward; where
    it overtakes the start there is no case yet, or there are two. Either way the case is looked at
    (its deadline at the latest), and the diagnosis asks Cinder, Nova and the backend, not the bus.
    Nor is it which of a volume's ended cases is looked at once more (one look is for all of them);
    ``looks`` compares that there is a look.
    """
    settles = case.state is CaseState.SETTLING
    state = "closed" if not case.open else "settles" if settles else "is looked at"
    if case.only_ended and case.starts <= 1:
        state = "ended"
    return (
        case.operation.value,
        case.attachment_id,
        case.instance_id,
        state,
        case.end_seen,
        case.released_unasked,
    )


def taken_in(batches: Sequence[Sequence[Notification]]) -> Counter[Outcome]:
    """Let a new ledger on SQLite accept these; return what its cases come to.

    Its second looks have a budget that is not used up: who gets one when they are few depends on
    the time, and so on the order.
    """
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(ledgers.sqlite_in(Path(directory)), second_looks_per_minute=1000)
        for batch in batches:
            accepted = ledger.accept([Arrival(n, "0" * 64, "test") for n in batch])
            assert accepted.rejected == ()
        attachments = ledger._database.read(lambda c: list(c.execute(cases.select())))
        ledger.close()
    found = [CASES.read(attachment) for attachment in attachments]
    return Counter(map(outcome, found)) + looks(found)


def looks(found: Sequence[Case]) -> Counter[Outcome]:
    """Return which volumes are going to be looked at; fail where one look was planned twice."""
    planned = [c.volume_id for c in found if c.open and c.only_ended and c.starts <= 1]
    assert len(planned) == len(set(planned))
    return Counter(("looked at", volume) for volume in {c.volume_id for c in found if c.open})


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Notification], list[list[Notification]]]:
    """Draw some messages of a recording, and the same in another order, some twice, in batches."""
    messages = told(draw(st.sampled_from(TOLD)))
    dropped = draw(st.sets(st.sampled_from(range(len(messages))), max_size=2))
    kept = [m for place, m in enumerate(messages) if place not in dropped]
    twice = draw(st.lists(st.sampled_from(kept), max_size=3)) if kept else []
    left = draw(st.permutations([*kept, *twice]))
    batches = []
    while left:
        size = draw(st.integers(1, len(left)))
        batches.append(list(left[:size]))
        left = left[size:]
    return kept, batches


@settings(suppress_health_check=list(HealthCheck))
@given(orders())
def test_any_order_comes_to_the_same_cases(
    drawn: tuple[list[Notification], list[list[Notification]]],
) -> None:
    """The same messages in another order, some twice, in other batches -> the same cases."""
    kept, batches = drawn
    assert taken_in(batches) == taken_in([kept])


@pytest.mark.parametrize("name", TOLD)
def test_order_of_the_recording_and_its_reverse(name: str) -> None:
    """A whole recording forwards in one batch, backwards one by one -> the same cases, and some."""
    messages = told(name)
    forwards = taken_in([messages])
    assert forwards
    assert taken_in([[message] for message in reversed(messages)]) == forwards


def test_recordings_that_tell_of_nothing_are_known() -> None:
    """A recording without a word on attachments -> known by name, so that none drops out unseen."""
    assert [name for name in NAMES if not told(name)] == sorted(set(NAMES) - set(TOLD))


def beside(name: str, volume_id: str) -> tuple[Notification, ...]:
    """Return what a recording says, of other attachments, servers and requests of that volume."""
    return tuple(moved(message, volume_id) for message in told(name))


def moved(message: Notification, volume_id: str) -> Notification:
    """Return a message as it would be of another attachment of this volume."""

    def other(text: str | None) -> str | None:
        return text and f"{text}-other"

    return dataclasses.replace(
        message,
        message_id=f"{message.message_id}-other",
        volume_id=message.volume_id and volume_id,
        attachment_id=other(message.attachment_id),
        instance_id=other(message.instance_id),
        request_id=other(message.request_id),
        own_request_id=other(message.own_request_id),
        attachments=tuple(
            dataclasses.replace(
                attachment,
                attachment_id=f"{attachment.attachment_id}-other",
                instance_id=other(attachment.instance_id),
            )
            for attachment in message.attachments
        ),
    )


def volume_of(messages: Sequence[Notification]) -> str:
    """Return the volume that messages are about."""
    return next(message.volume_id for message in messages if message.volume_id)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Notification], list[list[Notification]]]:
    """Draw two recordings on one volume, one after the other, and both mixed up, in batches."""
    first = told(draw(st.sampled_from(TOLD)))
    second = beside(draw(st.sampled_from(TOLD)), volume_of(first))
    in_order = [*first, *second]
    left = draw(st.permutations(in_order))
    batches = []
    while left:
        size = draw(st.integers(1, len(left)))
        batches.append(list(left[:size]))
        left = left[size:]
    return in_order, batches


@settings(suppress_health_check=list(HealthCheck))
@given(pairs())
def test_two_operations_on_one_volume_in_any_order(
    drawn: tuple[list[Notification], list[list[Notification]]],
) -> None:
    """Two attachments of one volume at once, messages mixed -> as if one came after the other."""
    in_order, batches = drawn
    assert taken_in(batches) == taken_in([in_order])
