"""A message that detachd itself fails on, each time: it stops nobody, and nothing is lost of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.intake import batch
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from handlers.notification import Parsed, may_concern, parse
from tests.bus import Notes, Peer, new_ledger, quarantined, running, settings, stored, until
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

pytestmark = pytest.mark.integration

QUEUE, QUARANTINE = "detachd.notifications", "detachd.quarantine"
MARK = b"wakes a bug"


@pytest.fixture
def url(rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a virtual host of the test's own, to which a listener comes back soon."""
    monkeypatch.setattr("consumer.intake.loop.backoff_seconds", lambda failures: 0.01)
    return rabbitmq.fresh_vhost()


@pytest.fixture
def peer(url: str) -> Iterator[Peer]:
    """Give the other services' side."""
    with Peer(url) as made:
        made.declare("nova", "cinder")
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def bug(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have us fail on every body that is marked, in a way that nobody thought of."""
    error = getattr(request, "param", RecursionError)

    def fails_on_marked(body: bytes) -> Parsed:
        if MARK in body:
            raise error("a bug")
        return parse(body)

    monkeypatch.setattr(batch, "parse", fails_on_marked)


def poison(number: int) -> bytes:
    """Return a body that looks as if it concerned an attachment, and wakes the bug."""
    return b'{"event_type": "volume.attach.start", "n": %d, "x": "%s"}' % (number, MARK)


def volumes(count: int) -> list[Recorded]:
    """Return the messages of healthy attachments, of so many volumes."""
    found = [m for _ in range(count) for m in renewed(recording(HEALTHY))]
    return [m for m in found if not m.event_type.startswith("volume.create")]


def ids(messages: list[Recorded]) -> list[str]:
    """Return their message_ids, in order."""
    return sorted(message.message_id for message in messages)


@pytest.mark.usefixtures("bug")
@pytest.mark.parametrize("bug", [RecursionError, OSError], indirect=True)
def test_what_we_always_fail_on_is_put_aside(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path
) -> None:
    """Two bodies wake a bug each time, amid many -> both put aside raw, all others stored once.

    Also where the error is one of those that a broker which is gone raises.
    """
    messages, notes = volumes(6), Notes()
    listener = Listener(settings(url), ledger, notes)
    with running(listener):
        until(lambda: listener.caught_up)
        peer.publish(messages[:20])
        peer.put(poison(1), "cinder", "notifications.info")
        peer.publish(messages[20:])
        peer.put(poison(2), "cinder", "notifications.info")
        until(lambda: len(quarantined(tmp_path)) == 2 and listener.caught_up, 60)
        assert listener.status().problems == ()
    assert sorted(stored(tmp_path)) == ids(messages)
    assert peer.take_all(QUARANTINE) == [poison(1), poison(2)]
    assert set(quarantined(tmp_path)) == {
        "detachd failed 3 times on this message; see the log of detachd"
    }
    assert peer.take(QUEUE) is None
    assert sum(report.malformed for report in notes.reports) == 2


@pytest.mark.parametrize("error", [RecursionError, MemoryError, OSError])
def test_what_cannot_even_be_taken_off_the_connection(
    url: str,
    peer: Peer,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    error: type[Exception],
) -> None:
    """We fail while a body is read, before it is in any batch -> put aside all the same.

    Also where the error is one of those that a broker which is gone raises.
    """

    def fails_on_marked(body: bytes) -> bool:
        if MARK in body:
            raise error("a bug")
        return may_concern(body)

    monkeypatch.setattr("consumer.intake.listener.may_concern", fails_on_marked)
    messages = volumes(4)
    listener = Listener(settings(url), ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        peer.publish(messages[:10])
        peer.put(poison(1), "cinder", "notifications.info")
        peer.publish(messages[10:])
        peer.put(poison(2), "cinder", "notifications.info")
        until(lambda: len(quarantined(tmp_path)) == 2 and len(stored(tmp_path)) == len(messages))
    assert sorted(stored(tmp_path)) == ids(messages)
    assert peer.take_all(QUARANTINE) == [poison(1), poison(2)]
    assert set(quarantined(tmp_path)) == {
        "detachd failed 3 times on this message; see the log of detachd"
    }
    assert peer.take(QUEUE) is None


@pytest.mark.usefixtures("bug")
def test_afterwards_batches_are_batches_again(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path
) -> None:
    """Once what woke the bug is put aside and those with it are in -> many at a time, as before."""
    notes = Notes()
    listener = Listener(settings(url), ledger, notes)
    with running(listener):
        until(lambda: listener.caught_up)
        peer.put(poison(1), "cinder", "notifications.info")
        until(lambda: quarantined(tmp_path) and listener.caught_up)
        before = len(notes.reports)
        messages = volumes(20)
        peer.publish(messages)
        until(lambda: len(stored(tmp_path)) == len(messages))
    assert max(report.received for report in notes.reports[before:]) > 1


def test_bug_that_is_gone_costs_no_message(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We fail twice on a sound message, and not the third time -> stored, not put aside."""
    (start, *_) = messages = volumes(1)
    failures: list[Any] = []

    def fails_twice(body: bytes) -> Parsed:
        if start.message_id.encode() in body and len(failures) < 3:  # once amid others, twice alone
            failures.append(body)
            raise RecursionError("a bug")
        return parse(body)

    monkeypatch.setattr(batch, "parse", fails_twice)
    listener = Listener(settings(url), ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        peer.publish(messages)
        until(lambda: len(stored(tmp_path)) == len(messages))
    assert len(failures) == 3
    assert quarantined(tmp_path) == []
    assert peer.take(QUARANTINE) is None


def test_bug_that_hits_everything_fills_no_quarantine_in_a_hurry(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We fail on each body that there is -> the pauses grow from one put aside to the next."""
    pauses: list[int] = []

    def noted(failures: int) -> float:
        pauses.append(failures)
        return 0.01

    def broken(body: bytes) -> Parsed:
        raise RecursionError(len(body))

    monkeypatch.setattr("consumer.intake.loop.backoff_seconds", noted)
    monkeypatch.setattr(batch, "parse", broken)
    listener = Listener(settings(url), ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        peer.publish(volumes(1)[:3])
        until(lambda: len(quarantined(tmp_path)) == 3)
    assert pauses == list(range(1, len(pauses) + 1))


@pytest.mark.usefixtures("bug")
def test_replicas_that_fail_on_the_same_bodies(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path
) -> None:
    """Two listen at one queue, five bodies wake the bug -> these put aside, all others stored."""
    messages = volumes(5)
    one, two = (Listener(settings(url), ledger) for _ in range(2))
    with running(one), running(two):
        until(lambda: one.caught_up and two.caught_up)
        for number in range(5):
            peer.put(poison(number), "cinder", "notifications.info")
            peer.publish(messages[number::5])
        until(lambda: len(quarantined(tmp_path)) == 5, 60)
        until(lambda: len(stored(tmp_path)) == len(messages), 60)
    assert sorted(stored(tmp_path)) == ids(messages)
    assert set(peer.take_all(QUARANTINE)) == {poison(number) for number in range(5)}
    assert peer.take(QUEUE) is None
