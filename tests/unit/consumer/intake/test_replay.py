"""The replay queue on kombu's in-memory broker, with a real ledger."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.counting import Happened
from consumer.intake.replay_queue import CaseOrder, ReplaySender, ReplaySettings, Requester, body_of
from consumer.intake.replayer import Replayer
from consumer.ledger import CaseRecord, HistoryKind, Ledger, LedgerUnavailableError
from handlers.case import CaseState, Trigger
from tests.bus import (
    BRISK,
    MEMORY,
    Peer,
    configured,
    forget_memory,
    new_ledger,
    quarantined,
    running,
    until,
)
from tests.recorded import FAILED_ATTACH, Recorded, recording, renewed
from tests.unit.consumer.due import only_case, open_case, outcome

REPLAY = "detachd.replay"
QUARANTINE = "detachd.quarantine"
REQUESTER = Requester("alice", "the array is back")


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give the other services' side of an empty in-memory broker."""
    forget_memory()
    with Peer(MEMORY) as made:
        yield made
    forget_memory()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def events() -> list[Happened]:
    """Keep what the replayer tells."""
    return []


def results(events: list[Happened]) -> list[str | None]:
    """Return what became of each replay."""
    return [event.label for event in events]


@pytest.fixture
def settings() -> ReplaySettings:
    """Give the settings, all by default but in a hurry."""
    one = dataclasses.replace(BRISK, size=1)
    return dataclasses.replace(ReplaySettings.from_conf(configured(MEMORY)), pace=one)


@pytest.fixture
def replayer(
    peer: Peer, ledger: Ledger, events: list[Happened], settings: ReplaySettings
) -> Iterator[Replayer]:
    """Give a replayer whose queue is declared."""
    made = Replayer(settings, ledger, events.append)
    made.run_once()
    yield made
    made.close()


def left(ledger: Ledger, state: CaseState) -> str:
    """Make a case that an attempt left in this state; return its id."""
    open_case(ledger)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    ledger.finish(claim, outcome(state))
    return claim.case.case_id


def failed_start() -> Recorded:
    """Return Cinder's start of a recorded attach that failed, at a new volume."""
    messages = renewed(recording(FAILED_ATTACH))
    return next(m for m in messages if m.event_type == "volume.attach.start")


def put(peer: Peer, body: bytes, **properties: Any) -> None:
    """Put a body straight on the replay queue, as anyone may."""
    peer.put(body, "", REPLAY, **properties)


def rounds(record: CaseRecord) -> list[str]:
    """Return who sent the case round again, each time."""
    return [line.actor for line in record.history if line.kind is HistoryKind.REARMED]


# -- what is sent round again ----------------------------------------------------------------------


@pytest.mark.parametrize("state", [CaseState.PARKED, CaseState.CLOSED])
def test_case_by_our_own_sender(
    replayer: Replayer,
    ledger: Ledger,
    settings: ReplaySettings,
    events: list[Happened],
    state: CaseState,
) -> None:
    """`detachd replay case` of a case at rest -> due at once, who and why on record, acked."""
    case_id = left(ledger, state)
    with ReplaySender(settings) as sender:
        sender.send(body_of(CaseOrder(case_id, REQUESTER.actor, REQUESTER.reason)), REQUESTER)
    assert replayer.run_once() == 1
    record = ledger.case(case_id)
    assert (record.case.state, record.case.trigger) == (CaseState.DUE, Trigger.REPLAY)
    assert (record.history[-1].actor, record.history[-1].reason) == (
        REQUESTER.actor,
        REQUESTER.reason,
    )
    assert results(events) == ["rearmed"]
    assert replayer.run_once() == 0


def test_case_by_anyone(replayer: Replayer, ledger: Ledger, peer: Peer) -> None:
    """A plain JSON object, no properties of ours -> the same, with the actor that it names."""
    case_id = left(ledger, CaseState.PARKED)
    put(peer, json.dumps({"case": case_id[:8], "actor": "bob", "reason": "why"}).encode())
    assert replayer.run_once() == 1
    assert rounds(ledger.case(case_id)) == ["bob"]


