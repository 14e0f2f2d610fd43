"""The publisher on kombu's in-memory broker, with a real ledger, and what it puts on the wire."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from kombu.transport import memory

from consumer.bus.broker import TOPICS
from consumer.bus.sender import Confirmation
from consumer.ledger import Ledger, LedgerUnavailableError, Outgoing
from consumer.publish.driver import DRIVER, Announced, on_the_wire
from consumer.publish.publisher import Publisher
from tests.announcing import END, START, announce, outbox, stock_listener
from tests.bus import MEMORY, Peer, configured, forget_memory, new_ledger, running, until
from tests.unit.consumer.ledger.making import expire_leases


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger, and an empty in-memory broker."""
    forget_memory()
    with new_ledger(tmp_path) as made:
        yield made
    forget_memory()


@pytest.fixture
def publisher(ledger: Ledger) -> Iterator[Publisher]:
    """Give a publisher."""
    made = Publisher.from_conf(configured(MEMORY), ledger, "host:1")
    yield made
    made.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give somebody whose queue is bound to our announcements."""
    with Peer(MEMORY) as made:
        made.declare("detachd")
        for priority in ("info", "error"):
            made.bind("audit", "detachd", f"detachd_notifications.{priority}")
        yield made


def envelope_and_message(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Open both layers."""
    envelope = json.loads(body)
    return envelope, json.loads(envelope["oslo.message"])


def test_outbox_goes_out_in_order_and_is_marked(
    publisher: Publisher, ledger: Ledger, peer: Peer
) -> None:
    """Three announcements of one case -> one a round, in order, each marked sent."""
    case_id = announce(ledger, START, "volume.force_detach.error", END)
    assert [publisher.run_once() for _ in range(4)] == [1, 1, 1, 0]
    bodies = [envelope_and_message(body)[1] for body in peer.take_all("audit")]
    assert [b["event_type"] for b in bodies] == [START, "volume.force_detach.error", END]
    assert [b["priority"] for b in bodies] == ["INFO", "ERROR", "INFO"]
    assert [b["message_id"] for b in bodies] == [r.message_id for r in outbox(ledger, case_id)]
    assert all(record.sent_at is not None for record in outbox(ledger, case_id))


def test_wire_format_is_messagingv2s(publisher: Publisher, ledger: Ledger, peer: Peer) -> None:
    """One announcement, and the same by oslo.messaging's own driver -> the same keys and types."""
    announce(ledger, START)
    publisher.run_once()
    ours = peer.take("audit")
    conf = configured(MEMORY)
    conf.set_override("control_exchange", "detachd")
    stock = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf),
        publisher_id="detachd.host",
        driver="messagingv2",
        topics=list(TOPICS),
    )
    stock.info({}, START, {"volume_id": "v"})
    theirs = peer.take("audit")
    stock.transport.cleanup()
    assert (ours.content_type, ours.content_encoding) == (
        theirs.content_type,
        theirs.content_encoding,
    )
    (envelope, message), (its_envelope, its_message) = (
        envelope_and_message(m.body) for m in (ours, theirs)
    )
    assert envelope.keys() == its_envelope.keys()
    assert envelope["oslo.version"] == its_envelope["oslo.version"]
    context = {"_context_request_id", "_context_global_request_id"}
    assert message.keys() == its_message.keys() | context
    assert {k: type(v) for k, v in its_message.items()}.items() <= {
        k: type(v) for k, v in message.items()
    }.items()
    assert message["_context_global_request_id"] == "req-of-the-operation"
    assert message["publisher_id"].startswith("detachd.")


def test_stock_listener_hears(publisher: Publisher, ledger: Ledger) -> None:
    """oslo.messaging's own listener on the exchange and topic -> it is told, in order."""
    case_id = announce(ledger, START, END)
    with stock_listener(configured(MEMORY)) as listener, running(publisher):
        until(lambda: len(listener.messages) == 2)
    assert listener.event_types == [START, END]
    ids = [message["metadata"]["message_id"] for message in listener.messages]
    assert ids == [record.message_id for record in outbox(ledger, case_id)]


def outgoing(ledger: Ledger) -> Outgoing:
    """Take the one announcement out of the outbox."""
    (leased,) = ledger.outbox_lease("test", limit=1, lease_seconds=60.0)
    return leased


