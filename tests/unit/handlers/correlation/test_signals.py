"""What happened besides attaching and detaching: which looks it brings, and which it does not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import timedelta

import pytest

from drivers.control_plane import ListedAttachment
from handlers.case import FOR_A_PERSON, Case, CaseState, Conclusion, Trigger
from handlers.correlation.correlation import Changes, Recorded, correlate
from handlers.correlation.matching import Timing
from handlers.correlation.sweep import left_by_server
from handlers.notification import VOLUME_GONE, Notification, Operation, Phase, Source
from tests.unit.consumer.ledger.making import ATTACHMENT, INSTANCE, NOW, VOLUME, known, told

TIMING = Timing(error_settle_seconds=15)
SETTLED_AT = NOW + timedelta(seconds=15)
ENDS = [told(None, Phase.SIGNAL, event_type=event_type) for event_type in VOLUME_GONE]
TRANSFER = told(None, Phase.SIGNAL, event_type="volume.transfer.create.end")
SERVER_GONE = told(
    None, Phase.SIGNAL, event_type="instance.delete.end", source=Source.NOVA_VERSIONED,
    volume_id=None, instance_id=INSTANCE,
)  # fmt: skip
LEFT = left_by_server(
    ListedAttachment(ATTACHMENT, VOLUME, "attached", INSTANCE), "instance.delete.end"
)


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


def test_a_transfer_is_looked_at_within_the_budget() -> None:
    """A volume is up for transfer -> a look at it, if there is one to spare; else only stored."""
    changes = after([TRANSFER], spare=1)
    (case,) = changes.opened
    assert (case.state, case.trigger, case.next_attempt_at) == (
        CaseState.DUE, Trigger.SIGNAL, SETTLED_AT,
    )  # fmt: skip
    assert (case.first_clean_at, changes.second_looks) == (NOW, 1)
    unspared = after([TRANSFER])
    assert (unspared.opened, unspared.filed) == ((), {TRANSFER.message_id: None})


def test_what_a_server_left_behind_is_looked_at() -> None:
    """A row still names a deleted server -> a case about that row, its budget spent before.

    It was told of ten minutes ago, so that one clean look is enough.
    """
    (case,) = after([LEFT]).opened
    assert (case.volume_id, case.attachment_id, case.instance_id) == (VOLUME, ATTACHMENT, INSTANCE)
    assert (case.state, case.next_attempt_at) == (CaseState.DUE, SETTLED_AT)
    assert case.first_clean_at == NOW - timedelta(seconds=TIMING.second_look_seconds)


def test_a_server_alone_moves_nothing() -> None:
    """Nova tells that a server is gone -> no case of it moves: Cinder is asked first."""
    case = known()
    changes = after([SERVER_GONE], [case], spare=9)
    assert (changes.opened, changes.changed) == ((), ())


@pytest.mark.parametrize("signal", [TRANSFER, LEFT], ids=lambda n: n.event_type)
def test_an_open_case_answers_a_signal(signal: Notification) -> None:
    """The volume has a case that time moves, of another row too -> it is looked at, no other."""
    for attachment_id in (ATTACHMENT, "att-2"):
        changes = after([signal], [known(attachment_id=attachment_id)], spare=9)
        ((_, case),) = changes.changed
        assert (changes.opened, case.state, case.next_attempt_at) == ((), CaseState.DUE, SETTLED_AT)


def test_no_old_case_hides_what_a_server_left() -> None:
    """A case of another row waits for a person -> the row that is left has a case of its own."""
    parked = known(attachment_id="att-2", instance_id="inst-2", state=CaseState.PARKED)
    changes = after([LEFT], [parked])
    assert ([c.attachment_id for c in changes.opened], changes.changed) == ([ATTACHMENT], ())


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_only_the_end_of_a_volume_moves_what_waits_for_a_person(state: CaseState) -> None:
    """A transfer, a server's rest -> history of the parked case; deleted or unmanaged -> due."""
    parked = known(state=state, next_attempt_at=None)
    for signal in (TRANSFER, LEFT):
        changes = after([signal], [parked], spare=9)
        assert {after.state for _, after in changes.changed} == {state}
        assert (changes.opened, changes.filed[signal.message_id]) == ((), parked.case_id)
    for end in ENDS:
        ((_, case),) = after([end], [parked]).changed
        assert (case.state, case.next_attempt_at) == (CaseState.DUE, SETTLED_AT)


def test_the_end_of_a_volume_opens_nothing() -> None:
    """A volume without a case is deleted or unmanaged -> nothing to look at, spare or not."""
    for end in ENDS:
        assert after([end], spare=9).opened == ()


def test_a_closed_case_is_no_answer() -> None:
    """The only case of the volume is closed -> a row that a server left has a new one."""
    closed = known(state=CaseState.CLOSED, conclusion=Conclusion.HEALTHY)
    changes = after([LEFT], [closed])
    assert [c.attachment_id for c in changes.opened] == [ATTACHMENT]


def test_the_next_attach_takes_the_look_over() -> None:
    """A volume is looked at after a transfer, and attached meanwhile -> one case."""
    start = told(attachment_id=ATTACHMENT, instance_id=INSTANCE, request_id="req-9")
    (case,) = after([TRANSFER, start], spare=1).opened
    assert (case.attachment_id, case.state) == (ATTACHMENT, CaseState.DUE)
    detach = dataclasses.replace(
        start, operation=Operation.DETACH, event_type="volume.detach.start"
    )
    assert len(after([TRANSFER, detach], spare=1).opened) == 2
