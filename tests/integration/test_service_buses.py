"""The whole service on two buses, of which one is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from consumer.cloud import ControlPlane
from consumer.service import Parts, Service
from consumer.settings.configuration import load
from drivers.simulator import Cloud
from handlers.case import CaseState
from tests.bus import Peer, stored, until
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.rabbitmq import RabbitMQ

CONFIGURATION = """
[DEFAULT]
transport_url = {one}
[bus:cell1]
transport_url = {one}
[bus:cell2]
transport_url = {two}
[ledger]
connection = sqlite:///{directory}/ledger.sqlite
attach_deadline_seconds = 1
[worker]
poll_seconds = 0.05
drain_seconds = 60
[exporter]
port = 0
[backend_defaults]
driver = simulator
"""


@pytest.fixture
def urls(rabbitmq: RabbitMQ) -> tuple[str, str]:
    """Give two virtual hosts, the second of which detachd may not use yet."""
    one, two = rabbitmq.fresh_vhost(), rabbitmq.fresh_vhost()
    permit(rabbitmq, two, "^$")
    return one, two


def permit(rabbitmq: RabbitMQ, url: str, what: str) -> None:
    """Let the broker's user use what matches, in the URL's virtual host."""
    vhost = url.rpartition("/")[2]
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "guest", what, what, what)


@pytest.fixture
def service(tmp_path: Path, urls: tuple[str, str]) -> Iterator[Service]:
    """Give a service that runs on both."""
    one, two = (url.replace("amqp://", "rabbit://") for url in urls)
    path = tmp_path / "detachd.conf"
    path.write_text(CONFIGURATION.format(one=one, two=two, directory=tmp_path))
    with Cloud() as cloud:
        made = Service(load([path]), Parts(ControlPlane(cloud.cinder, cloud.nova), cloud.driver))
        made.ledger.upgrade()
        made.start()
        yield made
        made.stop()
        assert made.wait()


def attach_start() -> Recorded:
    """Return the start of an attach at a volume of its own."""
    return next(
        m for m in renewed(recording(HEALTHY)) if m.event_type.startswith("volume.attach.start")
    )


def ask(service: Service, page: str) -> requests.Response:
    """Ask the exporter for a page."""
    return requests.get(f"http://127.0.0.1:{service.exporter.port}{page}", timeout=10)


def components(service: Service) -> dict[str, dict[str, Any]]:
    """Return what /readyz says of each component."""
    found: dict[str, dict[str, Any]] = ask(service, "/readyz").json()["components"]
    return found


def test_one_bus_away_the_other_is_listened_to(
    service: Service, urls: tuple[str, str], rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """One bus refuses us -> the other's messages are stored, no deadline fires, both are seen.

    The deadline of what came in is over, but its end may wait on the other bus. When that is back,
    the deadline fires.
    """
    one, two = service.listeners
    until(lambda: one.caught_up and two.status().problems)
    with Peer(urls[0]) as peer:
        peer.publish([attach_start()])
    until(lambda: len(stored(tmp_path)) == 1)

    told = components(service)
    assert told["broker:cell1"]["ok"]
    assert told["listener:cell1"]["ok"]
    assert not told["broker:cell2"]["ok"]
    assert "ACCESS_REFUSED" in told["broker:cell2"]["reason"]
    assert not told["listener:cell2"]["ok"]
    assert "broker" not in told
    assert ask(service, "/readyz").status_code == 503

    (case,) = service.ledger.cases()
    until(lambda: service.ledger.counts()[CaseState.WAITING].oldest_age_seconds > 2)
    assert not service.caught_up
    assert service.ledger.case(case.case_id).case.state is CaseState.WAITING

    permit(rabbitmq, urls[1], ".*")
    until(lambda: service.ledger.case(case.case_id).case.state is not CaseState.WAITING, 60)
    until(lambda: components(service)["broker:cell2"]["ok"])
    with Peer(urls[1]) as peer:
        peer.publish([attach_start()])
    until(lambda: len(stored(tmp_path)) == 2)
    metrics = ask(service, "/metrics").text
    for bus in ("cell1", "cell2"):
        assert f'detachd_notifications_stored_total{{bus="{bus}"}} 1.0' in metrics
        assert f'detachd_ready{{component="broker:{bus}"}} 1.0' in metrics
