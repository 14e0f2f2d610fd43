"""A site for the tests: a simulated cloud, a real broker, and detachd installed beside them.

The cloud lives in the test's own process, which serves it: whatever becomes of the service, the
cloud stays, and knows each call that ever reached it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consumer.demo.scenes import SCENES, Scene, Stage
from consumer.demo.wire import API_PUBLISHER, Message, SentAttachment, Story
from consumer.ledger import CaseRecord, Ledger, OutboxRecord, SchemaBehindError
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.remote import serve_cloud
from tests.bus import Peer
from tests.integration.service_process import Installation, Places, simulated
from tests.recorded import Recorded
from tests.services import ledgers
from tests.services.rabbitmq import RabbitMQ

EVERY = 100_000

# What the one that is left out shows depends on how often the service looks.
REPEATABLE = [scene for scene in SCENES if scene.name != "late completion"]

AUDIT = "audit"
QUEUES = (
    "detachd.notifications", "detachd.quarantine", AUDIT,
    "detachd_notifications.info", "detachd_notifications.error",
)  # fmt: skip
EXCHANGES = ("nova", "cinder", "openstack", "detachd")


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """A virtual host of a private RabbitMQ, and a user of its own with a password worth hiding."""

    server: RabbitMQ
    url: str = dataclasses.field(repr=False)
    password: str = dataclasses.field(repr=False)

    @property
    def transport_url(self) -> str:
        """The same URL as OpenStack's services write it."""
        return self.url.replace("amqp://", "rabbit://")


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """A scene on its stage, and what the bus is going to tell of it."""

    scene: Scene
    stage: Stage
    messages: tuple[Message, ...]

    @property
    def volume_id(self) -> str:
        """The one volume that it is about."""
        return self.stage.volume_id

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The messages as they are on the wire."""
        return tuple(message.body for message in self.messages)


@dataclasses.dataclass(slots=True)
class Site:
    """Everything of one test. ``heard`` are the announcements that came, in order, repeats too."""

    cloud: Cloud
    broker: Broker
    detachd: Installation
    peer: Peer
    ledger: Ledger
    leaving: contextlib.ExitStack
    heard: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    hosts: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show."""
        authkey = str(self.detachd.places.cloud["simulator"]["authkey"])
        return (self.broker.password, authkey, "REDACTED-LAB-TOKEN")

    def check_logs(self) -> None:
        """Fail where a service logged a traceback, or a secret."""
        logs = self.detachd.logs()
        assert "Traceback" not in logs, logs[logs.index("Traceback") - 1000 :][:5000]
        assert [secret for secret in self.secrets if secret in logs] == []

    def declare(self) -> None:
        """Declare what Nova, Cinder and a listener of announcements declare, as they do.

        Topic exchanges, neither durable nor auto-delete; the listener's queue is durable, so that
        it hears of what is sent while it is away.
        """
        self.peer.declare("nova", "cinder", "detachd")
        for priority in ("info", "error"):
            self.peer.bind(AUDIT, "detachd", f"detachd_notifications.{priority}")

    def reconnect(self) -> None:
        """Do what every client does when the broker is back: connect, and declare anew."""
        self.peer = self.leaving.enter_context(Peer(self.broker.url))
        self.declare()

    def arrange(self, scenes: Iterable[Scene] = SCENES) -> list[Act]:
        """Put each scene on a volume, a server and a host of its own."""
        return [self._act(scene) for scene in scenes]

    def publish(self, acts: Sequence[Act]) -> None:
        """Have the bus tell of them all; each message is confirmed when this returns."""
        self.introduce(acts)
        self.send(message for act in acts for message in act.messages)

    def introduce(self, acts: Sequence[Act]) -> None:
        """Have the bus tell the connector of each host, by some earlier attach."""
        self.send(earlier_attach(act.stage) for act in acts)

    def send(self, messages: Iterable[Message | Recorded]) -> None:
        """Publish messages as Nova and Cinder do."""
        for message in messages:
            self.peer.put(message.body, message.exchange, message.routing_key)

    def listen(self) -> Sequence[Mapping[str, Any]]:
        """Take in what was announced since; return all that was heard so far."""
        bodies = self.peer.take_all(AUDIT)
        self.heard += [json.loads(json.loads(body)["oslo.message"]) for body in bodies]
        return self.heard

    def told(self) -> dict[str, tuple[str, str]]:
        """Return volume and event type of each announcement heard so far, by message_id."""
        return {
            m["message_id"]: (m["payload"]["volume_id"], m["event_type"]) for m in self.listen()
        }

    def announced(self, volume_id: str) -> list[str]:
        """Return the event types that were announced of a volume, in order, repeats left out."""
        return [event_type for told_of, event_type in self.told().values() if told_of == volume_id]

    def cases(self, volume_id: str) -> list[CaseRecord]:
        """Return all that the ledger has of a volume, the oldest case first.

        Cases that one batch opened are of one time: an attach goes before a detach then.
        """
        found = [self.ledger.case(c.case_id) for c in self.ledger.cases(volume_id=volume_id)]
        return sorted(found, key=lambda r: (r.case.opened_at, r.case.operation.value))

    def outbox(self) -> list[OutboxRecord]:
        """Return every announcement that the ledger holds, of all cases."""
        ids = [case.case_id for case in self.ledger.cases(limit=EVERY)]
        return [sent for case_id in ids for sent in self.ledger.case(case_id).outbox]

    def writes(self, volume_id: str) -> list[str]:
        """Return the names of the service's writes on a volume that reached the cloud."""
        return [call.name for call in self.cloud.calls(volume_id=volume_id, writes=True)]

    def status(self, volume_id: str) -> str:
        """Return Cinder's status of a volume."""
        return self.cloud.statuses(volume_id)[0]

    def _act(self, scene: Scene) -> Act:
        host = f"compute-{next(self.hosts)}"
        cloud = self.cloud
        stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=host), host)
        return Act(scene, stage, tuple(scene.arrange(stage)))


