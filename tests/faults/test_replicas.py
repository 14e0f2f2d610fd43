"""Two services on one ledger and one queue, each a process of its own; one is killed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.benchmarks.storm import overlaps
from tests.bus import until
from tests.faults.test_random_kills import STUCK, sent_round
from tests.integration import oracle
from tests.integration.service_process import Installation
from tests.integration.site import Broker, Site, open_site
from tests.services import ledgers
from tests.services.database import PrivateDatabase

pytestmark = [pytest.mark.integration, pytest.mark.slow]
VOLUMES = 14
LATENCY_SECONDS = 0.04
LONG_LEASE_SECONDS = 720.0
"""The default. No lease needs to run out here: the kernel says that the other is dead."""
# Two that share a queue take in what belongs together in any order: an end may come before the
# error that it follows, and close the case. As shipped, such a case is looked at once more.
LEDGER = {"second_looks_per_minute": 600, "second_look_seconds": 1.0}


def alive(detachd: Installation) -> list[str]:
    """Return the owners that `detachd replica list` says are alive."""
    listed = json.loads(detachd.run("replica", "list", "-f", "json").stdout)
    return [replica["Owner"] for replica in listed if replica["Alive"]]


def workers(site: Site) -> set[str]:
    """Return the owners that came to a conclusion on some case."""
    return set(oracle.column(site, "SELECT actor FROM history WHERE kind = 'concluded'"))


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_one_of_two_is_killed(
    broker: Broker, tmp_path: Path, server: str, request: pytest.FixtureRequest
) -> None:
    """Two work, one is killed at some moment -> the other takes its volumes up, never both at once.

    Both are in the list before; each case ends as it must; no volume had two writes at a time.
    """
    database: PrivateDatabase = request.getfixturevalue(server)
    draw = random.Random(f"replicas on {server}")
    with open_site(broker, tmp_path, ledgers.on(database)) as site:
        site.cloud.set_latency(LATENCY_SECONDS)
        acts = site.arrange(draw.choices(STUCK, k=VOLUMES))
        other = Installation(tmp_path / "other", site.detachd.places)
        for one in (site.detachd, other):
            one.configure(worker={"lease_seconds": LONG_LEASE_SECONDS}, ledger=LEDGER)
        with site.detachd.serve() as first, other.serve() as second:
            first.ready(), second.ready()
            assert len(alive(site.detachd)) == 2
            site.publish(acts)
            until(lambda: len(workers(site)) == 2)
            time.sleep(draw.uniform(0.0, 0.5))
            first.kill()
            until(lambda: not oracle.unfinished(site, acts) and not sent_round(site), 120)
            assert second.terminate() == 0
        oracle.all_is_well(site, acts)
        assert overlaps(site.cloud.journal) == 0
        assert len(site.ledger.replicas()) == 1  # the one that was killed: it could not say so
