"""What RabbitMQ 4.3 denies by default, denied on a 4.0, which can be told to: who notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import kombu
import oslo_messaging
import pytest
from oslo_config import cfg

from consumer.bus.broker import BROKER_ERRORS
from consumer.bus.settings import ListenerSettings
from consumer.intake.listener import Listener
from tests.bus import BRISK, Peer, configured, new_ledger, running, stored, until
from tests.integration import oracle
from tests.integration.site import REPEATABLE, new_broker, open_site
from tests.recorded import HEALTHY, recording, renewed
from tests.services.fixtures import installed
from tests.services.rabbitmq import RabbitMQ

pytestmark = pytest.mark.integration

# https://www.rabbitmq.com/docs/deprecated-features-list; the permission is for 4.0 to 4.2.
DENIED = ("transient_nonexcl_queues", "global_qos", "queue_master_locator")


class Denying(RabbitMQ):
    """A broker that permits none of these."""

    def _prepare(self) -> None:
        super()._prepare()
        lines = (f"deprecated_features.permit.{feature} = false\n" for feature in DENIED)
        self._write("rabbitmq.conf", "".join(lines))


@pytest.fixture(scope="module")
def denying() -> Iterator[RabbitMQ]:
    """Share one such broker, whatever broker the other tests run on."""
    with pytest.MonkeyPatch.context() as choice:
        choice.setenv("DETACHD_RABBITMQ", "4.0")
        with installed(Denying) as broker:
            yield broker


def notifier(url: str, *, durable: bool) -> oslo_messaging.Notifier:
    """Make Cinder's notifier, without and with durable queues; it tries once."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    where = url.replace("amqp://", "rabbit://")
    transport = oslo_messaging.get_notification_transport(conf, url=where)
    conf.set_override("amqp_durable_queues", durable, group="oslo_messaging_rabbit")
    return oslo_messaging.Notifier(
        transport, "cinder", driver="messagingv2", topics=["notifications"], retry=1
    )


def test_it_denies(denying: RabbitMQ) -> None:
    """A transient queue that others may use -> refused, with the feature's name: the control."""
    with kombu.Connection(denying.fresh_vhost()) as connection:
        queue = kombu.Queue("transient", durable=False, channel=connection.channel())
        with pytest.raises(BROKER_ERRORS, match="transient_nonexcl_queues"):
            queue.queue_declare()


def test_the_whole_service_needs_none_of_it(denying: RabbitMQ, tmp_path: Path) -> None:
    """Queues, prefetch, quarantine, replays, announcements -> as on any other broker."""
    with open_site(new_broker(denying), tmp_path) as site:
        acts = site.arrange(REPEATABLE[:2])
        with site.detachd.serve() as service:
            service.ready()
            site.publish(acts)
            oracle.wait_until_over(site, acts)
            assert service.terminate() == 0
        oracle.all_is_well(site, acts)
        site.check_logs()


@pytest.mark.parametrize("durable", [False, True], ids=["default", "amqp_durable_queues"])
def test_a_publisher_with_default_options_sends_nothing(
    denying: RabbitMQ, tmp_path: Path, durable: bool
) -> None:
    """The publisher declares transient queues -> its message is lost, and another's is heard.

    With amqp_durable_queues, at the publisher and at detachd, it is heard too.
    """
    url = denying.fresh_vhost()
    conf = configured(url)
    conf.set_override("amqp_durable_queues", durable, group="oslo_messaging_rabbit")
    hurried = dataclasses.replace(ListenerSettings.from_conf(conf), pace=BRISK)
    told, other = (
        next(m for m in renewed(recording(HEALTHY)) if m.event_type == "volume.attach.start")
        for _ in range(2)
    )
    with new_ledger(tmp_path) as ledger, Peer(url) as peer:
        listener = Listener(hurried, ledger)
        with running(listener):
            until(lambda: listener.caught_up)
            assert listener.status().problems == ()
            notifier(url, durable=durable).info({}, told.event_type, told.message["payload"])
            peer.publish([other])
            until(lambda: other.message_id in stored(tmp_path))
    assert len(stored(tmp_path)) == (2 if durable else 1)