def earlier_attach(stage: Stage) -> Message:
    """Return the end of some earlier attach on the host: the bus told its connector."""
    story = Story(secrets.token_hex(8), secrets.token_hex(8), stage.host, DEFAULT_BACKEND)
    row = SentAttachment(secrets.token_hex(8), "attached", stage.cloud.connector(stage.host))
    return story.cinder("attach.end", "in-use", row, publisher=API_PUBLISHER)


@contextlib.contextmanager
def open_site(broker: Broker, directory: Path, ledger_url: str | None = None) -> Iterator[Site]:
    """Make a site, its exchanges declared; nothing of detachd runs yet.

    Without a URL its ledger is SQLite, upgraded.
    """
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(Cloud())
        authkey = secrets.token_hex(16)
        address = stack.enter_context(serve_cloud(cloud, authkey=authkey.encode())).address
        stack.callback(cloud.close)  # first, so that a call that hangs does not keep the server
        url = ledger_url or ledgers.sqlite_in(directory)
        places = Places(broker.transport_url, url, simulated(address, authkey))
        detachd = Installation(directory, places)
        ledger = stack.enter_context(detachd.ledger())
        _acknowledge(ledger)
        peer = stack.enter_context(Peer(broker.url))
        _clear(peer)
        site = Site(cloud, broker, detachd, peer, ledger, stack)
        site.declare()
        yield site


def _acknowledge(ledger: Ledger) -> None:
    """Say that the cloud is as new as the ledger: no first sweep finds anything older.

    A ledger that a test is going to upgrade itself has no tables yet.
    """
    with contextlib.suppress(SchemaBehindError):
        ledger.check_schema()
        ledger.sweeps.acknowledge("test", "the site is new")


def _clear(peer: Peer) -> None:
    """Remove what the test before has left in the virtual host."""
    for queue in QUEUES:
        peer.channel.queue_delete(queue)
    for exchange in EXCHANGES:
        peer.channel.exchange_delete(exchange)


def new_broker(server: RabbitMQ) -> Broker:
    """Make a virtual host and a user who may do everything there; blocks for some seconds."""
    url = server.fresh_vhost()
    vhost = url.rpartition("/")[2]
    user, password = f"of-{vhost}", secrets.token_hex(16)
    server.ctl("add_user", user, password)
    server.ctl("set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")
    return Broker(server, url.replace("guest:guest@", f"{user}:{password}@"), password)
