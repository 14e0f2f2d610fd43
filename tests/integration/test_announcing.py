"""The publisher on a real RabbitMQ: confirms, returns, and what a broker can do to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from consumer.bus.sender import Confirmation
from consumer.ledger import Ledger, LedgerUnavailableError
from consumer.publish import driver
from consumer.publish import publisher as module
from consumer.publish.publisher import Publisher
from tests.announcing import END, START, announce, outbox, stock_listener
from tests.bus import Peer, configured, new_ledger, running, until
from tests.services.rabbitmq import RabbitMQ


@pytest.fixture
def conf(rabbitmq: RabbitMQ) -> cfg.ConfigOpts:
    """Give a configuration of a virtual host of the test's own; exchanges are durable there."""
    made = configured(rabbitmq.fresh_vhost())
    made.set_override("amqp_durable_queues", True, group="oslo_messaging_rabbit")
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def publisher(conf: cfg.ConfigOpts, ledger: Ledger) -> Iterator[Publisher]:
    """Give a publisher in a hurry."""
    made = hurried(conf, ledger)
    yield made
    made.close()


def hurried(conf: cfg.ConfigOpts, ledger: Ledger, **options: Any) -> Publisher:
    """Make a publisher that looks often and waits little."""
    Publisher.from_conf(conf, ledger, "host:1").close()
    hurry = {"poll_seconds": 0.05, "confirm_timeout_seconds": 1.0, **options}
    for name, value in hurry.items():
        conf.set_override(name, value, group="publisher")
    return Publisher.from_conf(conf, ledger, "host:1")


@pytest.fixture
def peer(conf: cfg.ConfigOpts) -> Iterator[Peer]:
    """Give somebody with a durable queue on the announcements."""
    with Peer(conf.transport_url.replace("rabbit:", "amqp:")) as made:
        made.declare("detachd", durable=True)
        for priority in ("info", "error"):
            made.bind("audit", "detachd", f"detachd_notifications.{priority}")
        yield made


def test_stock_listener_is_told(conf: cfg.ConfigOpts, ledger: Ledger, publisher: Publisher) -> None:
    """oslo.messaging's own listener -> event types, priorities, payloads and ids are right."""
    case_id = announce(ledger, START, "volume.force_detach.error")
    with stock_listener(conf) as heard, running(publisher):
        until(lambda: len(heard.messages) == 2)
    records = outbox(ledger, case_id)
    assert heard.event_types == [record.event_type for record in records]
    assert [m["priority"] for m in heard.messages] == ["info", "error"]
    assert [m["payload"] for m in heard.messages] == [dict(r.payload) for r in records]
    assert [m["metadata"]["message_id"] for m in heard.messages] == [r.message_id for r in records]
    assert heard.messages[0]["context"]["global_request_id"] == "req-of-the-operation"
    assert heard.messages[0]["publisher_id"].startswith("detachd.")
    assert all(record.sent_at is not None for record in records)


