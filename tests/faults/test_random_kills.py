"""kill -9 at random moments, again and again, with many volumes stuck at once.

The short campaign is always run. A long one, over all three ledgers (`make campaigns`, or):

    DETACHD_CAMPAIGN_SECONDS=600 .venv/bin/pytest --timeout=0 -k long tests/faults

It draws another seed each time; DETACHD_CAMPAIGN_SEED gives one, so that the same volumes get stuck
and the kills are as far apart.
"""

from __future__ import annotations

import os
import random
import secrets
import time
import uuid
from pathlib import Path

import pytest

from consumer.ledger import Replay
from handlers.case import CaseState
from handlers.judgement.rules import CRASHES
from tests.bus import until
from tests.integration import oracle
from tests.integration.site import REPEATABLE, Broker, Site, open_site

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LATENCY_SECONDS = 0.04
"""What each call outside takes, so that most kills fall into the midst of some recovery."""

READY_SHARE = 0.8
"""How many of the kills come once the service works; the others come while it starts."""

ROUND_SECONDS = 2.5
LONG_SECONDS = float(os.environ.get("DETACHD_CAMPAIGN_SECONDS", "0"))

# Not the migration, which nobody ever ends here.
STUCK = [scene for scene in REPEATABLE if scene.name != "healthy: live migration"]


def campaign(site: Site, seed: int, *, volumes: int, kills: int) -> None:
    """Let volumes get stuck while the service is killed so often, then let it go on and judge."""
    draw = random.Random(seed)
    site.cloud.set_latency(LATENCY_SECONDS)
    acts = site.arrange(draw.choices(STUCK, k=volumes))
    with site.detachd.serve() as first:  # its queue is there from now on
        first.ready()
    share = -(-volumes // kills)
    for number in range(kills):
        with site.detachd.serve() as service:
            site.publish(acts[number * share : (number + 1) * share])
            if draw.random() < READY_SHARE:
                service.ready()
            time.sleep(draw.uniform(0.0, 1.5))
            service.kill()
        sent_round(site)
    with site.detachd.serve() as last:
        last.ready()
        until(lambda: not oracle.unfinished(site, acts) and not sent_round(site), 60 + volumes)
        assert last.terminate() == 0
    oracle.all_is_well(site, acts)


def sent_round(site: Site) -> bool:
    """Send round what was parked because the process ended so often; tell whether that was any.

    A person does so who knows why it ended.
    """
    parked = [c for c in site.ledger.cases(state=CaseState.PARKED) if c.rule == CRASHES]
    for case in parked:
        why = "the test had killed the process"
        replay = Replay(str(uuid.uuid4()), "0" * 64, "test", "operator", why)
        site.ledger.replay(replay, case.case_id)
    return bool(parked)


def test_short_campaign(site: Site) -> None:
    """Twenty volumes, six kills -> each case is ended, each edge is announced, nobody is harmed."""
    campaign(site, 20261122, volumes=20, kills=6)


@pytest.mark.skipif(not LONG_SECONDS, reason="DETACHD_CAMPAIGN_SECONDS says how long")
def test_long_campaign(broker: Broker, ledger_url: str, tmp_path: Path) -> None:
    """The same for as long as is asked for, a third of it on each kind of ledger."""
    seed = int(os.environ.get("DETACHD_CAMPAIGN_SEED") or secrets.randbelow(2**32))
    kills = max(6, int(LONG_SECONDS / 3 / ROUND_SECONDS))
    with open_site(broker, tmp_path, ledger_url) as site:
        try:
            campaign(site, seed, volumes=4 * kills, kills=kills)
            site.check_logs()
        except AssertionError as error:
            error.add_note(f"seed {seed}, {kills} kills")
            raise
