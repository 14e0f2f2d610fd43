"""``detachd doctor`` on a real RabbitMQ: it tells what is there, and declares nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest

from consumer.bus.examination import examine
from consumer.bus.settings import ListenerSettings
from consumer.cli.installation import examining
from consumer.findings import Finding, Level
from tests.integration.site import Broker

OURS = ("detachd.notifications", "detachd.quarantine")
THEIRS = "notifications.info"


@pytest.fixture
def connection(broker: Broker) -> Iterator[kombu.Connection]:
    """Connect a client of the test's own, on a virtual host without our queues and exchanges."""
    with kombu.Connection(broker.url) as made:
        channel = made.channel()
        for queue in (*OURS, THEIRS):
            channel.queue_delete(queue)
        for exchange in ("nova", "cinder", "openstack"):
            channel.exchange_delete(exchange)
        yield made
        for queue in (*OURS, THEIRS):
            made.channel().queue_delete(queue)


def bus_of(tmp_path: Path, url: str, more: str = "") -> ListenerSettings:
    """Return the bus of a configuration."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {url}\n[ledger]\nconnection = sqlite:///{tmp_path}/l.sqlite\n"
        f"[backend_defaults]\ndriver = simulator\n{more}"
    )
    settings, found = examining.examine_files([path])
    assert settings is not None, found
    (bus,) = examining._buses_of(settings)
    return bus


def vhost(broker: Broker) -> str:
    """Return the name of the virtual host."""
    return broker.url.rpartition("/")[2]


def queues(broker: Broker) -> str:
    """Return every queue with its type and its arguments, by the broker's own tool."""
    return broker.server.ctl("list_queues", "-p", vhost(broker), "name", "type", "arguments")


def said(found: list[Finding], level: Level) -> str:
    """Return what is said at this level."""
    return " | ".join(f.said for f in found if f.level is level)


def test_empty_virtual_host(tmp_path: Path, broker: Broker, connection: kombu.Connection) -> None:
    """No queue, no exchange -> notes and warnings with what to do, and none is there afterwards."""
    found = list(examine(bus_of(tmp_path, broker.transport_url)))
    assert "RabbitMQ" in said(found, Level.GOOD)
    for queue in OURS:
        assert f"queue {queue} is not there yet" in said(found, Level.NOTE)
    assert "exchange nova" in said(found, Level.WARNING)
    assert said(found, Level.ERROR) == ""
    for queue in OURS:
        with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
            connection.channel().queue_declare(queue, passive=True)


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(
    ("is_a", "option", "expected"),
    [
        ("classic", "", (Level.GOOD, "a classic queue (it exists with this type) is there")),
        ("quorum", "", (Level.GOOD, "a quorum queue (it exists with this type) is there")),
        ("quorum", "queue_type = quorum\n", (Level.GOOD, "a quorum queue")),
        (
            "classic",
            "queue_type = quorum\n",
            (Level.ERROR, "exists as a classic queue, but queue_t"),
        ),
        (
            "quorum",
            "queue_type = classic\n",
            (Level.ERROR, "exists as a quorum queue, but queue_ty"),
        ),
        ("classic", "queue_max_length = 7000\n", (Level.ERROR, "x-max-length")),
    ],
)
def test_queue_is_told_with_its_type(
    tmp_path: Path, broker: Broker, is_a: str, option: str, expected: tuple[Level, str]
) -> None:
    """A queue of a type -> that type; another one than an option names -> an error; no change."""
    made = bus_of(tmp_path, broker.transport_url, f"[listener]\nqueue_type = {is_a}\n").queue
    with kombu.Connection(broker.url) as own:
        assert made.settle(own).problem is None
    before = queues(broker)
    found = list(examine(bus_of(tmp_path, broker.transport_url, f"[listener]\n{option}")))
    (about,) = [f for f in found if OURS[0] in f.said]
    level, words = expected
    assert about.level is level
    assert words in about.said
    assert queues(broker) == before


def test_user_who_may_not_declare_a_queue(tmp_path: Path, broker: Broker) -> None:
    """No right to configure our names -> an error with the command, before the service is begun."""
    broker.server.ctl("add_user", "onlooker", "onlooker")
    broker.server.ctl("set_permissions", "-p", vhost(broker), "onlooker", "^$", ".*", ".*")
    url = broker.transport_url.partition("@")[2]
    found = list(examine(bus_of(tmp_path, f"rabbit://onlooker:onlooker@{url}")))
    refused = [f for f in found if "ACCESS_REFUSED" in f.said]
    assert [f.level for f in refused] == [Level.ERROR, Level.ERROR]
    assert all("rabbitmqctl set_permissions -p" in f.todo for f in refused)


def test_publishers_queue_that_nobody_consumes(
    tmp_path: Path, broker: Broker, connection: kombu.Connection
) -> None:
    """Cinder's exchange, and 3 messages in its own queue -> the number and the recipe."""
    channel = connection.channel()
    channel.exchange_declare("cinder", "topic", durable=True, auto_delete=False)
    channel.queue_declare(THEIRS, durable=True, auto_delete=False)
    producer = kombu.Producer(channel, routing_key=THEIRS)
    for _ in range(3):
        producer.publish("{}", delivery_mode=2)
    found = list(examine(bus_of(tmp_path, broker.transport_url, "[listener]\npriorities = info\n")))
    assert "exchange cinder is there" in said(found, Level.GOOD)
    assert f"3 messages wait in queue {THEIRS}" in said(found, Level.WARNING)


def test_wrong_password(tmp_path: Path, broker: Broker) -> None:
    """The broker refuses the user -> an error, the command for its rights, no password."""
    url = broker.transport_url.replace(broker.password, "canary-word")
    (found,) = examine(bus_of(tmp_path, url))
    assert found.level is Level.ERROR
    assert "rabbitmqctl set_permissions -p" in found.todo
    assert "canary-word" not in found.said + found.todo


def test_broker_that_is_not_there(tmp_path: Path) -> None:
    """Nothing listens -> an error that names the address, and no rights to give."""
    (found,) = examine(bus_of(tmp_path, "rabbit://u:p@127.0.0.1:9/"))
    assert (found.level, "127.0.0.1:9" in found.said) == (Level.ERROR, True)
    assert "rabbitmqctl" not in found.todo
