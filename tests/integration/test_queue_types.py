"""Quorum and classic queues on a real RabbitMQ: which type is chosen, and what it then is."""

from __future__ import annotations

import itertools
import time
from typing import Any

import kombu
import pytest
from amqp.exceptions import MessageNacked

from consumer.bus.queue_type import QueueType, TypeChoice, choose
from consumer.bus.topology import QueueSettings, own_channel
from tests.integration.test_topology import connected
from tests.services.rabbitmq import RabbitMQ

NAME = "detachd.notifications"
MOST = 1000
NUMBERS = itertools.count(1)


def quorum_vhost(rabbitmq: RabbitMQ) -> str:
    """Make a virtual host whose default is quorum, as kolla and genestack do; return its URL."""
    vhost = f"by-default-quorum-{next(NUMBERS)}"
    rabbitmq.ctl("add_vhost", vhost, "--default-queue-type", "quorum")
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
    return rabbitmq.url[:-1] + vhost


def vhost_of(rabbitmq: RabbitMQ, default: str) -> str:
    """Make a virtual host with this default; return its URL."""
    return quorum_vhost(rabbitmq) if default == "quorum" else rabbitmq.fresh_vhost()


def of_type(wanted: str | None, **changes: int) -> QueueSettings:
    """Make a queue whose type an option names, or the broker decides."""
    return QueueSettings(NAME, MOST, choice=choose(wanted, quorum_queues=False, hosts=1), **changes)


def actual(rabbitmq: RabbitMQ, url: str) -> dict[str, str]:
    """Return the type of each queue of a virtual host, as the broker's own tool says it."""
    vhost = url.rpartition("/")[2]
    words = ("list_queues", "--no-table-headers", "--vhost", vhost, "name", "type")
    lines = (line.split("\t") for line in rabbitmq.ctl(*words).splitlines())
    return {name: kind.removeprefix("rabbit_").removesuffix("_queue") for name, kind in lines}


def redeliveries(url: str, tries: int) -> int:
    """Lose the connection again and again with a message unacked; return how often it came."""
    for count in range(tries):
        with kombu.Connection(url) as connection:
            deadline = time.monotonic() + 5  # until the broker has put it back
            while connection.channel().basic_get(NAME) is None:
                if time.monotonic() > deadline:
                    return count
                time.sleep(0.05)
    return tries


@pytest.mark.parametrize(
    ("default", "option", "expected", "why"),
    [
        pytest.param("none", None, "classic", "names one host", id="nothing said -> classic"),
        pytest.param("quorum", None, "quorum", "virtual host", id="the vhost says -> quorum"),
        pytest.param("none", "quorum", "quorum", "queue_type", id="the option says -> quorum"),
        pytest.param("quorum", "classic", "classic", "queue_type", id="the option says -> classic"),
    ],
)
def test_type_of_a_new_queue(
    rabbitmq: RabbitMQ, default: str, option: str | None, expected: str, why: str
) -> None:
    """No queue yet -> made with the type that is asked for, and said why; found again unchanged."""
    url, queue = vhost_of(rabbitmq, default), of_type(option)
    with connected(url) as connection:
        made, again = queue.settle(connection), queue.settle(connection)
    assert actual(rabbitmq, url) == {NAME: expected}
    for found in (made, again):
        assert (found.type, found.note, found.problem) == (QueueType(expected), None, None)
    assert why in str(made)


@pytest.mark.parametrize("default", ["none", "quorum"])
@pytest.mark.parametrize("wanted", ["quorum", "classic"])
def test_queue_of_the_other_type_is_used_and_said(
    rabbitmq: RabbitMQ, default: str, wanted: str
) -> None:
    """It exists with the other type -> used unchanged; a problem in words where an option asks."""
    url = vhost_of(rabbitmq, default)
    other = "classic" if wanted == "quorum" else "quorum"
    with connected(url) as connection:
        of_type(other).settle(connection)
        insisting = of_type(wanted).settle(connection)
        assert insisting.type is QueueType(other)
        assert insisting.problem is not None
        assert f"exists as a {other} queue, but queue_type = {wanted}" in insisting.problem
        guessing = QueueSettings(NAME, MOST, choice=TypeChoice(QueueType(wanted), "of a guess"))
        found = guessing.settle(connection)
        assert (found.type, found.problem) == (QueueType(other), None)
        assert found.note is not None
        assert "of a guess" in found.note
        undecided = of_type(None).settle(connection)
        assert (undecided.type, undecided.problem) == (QueueType(other), None)
    assert actual(rabbitmq, url) == {NAME: other}


