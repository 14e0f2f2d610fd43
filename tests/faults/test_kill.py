"""kill -9 between any two hops loses nothing and harms nothing."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bus import until
from tests.integration import oracle
from tests.integration.site import REPEATABLE, Act, Broker, Site, open_site
from tests.services import ledgers
from tests.services.postgresql import PostgreSQL

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# In the order of the path; each write outside is one that a scene asks for. The hops that are not
# here are in the pairs below.
HOPS = (
    "received", "accepted", "claimed", "intended cinder.reserve", "intended nova.detach",
    "called cinder.reserve", "called backend.force_detach", "called cinder.unreserve",
    "called cinder.roll_detaching", "called nova.detach", "called cinder.complete",
    "called cinder.delete_attachment", "result", "mended", "finished", "taken", "confirmed",
)  # fmt: skip
ON_POSTGRESQL = ("accepted", "called cinder.reserve", "finished")
TWICE = (
    ("acked", "planned"),
    ("called cinder.reserve", "looked again cinder.unreserve"),
    ("called cinder.roll_detaching", "intended nova.detach"),
    ("sent", "settled"),
)


def crashing(site: Site, hop: str) -> tuple[str, ...]:
    """Return the command that is `detachd`, but is killed at this hop."""
    marker = site.detachd.directory / f"killed {hop}"
    return (sys.executable, "-m", "tests.faults.crashing_service", hop, str(marker))


def killed_at(site: Site, hop: str, acts: Sequence[Act] = ()) -> None:
    """Run a service until it is killed at this hop; publish the scenes once it listens."""
    with site.detachd.serve(crashing(site, hop)) as doomed:
        if acts:
            doomed.ready()
            site.publish(acts)
        assert doomed.ended() == -signal.SIGKILL


def goes_on(site: Site, acts: Sequence[Act]) -> None:
    """Run a fresh service until all is over, and stop it in good order."""
    with site.detachd.serve() as fresh:
        fresh.ready()
        oracle.wait_until_over(site, acts)
        assert fresh.terminate() == 0


@pytest.fixture
def site_on_postgresql(broker: Broker, tmp_path: Path, postgresql: PostgreSQL) -> Iterator[Site]:
    """Give a site whose ledger is PostgreSQL."""
    url = ledgers.on(postgresql)
    with open_site(broker, tmp_path, url) as made:
        yield made
        made.check_logs()
    postgresql.drop_database(url)


@pytest.mark.parametrize("hop", HOPS)
def test_killed_at_a_hop(site: Site, hop: str) -> None:
    """Killed there, once -> the next service ends every scene as if nothing had been."""
    acts = site.arrange(REPEATABLE)
    killed_at(site, hop, acts)
    goes_on(site, acts)
    oracle.all_is_well(site, acts)


@pytest.mark.parametrize("hop", ON_POSTGRESQL)
def test_killed_at_a_hop_on_postgresql(site_on_postgresql: Site, hop: str) -> None:
    """The same where the ledger is a server that lives on with half a transaction."""
    acts = site_on_postgresql.arrange(REPEATABLE)
    killed_at(site_on_postgresql, hop, acts)
    goes_on(site_on_postgresql, acts)
    oracle.all_is_well(site_on_postgresql, acts)


@pytest.mark.parametrize(("first", "second"), TWICE)
def test_killed_twice(site: Site, first: str, second: str) -> None:
    """Killed, and what takes over is killed at another hop -> the third ends every scene."""
    acts = site.arrange(REPEATABLE)
    killed_at(site, first, acts)
    killed_at(site, second)
    goes_on(site, acts)
    oracle.all_is_well(site, acts)


LONG_LEASE_SECONDS = 720.0
"""The default, which covers the longest call."""

SOON_SECONDS = 180.0
"""All that is left, with the start of the service and the late horizons of these scenes."""


def test_killed_twice_with_a_long_lease(site: Site) -> None:
    """Killed in two writes, each with twelve minutes of lease left -> the third goes on at once."""
    site.detachd.configure(worker={"lease_seconds": LONG_LEASE_SECONDS})
    acts = site.arrange(REPEATABLE)
    # Two writes of one case: of two cases, which are worked on side by side, the first service may
    # have made both.
    killed_at(site, "called cinder.roll_detaching", acts)
    killed_at(site, "called nova.detach")
    began = time.monotonic()
    goes_on(site, acts)
    assert time.monotonic() - began < SOON_SECONDS
    oracle.all_is_well(site, acts)


@pytest.mark.parametrize("hop", ["put aside", "quarantined"])
def test_killed_while_a_message_goes_to_quarantine(site: Site, hop: str) -> None:
    """Killed before its batch is acked -> the malformed body is kept, and so are the others."""
    acts = site.arrange(REPEATABLE[:1])
    malformed = b'{"event_type": "volume.attach.start", "payload": '
    with site.detachd.serve(crashing(site, hop)) as doomed:
        doomed.ready()
        site.peer.put(malformed, "cinder", "notifications.info")
        site.publish(acts)
        assert doomed.ended() == -signal.SIGKILL
    goes_on(site, acts)
    assert set(site.peer.take_all("detachd.quarantine")) == {malformed}
    assert len(oracle.column(site, "SELECT times FROM quarantine")) == 1
    oracle.all_is_well(site, acts)


def test_broker_killed_in_the_midst(site: Site) -> None:
    """RabbitMQ is killed with messages queued and cases at work -> nothing lost, all announced."""
    server, acts = site.broker.server, site.arrange(REPEATABLE)
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts[:5])
        server.sync()
        site.publish(acts[5:])
        with server.killed():
            until(lambda: service.readiness()[0] == 503)
        site.reconnect()
        service.ready()
        oracle.wait_until_over(site, acts)
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)


def test_broker_and_service_killed_with_a_full_queue(site: Site) -> None:
    """Both are killed while messages wait unread -> they are there when both are back."""
    server, acts = site.broker.server, site.arrange(REPEATABLE)
    with site.detachd.serve() as service:
        service.ready()
        server.sync()
        service.kill()
    site.publish(acts)
    with server.killed():
        pass
    site.reconnect()
    goes_on(site, acts)
    oracle.all_is_well(site, acts)


def test_killed_in_an_upgrade(database_url: str, broker: Broker, tmp_path: Path) -> None:
    """Killed between two tables -> refused as it is; the upgrade run again completes it."""
    with open_site(broker, tmp_path, database_url) as site:
        doomed = crashing(site, "upgrading")
        killed = site.detachd.run("ledger", "upgrade", fails=True, command=doomed)
        assert killed.returncode == -signal.SIGKILL
        assert "run `detachd ledger upgrade`" in site.detachd.run("case", "list", fails=True).stderr
        assert " from nothing to " in site.detachd.run("ledger", "upgrade").stdout
        with site.detachd.serve() as service:
            service.ready()
            assert service.terminate() == 0
        site.check_logs()
