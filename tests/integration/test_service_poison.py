"""One small message that our own client library fails on, or that is a thousand times its size.

Whoever may publish, or only writes odd headers, would stop the bus with one: the broker delivers it
first again after each lost connection and each restart.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.ledger import BodyState
from tests.bus import quarantined, stored, until
from tests.integration.service_process import ServiceProcess
from tests.integration.site import Site
from tests.raw_amqp import DEEP, GZIP, LATE, MEBIBYTE, bomb, publish, text, with_headers
from tests.recorded import HEALTHY, Recorded, recording, renewed

pytestmark = pytest.mark.integration

QUEUE, QUARANTINE, REPLAY = "detachd.notifications", "detachd.quarantine", "detachd.replay"
IRRELEVANT = b'{"event_type":"compute.instance.update","payload":{}}'
UNREADABLE = b'{"event_type":"volume.attach.start","payload":'
ODD_KEY = with_headers(
    b"\2CCA" + (5 + 18).to_bytes(4, "big") + b"S" + (18).to_bytes(4, "big") + b"notifications.info"
)
"""Brings a message to whoever listens at notifications.info, under any routing key of its own."""

ODD = [
    pytest.param(LATE, "notifications.info", id="a time beyond all calendars"),
    pytest.param(DEEP, "notifications.info", id="tables in tables"),
    pytest.param(ODD_KEY, b"\xff\xfe", id="a routing key that is not UTF-8"),
]


def start() -> Recorded:
    """Return the first message of an attach, of a volume of its own."""
    return renewed(recording(HEALTHY))[3]


def most_memory(service: ServiceProcess) -> int:
    """Return how many bytes the process has ever had in memory at once."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def all_taken(site: Site) -> bool:
    """Tell whether our queue is empty, with nothing unacked on its way back to it."""
    return site.peer.take(QUEUE) is None


def heard_around(site: Site, directory: Path, poison: Callable[[], None]) -> None:
    """Check that neighbours before, after, and after a restart of the service arrive."""
    before, after, later = start(), start(), start()
    with site.detachd.serve() as service:
        service.ready()
        site.send([before])
        poison()
        site.send([after])
        until(lambda: {before.message_id, after.message_id} <= set(stored(directory)))
        assert service.terminate() == 0
    assert all_taken(site), "the restarted service would have it again"
    poison()  # and now it is there already when the service comes
    with site.detachd.serve() as service:
        # Not ``ready``: Cinder knows none of these volumes, and after three looks that is told.
        site.send([later])
        until(lambda: later.message_id in stored(directory))
        assert service.terminate() == 0
    assert all_taken(site)


@pytest.mark.parametrize(("properties", "routing_key"), ODD)
def test_properties_stop_nobody(
    site: Site, tmp_path: Path, properties: bytes, routing_key: str | bytes
) -> None:
    """Odd properties -> the body alone decides: counted, stored, or put aside; the rest goes on."""
    sound = start()

    def poison() -> None:
        for body in (IRRELEVANT, sound.body, UNREADABLE):
            publish(site.peer, body, properties, "nova", routing_key)

    heard_around(site, tmp_path, poison)
    assert stored(tmp_path).count(sound.message_id) == 1
    assert site.peer.take_all(QUARANTINE) == [UNREADABLE, UNREADABLE]
    assert len(quarantined(tmp_path)) == 1


def test_bomb_stays_small(site: Site, tmp_path: Path) -> None:
    """A megabyte that is a gibibyte -> put aside as it came, with no gibibyte ever in memory."""
    body = bomb()
    assert len(body) < MEBIBYTE * 1.1
    heard_around(
        site, tmp_path, lambda: publish(site.peer, body, GZIP, "nova", "notifications.info")
    )
    assert site.peer.take_all(QUARANTINE) == [body, body]
    assert "the decompressed body has more than max_body_bytes" in quarantined(tmp_path)[0]


