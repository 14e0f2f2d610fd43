"""The replay queue on a real RabbitMQ: once, whatever the broker does; and nothing stops it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import kombu
import pytest

import consumer.bus.subscription
import consumer.intake.replayer
from consumer.bus.queue_type import choose
from consumer.bus.sender import NotConfirmedError
from consumer.bus.subscription import Subscription
from consumer.bus.topology import QueueSettings
from consumer.counting import Happened
from consumer.intake.replay_queue import CaseOrder, ReplaySender, ReplaySettings, Requester, body_of
from consumer.intake.replayer import Replayer
from consumer.ledger import HistoryKind, Ledger, Timing
from handlers.case import CaseState
from tests.bus import Peer, configured, new_ledger, quarantined, running, until
from tests.services.rabbitmq import RabbitMQ
from tests.unit.consumer.due import only_case, open_case, outcome

REPLAY, QUARANTINE = "detachd.replay", "detachd.quarantine"
REQUESTER = Requester("alice", "the array is back")


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """Give a virtual host of the test's own."""
    return rabbitmq.fresh_vhost()


@pytest.fixture
def settings(url: str) -> ReplaySettings:
    """Give the settings, all by default."""
    return ReplaySettings.from_conf(configured(url))


@pytest.fixture
def peer(url: str, settings: ReplaySettings) -> Iterator[Peer]:
    """Give somebody with access to the broker, its replay queue declared."""
    with Peer(url) as made:
        settings.queue.declare(made.connection)
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def each_ledger(ledger_url: str) -> Iterator[Ledger]:
    """Give an empty ledger, on each of the three databases in turn."""
    made = Ledger(ledger_url, timing=Timing(error_settle_seconds=0.0))
    yield made
    made.close()


def left(ledger: Ledger, state: CaseState = CaseState.PARKED) -> str:
    """Make a case that an attempt left in this state; return its id."""
    volume_id = open_case(ledger)
    look(ledger, state)
    return only_case(ledger, volume_id).case.case_id


def look(ledger: Ledger, state: CaseState = CaseState.PARKED) -> None:
    """Look at the one due case, which comes to this state."""
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    ledger.finish(claim, outcome(state))


def order(case_id: str) -> bytes:
    """Return the body that asks for a case."""
    return body_of(CaseOrder(case_id, "bob", "why"))


def put(peer: Peer, body: bytes, **properties: Any) -> None:
    """Put a body on the replay queue, as anyone may."""
    peer.put(body, "", REPLAY, delivery_mode=2, **properties)


def rounds(ledger: Ledger, case_id: str) -> int:
    """Return how often the case was sent round again."""
    kinds = [line.kind for line in ledger.case(case_id).history]
    return kinds.count(HistoryKind.REARMED)


class AckLostError(OSError):
    """The connection breaks before the ack is through."""


def take_in_and_lose(replayer: Replayer) -> None:
    """Take a replay in; the ack is lost, and with it the connection."""
    with pytest.raises(AckLostError):
        until(lambda: replayer.run_once() and False)
    replayer.close()


# -- once ------------------------------------------------------------------------------------------


@pytest.fixture
def ack_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the connection break right before the next ack."""
    real, losses = Subscription.ack, iter([True])

    def ack(self: Subscription, batch: Any) -> None:
        if next(losses, False):
            raise AckLostError("the network is gone")
        real(self, batch)

    monkeypatch.setattr(Subscription, "ack", ack)


@pytest.mark.usefixtures("ack_is_lost")
@pytest.mark.parametrize("looked_at", [False, True], ids=["waits for its look", "was looked at"])
@pytest.mark.parametrize("properties", [{}, {"message_id": "m-1"}], ids=["no id", "message_id"])
def test_ack_lost_with_the_connection(
    settings: ReplaySettings,
    ledger: Ledger,
    peer: Peer,
    looked_at: bool,
    properties: dict[str, str],
) -> None:
    """Stored, then the connection breaks before the ack -> delivered again, and not done again."""
    case_id, replayer = left(ledger), Replayer(settings, ledger)
    put(peer, order(case_id), **properties)
    take_in_and_lose(replayer)
    if looked_at:
        look(ledger)
    until(replayer.run_once)
    assert rounds(ledger, case_id) == 1
    assert ledger.case(case_id).case.state is (CaseState.PARKED if looked_at else CaseState.DUE)
    assert replayer.run_once() == 0
    replayer.close()


SENT = [
    pytest.param(({"message_id": "m-1"}, False, 1), id="message_id -> once"),
    pytest.param(({"message_id": "m-1"}, True, 1), id="message_id, looked at since -> once"),
    pytest.param(({}, False, 1), id="no id -> once"),
    pytest.param(({}, True, 2), id="no id, looked at since -> one look more, never one less"),
]


@pytest.mark.usefixtures("ack_is_lost")
@pytest.mark.parametrize("sent", SENT)
def test_killed_before_the_ack(
    settings: ReplaySettings, ledger: Ledger, peer: Peer, sent: tuple[dict[str, str], bool, int]
) -> None:
    """Stored, then the process dies before the ack -> what the next process does."""
    properties, looked_at, times = sent
    case_id = left(ledger)
    put(peer, order(case_id), **properties)
    take_in_and_lose(Replayer(settings, ledger))
    if looked_at:
        look(ledger)
    second = Replayer(settings, ledger)
    until(second.run_once)
    second.close()
    assert rounds(ledger, case_id) == times


def test_same_order_later_is_not_swallowed(
    settings: ReplaySettings, ledger: Ledger, peer: Peer
) -> None:
    """The same body without an id, days later, delivered twice before it is stored -> it counts."""
    case_id, first = left(ledger), Replayer(settings, ledger)
    put(peer, order(case_id))
    until(first.run_once)
    first.close()
    look(ledger)
    put(peer, order(case_id))
    taken = kombu.Queue(REPLAY, channel=peer.channel).get(no_ack=False)
    taken.requeue()  # from here on the broker says of it: redelivered
    second = Replayer(settings, ledger)
    until(second.run_once)
    second.close()
    assert rounds(ledger, case_id) == 2


class Results(Counter[str]):
    """Counts what replayers tell, each in its own thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def __call__(self, event: Happened) -> None:
        """Count it."""
        with self._lock:
            self[str(event.label)] += 1


