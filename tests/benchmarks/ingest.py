"""How fast notifications come in: bus to ledger, commit before ack, beside others in the same run.

    python -m tests.benchmarks.ingest [--messages 50000] [--rounds 3] [--profile FILE]

A private RabbitMQ, messages of 3 to 5 KB of which one in twenty concerns an attachment, made of
recorded ones under new ids. Each consumer in turn empties a queue that holds them all. Absolute
figures say more about the machine than about us, so the ratios are what counts.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import itertools
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu

from consumer.bus.settings import ListenerSettings
from consumer.bus.topology import QueueSettings
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from tests.bus import configured, stored
from tests.recorded import FAILED_ATTACH, HEALTHY, recording, renewed
from tests.services.rabbitmq import RabbitMQ

RELEVANT_EVERY = 20
OTHERS = (
    b"instance.update",
    b"compute.instance.update",
    b"volume.usage",
    b"compute.metrics.update",
)
SMALLEST, LARGEST = 3_000, 5_000

Consume = Callable[[str, int], float]


def relevant() -> Iterator[bytes]:
    """Yield scenario after scenario, each at a volume of its own."""
    scenarios = [
        [m for m in recording(name) if SMALLEST <= len(m.body) <= LARGEST]
        for name in (HEALTHY, FAILED_ATTACH)
    ]
    for messages in itertools.cycle(scenarios):
        yield from (message.body for message in renewed(messages))


def irrelevant() -> Iterator[bytes]:
    """Yield what a cloud talks about otherwise: recorded messages under other event types."""
    templates = [m for m in recording(HEALTHY) if SMALLEST <= len(m.body) <= LARGEST]
    for message, event_type in itertools.cycle(itertools.product(templates, OTHERS)):
        unique_id = str(message.message["_unique_id"]).encode()
        renamed = message.body.replace(message.event_type.encode(), event_type)
        yield renamed.replace(unique_id, uuid.uuid4().hex.encode())


def stream(count: int) -> Iterator[bytes]:
    """Yield so many bodies, one in twenty of them relevant."""
    ours, others = relevant(), irrelevant()
    for number in range(count):
        yield next(ours) if number % RELEVANT_EVERY == 0 else next(others)


OURS = QueueSettings("detachd.notifications", 1_000_000)
OUR_QUEUE = kombu.Queue(
    OURS.name,
    durable=True,
    queue_arguments={
        "x-queue-type": "classic",
        "x-max-length": OURS.max_length,
        "x-overflow": OURS.overflow,
    },
)
OSLOS = "notifications.info"


def fill(url: str, queue: kombu.Queue, count: int) -> None:
    """Put everything into the queue, persistent, and wait until it is all there."""
    with kombu.Connection(url) as connection, connection.channel() as channel:
        bound = queue(channel)
        bound.queue_declare()
        bound.purge()
        producer = kombu.Producer(channel)
        for body in stream(count):
            producer.publish(
                body,
                routing_key=queue.name,
                content_type="application/json",
                content_encoding="utf-8",
            )
        while bound.queue_declare(passive=True).message_count < count:
            time.sleep(0.05)


def only_ack(url: str, count: int) -> float:
    """Consume with kombu and do nothing but ack, a hundred at a time; return messages/s."""
    seen = 0

    def on_message(message: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 100 == 0 or seen == count:
            message.ack(multiple=True)

    with kombu.Connection(url) as connection, connection.channel() as channel:
        queue = OURS.on(channel)
        consumer = kombu.Consumer(
            channel, [queue], on_message=on_message, auto_declare=False, prefetch_count=500
        )
        started_at = time.perf_counter()
        with consumer:
            while seen < count:
                connection.drain_events(timeout=10)
        return count / (time.perf_counter() - started_at)


def oslo_batches(url: str, count: int) -> float:
    """Consume with oslo.messaging's batch listener, which only counts; return messages/s."""
    import oslo_messaging  # noqa: PLC0415 - slow to import, and not for a profile of ours

    seen, done = 0, threading.Event()

    class Endpoint:
        def info(self, messages: list[Any]) -> None:
            nonlocal seen
            seen += len(messages)
            if seen >= count:
                done.set()

    transport = oslo_messaging.get_notification_transport(configured(url))
    listener = oslo_messaging.get_batch_notification_listener(
        transport,
        [oslo_messaging.Target(exchange="nova", topic="notifications")],
        [Endpoint()],
        executor="threading",
        batch_size=100,
        batch_timeout=1,
    )
    started_at = time.perf_counter()
    listener.start()
    done.wait(120)
    seconds = time.perf_counter() - started_at
    listener.stop()
    listener.wait()
    transport.cleanup()
    return count / seconds


def detachd(url: str, count: int, profile: Path | None = None) -> float:
    """Consume with the listener into a ledger on SQLite; return messages/s."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(f"sqlite:///{directory}/ledger.sqlite")
        ledger.upgrade()
        settings = ListenerSettings.from_conf(configured(url))
        listener = Listener(dataclasses.replace(settings, queue=OURS), ledger)
        profiler = cProfile.Profile()
        acked = 0
        started_at = time.perf_counter()
        if profile:
            profiler.enable()
        while acked < count:
            acked += listener.run_once()
        profiler.disable()
        seconds = time.perf_counter() - started_at
        listener.close()
        ledger.close()
        assert len(stored(Path(directory))) >= count // RELEVANT_EVERY - 100
    if profile:
        profiler.dump_stats(profile)
    return count / seconds


CONSUMERS: dict[str, tuple[Consume, kombu.Queue]] = {
    "oslo.messaging, batches of 100, counts": (oslo_batches, kombu.Queue(OSLOS, durable=False)),
    "kombu, only acks": (only_ack, OUR_QUEUE),
    "detachd, SQLite, commit before ack": (detachd, OUR_QUEUE),
}


def measure(count: int, rounds: int) -> dict[str, float]:
    """Let each consumer empty its queue, in turn, so many rounds; return the median rates."""
    rates: dict[str, list[float]] = {name: [] for name in CONSUMERS}
    with RabbitMQ() as broker:
        for _ in range(rounds):
            for name, (consume, queue) in CONSUMERS.items():
                fill(broker.url, queue, count)
                rates[name].append(consume(broker.url, count))
                _say(f"{rates[name][-1]:10,.0f} messages/s  {name}")
    return {name: statistics.median(values) for name, values in rates.items()}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print; with --profile, profile detachd's round alone."""
    parser = argparse.ArgumentParser(description="Measure how fast notifications come in.")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="profile detachd alone into this file")
    given = parser.parse_args()
    if given.profile:
        with RabbitMQ() as broker:
            fill(broker.url, OUR_QUEUE, given.messages)
            detachd(broker.url, given.messages, given.profile)
        return
    oslo, acks, ours = measure(given.messages, given.rounds).values()
    _say(f"detachd / only acks: {ours / acks:.2f}    detachd / oslo.messaging: {ours / oslo:.2f}")


if __name__ == "__main__":
    main()