def test_original_notification(
    replayer: Replayer, ledger: Ledger, peer: Peer, events: list[Happened]
) -> None:
    """An original notification that never came -> a case, due at once, by the replay."""
    start = failed_start()
    put(peer, start.body)
    assert replayer.run_once() == 1
    (case,) = ledger.cases()
    record = ledger.case(case.case_id)
    assert (case.state, case.trigger) == (CaseState.DUE, Trigger.REPLAY)
    (stored,) = record.notifications
    assert stored.notification.message_id.startswith("replay:")
    assert record.history[0].detail is not None
    assert record.history[0].detail["original_message_id"] == start.message_id
    assert results(events) == ["opened"]


def test_sender_s_name_goes_with_a_notification(
    replayer: Replayer, ledger: Ledger, settings: ReplaySettings
) -> None:
    """`detachd replay file` -> the notification as it was; who and why in its headers."""
    with ReplaySender(settings) as sender:
        sender.send(failed_start().body, REQUESTER)
    replayer.run_once()
    (case,) = ledger.cases()
    line = ledger.case(case.case_id).history[0]
    assert (line.actor, line.reason) == (REQUESTER.actor, REQUESTER.reason)


# -- once ------------------------------------------------------------------------------------------


def test_message_id_makes_it_one(
    replayer: Replayer, ledger: Ledger, peer: Peer, events: list[Happened]
) -> None:
    """The same message_id and body again -> nothing; another id, or another body -> another."""
    case_id, other = left(ledger, CaseState.PARKED), left(ledger, CaseState.PARKED)
    order = body_of(CaseOrder(case_id, "bob", "why"))
    for body, message_id in (
        (order, "1"), (order, "1"), (order, "2"), (body_of(CaseOrder(other, "bob", "why")), "1"),
    ):  # fmt: skip
        put(peer, body, message_id=message_id)
        assert replayer.run_once() == 1
    assert results(events) == ["rearmed", "repeated", "rearmed", "rearmed"]
    assert rounds(ledger.case(case_id)) == ["bob", "bob"]


def test_no_id_and_surely_new(replayer: Replayer, ledger: Ledger, peer: Peer) -> None:
    """The same body twice without an id, each delivered for the first time -> two replays."""
    case_id = left(ledger, CaseState.PARKED)
    for _ in range(2):
        put(peer, body_of(CaseOrder(case_id, "bob", "why")))
        assert replayer.run_once() == 1
    assert rounds(ledger.case(case_id)) == ["bob", "bob"]


# -- poison ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"\xff\x00", "not JSON", id="bytes"),
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"[]", "not an object", id="no object"),
        pytest.param(b'{"case": 7}', '"case" is not the id', id="no id"),
        pytest.param(b'{"case": "00000000"}', "there is no case 00000000", id="unknown case"),
        pytest.param(b'{"case": "abc"}', "give at least 4 characters", id="too short"),
        pytest.param(recording(FAILED_ATTACH)[0].body, "cannot be replayed", id="of no concern"),
        pytest.param(
            json.dumps(
                {
                    "event_type": "compute.exception", "publisher_id": "nova-compute:c1",
                    "message_id": "m", "priority": "ERROR", "_context_request_id": "req-unheard",
                    "payload": {
                        "nova_object.name": "ExceptionPayload", "nova_object.namespace": "nova",
                        "nova_object.version": "1.1",
                        "nova_object.data": {"exception": "Boom", "exception_message": "x"},
                    },
                }
            ).encode(),
            "names no volume",
            id="no volume, no case",
        ),
    ],
)  # fmt: skip
def test_poison_is_put_aside(
    replayer: Replayer, peer: Peer, tmp_path: Path, body: bytes, reason: str
) -> None:
    """What asks for nothing that can be done -> quarantined with the reason, acked, no loop."""
    put(peer, body)
    assert replayer.run_once() == 1
    message = peer.take(QUARANTINE)
    assert (message.body or b"") == body
    assert message.headers["x-detachd-bus"] == "replay"
    assert message.headers["x-detachd-routing-key"] == REPLAY
    assert reason in message.headers["x-detachd-reason"]
    assert [reason in known for known in quarantined(tmp_path)] == [True]
    assert replayer.run_once() == 0
    assert peer.take(REPLAY) is None