def test_second_sending_differs_in_nothing_that_identifies(ledger: Ledger) -> None:
    """The same announcement packed twice -> same message_id and time, another _unique_id."""
    announce(ledger, START)
    leased = outgoing(ledger)
    noise = {"message_id": "oslo's own", "timestamp": "2026-01-01 00:00:00", "payload": {}}
    one, two = (
        envelope_and_message(on_the_wire(noise, leased, {"request_id": "r"}))[1] for _ in range(2)
    )
    assert one["message_id"] == two["message_id"] == leased.message_id
    assert one["timestamp"] == two["timestamp"]
    assert one["timestamp"].startswith(f"{leased.created_at:%Y-%m-%d %H:%M:%S}")
    assert one["_unique_id"] != two["_unique_id"]


def test_driver_refuses_other_callers(caplog: pytest.LogCaptureFixture) -> None:
    """Configured as a notify driver elsewhere -> nothing is sent, and the log says why."""
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(configured(MEMORY)),
        publisher_id="somebody",
        driver=DRIVER,
        topics=list(TOPICS),
    )
    notifier.info({}, "some.event", {})
    notifier.transport.cleanup()
    assert "is only for detachd's own publisher" in caplog.text


def test_missing_entry_point_is_a_failure_not_a_silence(ledger: Ledger) -> None:
    """The Notifier has no driver of ours -> the context still says that nothing was sent."""
    announce(ledger, START)

    def send(routing_key: str, body: bytes) -> Confirmation:
        raise AssertionError(f"{routing_key} {body!r} must not be sent")

    announced = Announced(outgoing(ledger), send)
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(configured(MEMORY)), "x", driver="noop"
    )
    notifier.info(announced, START, {})
    assert announced.error is not None
    assert "installed" in announced.error


def test_ledger_gone_then_back(
    publisher: Publisher, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """The database cannot be opened -> the publisher says so and waits; back -> sent."""
    announce(ledger, START)
    ledger.close()
    away = tmp_path.rename(tmp_path.with_name("away"))
    with running(publisher):
        until(lambda: publisher.status().problems)
        assert "announcements wait" in publisher.status().problems[0]
        assert peer.take("audit") is None
        away.rename(tmp_path)
        until(lambda: peer.take("audit") is not None)
        until(lambda: not publisher.status().problems)


def test_ledger_gone_between_confirm_and_mark(
    publisher: Publisher, ledger: Ledger, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confirmed and not marked, the lease over, the ledger back -> marked first, not sent again."""
    case_id = announce(ledger, START)

    def away(ids: object) -> None:
        raise LedgerUnavailableError(f"nobody notes {ids}")

    with monkeypatch.context() as outage:
        outage.setattr(ledger, "outbox_sent", away)
        with pytest.raises(LedgerUnavailableError):
            publisher.run_once()
    expire_leases(ledger)
    assert publisher.run_once() == 0
    assert len(peer.take_all("audit")) == 1
    (record,) = outbox(ledger, case_id)
    assert record.sent_at is not None


def test_stop_flushes_what_is_due(publisher: Publisher, ledger: Ledger, peer: Peer) -> None:
    """Stopped before it began, three due -> all three are sent before run() returns."""
    announce(ledger, START, END)
    announce(ledger, START)
    stop = threading.Event()
    stop.set()
    publisher.run(stop)
    assert len(peer.take_all("audit")) == 3


def test_flush_has_a_limit(publisher: Publisher, ledger: Ledger, peer: Peer) -> None:
    """No time to flush -> run() returns at once, and the announcement is kept."""
    announce(ledger, START)
    stop = threading.Event()
    stop.set()
    began_at = time.monotonic()
    publisher.run(stop, flush_seconds=0.0)
    assert time.monotonic() - began_at < 20.0
    assert peer.take("audit") is None
    assert ledger.outbox_pending()[0] == 1


def test_exchange_and_topics_are_configurable(ledger: Ledger) -> None:
    """[publisher] exchange and [oslo_messaging_notifications] topics -> where it is published."""
    conf = configured(MEMORY)
    conf.set_override("topics", ["notifications", "audit"], group="oslo_messaging_notifications")
    Publisher.from_conf(conf, ledger, "host:1").close()
    conf.set_override("exchange", "cinder", group="publisher")
    publisher = Publisher.from_conf(conf, ledger, "host:1")
    with Peer(MEMORY) as peer:
        peer.declare("cinder")
        for topic in ("notifications", "audit"):
            peer.bind(topic, "cinder", f"{topic}.info")
        announce(ledger, START)
        publisher.run_once()
        assert [len(peer.take_all(topic)) for topic in ("notifications", "audit")] == [1, 1]
    publisher.close()
    assert "detachd" not in memory.Transport.global_state.exchanges
