"""A cluster of three real RabbitMQ nodes, one of them killed or cut off under traffic.

With --capture=no it prints what happened: how many messages were confirmed, how many of them the
ledger has not got, and for how long nothing came in.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import kombu
import pytest

from consumer.bus.broker import BROKER_ERRORS, BrokerSettings, connect
from consumer.bus.settings import ListenerSettings
from consumer.bus.topology import own_channel
from consumer.demo.scenes import SCENES
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from tests.announcing import END, START, announce, outbox, stock_listener
from tests.bus import Notes, Peer, configured, new_ledger, running, settings, stored, until
from tests.integration.service_process import BRISK
from tests.integration.site import Broker, open_site
from tests.integration.test_announcing import hurried
from tests.integration.test_service_sweep import SWEEP
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.fixtures import installed
from tests.services.rabbitmq_cluster import Cluster, ClusterNode

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUEUE, SPARE = "detachd.notifications", "detachd.notifications.spare"
NUMBERS = itertools.count(1)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Share one cluster; a test that kills a node starts it again before it ends."""
    with installed(Cluster) as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def vhost(cluster: Cluster) -> str:
    """Make a virtual host of the test's own."""
    name = f"test-{next(NUMBERS)}"
    cluster.nodes[0].ctl("add_vhost", name)
    cluster.nodes[0].ctl("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
    return name


def ours(url: str, queue_type: str | None = None, spare: str | None = None) -> ListenerSettings:
    """Make a listener's settings as an operator would, and look at the queues every second."""
    conf = configured(url)
    ListenerSettings.from_conf(conf)
    conf.set_override("queue_type", queue_type, group="listener")
    conf.set_override("spare_queue", spare, group="listener")
    made = ListenerSettings.from_conf(conf)
    return dataclasses.replace(settings(url), **{
        name: getattr(made, name) for name in ("queue", "quarantine", "spare")
    }, rebind_seconds=1.0)  # fmt: skip


def home_of(cluster: Cluster, asked: ClusterNode, vhost: str, queue: str = QUEUE) -> ClusterNode:
    """Return the node that has a classic queue, or the leader of a quorum queue."""
    program = (
        '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"%s">>, queue, <<"%s">>)), '
        "P = amqqueue:get_pid(Q), case P of {_, N} -> N; _ -> node(P) end."
    )
    return cluster.of(asked.ctl("eval", program % (vhost, queue)).strip().strip("'"))


class Traffic:
    """Publishes messages as fast as they are confirmed, ten at most a second, over all nodes.

    ``confirmed`` are the ids of those that the broker confirmed and did not return. One whose
    confirm did not come is sent again until it does.
    """

    def __init__(self, url: str) -> None:
        self.confirmed: list[str] = []
        self.repeated = 0
        self._broker = BrokerSettings.from_conf(configured(url))
        self._peer: Peer | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop after the message that is on its way."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._publish()
        finally:
            if self._peer is not None:
                self._peer.connection.release()

    def _publish(self) -> None:
        for message in self._messages():
            while not self._stop.is_set():
                if self._sent(message):
                    self.confirmed.append(message.message_id)
                    break
                self._stop.wait(0.1)

    def _sent(self, message: Recorded) -> bool:
        """Send it to any node; tell whether it is confirmed to be on a queue."""
        try:
            self._peer = self._peer or _connected(self._broker)
            return self._peer.put_mandatory(message)
        except BROKER_ERRORS:
            self.repeated += 1
            if self._peer is not None:
                self._peer.connection.collect()
            self._peer = None
            return False

    def _messages(self) -> Iterator[Recorded]:
        while not self._stop.is_set():
            for message in attachments():
                yield message
                if self._stop.wait(0.1):
                    return


def _connected(broker: BrokerSettings) -> Peer:
    peer = Peer.__new__(Peer)
    peer.connection = connect(broker, "traffic", heartbeats=False)
    peer.channel = peer.connection.channel()
    return peer


def attachments() -> list[Recorded]:
    """Return the messages of a scenario at a volume of its own that concern an attachment."""
    return [m for m in renewed(recording(HEALTHY)) if not m.event_type.startswith("volume.create")]


@dataclasses.dataclass(slots=True)
class Watch:
    """Looks at the ledger from the side: the longest time without a new message."""

    directory: Path
    longest: float = 0.0

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``."""
        count, since = 0, time.monotonic()
        while not stop.wait(0.02):
            now = time.monotonic()
            if (found := len(stored(self.directory))) != count:
                count, since = found, now
            self.longest = max(self.longest, now - since)


def kill_and_start(cluster: Cluster, nodes: list[ClusterNode], traffic: Traffic) -> None:
    """Kill nodes one after the other, each up again and in the cluster before the next."""
    for node in nodes:
        with node.killed():
            more(traffic)
        until(lambda node=node: len(cluster.running(node)) == len(cluster.nodes), PATIENCE)


def more(traffic: Traffic, count: int = 10) -> None:
    """Wait until so many more messages are confirmed."""
    enough = len(traffic.confirmed) + count
    until(lambda: len(traffic.confirmed) >= enough, PATIENCE)


def kill_leader(cluster: Cluster, leader: ClusterNode, traffic: Traffic) -> None:
    """Kill the node that leads our queue."""
    kill_and_start(cluster, [leader], traffic)


def kill_follower(cluster: Cluster, leader: ClusterNode, traffic: Traffic) -> None:
    """Kill a node that does not lead it: a minority of the queue's members."""
    kill_and_start(cluster, cluster.others(leader)[:1], traffic)


def cut_leader_off(cluster: Cluster, leader: ClusterNode, traffic: Traffic) -> None:
    """Cut the leader's node off from the others, and let it in again."""
    cluster.partition(leader)
    try:
        more(traffic)
    finally:
        cluster.heal(leader)
    asked = cluster.others(leader)[0]
    until(lambda: len(cluster.running(asked)) == len(cluster.nodes), PATIENCE)


def restart_each(cluster: Cluster, leader: ClusterNode, traffic: Traffic) -> None:
    """Kill and start every node, one by one, as an upgrade does less rudely."""
    kill_and_start(cluster, [leader, *cluster.others(leader)], traffic)


Fault = Callable[[Cluster, ClusterNode, Traffic], None]


@pytest.mark.parametrize("fault", [kill_leader, kill_follower, cut_leader_off, restart_each])
def test_quorum_queue_under_traffic(
    cluster: Cluster, vhost: str, ledger: Ledger, tmp_path: Path, fault: Fault
) -> None:
    """A node lost under traffic -> all that was confirmed is in the ledger, and it goes on."""
    url, notes = cluster.url(vhost), Notes()
    listener, watch = Listener(ours(url), ledger, notes), Watch(tmp_path)
    with running(listener):
        until(lambda: listener.caught_up)
        assert listener.status().problems == ()
        leader = home_of(cluster, cluster.nodes[0], vhost)
        with Traffic(url) as traffic:
            more(traffic)
            with running(watch):
                fault(cluster, leader, traffic)
                more(traffic)
        until(lambda: set(traffic.confirmed) <= set(stored(tmp_path)), PATIENCE)
        until(lambda: listener.caught_up and not listener.status().problems, PATIENCE)
    lost = set(traffic.confirmed) - set(stored(tmp_path))
    say(
        f"{fault.__name__}: {len(traffic.confirmed)} confirmed, {len(lost)} lost, "
        f"{traffic.repeated} sent again, {notes.lost} connections of ours lost, "
        f"{watch.longest:.1f} s at most without a message"
    )
    assert len(stored(tmp_path)) == len(set(stored(tmp_path)))
    assert watch.longest < 30


def say(line: str) -> None:
    """Print a figure, which --capture=no shows."""
    sys.stdout.write(f"{line}\n")


def test_leader_lost_with_messages_unacked(
    cluster: Cluster, vhost: str, ledger: Ledger, tmp_path: Path
) -> None:
    """The leader is killed while a batch waits for the ledger -> redelivered, stored once."""
    listener, messages = Listener(ours(cluster.url(vhost)), ledger), attachments()
    with running(listener):
        until(lambda: listener.caught_up)
        leader = home_of(cluster, cluster.nodes[0], vhost)
        other = at(cluster.others(leader)[0], vhost)
        with _connected(BrokerSettings.from_conf(configured(other))) as peer:
            ledger.close()
            away = tmp_path.rename(tmp_path.with_name("away"))
            try:
                peer.publish(messages)
                until(lambda: "wait unacked" in "".join(listener.status().problems))
                leader.kill()
                time.sleep(2)
            finally:
                away.rename(tmp_path)
                leader.start()
        until(lambda: ids(messages) <= set(stored(tmp_path)), PATIENCE)
        until(lambda: listener.caught_up and not listener.status().problems, PATIENCE)
    assert sorted(stored(tmp_path)) == sorted(ids(messages))


def test_announcements_to_a_cluster(cluster: Cluster, vhost: str, ledger: Ledger) -> None:
    """A node is killed while announcements are sent -> a stock listener hears each of them."""
    conf = configured(cluster.url(vhost))
    conf.set_override("rabbit_quorum_queue", True, group="oslo_messaging_rabbit")
    conf.set_override("kombu_reconnect_delay", 0.2, group="oslo_messaging_rabbit")
    publisher = hurried(conf, ledger)
    with stock_listener(conf) as heard, running(publisher):
        cases = [announce(ledger, START, END) for _ in range(5)]
        until(lambda: len(heard.messages) >= 2 * len(cases), PATIENCE)
        home = home_of(cluster, cluster.nodes[0], vhost, "detachd_notifications.info")
        home.kill()
        cases += [announce(ledger, START, END) for _ in range(5)]
        sent = {record.message_id for case in cases for record in outbox(ledger, case)}
        until(lambda: sent <= {m["metadata"]["message_id"] for m in heard.messages}, PATIENCE)
        home.start()
    publisher.close()
    assert ledger.outbox_pending()[0] == 0
    assert len(sent) == 2 * len(cases)
    say(f"announcements: {len(sent)} sent, all heard, {len(heard.messages) - len(sent)} repeated")


def test_classic_queue_whose_node_is_down(
    cluster: Cluster, vhost: str, ledger: Ledger, tmp_path: Path
) -> None:
    """The home node is killed -> said in words; what was acked or queued is there when it is back.

    What was published meanwhile is not kept: the publisher is told, and detachd's sweep looks.
    """
    url = cluster.url(vhost)
    listener = Listener(ours(url, "classic"), ledger)
    before, queued, meanwhile, after = (attachments() for _ in range(4))
    listener.run_once()
    home = home_of(cluster, cluster.nodes[0], vhost)
    other = cluster.others(home)[0]
    with _connected(BrokerSettings.from_conf(configured(at(other, vhost)))) as peer:
        peer.publish(before)
        until(lambda: listener.run_once() and set(stored(tmp_path)) == ids(before))
        listener.close()
        peer.publish(queued)
        home.sync()
        home.kill()
        with running(listener):
            until(lambda: "one node that has it is down" in "".join(listener.status().problems))
            assert not listener.caught_up
            assert set(stored(tmp_path)) == ids(before)
            assert [peer.put_mandatory(message) for message in meanwhile[:3]] == [False] * 3
            home.start()
            killed_at = time.monotonic()
            until(lambda: ids(queued) <= set(stored(tmp_path)), PATIENCE)
            say(f"classic, home node back: {time.monotonic() - killed_at:.1f} s until all is read")
            peer.publish(after)
            until(lambda: ids(after) <= set(stored(tmp_path)))
            until(lambda: listener.status().problems == ())
    assert set(stored(tmp_path)) == ids([*before, *queued, *after])


def test_what_was_lost_while_the_node_was_down_is_found_by_the_sweep(
    cluster: Cluster, vhost: str, tmp_path: Path
) -> None:
    """A failure is told while the queue's node is down, so nobody keeps it -> the sweep mends it.

    It does so while the node is down: a volume that is stuck in Cinder's lists needs no message.
    """
    home, other = cluster.nodes[:2]
    broker = Broker(other, at(other, vhost).replace("rabbit:", "amqp:"), "guest")
    with open_site(broker, tmp_path) as site:
        site.detachd.places = dataclasses.replace(
            site.detachd.places, transport_url=cluster.url(vhost)
        )
        listener = Listener(ours(at(home, vhost), "classic"), site.ledger)
        listener.run_once()
        listener.close()
        assert home_of(cluster, home, vhost) is home
        site.detachd.configure(BRISK, sweep=SWEEP, listener={"queue_type": "classic"})
        with site.detachd.serve() as service:
            service.ready()
            (act,) = site.arrange([scene for scene in SCENES if scene.name.startswith("UC1")])
            site.introduce([act])
            until(lambda: site.ledger.connector_of(act.stage.host) is not None)
            home.kill()
            until(lambda: "one node that has it is down" in service.readiness()[1], PATIENCE)
            told = [Recorded(m.exchange, m.routing_key, m.body) for m in act.messages]
            assert [site.peer.put_mandatory(message) for message in told] == [False] * len(told)
            until(lambda: site.status(act.volume_id) == "available", PATIENCE)
            home.start()
            until(lambda: "one node that has it is down" not in service.readiness()[1], PATIENCE)
            assert service.terminate() == 0
        (record,) = site.cases(act.volume_id)
    assert [n.notification.source.value for n in record.notifications] == ["sweep"]


def test_spare_queue_while_the_node_is_down(
    cluster: Cluster, vhost: str, ledger: Ledger, tmp_path: Path
) -> None:
    """The operator allows a spare queue -> received there meanwhile, and both read afterwards."""
    url = cluster.url(vhost)
    listener = Listener(ours(url, "classic", SPARE), ledger)
    listener.run_once()
    home = home_of(cluster, cluster.nodes[0], vhost)
    other = cluster.others(home)[0]
    queued, meanwhile, after = (attachments() for _ in range(3))
    with _connected(BrokerSettings.from_conf(configured(at(other, vhost)))) as peer:
        listener.close()
        peer.publish(queued)
        home.sync()
        home.kill()
        with running(listener):
            until(lambda: "from the spare queue" in "".join(listener.status().problems), PATIENCE)
            peer.publish(meanwhile)
            until(lambda: set(stored(tmp_path)) == ids(meanwhile), PATIENCE)
            home.start()
            until(lambda: ids(queued) <= set(stored(tmp_path)), PATIENCE)
            until(lambda: listener.caught_up and not listener.status().problems, PATIENCE)
            peer.publish(after)
            until(lambda: ids(after) <= set(stored(tmp_path)))
        with own_channel(peer.connection) as channel:
            assert kombu.Queue(SPARE)(channel).queue_declare(passive=True).message_count == 0
    assert set(stored(tmp_path)) == ids([*queued, *meanwhile, *after])


def at(node: ClusterNode, vhost: str) -> str:
    """Return the URL of one node."""
    return f"rabbit://guest:guest@127.0.0.1:{node.port}/{vhost}"


def ids(messages: list[Recorded]) -> set[str]:
    """Return their message_ids."""
    return {message.message_id for message in messages}