@pytest.mark.parametrize("wanted", ["quorum", "classic", None])
@pytest.mark.parametrize("existing", ["quorum", "classic"])
def test_other_type_and_other_bound(rabbitmq: RabbitMQ, existing: str, wanted: str | None) -> None:
    """It exists with another bound, and perhaps another type -> used, and the bound is said."""
    url = rabbitmq.fresh_vhost()
    with connected(url) as connection:
        QueueSettings(NAME, 5000, choice=of_type(existing).choice).settle(connection)
        found = of_type(wanted).settle(connection)
    assert found.problem is not None
    assert "exists with other arguments" in found.problem
    assert "x-max-length" in found.problem
    assert actual(rabbitmq, url) == {NAME: existing}


@pytest.mark.parametrize("default", ["none", "quorum"])
def test_quorum_queue_drops_nothing_for_its_deliveries(rabbitmq: RabbitMQ, default: str) -> None:
    """Delivered 25 times without an ack, more than RabbitMQ 4 allows by default -> still there."""
    url = vhost_of(rabbitmq, default)
    queue = of_type("quorum" if default == "none" else None)
    with connected(url) as connection, own_channel(connection) as channel:
        assert queue.settle(connection).type is QueueType.QUORUM
        kombu.Producer(channel).publish(b"once", routing_key=NAME)
    assert redeliveries(url, 25) == 25


@pytest.mark.parametrize("limit", [-1, 20, None])
def test_queue_with_a_limit_of_deliveries_is_said(rabbitmq: RabbitMQ, limit: int | None) -> None:
    """A quorum queue of somebody's with a limit, or none named -> what will be lost is said.

    RabbitMQ 3.10 takes -1 for 0: the control shows the message gone at its first redelivery.
    """
    url = rabbitmq.fresh_vhost()
    theirs = {"x-queue-type": "quorum", "x-max-length": MOST, "x-overflow": "drop-head"}
    if limit is not None:
        theirs["x-delivery-limit"] = limit
    with connected(url) as connection, own_channel(connection) as channel:
        kombu.Queue(NAME, durable=True, queue_arguments=theirs, channel=channel).queue_declare()
        problem = of_type("quorum").settle(connection).problem
        kombu.Producer(channel).publish(b"once", routing_key=NAME)
    assert problem is not None
    assert "drops a message at its limit" in problem
    if limit == -1 and rabbitmq.ctl("version").startswith("3."):
        assert redeliveries(url, 3) == 1


def _fill(channel: Any, name: str) -> None:
    """Publish more than a queue of three takes; a quorum queue takes a few more than its limit."""
    for _ in range(20):
        kombu.Producer(channel).publish(b"x", routing_key=name)


def test_full_quorum_queue(rabbitmq: RabbitMQ) -> None:
    """Full -> notifications drop the oldest and refuse nobody; replays are refused."""
    url = rabbitmq.fresh_vhost()
    choice = of_type("quorum").choice
    dropping = QueueSettings("dropping", 3, choice=choice)
    refusing = QueueSettings("refusing", 3, "reject-publish", choice=choice)
    with connected(url) as connection, own_channel(connection) as channel:
        for queue in (dropping, refusing):
            assert queue.settle(connection).problem is None
        for number in range(20):
            kombu.Producer(channel).publish(b"%d" % number, routing_key="dropping")
        with pytest.raises(MessageNacked):
            _fill(channel, "refusing")
        assert dropping.on(channel).get().body == b"17"


def test_group_size_goes_to_the_broker(rabbitmq: RabbitMQ) -> None:
    """quorum_group_size = 1 -> an argument of the queue; another size later is said."""
    url = rabbitmq.fresh_vhost()
    with connected(url) as connection:
        assert of_type("quorum", group_size=1).settle(connection).problem is None
        problem = of_type("quorum", group_size=3).settle(connection).problem
    assert problem is not None
    assert "x-quorum-initial-group-size" in problem
