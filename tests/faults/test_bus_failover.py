"""Several broker hosts in one URL: two real brokers, not clustered, one of them lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from tests.bus import Notes, Peer, new_ledger, running, settings, stored, until
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.fixtures import installed
from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitMQ

QUEUE = "detachd.notifications"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


def url_of(*ports: int) -> str:
    """Write one URL of several hosts, as operators do."""
    hosts = ",".join(f"guest:guest@127.0.0.1:{port}" for port in ports)
    return f"rabbit://{hosts}//"


def attachments() -> list[Recorded]:
    """Return the messages of a scenario at a volume of its own that concern an attachment."""
    return [m for m in renewed(recording(HEALTHY)) if not m.event_type.startswith("volume.create")]


def has_queue(broker: RabbitMQ) -> bool:
    """Tell whether the listener has been at this broker."""
    return QUEUE in broker.ctl("list_queues", "--no-table-headers", "name").split()


def ids(messages: list[Recorded]) -> set[str]:
    """Return their message_ids."""
    return {message.message_id for message in messages}


@pytest.mark.integration
def test_dead_host_is_passed_over(rabbitmq: RabbitMQ, ledger: Ledger, tmp_path: Path) -> None:
    """One of three hosts answers, whatever is tried first -> used; nothing to complain about."""
    url, messages = url_of(free_port(), rabbitmq.port, free_port()), attachments()
    listener = Listener(settings(url), ledger)
    with running(listener), Peer(rabbitmq.url) as peer:
        until(lambda: listener.caught_up)
        assert listener.status().problems == ()
        peer.publish(messages)
        until(lambda: set(stored(tmp_path)) == ids(messages))


@pytest.mark.integration
@pytest.mark.slow
def test_host_killed_the_other_is_used(ledger: Ledger, tmp_path: Path) -> None:
    """Kill -9 of the host in use -> the other within seconds, our queue made and bound there."""
    with ExitStack() as stack:
        brokers = [stack.enter_context(installed(RabbitMQ)) for _ in range(2)]
        notes = Notes()
        listener = Listener(settings(url_of(*(b.port for b in brokers))), ledger, notes)
        stack.enter_context(running(listener))
        until(lambda: listener.caught_up)
        used, other = sorted(brokers, key=has_queue, reverse=True)
        assert (has_queue(used), has_queue(other)) == (True, False)

        before = attachments()
        with Peer(used.url) as peer:
            peer.publish(before)
        until(lambda: ids(before) <= set(stored(tmp_path)))
        used.kill()
        until(lambda: notes.lost == 1)
        until(lambda: listener.caught_up)

        after = attachments()
        with Peer(other.url) as peer:
            peer.publish(after)
        until(lambda: ids(after) <= set(stored(tmp_path)))
        assert listener.status().problems == ()
    assert sorted(stored(tmp_path)) == sorted(ids(before) | ids(after))
