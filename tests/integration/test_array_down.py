"""Three hundred volumes of one array get stuck at once, and the array answers no release.

On a real RabbitMQ, with the service in a process of its own. The breaker opens after a few
failures, so the array is not asked three hundred times, and nobody is told three hundred times.
Volumes on another array are mended as if there were no storm. Then one release is tried, and the
others follow at the rate of the bucket.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Iterator, Sequence

import pytest

from consumer.demo.wire import API_PUBLISHER, Message, SentAttachment, Story
from drivers.errors import TransientError
from drivers.simulator import Fault, scenes
from drivers.simulator.scenes import Scene
from tests.bus import until
from tests.integration.service_process import UNHURRIED, fetch
from tests.integration.site import Site

pytestmark = pytest.mark.integration

DOWN, FINE = "array-1@iscsi", "array-2@iscsi"
VOLUMES, OTHERS = 300, 10
HOSTS = tuple(f"compute-{number}" for number in range(1, 21))
FAILURES, CONCURRENCY = 5, 8
BURST, PER_SECOND = 20, 30.0
RELEASE = "driver.terminate_connection"
BRAKES = {
    "breaker_failures": FAILURES,
    "breaker_open_seconds": 1.0,
    "backend_burst": BURST,
    "backend_per_hour": PER_SECOND * 3600,
}


def stuck(site: Site, backend: str, number: int) -> list[Scene]:
    """Have as many attaches fail whose clean-up failed too: the backend exports each volume."""
    hosts = itertools.islice(itertools.cycle(HOSTS), number)
    made = [scenes.orphaned_attach(site.cloud, host, backend) for host in hosts]
    site.cloud.clear_faults()
    return made


def news(backend: str, made: Sequence[Scene]) -> Iterator[Message]:
    """Yield what the bus tells of them: Cinder's start, then Nova's error."""
    for scene in made:
        story = Story(scene.volume_id, scene.instance_id, scene.host, backend)
        row = SentAttachment(scene.attachment_id, "reserved")
        yield story.cinder("attach.start", "reserved", row)
        yield story.nova_legacy_error("attach_volume", "MessagingTimeout", scene.attachment_id)


def connectors(site: Site) -> Iterator[Message]:
    """Yield an earlier attach of each host."""
    for host in HOSTS:
        story = Story(f"earlier-{host}", f"guest-{host}", host, FINE)
        row = SentAttachment(f"row-{host}", "attached", site.cloud.connector(host))
        yield story.cinder("attach.end", "in-use", row, publisher=API_PUBLISHER)


def free(site: Site, made: Sequence[Scene]) -> int:
    """Return how many of them are available, and on the backend of nobody."""
    return sum(
        site.status(scene.volume_id) == "available" and not site.cloud.exported_to(scene.volume_id)
        for scene in made
    )


def breakers(site: Site) -> list[str]:
    """Return the backends whose breaker the metrics show as open."""
    page = fetch(site.detachd.port, "/metrics")[1]
    return re.findall(r'^detachd_breaker_open\{backend="([^"]+)"\} 1.0$', page, re.MULTILINE)


def mended_in_seconds(site: Site, made: Sequence[Scene]) -> float:
    """Publish the news of these volumes of the array that is fine; return how long it takes."""
    began = time.monotonic()
    site.send(news(FINE, made))
    until(lambda: free(site, made) == len(made), 60.0)
    return time.monotonic() - began


@pytest.mark.timeout(300)
def test_array_that_answers_no_release(site: Site) -> None:
    """Three hundred stuck -> a few tries, one alert, no parked case; it is back -> all mended."""
    site.detachd.configure(
        dataclasses.replace(UNHURRIED, max_failures=3),
        brakes=BRAKES, worker={"threads": 32, "poll_seconds": 0.05, "drain_seconds": 60.0},
        backend_defaults={"concurrency": CONCURRENCY},
    )  # fmt: skip
    for backend in (DOWN, FINE):
        site.cloud.add_backend(backend)
    alone, beside = (stuck(site, FINE, OTHERS) for _ in range(2))
    storm = stuck(site, DOWN, VOLUMES)
    site.cloud.script(
        *(Fault.before(RELEASE, TransientError, volume_id=s.volume_id, times=999) for s in storm)
    )
    with site.detachd.serve() as service:
        service.ready()
        site.send(connectors(site))
        quiet_seconds = mended_in_seconds(site, alone)
        site.send(news(DOWN, storm))
        until(lambda: breakers(site) == [DOWN])
        busy_seconds = mended_in_seconds(site, beside)
        assert busy_seconds < 3 * quiet_seconds + 10, (busy_seconds, quiet_seconds)

        # One cause, told once: no case is parked, and the array was asked a few times.
        until(lambda: len(site.ledger.cases(limit=1000)) == VOLUMES + 2 * OTHERS, 60.0)
        assert breakers(site) == [DOWN]
        assert "BREAKER of array-1@iscsi" in site.detachd.run("status").stdout
        asked = {c.volume_id for c in site.cloud.calls(RELEASE)} & {s.volume_id for s in storm}
        assert FAILURES <= len(asked) <= FAILURES + CONCURRENCY + 4
        assert [t for _, t in site.told().values() if t.endswith("parked")] == []

        back_at = time.monotonic()
        site.cloud.clear_faults()
        until(lambda: free(site, storm) == VOLUMES, 150.0)
        assert time.monotonic() - back_at > (VOLUMES - BURST) / PER_SECOND - 2
        until(lambda: breakers(site) == [])
        assert service.terminate() == 0
    assert not site.cloud.hazards()
