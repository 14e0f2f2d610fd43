"""The listener on a real RabbitMQ, and what a broker can do to it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from amqp.basic_message import Message

from consumer.bus.broker import BrokerSettings, BrokerUnavailableError, connect
from consumer.bus.subscription import Pace, Subscription
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from tests.bus import (
    Notes,
    Peer,
    configured,
    new_ledger,
    quarantined,
    running,
    settings,
    stored,
    until,
)
from tests.recorded import FAILED_ATTACH, HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

QUEUE = "detachd.notifications"
QUARANTINE = "detachd.quarantine"


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """Give a virtual host of the test's own."""
    return rabbitmq.fresh_vhost()


@pytest.fixture
def peer(url: str) -> Iterator[Peer]:
    """Give the other services' side."""
    with Peer(url) as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def listener(url: str, ledger: Ledger) -> Iterator[Listener]:
    """Give a listener, not yet connected."""
    made = Listener(settings(url), ledger)
    yield made
    made.close()


def relevant(messages: list[Recorded]) -> list[str]:
    """Return the ids of those messages that concern an attachment."""
    return [m.message_id for m in messages if not m.event_type.startswith("volume.create")]


def publish_until_stored(peer: Peer, messages: list[Recorded], directory: Path) -> None:
    """Publish the same again and again, as the bus drops what nobody is bound for."""

    def heard() -> list[str]:
        peer.publish(messages)
        return stored(directory)

    until(heard, 10)


def still_publishing(peer: Peer, messages: Iterator[Recorded]) -> bool:
    """Publish ten more."""
    peer.publish(itertools.islice(messages, 10))
    return True


@pytest.mark.parametrize("name", [HEALTHY, FAILED_ATTACH])
def test_recorded_scenario_is_in_the_ledger_and_acked(
    listener: Listener, peer: Peer, tmp_path: Path, name: str
) -> None:
    """Real messages on exchanges as Nova and Cinder declare them -> stored, then acked."""
    peer.declare("nova", "cinder")
    listener.run_once()
    messages = recording(name)
    peer.publish(messages)
    assert listener.run_once() == len(messages)
    listener.close()
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))
    assert peer.take(QUEUE) is None
    assert peer.take(QUARANTINE) is None


def test_exchange_absent_at_the_start(listener: Listener, peer: Peer, tmp_path: Path) -> None:
    """No exchange when we come -> made as its publisher would, who then is heard."""
    listener.run_once()
    assert listener.status().problems == ()
    peer.declare("nova", "cinder", "openstack")
    messages = recording(HEALTHY)
    peer.publish(messages)
    listener.run_once()
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))


def test_what_is_on_its_way_is_waited_for(
    rabbitmq: RabbitMQ, url: str, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker counts none, and one is on its way to us -> this batch has it by the answer."""
    made = settings(url)
    with Subscription(
        made.broker,
        (made.queue, made.quarantine),
        made.bindings,
        prefetch=100,
        max_body_bytes=made.max_body_bytes,
        relevant=lambda _: True,
    ) as subscription:
        ready, asked = subscription.ready, itertools.count()

        def counted() -> int:
            count = ready()
            if next(asked) == 0:  # it was counted before this one left the queue
                peer.put(b"[1]", "cinder", "notifications.info")
                until(lambda: rabbitmq.count(url, QUEUE, "messages_unacknowledged") == 1)
            return count

        monkeypatch.setattr(subscription, "ready", counted)
        assert subscription.all_sent()
        assert len(subscription._open_batch.tags) == 1


def test_exchange_that_the_operator_made_durable(
    listener: Listener, peer: Peer, tmp_path: Path
) -> None:
    """A durable cinder exchange, our setting says otherwise -> taken as it is, no complaint."""
    peer.declare("cinder", durable=True)
    listener.run_once()
    assert listener.status().problems == ()
    peer.publish(recording(HEALTHY)[3:4])
    listener.run_once()
    assert len(stored(tmp_path)) == 1


def test_exchange_deleted_under_us_is_bound_again(
    url: str, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """An exchange deleted, and declared again by its publisher -> bound by the next round."""
    listener = Listener(settings(url, rebind_seconds=0.2), ledger)
    with running(listener):
        until(lambda: listener.status().connected)
        kombu.Exchange("cinder", channel=peer.channel).delete()
        peer.declare("cinder")
        start = recording(HEALTHY)[3:4]
        publish_until_stored(peer, start, tmp_path)


def test_queue_deleted_under_us_is_made_again(
    url: str, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """Our queue deleted while we listen -> the broker cancels us; made and bound again."""
    listener = Listener(settings(url), ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        kombu.Queue(QUEUE, channel=peer.channel).delete()
        start = recording(HEALTHY)[3:4]
        publish_until_stored(peer, start, tmp_path)


def test_queue_that_nobody_consumes_is_told_of(url: str, ledger: Ledger, peer: Peer) -> None:
    """Cinder's own notifications.info, which nobody consumes -> counted with each new binding."""
    peer.declare("cinder")
    peer.bind("notifications.info", "cinder", "notifications.info")
    start, notes = recording(HEALTHY)[3:4], Notes()
    peer.publish(start)
    with running(Listener(settings(url, rebind_seconds=0.2), ledger, notes)):
        until(lambda: notes.seen)
    assert notes.seen[0].bus == "default"
    assert notes.seen[0].waiting["notifications.info"] == 1
    assert set(notes.seen[0].waiting.values()) == {0, 1}
    assert peer.take_all("notifications.info") == [m.body for m in start]


def test_nobody_elses_messages_are_taken(listener: Listener, peer: Peer, tmp_path: Path) -> None:
    """Ceilometer's notifications.info on the same exchange -> it gets every message too."""
    peer.declare("nova", "cinder")
    peer.bind("notifications.info", "cinder", "notifications.info")
    listener.run_once()
    messages = [m for m in recording(HEALTHY) if m.exchange == "cinder"]
    peer.publish(messages)
    listener.run_once()
    assert peer.take_all("notifications.info") == [m.body for m in messages]
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))


