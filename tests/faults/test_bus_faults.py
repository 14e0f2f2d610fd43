"""What a broker and a database can do to the listener, on real ones."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.bus.broker import BROKER_ERRORS
from consumer.intake import batch
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from handlers.notification import Parsed
from tests.bus import Notes, Peer, new_ledger, running, settings, stored, until
from tests.recorded import FAILED_ATTACH, HEALTHY, Recorded, recording, renewed
from tests.services import ledgers
from tests.services.postgresql import PostgreSQL
from tests.services.rabbitmq import RabbitMQ

QUEUE = "detachd.notifications"


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


def relevant(messages: list[Recorded]) -> list[str]:
    """Return the ids of those messages that concern an attachment."""
    return [m.message_id for m in messages if not m.event_type.startswith("volume.create")]


def unacked(rabbitmq: RabbitMQ, url: str) -> dict[str, list[int]]:
    """Ask the broker for [ready, unacknowledged] of each queue."""
    vhost = url.rpartition("/")[2]
    columns = ("name", "messages_ready", "messages_unacknowledged")
    lines = rabbitmq.ctl("list_queues", "--vhost", vhost, "--no-table-headers", *columns)
    rows = (line.split("\t") for line in lines.splitlines())
    return {name: [int(number) for number in numbers] for name, *numbers in rows}


def test_ledger_down_nothing_is_acked(
    url: str, peer: Peer, postgresql: PostgreSQL, rabbitmq: RabbitMQ
) -> None:
    """PostgreSQL killed -> nothing acked while it is away; back -> accepted, acked, once."""
    database = ledgers.on(postgresql)
    ledger = Ledger(database)
    listener = Listener(settings(url), ledger)
    messages = recording(FAILED_ATTACH)
    with running(listener):
        until(lambda: listener.caught_up)
        with postgresql.killed():
            peer.publish(messages)
            until(lambda: listener.status().problems, 60)
            assert "messages wait unacked" in listener.status().problems[0]
            assert not listener.caught_up
            assert sum(unacked(rabbitmq, url)[QUEUE]) == len(messages)
        until(lambda: listener.caught_up, 60)
        assert listener.status().problems == ()
    assert unacked(rabbitmq, url)[QUEUE] == [0, 0]
    assert len(ledger.cases()) == 1
    ledger.close()
    postgresql.drop_database(database)


def test_connection_lost_while_the_ledger_is_down(  # noqa: PLR0917 - fixtures
    url: str,
    peer: Peer,
    ledger: Ledger,
    tmp_path: Path,
    rabbitmq: RabbitMQ,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ledger away, then the connection too -> the batch is forgotten, redelivered, stored once."""
    listener = Listener(settings(url), ledger)
    messages = recording(HEALTHY)
    with running(listener):
        until(lambda: listener.caught_up)
        ledger.close()
        away = tmp_path.rename(tmp_path.with_name("away"))
        peer.publish(messages)
        until(lambda: listener.status().problems)
        rabbitmq.ctl("close_all_connections", "--vhost", url.rpartition("/")[2], "for the test")
        until(lambda: "broker cannot be used" in caplog.text)
        away.rename(tmp_path)
        until(lambda: len(stored(tmp_path)) == len(relevant(messages)))
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))


@pytest.mark.slow
def test_heartbeats_go_on_while_the_ledger_is_down(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path
) -> None:
    """Ledger away for three heartbeats of two seconds -> the connection lives; then all is in."""
    brisk = settings(url)
    broker = dataclasses.replace(brisk.broker, heartbeat_seconds=2)
    notes = Notes()
    listener = Listener(dataclasses.replace(brisk, broker=broker), ledger, notes)
    with running(listener):
        until(lambda: listener.caught_up)
        ledger.close()
        away = tmp_path.rename(tmp_path.with_name("away"))
        peer.publish(recording(HEALTHY))
        until(lambda: listener.status().problems)
        time.sleep(7)
        assert notes.lost == 0
        away.rename(tmp_path)
        until(lambda: stored(tmp_path))
    assert notes.lost == 0


def test_unexpected_error_loses_nothing(
    url: str, peer: Peer, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours while a batch is read -> said, nothing acked; gone -> stored."""
    listener = Listener(settings(url), ledger)

    def broken(body: bytes) -> Parsed:
        raise ZeroDivisionError(len(body))

    with running(listener):
        until(lambda: listener.caught_up)
        with monkeypatch.context() as bug:
            bug.setattr(batch, "parse", broken)
            peer.publish(recording(HEALTHY))
            until(lambda: "unexpected error" in "".join(listener.status().problems))
        until(lambda: len(stored(tmp_path)) == len(relevant(recording(HEALTHY))))
        until(lambda: not listener.status().problems)
    assert sorted(stored(tmp_path)) == sorted(relevant(recording(HEALTHY)))


@pytest.mark.slow
def test_broker_killed_mid_stream(
    url: str, ledger: Ledger, tmp_path: Path, rabbitmq: RabbitMQ
) -> None:
    """Kill -9 while messages flow, restart -> bound again; what was confirmed is stored once."""
    listener = Listener(settings(url), ledger)
    confirmed: list[str] = []
    stop = threading.Event()
    publisher = threading.Thread(target=publish_forever, args=(url, confirmed, stop), daemon=True)
    with running(listener):
        until(lambda: listener.caught_up)
        publisher.start()
        until(lambda: len(confirmed) > 500)
        rabbitmq.sync()
        with rabbitmq.killed():
            until(lambda: not (listener.status().connected or listener.caught_up))
            before = len(confirmed)
        until(lambda: len(confirmed) > before + 500, 60)
        stop.set()
        publisher.join(30)
        until(lambda: set(stored(tmp_path)) >= set(confirmed), 60)
    assert len(stored(tmp_path)) == len(set(stored(tmp_path)))


def publish_forever(url: str, confirmed: list[str], stop: threading.Event) -> None:
    """Publish as Nova and Cinder do, declaring on each new connection; note what reached a queue.

    Persistent, confirmed and mandatory: a message that came back had no queue to go to.
    """
    template = [m for m in recording(HEALTHY) if m.event_type.startswith("volume.attach")]
    while not stop.is_set():
        try:
            with Peer(url) as peer:
                peer.declare("nova", "cinder")
                while not stop.is_set():
                    messages = renewed(template)
                    confirmed.extend(m.message_id for m in messages if peer.put_mandatory(m))
        except BROKER_ERRORS:
            time.sleep(0.1)


def test_broker_frozen_is_noticed(
    url: str, ledger: Ledger, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker hangs with its connections open -> noticed by its silence; back -> connected."""
    monkeypatch.setattr("consumer.bus.broker.ANSWER_SECONDS", 2.0)
    listener = Listener(settings(url), ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        with rabbitmq.paused():
            until(lambda: not listener.status().connected)
        until(lambda: listener.caught_up, 60)