@pytest.mark.slow
def test_storm(rabbitmq: RabbitMQ, url: str, settings: ReplaySettings, each_ledger: Ledger) -> None:
    """200 replays and poison, two replicas, their connections cut on the way -> each case once."""
    ledger, results = each_ledger, Results()
    states = itertools.cycle([CaseState.PARKED, CaseState.CLOSED])
    ids = [left(ledger, next(states)) for _ in range(200)]
    with ReplaySender(settings) as sender:
        for number, case_id in enumerate(ids):
            body = order(case_id) if number % 20 else b"poison %d" % number
            sender.send(body, REQUESTER)
    with running(Replayer(settings, ledger, results)), running(Replayer(settings, ledger, results)):
        until(lambda: results["rearmed"] > 50)
        rabbitmq.ctl("close_all_connections", "--vhost", url.rpartition("/")[2], "for the test")
        until(lambda: results["rearmed"] >= 190 and results["refused"] >= 10, 60)
        # What was stored and not yet acked when the connections were cut comes once more.
        until(lambda: rabbitmq.count(url, REPLAY) == 0, 60)
    assert results["rearmed"] == 190
    with Peer(url) as peer:
        assert peer.take(REPLAY) is None
        assert len(set(peer.take_all(QUARANTINE))) == 10
    replayed = [case_id for number, case_id in enumerate(ids) if number % 20]
    assert {rounds(ledger, case_id) for case_id in replayed} == {1}
    assert ledger.counts()[CaseState.DUE].count == 190


# -- nothing stops it ------------------------------------------------------------------------------


