"""Queues and exchanges deleted under the whole service, or declared otherwise before it came."""

from __future__ import annotations

import json
from collections.abc import Sequence

import kombu
import pytest

from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import fetch
from tests.integration.site import AUDIT, REPEATABLE, Act, Site

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUEUE = "detachd.notifications"


def taken_in(site: Site, acts: Sequence[Act]) -> bool:
    """Tell whether the ledger has every message of these."""
    stored = set(oracle.column(site, "SELECT message_id FROM notifications"))
    bodies = [body for act in acts for body in act.bodies]
    return {json.loads(json.loads(b)["oslo.message"])["message_id"] for b in bodies} <= stored


def consumers(site: Site, queue: str) -> int:
    """Return how many consume a queue, 0 where there is none of that name."""
    try:
        with kombu.Connection(site.broker.url) as connection:
            asked = kombu.Queue(queue, channel=connection.channel()).queue_declare(passive=True)
            return int(asked.consumer_count)
    except connection.channel_errors:
        return 0


def test_queues_and_exchanges_deleted_under_the_service(site: Site) -> None:
    """All of ours and the publishers' deleted while cases are worked -> made and bound again.

    Each message that reached our queue is in one case, and each edge is announced to those who have
    bound their queue again.
    """
    site.detachd.configure(listener={"rebind_seconds": 1.0})
    acts = site.arrange(REPEATABLE)
    half = len(acts) // 2
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts[:half])
        until(lambda: taken_in(site, acts[:half]))  # what is in a queue that is deleted is gone
        for exchange in ("nova", "cinder", "detachd"):
            site.peer.channel.exchange_delete(exchange)
        for queue in (QUEUE, "detachd.replay", "detachd.quarantine"):
            site.peer.channel.queue_delete(queue)
        site.declare()  # as publishers and listeners do when they find theirs missing
        until(lambda: consumers(site, QUEUE) and consumers(site, "detachd.replay"))
        service.ready()
        site.publish(acts[half:])
        oracle.wait_until_over(site, acts)
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)
    assert site.peer.take(AUDIT) is None


def test_queue_that_somebody_declared_otherwise(site: Site) -> None:
    """Our queue is there without a bound -> used, and said on /readyz and in the metrics.

    Once it is deleted, it is made as it should be, and all is well.
    """
    site.peer.channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    site.detachd.configure(listener={"rebind_seconds": 1.0})
    acts = site.arrange(REPEATABLE[:2])
    ready = 'detachd_ready{component="broker"}'
    with site.detachd.serve() as service:
        until(lambda: "exists with other arguments" in service.readiness()[1], 60)
        assert f"{ready} 0.0" in fetch(site.detachd.port, "/metrics")[1]
        site.publish(acts)
        oracle.wait_until_over(site, acts)
        site.peer.channel.queue_delete(QUEUE)
        service.ready()
        assert f"{ready} 1.0" in fetch(site.detachd.port, "/metrics")[1]
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)