def test_memory_with_a_bomb_is_that_without(site: Site, tmp_path: Path) -> None:
    """Ten bombs of 64 MiB at once -> the service's most memory grows by less than two of them."""
    body, neighbour = bomb(64), start()
    with site.detachd.serve() as service:
        service.ready()
        site.send([start()])
        until(lambda: stored(tmp_path))
        usual = most_memory(service)
        for _ in range(10):
            publish(site.peer, body, GZIP, "nova", "notifications.info")
        site.send([neighbour])
        until(lambda: neighbour.message_id in stored(tmp_path))
        grown = most_memory(service) - usual
        assert service.terminate() == 0
    assert grown < 32 * MEBIBYTE
    assert site.peer.take_all(QUARANTINE) == [body] * 10


@pytest.mark.parametrize(("properties", "routing_key"), ODD[:2])
def test_replay_queue_too(site: Site, properties: bytes, routing_key: str | bytes) -> None:
    """The same on the replay queue -> put aside or taken in, and the next replay is taken in."""
    with site.detachd.serve() as service:
        service.ready()
        publish(site.peer, UNREADABLE, properties, "", REPLAY)
        publish(site.peer, bomb(64), GZIP, "", REPLAY)
        publish(site.peer, start().body, properties, "", REPLAY)
        until(site.ledger.cases)
        assert service.terminate() == 0
    assert site.peer.take(REPLAY) is None
    assert len(site.peer.take_all(QUARANTINE)) == 2


def test_a_bomb_in_the_operators_hand(site: Site) -> None:
    """`detachd quarantine show` and `replay` of a bomb -> shown; comes back the same, told why."""
    body = bomb(64)
    with site.detachd.serve() as service:
        service.ready()
        publish(site.peer, body, GZIP, "nova", "notifications.info")
        until(site.ledger.quarantined)
        (held,) = site.ledger.quarantined()
        shown = site.detachd.run("quarantine", "show", held.body_sha256, "-f", "json")
        fields = json.loads(shown.stdout)
        assert (fields["size"], fields["bus"]) == (len(body), "default")
        site.detachd.run("quarantine", "replay", held.body_sha256)
        until(lambda: site.ledger.quarantined()[0].times == 2)
        assert service.terminate() == 0
    (again,) = site.ledger.quarantined()
    assert again.state is BodyState.HELD
    assert again.body_sha256 == held.body_sha256
    assert again.reason == held.reason
    assert site.peer.take_all(QUARANTINE) == [body]
    assert site.peer.take(REPLAY) is None


def test_larger_body_allowed_meanwhile(site: Site) -> None:
    """A compressed body was too large; max_body_bytes is raised, it is replayed -> taken in."""
    large = json.loads(start().body) | {"filling": "A" * 2 * MEBIBYTE}
    body = zlib.compress(json.dumps(large).encode())
    with site.detachd.serve() as service:
        service.ready()
        publish(site.peer, body, GZIP, "nova", "notifications.info")
        until(site.ledger.quarantined)
        assert service.terminate() == 0
    site.detachd.configure(listener={"max_body_bytes": 4 * MEBIBYTE})
    with site.detachd.serve() as service:
        service.ready()
        site.detachd.run("quarantine", "replay", "--all")
        until(site.ledger.cases)
        assert service.terminate() == 0
    assert site.peer.take_all(QUARANTINE) == []


def test_compression_that_is_none(site: Site, tmp_path: Path) -> None:
    """A method that nobody knows, a header that is no text -> put aside, never taken for plain."""
    body, after = start().body, start()
    with site.detachd.serve() as service:
        service.ready()
        for headers in (text(b"compression", b"rot13"), b"\x0bcompressionI\0\0\0\1"):
            publish(site.peer, body, with_headers(headers), "nova", "notifications.info")
        site.send([after])
        until(lambda: after.message_id in stored(tmp_path))
        assert service.terminate() == 0
    assert stored(tmp_path) == [after.message_id]
    assert site.peer.take_all(QUARANTINE) == [body, body]
