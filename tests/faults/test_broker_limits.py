"""Where RabbitMQ draws a line: unacked for too long, redelivered too often, out of memory."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.bus.queue_type import choose
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from drivers.simulator import Fault
from tests.bus import Notes, Peer, new_ledger, quarantined, running, settings, stored, until
from tests.integration import oracle
from tests.integration.service_process import BRISK
from tests.integration.site import REPEATABLE, Site
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

pytestmark = pytest.mark.integration

QUEUE, QUARANTINE = "detachd.notifications", "detachd.quarantine"
PATIENCE_SECONDS = 2
CONNECTIONS_LOST = 4
TERMINATE = "driver.terminate_connection"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def impatient(rabbitmq: RabbitMQ) -> Iterator[None]:
    """Have the broker close a channel whose message is unacked for two seconds, as after 30 min."""
    rabbitmq.ctl("eval", _limits(PATIENCE_SECONDS * 1000, 500))
    yield
    rabbitmq.ctl("eval", _limits(1_800_000, 60_000))


def _limits(consumer_timeout: int, channel_tick_interval: int) -> str:
    return (
        f"application:set_env(rabbit, consumer_timeout, {consumer_timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {channel_tick_interval})."
    )


@contextlib.contextmanager
def away(ledger: Ledger, directory: Path) -> Iterator[None]:
    """Take the ledger's file away."""
    ledger.close()
    elsewhere = directory.rename(directory.with_name("away"))
    try:
        yield
    finally:
        elsewhere.rename(directory)


def has_no_limit_for_classic_queues(rabbitmq: RabbitMQ) -> bool:
    """Tell whether it is RabbitMQ 4.3 or later, which knows consumer_timeout on quorum queues."""
    major, minor, *_ = rabbitmq.ctl("version").split(".")
    return (int(major), int(minor)) >= (4, 3)