def test_poison_does_not_stop_the_others(
    replayer: Replayer, ledger: Ledger, peer: Peer, events: list[Happened]
) -> None:
    """Broken bodies before and after a good one -> the good one is taken in."""
    case_id = left(ledger, CaseState.PARKED)
    for body in (b"{", body_of(CaseOrder(case_id, "bob", "why")), b"{"):
        put(peer, body)
    assert [replayer.run_once() for _ in range(3)] == [1, 1, 1]
    assert results(events) == ["refused", "rearmed", "refused"]


def test_too_large(peer: Peer, ledger: Ledger, tmp_path: Path) -> None:
    """A body above max_body_bytes -> quarantined, not parsed."""
    conf = configured(MEMORY)
    ReplaySettings.from_conf(conf)
    conf.set_override("max_body_bytes", 64 * 1024, group="listener")
    replayer = Replayer(ReplaySettings.from_conf(conf), ledger)
    replayer.run_once()
    put(peer, body_of(CaseOrder("x" * 8, "bob", "y" * 70_000)))
    assert replayer.run_once() == 1
    assert "more than max_body_bytes = 65536" in quarantined(tmp_path)[0]
    replayer.close()


# -- what is away ----------------------------------------------------------------------------------


def test_ledger_gone_then_back(
    replayer: Replayer, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """The database cannot be opened -> not acked, and said; back -> taken in once."""
    case_id = left(ledger, CaseState.PARKED)
    ledger.close()
    away = tmp_path.rename(tmp_path.with_name("away"))
    put(peer, body_of(CaseOrder(case_id, "bob", "why")))
    assert replayer.run_once() == 0
    assert replayer.run_once() == 0
    (problem,) = replayer.status().problems
    assert problem.startswith("a replay waits unacked: The ledger at")
    away.rename(tmp_path)
    until(replayer.run_once)
    assert rounds(ledger.case(case_id)) == ["bob"]
    assert replayer.status().problems == ()


def test_quarantine_gone_then_back(
    replayer: Replayer, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger fails between queue and record -> put on the queue once, recorded once."""
    real = Ledger.quarantine
    failures = iter([True])

    def fails_once(self: Ledger, *arguments: Any, **keywords: Any) -> None:
        if next(failures, False):
            raise LedgerUnavailableError("gone")
        real(self, *arguments, **keywords)

    monkeypatch.setattr(Ledger, "quarantine", fails_once)
    put(peer, b"{")
    assert replayer.run_once() == 0
    until(replayer.run_once)
    assert peer.take_all(QUARANTINE) == [b"{"]
    assert len(quarantined(tmp_path)) == 1


def test_run_until_stopped(peer: Peer, ledger: Ledger, settings: ReplaySettings) -> None:
    """run() in a thread -> what was sent before its start is taken in; stop -> it ends."""
    volume_id = open_case(ledger)
    with ReplaySender(settings) as sender:
        order = CaseOrder(only_case(ledger, volume_id).case.case_id, "bob", "why")
        sender.send(body_of(order), REQUESTER)
    replayer = Replayer(settings, ledger)
    with running(replayer):
        until(lambda: rounds(only_case(ledger, volume_id)))
        assert replayer.status().connected
    assert not replayer.status().connected


# -- settings --------------------------------------------------------------------------------------


def test_queue_is_durable_bounded_and_rather_refuses(settings: ReplaySettings) -> None:
    """The defaults -> a durable queue of that name, bounded, that refuses what is too much."""
    queue = settings.queue
    assert (queue.name, queue.on(None).durable) == (REPLAY, True)
    assert (queue.max_length, queue.overflow) == (20_000, "reject-publish")
    assert settings.quarantine.name == QUARANTINE