def test_second_sending_has_the_same_id(
    conf: cfg.ConfigOpts, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher dies between confirm and mark -> sent again, and the listener can tell."""
    monkeypatch.setattr(module, "_LEASE_SECONDS", 1.0)
    publisher = hurried(conf, ledger)
    announce(ledger, START)
    away = tmp_path.with_name("away")
    send = publisher._send

    def send_and_lose_the_ledger(routing_key: str, body: bytes) -> Confirmation:
        answer = send(routing_key, body)
        ledger.close()
        tmp_path.rename(away)
        return answer

    with stock_listener(conf) as heard:
        with monkeypatch.context() as once:
            once.setattr(publisher, "_send", send_and_lose_the_ledger)
            with pytest.raises(LedgerUnavailableError):
                publisher.run_once()
        publisher.close()
        away.rename(tmp_path)
        until(lambda: len(heard.messages) == 1)
        publisher = hurried(conf, ledger)
        until(publisher.run_once)
        until(lambda: len(heard.messages) == 2)
    publisher.close()
    one, two = heard.messages
    assert one["metadata"] == two["metadata"]
    assert one["payload"] == two["payload"]
    assert ledger.outbox_pending()[0] == 0


def test_nobody_bound_is_unrouted_and_not_repeated(conf: cfg.ConfigOpts, ledger: Ledger) -> None:
    """No queue on the exchange -> marked unrouted; the next of the case goes on."""
    publisher = hurried(conf, ledger, unrouted_after_seconds=0.0)
    case_id = announce(ledger, START, END)
    assert [publisher.run_once() for _ in range(3)] == [1, 1, 0]
    publisher.close()
    for record in outbox(ledger, case_id):
        assert record.unrouted_at is not None
        assert (record.sent_at, record.attempts) == (None, 1)


def test_nobody_bound_yet_is_repeated(ledger: Ledger, publisher: Publisher, peer: Peer) -> None:
    """Just connected, and the listeners are not back yet -> sent again until they are."""
    peer.channel.queue_unbind("audit", "detachd", "detachd_notifications.info")
    case_id = announce(ledger, START)
    assert publisher.run_once() == 0
    (record,) = outbox(ledger, case_id)
    assert (record.sent_at, record.unrouted_at) == (None, None)
    assert "no queue is bound" in str(record.last_error)
    peer.bind("audit", "detachd", "detachd_notifications.info")
    until(publisher.run_once)
    assert len(peer.take_all("audit")) == 1


@pytest.mark.slow
def test_broker_down_then_back(
    ledger: Ledger, publisher: Publisher, peer: Peer, rabbitmq: RabbitMQ
) -> None:
    """Killed, three announcements meanwhile, restarted -> all there, in order, once, same ids."""
    publisher.run_once()
    rabbitmq.sync()
    with ExitStack() as stack:
        with rabbitmq.killed():
            case_id = announce(ledger, START, "volume.force_detach.error", END)
            ids = [record.message_id for record in outbox(ledger, case_id)]
            stack.enter_context(running(publisher))
            until(lambda: publisher.status().problems)
            assert "announcements wait" in publisher.status().problems[0]
        until(lambda: ledger.outbox_pending()[0] == 0, 60)
        until(lambda: publisher.status().problems == ())
    with Peer(peer.url) as again:
        bodies = again.take_all("audit")
    assert [json.loads(json.loads(body)["oslo.message"])["message_id"] for body in bodies] == ids


def test_connection_that_died_while_idle(
    ledger: Ledger, publisher: Publisher, peer: Peer, rabbitmq: RabbitMQ
) -> None:
    """The broker closed the idle connection -> the next announcement goes out at once."""
    publisher.run_once()
    rabbitmq.ctl("close_all_connections", "for the test")
    case_id = announce(ledger, START)
    assert publisher.run_once() == 1
    assert outbox(ledger, case_id)[0].attempts == 1
    with Peer(peer.url) as again:
        assert len(again.take_all("audit")) == 1


def test_broker_without_memory(
    ledger: Ledger, publisher: Publisher, peer: Peer, rabbitmq: RabbitMQ
) -> None:
    """A memory alarm blocks publishers -> not confirmed, kept, and sent when it is over."""
    publisher.run_once()
    rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        case_id = announce(ledger, START)
        assert publisher.run_once() == 0
        (record,) = outbox(ledger, case_id)
        assert record.sent_at is None
        assert "timed out" in str(record.last_error)
        assert publisher.status().problems == ("announcements wait: timed out",)
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    until(publisher.run_once)
    assert publisher.status().problems == ()
    assert {record.message_id.encode() in body for body in peer.take_all("audit")} == {True}


def test_message_that_the_broker_refuses_does_not_stop_the_others(
    ledger: Ledger, publisher: Publisher, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the broker will not take -> kept for later with the reason, the next case's sent."""
    refused, taken = announce(ledger, START), announce(ledger, END)
    on_the_wire = driver.on_the_wire

    def too_large(message: dict[str, Any], *others: Any) -> bytes:
        body = on_the_wire(message, *others)
        return body + b" " * (130 << 20) if message["event_type"] == START else body

    monkeypatch.setattr(driver, "on_the_wire", too_large)
    assert publisher.run_once() == 1
    assert "PRECONDITION_FAILED" in str(outbox(ledger, refused)[0].last_error)
    assert outbox(ledger, taken)[0].sent_at is not None
    assert len(peer.take_all("audit")) == 1


def test_exchange_that_we_may_not_declare(rabbitmq: RabbitMQ, ledger: Ledger) -> None:
    """The broker user lacks the right -> said in words, all is kept; granted -> sent."""
    url = rabbitmq.fresh_vhost()
    vhost = url.rpartition("/")[2]
    rabbitmq.ctl("add_user", f"of-{vhost}", "secret")
    rights = ("set_permissions", "--vhost", vhost, f"of-{vhost}")
    rabbitmq.ctl(*rights, "^$", ".*", ".*")
    announce(ledger, START)
    own = hurried(configured(url.replace("guest:guest", f"of-{vhost}:secret")), ledger)
    with running(own), Peer(url) as owner:
        until(lambda: own.status().problems)
        (problem,) = own.status().problems
        assert "exchange 'detachd': the broker user in transport_url may not use it" in problem
        assert "secret" not in problem
        assert ledger.outbox_pending()[0] == 1
        rabbitmq.ctl(*rights, ".*", ".*", ".*")
        owner.declare("detachd")
        owner.bind("audit", "detachd", "detachd_notifications.info")
        until(lambda: ledger.outbox_pending()[0] == 0, 60)
        until(lambda: own.status().problems == ())
        assert len(owner.take_all("audit")) == 1
