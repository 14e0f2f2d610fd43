"""The listener on kombu's in-memory broker, with a real ledger."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import oslo_messaging
import pytest

from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Batch, Pace, Subscription
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from handlers.notification import Source
from tests.bus import (
    MEMORY,
    Notes,
    Peer,
    configured,
    forget_memory,
    new_ledger,
    quarantined,
    running,
    settings,
    stored,
    until,
)
from tests.recorded import FAILED_ATTACH, HEALTHY, Recorded, recording, renewed

QUEUE = "detachd.notifications"
QUARANTINE = "detachd.quarantine"


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give the other services' side of an empty in-memory broker."""
    forget_memory()
    with Peer(MEMORY) as made:
        made.declare("nova", "cinder")
        yield made
    forget_memory()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def notes() -> Notes:
    """Keep what the listener tells."""
    return Notes()


@pytest.fixture
def listener(peer: Peer, ledger: Ledger, notes: Notes) -> Iterator[Listener]:
    """Give a listener whose queue is bound."""
    made = Listener(settings(MEMORY), ledger, notes)
    made.run_once()
    yield made
    made.close()


def relevant(messages: list[Recorded]) -> list[str]:
    """Return the ids of those messages that concern an attachment."""
    return [m.message_id for m in messages if not m.event_type.startswith("volume.create")]


def test_recorded_attach_is_in_the_ledger_and_acked(
    listener: Listener, peer: Peer, tmp_path: Path, notes: Notes
) -> None:
    """A whole recorded scenario -> what concerns the attachment stored, everything acked."""
    messages = recording(HEALTHY)
    peer.publish(messages)
    assert listener.run_once() == len(messages)
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))
    assert peer.take(QUEUE) is None
    report = notes.reports[-1]
    assert (report.received, report.accepted.stored) == (len(messages), len(relevant(messages)))
    assert report.ignored == 2  # volume.create.start and .end
    assert report.offered[Source.CINDER] == 4
    assert report.accept_seconds is not None


def test_stock_notifier_is_heard(listener: Listener, tmp_path: Path) -> None:
    """oslo.messaging's own Notifier, messagingv2, on the same broker -> in the ledger."""
    sample = recording(HEALTHY)[3].message
    conf = configured(MEMORY)
    conf.set_override("control_exchange", "cinder")
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf),
        publisher_id=str(sample["publisher_id"]),
        driver="messagingv2",
        topics=["notifications"],
    )
    notifier.info({}, sample["event_type"], sample["payload"])
    listener.run_once()
    assert len(stored(tmp_path)) == 1
    notifier.transport.cleanup()


def test_repetition_is_stored_once(
    listener: Listener, peer: Peer, tmp_path: Path, notes: Notes
) -> None:
    """The same messages again -> acked, counted as duplicates, stored once."""
    messages = recording(FAILED_ATTACH)
    peer.publish(messages)
    listener.run_once()
    once = stored(tmp_path)
    peer.publish(messages)
    assert listener.run_once() == len(messages)
    assert stored(tmp_path) == once
    assert notes.reports[-1].accepted.duplicates == len(once)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"\xff\x00 not json", "the body is not JSON", id="bytes"),
        pytest.param(b"", "the body is not JSON", id="nothing at all"),
        pytest.param(b'{"event_type": "volume.attach.start"}', "payload", id="no payload"),
    ],
)
def test_malformed_goes_raw_to_quarantine(
    listener: Listener, peer: Peer, tmp_path: Path, body: bytes, reason: str
) -> None:
    """A body that should parse and does not -> raw on the quarantine queue, with its origin."""
    peer.put(body, "cinder", "notifications.info")
    assert listener.run_once() == 1
    message = peer.take(QUARANTINE)
    assert (message.body or b"") == body
    assert message.headers["x-detachd-exchange"] == "cinder"
    assert message.headers["x-detachd-routing-key"] == "notifications.info"
    assert reason in message.headers["x-detachd-reason"]
    assert quarantined(tmp_path) == [message.headers["x-detachd-reason"]]
    assert peer.take(QUEUE) is None


def test_one_malformed_does_not_stop_its_batch(
    listener: Listener, peer: Peer, tmp_path: Path, notes: Notes
) -> None:
    """A broken body amid good ones -> the good ones stored, all acked."""
    first, *others = renewed(recording(HEALTHY))
    peer.publish([first])
    peer.put(b"{", "cinder", "notifications.info")
    peer.publish(others)
    assert listener.run_once() == len(others) + 2
    assert sorted(stored(tmp_path)) == sorted(relevant([first, *others]))
    assert peer.take_all(QUARANTINE) == [b"{"]
    assert (notes.reports[-1].malformed, notes.reports[-1].accepted.rejected) == (1, ())


def test_too_large_goes_to_quarantine_unread(peer: Peer, ledger: Ledger, tmp_path: Path) -> None:
    """A sound notification above max_body_bytes -> quarantined, not parsed."""
    start = recording(HEALTHY)[3]
    listener = Listener(settings(MEMORY, max_body_bytes=1000), ledger)
    listener.run_once()
    peer.publish([start])
    assert listener.run_once() == 1
    assert peer.take_all(QUARANTINE) == [start.body]
    assert "max_body_bytes = 1000" in quarantined(tmp_path)[0]
    assert stored(tmp_path) == []
    listener.close()


