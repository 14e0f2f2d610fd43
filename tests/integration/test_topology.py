"""Declaring and binding on a real RabbitMQ: what others declared, and what the broker refuses."""

from __future__ import annotations

from collections.abc import Iterator

import kombu
import pytest
from oslo_config import cfg

from consumer.bus import topology
from consumer.bus.broker import BrokerSettings, connect
from consumer.bus.topology import Binding, QueueSettings, own_channel, unconsumed
from tests.services.rabbitmq import RabbitMQ

QUEUE = QueueSettings("detachd.notifications", 1000)
BINDING = Binding("nova", ("notifications.info", "notifications.error"))


def connected(url: str) -> kombu.Connection:
    """Connect as detachd does."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return connect(BrokerSettings.from_conf(conf, url), "test", heartbeats=False)


@pytest.fixture
def connection(rabbitmq: RabbitMQ) -> Iterator[kombu.Connection]:
    """Give a connection to a virtual host of the test's own."""
    with connected(rabbitmq.fresh_vhost()) as made:
        yield made


def declare(connection: kombu.Connection, name: str, **arguments: object) -> None:
    """Declare an exchange as somebody else would; a refusal raises."""
    with own_channel(connection) as channel:
        kombu.Exchange(name, channel=channel, **{"type": "topic", **arguments}).declare()


def routed(connection: kombu.Connection, exchange: str, key: str) -> bool:
    """Publish a message; tell whether it reached our queue."""
    with own_channel(connection) as channel:
        before = QUEUE.ready(channel)
        kombu.Producer(channel).publish(b"{}", exchange=exchange, routing_key=key)
        return QUEUE.ready(channel) == before + 1


def test_missing_exchange_is_declared_as_oslo_messaging_does(connection: kombu.Connection) -> None:
    """No exchange yet -> declared and bound, and its publisher finds it equivalent."""
    QUEUE.declare(connection)
    assert BINDING.apply(connection, QUEUE, durable=False) is None
    declare(connection, "nova", durable=False, auto_delete=False)
    assert routed(connection, "nova", "notifications.info")
    assert routed(connection, "nova", "notifications.error")
    assert not routed(connection, "nova", "notifications.warn")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"durable": True}, id="durable"),
        pytest.param({"durable": False, "auto_delete": True}, id="auto-delete"),
        pytest.param({"type": "fanout"}, id="fanout"),
    ],
)
def test_existing_exchange_is_taken_as_it_is(
    connection: kombu.Connection, arguments: dict[str, object]
) -> None:
    """An exchange that its publisher declared otherwise than we would -> bound, no complaint."""
    declare(connection, "nova", **arguments)
    QUEUE.declare(connection)
    assert BINDING.apply(connection, QUEUE, durable=False) is None
    assert routed(connection, "nova", "notifications.info")


def test_conflict_is_explained_and_the_setting_ends_it(
    connection: kombu.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Declared durable between our two questions -> 406 in words; with the setting -> bound."""
    QUEUE.declare(connection)
    with monkeypatch.context() as race:
        race.setattr(topology, "_exists", lambda *_: declare(connection, "nova", durable=True))
        trouble = BINDING.apply(connection, QUEUE, durable=False)
        assert trouble is not None
        assert "exchange 'nova'" in trouble
        assert "set [oslo_messaging_rabbit] amqp_durable_queues = true" in trouble
        assert "PRECONDITION_FAILED" in trouble
        assert BINDING.apply(connection, QUEUE, durable=True) is None
    assert routed(connection, "nova", "notifications.info")


def test_a_user_of_few_rights_is_told_what_is_missing(rabbitmq: RabbitMQ) -> None:
    """May not declare exchanges -> a missing one is trouble in words; one that exists is bound."""
    url = rabbitmq.fresh_vhost()
    rabbitmq.ctl("add_user", "reader", "reader")
    rights = ("^detachd[.].*", "^detachd[.].*", ".*")
    rabbitmq.ctl("set_permissions", "--vhost", url.rpartition("/")[2], "reader", *rights)
    with connected(url) as owner:
        declare(owner, "cinder", durable=False)
    with connected(url.replace("guest:guest", "reader:reader")) as connection:
        QUEUE.declare(connection)
        trouble = BINDING.apply(connection, QUEUE, durable=False)
        assert trouble is not None
        assert "exchange 'nova': the broker user in transport_url may not use it" in trouble
        assert "rabbitmqctl set_permissions" in trouble
        cinder = Binding("cinder", ("notifications.info",))
        assert cinder.apply(connection, QUEUE, durable=False) is None


def test_queue_with_other_arguments_is_used_as_it_is(connection: kombu.Connection) -> None:
    """A changed queue_max_length -> told in words what to do, and the queue of before is used."""
    QueueSettings(QUEUE.name, 5000).declare(connection)
    trouble = QUEUE.declare(connection)
    assert trouble is not None
    assert "queue 'detachd.notifications' exists with other arguments" in trouble
    assert "delete the queue" in trouble
    assert BINDING.apply(connection, QUEUE, durable=False) is None
    assert routed(connection, "nova", "notifications.info")


def test_full_queue_drops_its_oldest_and_never_refuses(connection: kombu.Connection) -> None:
    """More messages than the queue may hold -> each publication confirmed, the newest kept."""
    queue = QueueSettings("short", 3)
    queue.declare(connection)
    with own_channel(connection) as channel:
        for number in range(5):
            kombu.Producer(channel).publish(b"%d" % number, routing_key="short")
        assert queue.ready(channel) == 3
        assert queue.on(channel).get().body == b"2"


def test_queues_of_the_publishers_that_nobody_consumes_are_counted(
    connection: kombu.Connection,
) -> None:
    """TOPIC.PRIORITY without a consumer -> its messages count; with one, or absent -> 0."""
    declare(connection, "nova", durable=False)
    with own_channel(connection) as channel:
        queue = kombu.Queue("notifications.info", kombu.Exchange("nova"), "notifications.info")
        queue = queue(channel)
        queue.queue_declare()
        queue.queue_bind()
        for _ in range(3):
            kombu.Producer(channel).publish(b"{}", "notifications.info", exchange="nova")
        assert unconsumed(connection, [BINDING]) == {
            "notifications.info": 3,
            "notifications.error": 0,
        }
        channel.basic_qos(0, 1, False)  # the other two go on waiting
        queue.consume("ceilometer", callback=lambda _: None)
        assert unconsumed(connection, [BINDING])["notifications.info"] == 0
