"""From classic queues to quorum queues, as docs/messaging.md says; what kolla-ansible checks."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.bus.settings import ListenerSettings
from consumer.intake.listener import Listener
from consumer.intake.replay_queue import ReplaySettings
from consumer.ledger import Ledger
from tests.bus import BRISK, Peer, configured, new_ledger, running, stored, until
from tests.integration.test_queue_types import actual
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

OLD, NEW = "detachd.notifications", "detachd.notifications.quorum"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


def configuration(url: str, **options: str) -> tuple[ListenerSettings, ReplaySettings]:
    """Read a configuration with these options in [listener]."""
    conf = configured(url)
    ListenerSettings.from_conf(conf)
    for name, value in options.items():
        conf.set_override(name, value, group="listener")
    listener = dataclasses.replace(ListenerSettings.from_conf(conf), pace=BRISK, rebind_seconds=1.0)
    return listener, ReplaySettings.from_conf(conf)


def unlike_quorum(types: dict[str, str]) -> list[str]:
    """Return what kolla-ansible's precheck would refuse (roles/rabbitmq/tasks/precheck.yml)."""
    names = (name for name in types if "reply_" not in name and "_fanout" not in name)
    return [name for name in names if types[name] != "quorum"]


def ids(messages: list[Recorded]) -> set[str]:
    """Return the message_ids of those that concern an attachment."""
    return {m.message_id for m in messages if not m.event_type.startswith("volume.create")}


class Stream:
    """Publishes in a thread until it is stopped, each message confirmed to be on a queue."""

    def __init__(self, url: str) -> None:
        self.published: list[Recorded] = []
        self.unrouted = 0
        self._url = url

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop``."""
        with Peer(self._url) as peer:
            while not stop.is_set():
                for message in renewed(recording(HEALTHY)):
                    self.unrouted += not peer.put_mandatory(message)
                    self.published.append(message)
                    stop.wait(0.01)


def test_moved_under_traffic_without_loss(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path
) -> None:
    """The steps of docs/messaging.md while messages are published -> each one is in the ledger."""
    url = rabbitmq.fresh_vhost()
    before, replays = configuration(url, queue_type="classic")
    first, stream = Listener(before, ledger), Stream(url)
    with Peer(url) as peer:
        assert replays.queue.declare(peer.connection) is None
        with running(first):
            until(lambda: first.caught_up)
        assert sorted(unlike_quorum(actual(rabbitmq, url))) == [
            OLD,
            "detachd.quarantine",
            "detachd.replay",
        ]
        with running(stream):
            until(lambda: len(stream.published) > 50)  # detachd is stopped: they wait in the queue
            for empty in ("detachd.quarantine", "detachd.replay"):
                assert peer.channel.queue_delete(empty, if_empty=True) == 0
            after, replays = configuration(url, queue_type="quorum", queue=NEW, spare_queue=OLD)
            second = Listener(after, ledger)
            assert replays.queue.declare(peer.connection) is None
            with running(second):
                until(lambda: second.caught_up)
                count = len(stream.published)
                until(lambda: len(stream.published) > count + 50)
                until(lambda: second.caught_up)
                assert second.status().problems == ()
        peer.channel.queue_delete(OLD, if_empty=True)
    last, _ = configuration(url, queue_type="quorum", queue=NEW)
    third = Listener(last, ledger)
    with running(third):
        until(lambda: ids(stream.published) <= set(stored(tmp_path)))
    assert stream.unrouted == 0
    assert sorted(stored(tmp_path)) == sorted(ids(stream.published))
    assert unlike_quorum(actual(rabbitmq, url)) == []


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_cancelled_with_messages_unacked(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    """The queue is deleted while a batch waits for the ledger -> said, made again, it goes on.

    The broker has then dropped what was not acked: nothing of it is acked or stored by halves.
    """
    url = rabbitmq.fresh_vhost()
    listener = Listener(configuration(url, queue_type=kind)[0], ledger)
    held, after = renewed(recording(HEALTHY)), renewed(recording(HEALTHY))
    with running(listener), Peer(url) as peer:
        until(lambda: listener.caught_up)
        ledger.close()
        away = tmp_path.rename(tmp_path.with_name("away"))
        try:
            peer.publish(held)
            until(lambda: "wait unacked" in "".join(listener.status().problems))
            peer.channel.queue_delete(OLD)
            until(lambda: "cancel" in "".join(listener.status().problems).lower())
        finally:
            away.rename(tmp_path)
        until(lambda: listener.caught_up and not listener.status().problems, 60)
        peer.publish(after)
        until(lambda: ids(after) <= set(stored(tmp_path)))
    assert set(stored(tmp_path)) <= ids(held) | ids(after)
    assert actual(rabbitmq, url)[OLD] == kind


def test_kolla_ansibles_precheck(rabbitmq: RabbitMQ, ledger: Ledger) -> None:
    """rabbit_quorum_queue = true, as kolla-ansible writes it -> every queue of ours is quorum."""
    url = rabbitmq.fresh_vhost()
    conf = configured(url)
    conf.set_override("rabbit_quorum_queue", True, group="oslo_messaging_rabbit")
    listener = Listener(ListenerSettings.from_conf(conf), ledger)
    listener.run_once()
    assert listener.status().problems == ()
    listener.close()
    with Peer(url) as peer:
        ReplaySettings.from_conf(conf).queue.declare(peer.connection)
    types = actual(rabbitmq, url)
    assert set(types) == {OLD, "detachd.quarantine", "detachd.replay"}
    assert unlike_quorum(types) == []


def test_spare_queue_of_a_user_with_few_rights(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path
) -> None:
    """One exchange may not be used, and there is a spare queue -> said; the others are heard."""
    url = rabbitmq.fresh_vhost()
    vhost, messages = url.rpartition("/")[2], renewed(recording(HEALTHY))
    rabbitmq.ctl("add_user", "narrow", "narrow")
    rights = ("^detachd[.].*", "^detachd[.].*", "^(spare|detachd[.].*|cinder|openstack)$")
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "narrow", *rights)
    with Peer(url) as peer:
        peer.declare("nova", "cinder", "openstack")
        peer.channel.queue_declare("spare", durable=True, auto_delete=False)
        rabbitmq.ctl("set_permissions", "--vhost", vhost, "narrow", ".*", ".*", rights[2])
        narrow = url.replace("guest:guest", "narrow:narrow")
        settings, _ = configuration(narrow, spare_queue="spare")
        listener = Listener(settings, ledger)
        with running(listener):
            until(lambda: "exchange 'nova'" in "".join(listener.status().problems))
            peer.publish(messages)
            of_cinder = ids([m for m in messages if m.exchange != "nova"])
            assert of_cinder
            until(lambda: of_cinder <= set(stored(tmp_path)), 15)
