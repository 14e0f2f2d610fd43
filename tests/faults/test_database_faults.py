"""What a real database server can do to the whole service, on PostgreSQL and on MariaDB.

Every test ends before the oracle: each relevant message is in exactly one case, each announced edge
went out at least once under one id, nobody was harmed, and no log has a traceback. An outage lasts
longer than every repetition within the ledger (30 s); `make campaigns` makes it a minute.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bus import until
from tests.faults.test_random_kills import STUCK, sent_round
from tests.integration import oracle
from tests.integration.site import REPEATABLE, Act, Broker, Site, open_site
from tests.services import ledgers
from tests.services.database import PrivateDatabase

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

OUTAGE_SECONDS = float(os.environ.get("DETACHD_OUTAGE_SECONDS", "35"))
CUTS = 25
LATENCY_SECONDS = 0.04


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> PrivateDatabase:
    """Give each server in turn."""
    shared: PrivateDatabase = request.getfixturevalue(request.param)
    return shared


@pytest.fixture
def site(broker: Broker, server: PrivateDatabase, tmp_path: Path) -> Iterator[Site]:
    """Give a site whose ledger is on the server."""
    fresh = ledgers.on(server)
    with open_site(broker, tmp_path, server.as_plain_user(fresh)) as made:
        made.cloud.set_latency(LATENCY_SECONDS)
        yield made
        made.check_logs()
    server.drop_database(fresh)


def stalling(site: Site, method: str) -> tuple[Path, tuple[str, ...]]:
    """Return the marker of, and the command that is, a `detachd` that stands still there once."""
    marker = site.detachd.directory / f"stands still in {method}"
    command = (sys.executable, "-m", "tests.faults.stalling_service", method, str(marker))
    return marker, command


def goes_on(site: Site, acts: Sequence[Act]) -> None:
    """Wait until all is over, as a person would who sends round what had parked for crashes."""
    until(lambda: not oracle.unfinished(site, acts) and not sent_round(site), 120)


@pytest.mark.parametrize("method", ["accept", "finish"])
def test_killed_in_the_midst(site: Site, server: PrivateDatabase, method: str) -> None:
    """Killed between the statements and the commit of that, and back -> as if it had not been."""
    acts = site.arrange(REPEATABLE)
    marker, command = stalling(site, method)
    with site.detachd.serve(command) as service:
        service.ready()
        site.publish(acts)
        until(marker.exists, 60)
        with server.killed():
            marker.unlink()
            until(lambda: service.readiness()[0] == 503, 30)
        goes_on(site, acts)
        service.ready()
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)


def test_away_for_a_while(site: Site, server: PrivateDatabase) -> None:
    """Killed while cases are worked, away while more get stuck -> all ended when it is back."""
    acts = site.arrange(REPEATABLE)
    half = len(acts) // 2
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts[:half])
        until(lambda: oracle.column(site, "SELECT case_id FROM history WHERE kind = 'intended'"))
        with server.killed():
            site.publish(acts[half:])
            until(lambda: service.readiness()[0] == 503, 30)
            time.sleep(OUTAGE_SECONDS)
            assert service.running
        goes_on(site, acts)
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)


def test_connections_cut_again_and_again(site: Site, server: PrivateDatabase) -> None:
    """Every connection ended, in whatever it does, many times -> nothing lost, nothing twice."""
    draw = random.Random(20261123)
    acts = site.arrange(draw.choices(STUCK, k=16))
    with site.detachd.serve() as service:
        service.ready()
        for number in range(CUTS):
            site.publish(acts[number : number + 1])
            server.cut_connections()
            time.sleep(draw.uniform(0.0, 0.4))
        goes_on(site, acts)
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)


def test_fails_over_to_a_standby_and_back(site: Site, server: PrivateDatabase) -> None:
    """Read-only for some seconds, twice, while cases are worked -> waited for, then all ended."""
    acts = site.arrange(REPEATABLE)
    half = len(acts) // 2
    with site.detachd.serve() as service:
        service.ready()
        for some in (acts[:half], acts[half:]):
            site.publish(some)
            time.sleep(0.5)
            server.set_read_only(on=True)
            try:
                time.sleep(4)
            finally:
                server.set_read_only(on=False)
        goes_on(site, acts)
        assert service.terminate() == 0
    oracle.all_is_well(site, acts)
