"""The newcomer's tour: one notification walks through all eight hops.

Every part is the real one; only the broker is kombu's in-memory one and the cloud the simulated
one. Read it from the top: each hop is a few lines, and says what it leaves behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
from oslo_config import cfg

from consumer.bus.broker import register_opts
from consumer.bus.settings import ListenerSettings
from consumer.demo.wire import Message, SentAttachment, Story
from consumer.intake.listener import Listener
from consumer.ledger import Ledger, Timing
from consumer.publish.publisher import Publisher
from drivers.simulator import DEFAULT_BACKEND, Cloud
from handlers.case import CaseState, Conclusion, StepKind, StepResult, VerifiedBy
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.notification import Notification, Operation, Phase, may_concern, parse
from handlers.recovery.recovery import Recovery
from tests.services import ledgers

POLICY = BackendPolicy(mode=Mode.AUTO, late_horizon_seconds=0.0)
HOST = "compute-1"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    timing = Timing(error_settle_seconds=0.0)
    ledger = Ledger(ledgers.sqlite_in(tmp_path), timing=timing)
    yield ledger
    ledger.close()


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    register_opts(conf)
    conf.set_override("transport_url", "kombu+memory:////the-path")
    return conf


def test_a_failed_attach_walks_the_eight_hops_and_ends_available_and_announced(
    cloud: Cloud, ledger: Ledger, conf: cfg.ConfigOpts
) -> None:
    """An attach fails half-way and Nova's clean-up with it -> mended, verified, told."""
    # The scene. Cinder says attaching, the backend lets the host in, Nova has given up: its block
    # device is gone. Nobody will ever finish or undo this attach.
    volume, instance = cloud.create_volume(), cloud.boot_server(host=HOST)
    attach = cloud.begin_attach(volume, instance).advance()
    attach.abandon()
    cloud.drop_block_device(instance, volume)
    assert cloud.exported_to(volume) == (HOST,)

    # Hop 1: the listener takes raw bytes. The cheap filter lets pass what may concern us, and only
    # that is parsed; what is not on the allow-list is dropped at this door.
    story = Story(volume, instance, HOST, DEFAULT_BACKEND)
    error = story.nova_legacy_error("attach_volume", "ClientException", attach.attachment_id)
    assert may_concern(error.body)
    parsed = parse(error.body)
    assert isinstance(parsed, Notification)
    assert (parsed.operation, parsed.phase) == (Operation.ATTACH, Phase.ERROR)
    assert (parsed.volume_id, parsed.attachment_id) == (volume, attach.attachment_id)

    # Hop 2: the ledger accepts, then the message is acked. An error opens a case; the end of an
    # earlier attach on that host has taught us the host's connector, which no API tells.
    learned = SentAttachment("earlier", "attached", cloud.connector(HOST))
    earlier = Story("another-volume", "another-server", HOST, DEFAULT_BACKEND)
    listener = Listener(ListenerSettings.from_conf(conf), ledger)
    listener.run_once()  # connects: its queue is bound from here on
    publish(earlier.cinder("attach.end", "in-use", learned), error)
    while not ledger.cases():
        listener.run_once()
    listener.close()
    (opened,) = ledger.cases()
    assert (opened.state, opened.volume_id) == (CaseState.DUE, volume)

    # Hop 3: a worker claims the due case. Nobody else gets this volume until it is finished.
    (claim,) = ledger.claim("worker-1", limit=5, lease_seconds=900.0, deadlines=True)
    assert claim.case.case_id == opened.case_id
    assert ledger.claim("worker-2", limit=5, lease_seconds=900.0, deadlines=True) == ()

    # Hops 4 to 6: recovery looks at Cinder, Nova and the backend, asks the decision table, makes
    # its plan, and before each step writes the intent and looks once more. Then it looks again.
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: POLICY)
    outcome = recovery.attempt(ledger.casefile(claim))
    assert outcome.mended
    assert outcome.verified_by is VerifiedBy.PROBE
    assert cloud.exported_to(volume) == ()
    assert status(cloud, volume) == "available"
    writes = [call.name for call in cloud.calls(volume_id=volume, writes=True)]
    assert writes[-1] == "cinder.delete_attachment", "the call that flips the status is the last"

    # Hop 7: state, history and announcements are written in one transaction. The case settles: a
    # call that had timed out could still finish late.
    ledger.finish(claim, outcome)
    record = ledger.case(opened.case_id)
    assert record.case.state is CaseState.SETTLING
    assert [(i.kind, i.result) for i in record.intents] == [
        (StepKind.BACKEND_FORCE_DETACH, StepResult.DONE),
        (StepKind.CINDER_DELETE_ATTACHMENT, StepResult.DONE),
    ]

    # Hop 8: the publisher sends the outbox, in order, under the ids that the ledger gave.
    with kombu.Connection("memory://the-path") as connection:
        queue = subscribe(connection)
        publisher = Publisher.from_conf(conf, ledger, "publisher-1")
        while ledger.outbox_pending()[0]:
            publisher.run_once()
        publisher.close()
        told = [heard(queue), heard(queue)]
    assert [m["event_type"] for m in told] == [
        "volume.force_detach.start",
        "volume.force_detach.end",
    ]
    assert [m["message_id"] for m in told] == [sent.message_id for sent in record.outbox]
    assert told[-1]["payload"]["force_detach"] is True

    # And once more from hop 3: the look after settling is clean, and only now the case is closed.
    (claim,) = ledger.claim("worker-1", limit=5, lease_seconds=900.0, deadlines=True)
    ledger.finish(claim, recovery.attempt(ledger.casefile(claim)))
    closed = ledger.case(opened.case_id).case
    assert (closed.state, closed.conclusion) == (CaseState.CLOSED, Conclusion.MENDED)
    assert cloud.hazards() == ()


def status(cloud: Cloud, volume_id: str) -> str | None:
    volume = cloud.cinder.volume(volume_id, timeout_seconds=1.0)
    return volume.status if volume else None


def publish(*messages: Message) -> None:
    with kombu.Connection("memory://the-path") as connection:
        producer = kombu.Producer(connection.default_channel)
        for message in messages:
            producer.publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                content_type="application/json",
                content_encoding="utf-8",
            )


def subscribe(connection: kombu.Connection) -> kombu.Queue:
    exchange = kombu.Exchange("detachd", "topic", durable=False)
    queue = kombu.Queue("a-subscriber", exchange, "detachd_notifications.#", durable=False)
    bound = queue(connection.default_channel)
    bound.declare()
    return bound


def heard(queue: kombu.Queue) -> dict[str, object]:
    message = queue.get(no_ack=True)
    inner: dict[str, object] = json.loads(json.loads(message.body)["oslo.message"])
    return inner