ODD = [
    pytest.param(b"\xff\xfe\x00raw", {}, id="not UTF-8"),
    pytest.param(b"", {}, id="empty"),
    pytest.param("{ä}".encode("latin-1"), {"content_encoding": "latin-1"}, id="Latin-1"),
    pytest.param(b"not gzip", {"headers": {"compression": "application/x-gzip"}}, id="not gzip"),
    pytest.param(b"[]" * 200_000, {}, id="many frames"),
    pytest.param(b'{"event_type":' * 50_000, {}, id="JSON in JSON in JSON"),
    pytest.param(
        b'{"oslo.message":"{\\"oslo.message\\":\\"{}\\"}"}', {}, id="envelopes in envelopes"
    ),
    pytest.param(
        b'{"event_type":"volume.attach.start","payload":9' + b"9" * 5000, {}, id="huge number"
    ),
    pytest.param(b'{"event_type":"volume.attach.start","a":"\\ud800"}', {}, id="half a surrogate"),
    pytest.param(b'{"event_type":1,"event_type":"volume.attach.start"}', {}, id="a key twice"),
    pytest.param(b"packed", {"content_encoding": "gzip", "content_type": "text/\u00e4"}, id="lies"),
]


@pytest.mark.parametrize(("body", "properties"), ODD)
def test_unreadable_body_is_quarantined_byte_for_byte(
    listener: Listener, peer: Peer, tmp_path: Path, body: bytes, properties: dict[str, Any]
) -> None:
    """A body that nobody can read -> its bytes on the quarantine queue, acked, the next read."""
    listener.run_once()
    start = renewed(recording(HEALTHY))[3]
    peer.put(body, "cinder", "notifications.info", **properties)
    peer.publish([start])
    assert listener.run_once() == 2
    listener.close()
    message = peer.take(QUARANTINE)
    assert (message.body or b"") == body
    assert message.headers["x-detachd-exchange"] == "cinder"
    assert quarantined(tmp_path) == [message.headers["x-detachd-reason"]]
    assert stored(tmp_path) == [start.message_id]
    assert peer.take(QUEUE) is None


def test_properties_that_py_amqp_cannot_decode(
    listener: Listener, peer: Peer, tmp_path: Path
) -> None:
    """A sound notification whose content_encoding is not UTF-8 -> read all the same, no loop."""
    listener.run_once()
    start = recording(HEALTHY)[3]
    message = Message(start.body, content_type="application/json", content_encoding="utf-8")
    properties = message._serialize_properties().replace(b"utf-8", b"\xff\xfe\xff\xfe\xff")
    message._serialize_properties = lambda: properties
    peer.channel.basic_publish(message, exchange="cinder", routing_key="notifications.info")
    assert listener.run_once() == 1
    assert stored(tmp_path) == [start.message_id]


def test_compressed_body_is_read(listener: Listener, peer: Peer, tmp_path: Path) -> None:
    """[oslo_messaging_rabbit] kombu_compression = gzip at the publisher -> read."""
    listener.run_once()
    start = recording(HEALTHY)[3]
    peer.put(start.body, "cinder", "notifications.info", compression="gzip")
    assert listener.run_once() == 1
    assert stored(tmp_path) == [start.message_id]


