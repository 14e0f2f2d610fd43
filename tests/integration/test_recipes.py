"""The recipes of docs/notifications.md on a real broker: detachd hears, and no queue grows."""

from __future__ import annotations

import collections
import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import kombu
import pytest

from consumer.cloud import ControlPlane
from consumer.service import Parts, Service
from consumer.settings.configuration import load
from drivers.simulator import Cloud
from tests.bus import until
from tests.recipes import DEPLOYMENTS, Deployment, Options, Publisher, recipe
from tests.recorded import FAILED_ATTACH, HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

pytestmark = pytest.mark.integration

OTHERS = 150
OURS = ("detachd.notifications", "detachd.quarantine", "detachd.replay")
MESSAGINGV2: Options = {"oslo_messaging_notifications": {"driver": "messagingv2"}}
BOTH: Options = {"notifications": {"notification_format": "both"}}
REST = """
[ledger]
connection = sqlite:///{directory}/ledger.sqlite
[sweep]
enabled = false
[exporter]
port = 0
[backend_defaults]
driver = simulator
"""


class Vhosts(dict[str, str]):
    """A fresh virtual host for each of a deployment's, made when it is first asked for."""

    def __init__(self, broker: RabbitMQ) -> None:
        super().__init__()
        self.broker = broker

    def __missing__(self, name: str) -> str:
        """Make one; return its URL."""
        self[name] = self.broker.fresh_vhost()
        return self[name]


@contextlib.contextmanager
def serving(directory: Path, text: str) -> Iterator[Service]:
    """Run the service with a configuration file, on a cloud that knows nothing."""
    path = directory / "detachd.conf"
    path.write_text(text + REST.format(directory=directory))
    with Cloud() as cloud:
        service = Service(load([path]), Parts(ControlPlane(cloud.cinder, cloud.nova), cloud.driver))
        service.ledger.upgrade()
        service.start()
        try:
            until(lambda: service.caught_up)
            yield service
        finally:
            service.stop()
            assert service.wait()


def attachments() -> list[Recorded]:
    """Return what Cinder and Nova, in both formats and both priorities, told of an attachment."""
    both = [*renewed(recording(HEALTHY)), *renewed(recording(FAILED_ATTACH))]
    return [m for m in both if not m.event_type.startswith("volume.create")]


def others(messages: list[Recorded]) -> list[Recorded]:
    """Return many messages on the same ways that concern no attachment."""
    ways = {(m.exchange, m.routing_key): m for m in messages}.values()
    body = b'{"oslo.message": "{\\"event_type\\": \\"other\\", \\"payload\\": {}}"}'
    return [Recorded(m.exchange, m.routing_key, body) for m in ways for _ in range(OTHERS)]


def publish(
    messages: list[Recorded],
    directory: Path,
    vhosts: Vhosts,
    deployment: Deployment,
    sets: Mapping[str, Options],
) -> None:
    """Have Nova and Cinder publish, as the deployment and then ``sets`` configure them."""
    written: Options = {
        "oslo_messaging_notifications": dict(deployment.notifications),
        "oslo_messaging_rabbit": dict(deployment.rabbit),
    }
    for service, vhost in deployment.vhosts.items():
        with Publisher(service, vhosts[vhost], directory, written, sets[service]) as publisher:
            for message in messages:
                if (message.exchange == "nova") is (service == "nova"):
                    publisher.tell(message)


def heard(directory: Path) -> list[str]:
    """Return the event type of each notification that the ledger holds."""
    with contextlib.closing(sqlite3.connect(directory / "ledger.sqlite")) as connection:
        return [row[0] for row in connection.execute("SELECT event_type FROM notifications")]


def lengths(vhosts: Vhosts) -> Mapping[str, int]:
    """Return how many messages wait in each queue that is not detachd's, of all virtual hosts."""
    found: collections.Counter[str] = collections.Counter()
    for url in vhosts.values():
        words = ("--no-table-headers", "--vhost", url.rpartition("/")[2], "name")
        names = set(vhosts.broker.ctl("list_queues", *words).split()) - {*OURS}
        with kombu.Connection(url) as connection:
            channel = connection.channel()
            for name in names:
                asked = kombu.Queue(name, channel=channel).queue_declare(passive=True)
                found[name] = max(found[name], asked.message_count)
    return found


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_recipe_is_heard_and_no_queue_grows(
    rabbitmq: RabbitMQ, tmp_path: Path, name: str
) -> None:
    """Nova and Cinder as the recipe has them -> detachd hears all, their queues stay short."""
    made, deployment, vhosts = recipe(name), DEPLOYMENTS[name], Vhosts(rabbitmq)
    messages = attachments()
    assert {m.routing_key for m in messages} >= {
        "notifications.info", "notifications.error",
        "versioned_notifications.info", "versioned_notifications.error",
    }  # fmt: skip
    text = made.at(lambda vhost: vhosts[vhost].replace("amqp://", "rabbit://"))
    with serving(tmp_path, text) as service:
        for words in made.policies:
            at = words.index("--vhost") + 1
            vhost = vhosts[words[at]].rpartition("/")[2]
            rabbitmq.ctl(*words[:at], vhost, *words[at + 1 :])
        publish([*others(messages), *messages], tmp_path, vhosts, deployment, made.publishers)
        until(lambda: len(heard(tmp_path)) >= len(messages))
        assert sorted(heard(tmp_path)) == sorted(m.event_type for m in messages)
        assert [one.status().problems for one in service.listeners] == [()] * len(service.listeners)
    left = lengths(vhosts)
    assert set(left) == {"detachd_events.info", "detachd_events.error"}
    assert max(left.values()) <= 100


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_before_the_recipe_nothing_is_sent_or_a_queue_grows(
    rabbitmq: RabbitMQ, tmp_path: Path, name: str
) -> None:
    """A deployment as it comes -> no notification, or every one stays in a queue: the control."""
    vhosts, deployment, messages = Vhosts(rabbitmq), DEPLOYMENTS[name], others(attachments())
    publish(messages, tmp_path, vhosts, deployment, {"nova": {}, "cinder": {}})
    sends = deployment.notifications.get("driver") == "messagingv2"
    assert set(lengths(vhosts)) == (
        {"notifications.info", "notifications.error"} if sends else set()
    )
    assert all(length >= OTHERS for length in lengths(vhosts).values())


def test_the_usual_topics_leave_queues_that_nobody_consumes(
    rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """Only a driver and a format set -> each message is in a queue of the publishers, for ever."""
    vhosts, deployment = Vhosts(rabbitmq), DEPLOYMENTS["Plain nova.conf and cinder.conf"]
    sets = {"nova": {**MESSAGINGV2, **BOTH}, "cinder": MESSAGINGV2}
    publish(others(attachments()), tmp_path, vhosts, deployment, sets)
    left = lengths(vhosts)
    assert set(left) == {
        "notifications.info", "notifications.error",
        "versioned_notifications.info", "versioned_notifications.error",
    }  # fmt: skip
    assert min(left.values()) >= OTHERS