def test_what_we_always_fail_on_is_put_aside(
    settings: ReplaySettings,
    ledger: Ledger,
    peer: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug of ours that one body wakes each time -> the body is put aside, the next taken in."""
    case_id, real = left(ledger), ledger.replay

    def fails_on_one(replay: Any, what: Any) -> Any:
        if what == "poisoned":
            raise RuntimeError("a bug")
        return real(replay, what)

    monkeypatch.setattr(ledger, "replay", fails_on_one)
    monkeypatch.setattr("consumer.intake.loop.backoff_seconds", lambda failures: 0.01)
    put(peer, order("poisoned"))
    put(peer, order(case_id))
    with running(Replayer(settings, ledger)):
        until(lambda: rounds(ledger, case_id))
    assert quarantined(tmp_path) == [
        "detachd failed 3 times on this message; see the log of detachd"
    ]
    assert peer.take_all(QUARANTINE) == [order("poisoned")]
    assert peer.take(REPLAY) is None


@pytest.mark.parametrize(
    ("module", "name"),
    [(consumer.intake.replayer, "order_of"), (consumer.bus.subscription, "delivery_of")],
)
@pytest.mark.parametrize("error", [RecursionError, OSError])
def test_what_cannot_be_read_at_all_is_put_aside(
    settings: ReplaySettings,
    ledger: Ledger,
    peer: Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    module: ModuleType,
    name: str,
    error: type[Exception],
) -> None:
    """We fail while a body is read -> put aside after three times, the next is taken in."""
    case_id, real = left(ledger), getattr(module, name)

    def fails_on_one(*words: Any) -> Any:
        if words[-1] == order("poisoned"):
            raise error("a bug")
        return real(*words)

    monkeypatch.setattr(module, name, fails_on_one)
    monkeypatch.setattr("consumer.intake.loop.backoff_seconds", lambda failures: 0.01)
    put(peer, order("poisoned"))
    put(peer, order(case_id))
    with running(Replayer(settings, ledger)):
        until(lambda: rounds(ledger, case_id))
    assert quarantined(tmp_path) == [
        "detachd failed 3 times on this message; see the log of detachd"
    ]
    assert peer.take_all(QUARANTINE) == [order("poisoned")]
    assert peer.take(REPLAY) is None


def test_stopped_while_the_ledger_is_gone(
    settings: ReplaySettings, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """Stopped with a replay in hand that could not be stored -> on the queue, done by the next."""
    case_id, first = left(ledger), Replayer(settings, ledger)
    ledger.close()
    away = tmp_path.rename(tmp_path.with_name("away"))
    put(peer, order(case_id))
    until(lambda: first.run_once() == 0 and first.status().problems)
    first.close()
    away.rename(tmp_path)
    second = Replayer(settings, ledger)
    until(second.run_once)
    second.close()
    assert rounds(ledger, case_id) == 1


def test_queue_deleted_under_us(settings: ReplaySettings, ledger: Ledger, url: str) -> None:
    """The replay queue deleted while we consume it, and before a sending -> made again by both."""
    case_id = left(ledger)
    replayer = Replayer(settings, ledger)
    with ReplaySender(settings) as sender, running(replayer), Peer(url) as peer:
        sender.send(order(case_id), REQUESTER)
        until(lambda: rounds(ledger, case_id) == 1)
        kombu.Queue(REPLAY, channel=peer.channel).delete()
        sender.send(order(case_id), REQUESTER)
        until(lambda: rounds(ledger, case_id) == 2)


def test_full_queue_refuses(settings: ReplaySettings) -> None:
    """More replays than the queue holds -> the sender is told, and nothing is dropped."""
    short = QueueSettings(REPLAY, 2, overflow="reject-publish")
    few = dataclasses.replace(settings, queue=short)
    with ReplaySender(few) as sender:
        for number in range(2):
            sender.send(order(f"case-{number}"), REQUESTER)
        with pytest.raises(NotConfirmedError, match="is full: it holds 2 replays that no"):
            sender.send(order("case-2"), REQUESTER)


@pytest.mark.slow
def test_broker_restarted(
    rabbitmq: RabbitMQ, url: str, settings: ReplaySettings, ledger: Ledger
) -> None:
    """Confirmed, then the broker is killed and started -> the replay is still there, done once."""
    case_id = left(ledger)
    with ReplaySender(settings) as sender:
        sender.send(order(case_id), REQUESTER)
    rabbitmq.sync()
    with rabbitmq.killed():
        pass
    replayer = Replayer(settings, ledger)
    until(replayer.run_once)
    replayer.close()
    assert rounds(ledger, case_id) == 1


def test_poison_keeps_its_bytes(
    settings: ReplaySettings, ledger: Ledger, peer: Peer, tmp_path: Path
) -> None:
    """Bytes that are no text -> quarantined byte for byte, with their origin."""
    body = bytes(range(256))
    replayer = Replayer(settings, ledger)
    put(peer, body, content_type="application/octet-stream", content_encoding="binary")
    until(replayer.run_once)
    replayer.close()
    message = kombu.Queue(QUARANTINE, channel=peer.channel).get(no_ack=True)
    assert bytes(message.body) == body
    assert message.headers["x-detachd-sha256"] == hashlib.sha256(body).hexdigest()
    assert message.headers["x-detachd-routing-key"] == REPLAY
    assert len(quarantined(tmp_path)) == 1


def test_a_problem_that_has_passed_is_not_told_for_ever(
    monkeypatch: pytest.MonkeyPatch, peer: Peer, settings: ReplaySettings, ledger: Ledger
) -> None:
    """The quarantine is of another type, then it is gone -> told, declared anew, told no more."""
    monkeypatch.setattr(consumer.intake.replayer, "LOOK_AGAIN_SECONDS", 0.2)
    name = settings.quarantine.name
    kombu.Queue(name, durable=True, queue_arguments={"x-queue-type": "quorum"})(
        peer.channel
    ).declare()
    classic = choose("classic", quorum_queues=False, hosts=1)
    as_set = dataclasses.replace(
        settings, quarantine=dataclasses.replace(settings.quarantine, choice=classic)
    )
    replayer = Replayer(as_set, ledger)
    with running(replayer):
        until(lambda: name in "".join(replayer.status().problems))
        peer.channel.queue_delete(name)
        until(lambda: replayer.status().connected and replayer.status().problems == ())