def relevant(messages: list[Recorded]) -> list[str]:
    """Return the ids of those messages that concern an attachment."""
    return sorted(m.message_id for m in messages if not m.event_type.startswith("volume.create"))


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_unacked_for_longer_than_the_broker_waits(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger away past consumer_timeout -> channel closed, said, redelivered; stored once.

    From 4.3 on the broker goes on waiting for the acks of a classic queue, and nothing is lost.
    """
    url, notes = rabbitmq.fresh_vhost(), Notes()
    listener, messages = Listener(settings(url), ledger, notes), recording(HEALTHY)
    with running(listener), Peer(url) as peer:
        until(lambda: listener.caught_up)
        with away(ledger, tmp_path):
            peer.publish(messages)
            until(lambda: "messages wait unacked" in "".join(listener.status().problems))
            if has_no_limit_for_classic_queues(rabbitmq):
                time.sleep(3 * PATIENCE_SECONDS)
                assert notes.lost == 0
            else:
                until(lambda: notes.lost)
                # Logged, as it is the problem only until the next connection has one of its own.
                until(lambda: "acknowledgement" in caplog.text)
                until(lambda: "messages wait unacked" in listener.status().problems[0])
        until(lambda: listener.caught_up)
    assert sorted(stored(tmp_path)) == relevant(messages)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_unacked_for_longer_than_a_quorum_queue_waits(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same on a quorum queue -> consumer cancelled or channel closed; redelivered, stored."""
    vhost = f"unacked-{time.monotonic_ns()}"
    rabbitmq.ctl("add_vhost", vhost, "--default-queue-type", "quorum")
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
    url, notes = rabbitmq.url[:-1] + vhost, Notes()
    listener, messages = Listener(settings(url), ledger, notes), recording(HEALTHY)
    with running(listener), Peer(url) as peer:
        until(lambda: listener.caught_up)
        with away(ledger, tmp_path):
            peer.publish(messages)
            until(lambda: notes.lost)
            until(lambda: "acknowledgement" in caplog.text or "cancel" in caplog.text)
        until(lambda: listener.caught_up)
    assert sorted(stored(tmp_path)) == relevant(messages)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_no_message_is_held_while_a_case_is_worked(site: Site) -> None:
    """Calls that take longer than consumer_timeout -> the broker waits for no ack meanwhile."""
    slow_seconds = PATIENCE_SECONDS * 3.0
    site.detachd.configure(dataclasses.replace(BRISK, call_timeout_seconds=slow_seconds + 2))
    site.cloud.script(Fault.slow(TERMINATE, slow_seconds))
    acts = site.arrange([scene for scene in REPEATABLE if scene.name.startswith("UC1")])
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts)
        oracle.wait_until_over(site, acts)
        assert service.terminate() == 0
    assert [call.name for call in site.cloud.calls(name=TERMINATE)] == [TERMINATE]
    assert "broker cannot be used" not in site.detachd.logs()
    oracle.all_is_well(site, acts)


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_redelivered_more_often_than_a_quorum_queue_allows(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    """Quorum by default, the connection lost again and again -> nothing dropped.

    A quorum queue of ours has no limit. A policy of the operator may set one, which no client sees:
    where queue_type = classic, the queue counts no deliveries, and even that drops nothing.
    """
    vhost = f"quorum-{time.monotonic_ns()}"
    url = rabbitmq.url[:-1] + vhost
    rabbitmq.ctl("add_vhost", vhost, "--default-queue-type", "quorum")
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
    ours = settings(url)
    if kind == "classic":
        limit = ("limit", ".*", '{"delivery-limit": 1}', "--apply-to", "queues")
        rabbitmq.ctl("set_policy", "--vhost", vhost, *limit)
        choice = choose("classic", quorum_queues=False, hosts=1)
        ours = dataclasses.replace(ours, queue=dataclasses.replace(ours.queue, choice=choice))
    notes = Notes()
    listener, messages = Listener(ours, ledger, notes), recording(HEALTHY)
    with running(listener):
        until(lambda: listener.caught_up)
        assert listener.status().problems == ()
        with Peer(url) as peer, away(ledger, tmp_path):
            peer.publish(messages)
            for lost in range(CONNECTIONS_LOST):
                until(lambda: "wait unacked" in "".join(listener.status().problems))
                rabbitmq.ctl("close_all_connections", "--vhost", vhost, "for the test")
                until(lambda lost=lost: notes.lost > lost)
        until(lambda: listener.caught_up)
    assert sorted(stored(tmp_path)) == relevant(messages)


def test_listening_while_the_broker_is_out_of_memory(
    rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path
) -> None:
    """A memory alarm blocks who publishes -> we take in all the same; what is malformed waits."""
    url = rabbitmq.fresh_vhost()
    first = Listener(settings(url), ledger)
    first.run_once()
    first.close()
    sound, mixed = renewed(recording(HEALTHY)), renewed(recording(HEALTHY))
    listener = Listener(settings(url), ledger)
    with Peer(url) as peer:
        peer.publish(sound)
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            until(listener.run_once)
            assert sorted(stored(tmp_path)) == relevant(sound)
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        peer.put(b"{", "cinder", "notifications.info")
        peer.publish(mixed)
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            assert listener.run_once() == 0
            assert "wait unacked" in listener.status().problems[0]
            assert quarantined(tmp_path) == []
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        until(listener.run_once, 60)
        listener.close()
        assert sorted(stored(tmp_path)) == relevant([*sound, *mixed])
        assert set(peer.take_all(QUARANTINE)) == {b"{"}  # a try that timed out got through later
        assert peer.take(QUEUE) is None


@pytest.mark.slow
def test_out_of_memory_while_cases_are_worked(site: Site) -> None:
    """A memory alarm with announcements due -> cases go on, what is due waits and says so; sent."""
    site.detachd.configure(publisher={"confirm_timeout_seconds": 1.0, "poll_seconds": 0.1})
    rabbitmq, acts = site.broker.server, site.arrange(REPEATABLE)
    with site.detachd.serve() as service:
        service.ready()
        site.ledger.pause("test", "until the alarm is on, so that nothing is announced before")
        site.publish(acts)
        until(lambda: all(site.cases(act.volume_id) for act in acts))
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
        site.ledger.resume("test")
        try:
            concluded = "SELECT DISTINCT case_id FROM history WHERE kind = 'concluded'"
            until(lambda: len(oracle.column(site, concluded)) >= len(acts), 60)
            until(lambda: "announcements wait" in service.readiness()[1])
            assert site.ledger.outbox_pending()[0] > 0
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        oracle.wait_until_over(site, acts)
        service.ready()
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)