def test_large_bodies_make_small_batches(url: str, ledger: Ledger, peer: Peer) -> None:
    """Bodies of 300 bytes where a batch keeps 1000 -> four a batch, each put aside."""
    pace = Pace(size=50, most_bytes=1000, idle_seconds=1.0, seconds=30.0, poll_seconds=1.0)
    listener = Listener(settings(url, pace=pace), ledger)
    listener.run_once()
    for _ in range(8):
        peer.put(b"[" * 300, "cinder", "notifications.info")
    assert [listener.run_once() for _ in range(2)] == [4, 4]
    listener.close()
    assert len(peer.take_all(QUARANTINE)) == 8


def test_no_more_is_read_than_fits_while_the_ledger_is_away(
    url: str, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch cannot be stored, and more messages come -> left with the broker but for a few."""
    monkeypatch.setattr("consumer.bus.subscription.MOST_BYTES", 1000)
    made = settings(url)
    with Subscription(
        made.broker,
        (made.queue, made.quarantine),
        made.bindings,
        prefetch=100,
        max_body_bytes=made.max_body_bytes,
        relevant=lambda _: True,
    ) as subscription:
        for _ in range(8):
            peer.put(b"[" * 300, "cinder", "notifications.info")
        subscription.keep_alive(1.5)
        assert len(subscription.collect(dataclasses.replace(made.pace, size=1)).tags) == 4
        assert len(subscription.collect(made.pace).tags) == 4


def test_quarantine_queue_deleted_under_us(listener: Listener, peer: Peer, tmp_path: Path) -> None:
    """The quarantine queue is gone when it is needed -> not acked, made again, then quarantined."""
    listener.run_once()
    peer.put(b"{", "cinder", "notifications.info")
    assert listener.run_once() == 1
    kombu.Queue(QUARANTINE, channel=peer.channel).delete()
    peer.put(b"[", "cinder", "notifications.info")
    assert listener.run_once() == 0
    assert "detachd.quarantine" in listener.status().problems[0]
    until(listener.run_once)
    assert peer.take_all(QUARANTINE) == [b"["]
    assert len(quarantined(tmp_path)) == 2


def test_busy_but_keeping_up_is_caught_up(url: str, ledger: Ledger, peer: Peer) -> None:
    """Messages without a pause, so that no wait for one ends empty -> caught up all the same."""
    never_idle = Pace(size=1_000_000, idle_seconds=1.0, seconds=0.1, poll_seconds=1.0)
    listener = Listener(settings(url, pace=never_idle), ledger)
    peer.declare("nova", "cinder")
    messages = itertools.cycle(recording(HEALTHY))
    with running(listener):
        until(lambda: still_publishing(peer, messages) and listener.caught_up)


def test_what_the_broker_has_sent_already_is_waited_for(
    url: str, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """The whole backlog sent to us at once, a part of it stored -> not caught up before the rest.

    The broker then says that nothing is left in the queue: it counts what it has not sent.
    """
    few = Pace(size=10, idle_seconds=0.02, seconds=0.1, poll_seconds=0.1)
    first = Listener(settings(url), ledger)
    first.run_once()
    first.close()
    messages = [m for _ in range(6) for m in renewed(recording(HEALTHY))]
    peer.publish(messages)
    listener = Listener(settings(url, pace=few), ledger)
    while len(stored(tmp_path)) < len(relevant(messages)):
        assert not listener.caught_up
        listener.run_once()
    until(lambda: listener.run_once() == 0 and listener.caught_up)
    listener.close()


@pytest.mark.parametrize(
    ("user", "vhost", "command"),
    [
        ("guest:guest", "nowhere", "rabbitmqctl add_vhost nowhere"),
        ("guest:canary", "%2F", "rabbitmqctl authenticate_user"),
        ("stranger:stranger", "%2F", "rabbitmqctl set_permissions --vhost /"),
    ],
)
def test_a_user_who_is_not_let_in_is_told_the_command(
    rabbitmq: RabbitMQ, user: str, vhost: str, command: str
) -> None:
    """No such virtual host, a wrong password, no right on the host -> the command that helps."""
    if user.startswith("stranger") and "stranger" not in rabbitmq.ctl("list_users"):
        rabbitmq.ctl("add_user", "stranger", "stranger")
    url = f"rabbit://{user}@127.0.0.1:{rabbitmq.port}/{vhost}"
    broker = BrokerSettings.from_conf(configured(url))
    with pytest.raises(BrokerUnavailableError) as refused:
        connect(broker, "test", heartbeats=False)
    assert command in str(refused.value)
    assert "canary" not in str(refused.value)