def test_large_and_irrelevant_is_let_go(peer: Peer, ledger: Ledger, tmp_path: Path) -> None:
    """A large message of somebody else's concern -> acked, not quarantined."""
    listener = Listener(settings(MEMORY, max_body_bytes=1000), ledger)
    listener.run_once()
    body = json.dumps({"event_type": "scheduler.select_destinations.end", "payload": "x" * 2000})
    peer.put(body.encode(), "nova", "notifications.info")
    assert listener.run_once() == 1
    assert peer.take(QUARANTINE) is None
    assert quarantined(tmp_path) == []
    listener.close()


def test_what_the_database_refuses_goes_to_quarantine(
    listener: Listener, peer: Peer, tmp_path: Path, notes: Notes
) -> None:
    """A row that the database does not take -> quarantined with its reason, the others stored."""
    messages = recording(HEALTHY)
    bad = messages[3]
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        database.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON notifications "
            f"WHEN NEW.message_id = '{bad.message_id}' "
            f"BEGIN SELECT RAISE(ABORT, 'no such row here'); END"
        )
    peer.publish(messages)
    assert listener.run_once() == len(messages)
    assert sorted([*stored(tmp_path), bad.message_id]) == sorted(relevant(messages))
    assert peer.take_all(QUARANTINE) == [bad.body]
    assert quarantined(tmp_path) == ["no such row here"]
    assert len(notes.reports[-1].accepted.rejected) == 1


def test_ledger_gone_then_back(
    listener: Listener, peer: Peer, ledger: Ledger, tmp_path: Path, notes: Notes
) -> None:
    """The database cannot be opened -> nothing acked, and said; back -> accepted and acked."""
    messages = recording(HEALTHY)
    ledger.close()
    directory = tmp_path.rename(tmp_path.with_name("away"))
    peer.publish(messages)
    assert listener.run_once() == 0
    assert listener.run_once() == 0
    status = listener.status()
    assert not status.caught_up
    assert f"{len(messages)} messages wait unacked" in status.problems[0]
    assert len(notes.reports) == 0
    directory.rename(tmp_path)
    until(listener.run_once)
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))
    assert listener.status().problems == ()


def test_caught_up_only_when_the_queue_was_seen_empty(peer: Peer, ledger: Ledger) -> None:
    """A backlog of more than one batch -> not caught up before its end; closed -> not any more."""
    hurried = Pace(size=10, idle_seconds=0.02, seconds=0.1, poll_seconds=0.1)
    first = Listener(settings(MEMORY), ledger)
    first.run_once()
    first.close()
    peer.publish(m for _ in range(3) for m in renewed(recording(HEALTHY)))
    listener = Listener(settings(MEMORY, pace=hurried, prefetch=10), ledger)
    assert not listener.caught_up
    assert listener.run_once() == 10
    assert not listener.caught_up
    until(lambda: listener.run_once() == 0)
    until(lambda: listener.run_once() == 0 and listener.caught_up)
    listener.close()
    assert not listener.caught_up


class Empty(Subscription):
    """A subscription whose broker says that it has sent everything."""

    def __init__(self) -> None:
        self.refreshed_at = math.inf

    def all_sent(self) -> bool:
        """Say so."""
        return True


def test_an_interruption_forgets_what_the_broker_had_sent(listener: Listener) -> None:
    """All sent, then the connection lost before it was stored -> the next batch proves nothing."""
    batch, broker = Batch(tags=[1]), Empty()
    listener.interrupted(disconnected=True)
    listener.settled(batch, broker)
    listener.interrupted(disconnected=True)
    listener.settled(batch, broker)
    assert not listener.caught_up
    listener.settled(batch, broker)
    assert listener.caught_up


def test_status_tells_of_the_last_message(listener: Listener, peer: Peer) -> None:
    """Connected and nothing heard, then something -> the time of it, aware."""
    status = listener.status()
    assert status.connected
    assert status.last_message_at is None
    peer.publish(recording(HEALTHY))
    listener.run_once()
    received_at = listener.status().last_message_at
    assert received_at is not None
    assert received_at.tzinfo is not None


def test_run_until_stopped(peer: Peer, ledger: Ledger, tmp_path: Path) -> None:
    """run() in a thread -> messages of before and after its start stored; stop -> it ends."""
    listener = Listener(settings(MEMORY), ledger)
    with running(listener):
        until(lambda: listener.status().connected)
        peer.publish(recording(HEALTHY))
        until(lambda: stored(tmp_path))
    assert not listener.status().connected


def test_bindings_are_grouped_by_exchange() -> None:
    """The default configuration -> three exchanges, Nova's with both topics, two priorities."""
    bindings = {
        b.exchange: b.routing_keys for b in ListenerSettings.from_conf(configured(MEMORY)).bindings
    }
    assert set(bindings) == {"nova", "cinder", "openstack"}
    assert bindings["cinder"] == ("notifications.info", "notifications.error")
    assert "versioned_notifications.error" in bindings["nova"]
    assert len(bindings["nova"]) == 4


def test_binding_without_a_topic_is_refused() -> None:
    """A binding without a topic, nova -> refused by its form."""
    conf = configured(MEMORY)
    ListenerSettings.from_conf(conf)
    with pytest.raises(ValueError, match="nova"):
        conf.set_override("bindings", "nova", group="listener")
