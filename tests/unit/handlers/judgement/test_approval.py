"""What the fingerprint of a plan covers: all that a person judges by, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from drivers.base import Connection, Observation
from drivers.control_plane import BlockDevice, Swap
from handlers.judgement.approval import fingerprint
from handlers.judgement.evidence import Absent, Fact, NoControl, Outage, Unknown
from handlers.judgement.plan import make_plan
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation
from tests.unit.handlers.judgement.acting_pictures import BESIDE, GHOST, UC1, UC3, UC4
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    SEEING,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    holding,
)

FULL = BESIDE.but(
    attachments=(attachment(A, "detaching", host=H1), attachment(B, instance_id=Y, host=H2)),
    backend=(access(H1), access(H2, sessions=1)),
    computes=((H1, True), (H2, True)),
    elsewhere=(holding(X, Y), holding(Y, host=H2)),
)
"""A picture with something of each kind, so that each can change."""


def of(s: Situation, diagnosis: Diagnosis) -> str:
    """Return the fingerprint of one and the same plan on this evidence."""
    steps = make_plan(UC1.diagnosis, SEEING)
    return fingerprint(dataclasses.replace(diagnosis, situation=s), steps)


def volume(**changes: Any) -> Callable[[Situation], Situation]:
    """Return what changes fields of the volume."""
    return lambda s: dataclasses.replace(s, volume=dataclasses.replace(s.volume, **changes))


def reference(**changes: Any) -> Callable[[Situation], Situation]:
    """Return what changes how the backend knows the volume."""
    return lambda s: volume(ref=dataclasses.replace(s.volume.ref, **changes))(s)


def row(**changes: Any) -> Callable[[Situation], Situation]:
    """Return what changes the first row."""

    def change(s: Situation) -> Situation:
        first, *rest = s.volume.attachments
        return volume(attachments=(dataclasses.replace(first, **changes), *rest))(s)

    return change


def of_server(**changes: Any) -> Callable[[Situation], Situation]:
    """Return what changes the server of the other row."""

    def change(s: Situation) -> Situation:
        answer = s.servers[Y]
        assert isinstance(answer, Fact)
        changed = Fact(dataclasses.replace(answer.value, **changes))
        return dataclasses.replace(s, servers={**s.servers, Y: changed})

    return change


def answered(answer: Any) -> Callable[[Situation], Situation]:
    """Return what gives another answer for the other row's server."""
    return lambda s: dataclasses.replace(s, servers={**s.servers, Y: answer})


def seen(*connections: Connection) -> Callable[[Situation], Situation]:
    """Return what shows these connections on the backend."""
    return lambda s: dataclasses.replace(s, backend=Fact(Observation(connections, "it answered")))


def other(**changes: Any) -> Callable[[Situation], Situation]:
    """Return what changes these fields of the situation."""
    return lambda s: dataclasses.replace(s, **changes)


CHANGES: dict[str, Callable[[Situation], Situation]] = {
    "the volume's status": volume(status="detaching"),
    "its migration": volume(migration_status="migrating"),
    "cinder-volume is down": volume(service_up=False),
    "its backend": reference(backend="storage-2@tgt"),
    "its name there": reference(name_id="another"),
    "others share its target": reference(shared_targets=True),
    "a row's status": row(status="attached"),
    "a row's server": row(instance_id=Y),
    "a row's host": row(host=H2),
    "a row got its connection info": row(has_connection_info=False),
    "the pools' protocol": lambda s: dataclasses.replace(s, pools=Fact("nvmeof")),
    "a row's protocol": row(protocol="nvmeof"),
    "a row is gone": lambda s: volume(attachments=s.volume.attachments[1:])(s),
    "a server's state": of_server(vm_state="stopped"),
    "a server is being moved": of_server(task_state="migrating"),
    "a server moved": of_server(host=H1),
    "a server's compute is down": of_server(compute_up=False),
    "a server's compute is not known": of_server(compute_up=None),
    "a block device is gone": of_server(block_devices=()),
    "a block device names another row": of_server(block_devices=(BlockDevice(A, "/dev/vdb"),)),
    "a block device more": of_server(
        block_devices=(BlockDevice(B, "/dev/vdb"), BlockDevice(B, "/dev/vdb"))
    ),
    "a server is deleted": answered(Absent("on record")),
    "a server is not on record": answered(NoControl("no record")),
    "a server is unknown": answered(Unknown("refused")),
    "Nova is away": answered(Outage("no answer")),
    "a host is let in": seen(access(H1), access(H2, sessions=1), Connection("another")),
    "a host is not let in any more": seen(access(H2, sessions=1)),
    "a session begins": seen(access(H1, sessions=1), access(H2, sessions=1)),
    "a session more": seen(access(H1), access(H2, sessions=2)),
    "a session without access": seen(
        access(H1), dataclasses.replace(access(H2, sessions=1), access=False)
    ),
    "the backend is clean": other(backend=Absent("it answered")),
    "the backend is unknown": other(backend=Unknown("no answer")),
    "the backend is blind": other(backend=BLIND),
    "the driver tells no hosts": other(nameless=(Connection("another"),)),
    "a compute is down": other(computes={H1: False, H2: True}),
    "a server more uses it on a host": other(elsewhere=(holding(X, Y), holding(X, Y, host=H2))),
    "who uses it there is unknown": other(elsewhere=(holding(X, Y), holding(host=H2, up=None))),
    "the only host's servers": other(holding=holding(X)),
    "a volume is being swapped": other(swapping=Fact(Swap.UNDER_WAY)),
    "the last swap failed": other(swapping=Fact(Swap.FAILED)),
    "whether one is swapped is unknown": other(swapping=Unknown("no answer")),
    "where a guest was ended": other(guests_ended={X: H1}),
    "where another server's guest was ended": other(guests_ended={Y: H2}),
    "who deleted the server": other(deleted_by=("req-2",)),
    "it never came to a compute": other(never_built=True),
}


def test_switching_a_guest_off_changes_nothing_that_was_approved() -> None:
    """A guest of another server is off now -> the same: no plan rests on that."""
    s, diagnosis = FULL.situation, FULL.diagnosis
    assert of(of_server(powered_off=True)(s), diagnosis) == of(s, diagnosis)


def test_reading_alone_changes_nothing_that_was_approved() -> None:
    """Cinder tells of the row's mode what an earlier version did not read -> the same."""
    s, diagnosis = FULL.situation, FULL.diagnosis
    rows = tuple(dataclasses.replace(row, read_only=True) for row in s.volume.attachments)
    changed = dataclasses.replace(s, volume=dataclasses.replace(s.volume, attachments=rows))
    assert of(changed, diagnosis) == of(s, diagnosis)


@pytest.mark.parametrize("what", CHANGES)
def test_change_of_what_a_person_judges_by_needs_a_new_approval(what: str) -> None:
    """One fact of the evidence is another, rule and steps are the same -> another fingerprint."""
    s, diagnosis = FULL.situation, FULL.diagnosis
    changed = CHANGES[what](s)
    assert changed != s, "the test changes nothing"
    assert of(changed, diagnosis) != of(s, diagnosis)


def turned(s: Situation) -> Situation:
    """Return the same evidence with every list and every mapping the other way round."""
    assert isinstance(s.backend, Fact)
    rows = tuple(reversed(s.volume.attachments))
    connections = tuple(reversed(s.backend.value.connections))
    hosts = (dataclasses.replace(h, holders=_turned(h.holders)) for h in reversed(s.elsewhere))
    return dataclasses.replace(
        s,
        volume=dataclasses.replace(s.volume, attachments=rows),
        servers=dict(reversed(s.servers.items())),
        backend=Fact(Observation(connections, "other words of the same control")),
        computes=dict(reversed(s.computes.items())),
        elsewhere=tuple(hosts),
    )


def _turned(answer: Any) -> Any:
    return Fact(tuple(reversed(answer.value))) if isinstance(answer, Fact) else answer


def test_order_and_words_need_none() -> None:
    """The same facts in another order, in other words of a control -> the same fingerprint."""
    s, diagnosis = FULL.situation, FULL.diagnosis
    assert turned(s) != s
    assert of(turned(s), diagnosis) == of(s, diagnosis)
    for kind in (Unknown, Outage, NoControl):
        one, two = (answered(kind(words))(s) for words in ("req-1: timeout", "req-2: 503"))
        assert of(one, diagnosis) == of(two, diagnosis)


def test_age_and_reason_need_none() -> None:
    """A later look at the same, an older case, another try -> the same fingerprint."""
    for picture in (UC1, UC3, UC4, GHOST, BESIDE):
        later = picture.but(attempts=9, failures=3, signal_seq=8, request_ids=("req-9",))
        assert mark(later) == mark(picture)
        told = dataclasses.replace(picture.diagnosis, reason="in other words")
        steps = make_plan(told, SEEING)
        assert fingerprint(told, steps) == mark(picture)


def mark(picture: Picture) -> str:
    """Return the fingerprint of a picture's plan."""
    return fingerprint(picture.diagnosis, make_plan(picture.diagnosis, SEEING))
