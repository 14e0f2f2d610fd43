"""An operator's night, by the commands alone: on a real RabbitMQ and a real PostgreSQL.

An array refuses every release: thirty cases are parked, for one cause. It comes back; what would
come out is previewed; few are replayed first, and one of them fails again, so the others are not;
then all come right. That a stale approval is refused has a test of its own
(``test_service.py::test_plan_read_ten_minutes_ago_is_not_another_plan``).

Another night, a host loses its power: a person says so, what waited for it is released, and when it
comes back that is told.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.demo.scenes import SCENES
from drivers.errors import TransientError
from drivers.simulator import Fault
from tests.bus import until
from tests.integration.service_process import UNHURRIED
from tests.integration.site import Broker, Site, open_site
from tests.services import ledgers
from tests.services.postgresql import PostgreSQL

UC1 = next(scene for scene in SCENES if scene.name.startswith("UC1"))
CASES = 30
RELEASE = "driver.terminate_connection"
POLICY = dataclasses.replace(UNHURRIED, max_failures=2)
WHY = ("--reason", "the array is back", "--actor", "night shift")
PARKED = ("--state", "parked")


@pytest.fixture
def site(broker: Broker, tmp_path: Path, postgresql: PostgreSQL) -> Iterator[Site]:
    """Give a site whose ledger is on PostgreSQL."""
    with open_site(broker, tmp_path, ledgers.on(postgresql)) as made:
        made.detachd.configure(POLICY)
        yield made
        made.check_logs()


def command(site: Site, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Give a command as the operator does; fail unless it ends with this exit status."""
    done = site.detachd.run(*words, fails=bool(code))
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def listed(site: Site, *words: str) -> list[dict[str, Any]]:
    """Return a list as a script reads it."""
    found: list[dict[str, Any]] = json.loads(
        command(site, "case", "list", "-f", "json", *words).stdout
    )
    return found


def parked(site: Site) -> int:
    """Return how many cases are parked, without a command."""
    return sum(case.state.value == "parked" for case in site.ledger.cases(limit=1000))


@pytest.mark.timeout(300)
def test_array_that_was_down_for_a_night(site: Site) -> None:
    """Thirty parked for one cause, seen, tried, replayed few first -> every volume is free."""
    site.cloud.script(Fault.before(RELEASE, TransientError, times=10_000))
    acts = site.arrange([UC1] * CASES)
    for act in acts:
        site.cloud.export(act.volume_id, act.stage.host)
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts)
        until(lambda: parked(site) == CASES, 120.0)

        # What is it? One cause.
        (group,) = listed(site, "--group")
        assert (group["Cases"], group["State"]) == (CASES, "parked")
        assert f"{CASES} " in command(site, "status").stdout
        assert command(site, "stuck", code=3).stderr.startswith(f"{CASES} in transition, 0 of")
        tried = [len(site.writes(act.volume_id)) for act in acts]

        # It is back. What would come out? Nothing is done to find out.
        site.cloud.clear_faults()
        preview = command(site, "replay", "case", *PARKED, "--preview")
        assert preview.stderr.startswith(
            f"{CASES} cases looked at, nothing replayed: {CASES} would act"
        )
        assert [len(site.writes(act.volume_id)) for act in acts] == tried
        assert parked(site) == CASES

        # For one of the first two it is not: the others are left alone.
        first = listed(site, *PARKED)[0]
        site.cloud.script(
            Fault.before(RELEASE, TransientError, volume_id=first["Volume"], times=99)
        )
        stopped = command(site, "replay", "case", *PARKED, "--canary", "2", *WHY, code=1)
        assert f"1 of the first 2 are parked again; {CASES - 2} cases were not" in stopped.stderr
        assert len(stopped.stdout.splitlines()) == 2
        assert parked(site) == CASES - 1

        # Now it is, for all.
        site.cloud.clear_faults()
        words = ("--canary", "3", "--rate", "600", "--stop-after", "2")
        done = command(site, "replay", "case", *PARKED, *words, *WHY)
        assert "the first 3: 3 well, 0 parked" in done.stderr
        until(lambda: all(site.status(act.volume_id) == "available" for act in acts), 60.0)
        until(lambda: parked(site) == 0)
        assert all(site.cloud.exported_to(act.volume_id) == () for act in acts)
        assert command(site, "stuck").stderr == "nothing is in transition\n"
        assert service.terminate() == 0
    assert not site.cloud.hazards()
    by = {
        line.actor
        for case in site.ledger.cases()
        for line in site.ledger.case(case.case_id).history
    }
    assert "night shift" in by


TRUSTING = dataclasses.replace(POLICY, trust_off_word=True)
OFF = ("--off", "--until", "8h", "--reason", "unplugged, ticket 4711", "--actor", "night shift")


@pytest.mark.timeout(300)
def test_host_that_lost_its_power(site: Site) -> None:
    """Waits for a host, attested off -> released; it comes back -> that is told."""
    site.detachd.configure(TRUSTING)
    (act,) = site.arrange([UC1])
    host = act.stage.host
    site.cloud.export(act.volume_id, host)
    with site.detachd.serve() as service:
        service.ready()

        # While it is up, nobody may say so. Nor of a host that nobody knows.
        assert "is up, as Nova says" in command(site, "host", "attest", host, *OFF, code=2).stderr
        site.cloud.set_compute("compute-99", up=None)
        wrong = command(site, "host", "attest", "compute-99", *OFF, code=2)
        assert "nobody knows a compute host compute-99" in wrong.stderr

        # It loses its power: the case waits for it, and nothing is written.
        site.cloud.power_off(host)
        site.publish([act])
        until(lambda: _rule(site) == "B4.compute-down", 60.0)
        assert site.writes(act.volume_id) == []

        # A person has seen it unplugged. What waited is released.
        command(site, "host", "attest", host, *OFF)
        (case,) = site.ledger.cases()
        command(site, "replay", "case", case.case_id, "--reason", "the host is off")
        until(lambda: site.status(act.volume_id) == "available", 60.0)
        assert site.cloud.exported_to(act.volume_id) == ()
        shown = command(site, "case", "show", case.case_id, "--all").stdout
        assert f"night shift says that {host} is powered off" in " ".join(shown.split())
        (row,) = json.loads(command(site, "host", "list", "-f", "json").stdout)
        assert (row["Host"], row["Volumes"], row["Ended by"]) == (host, 1, None)

        # It comes back.
        site.cloud.set_compute(host, up=True)
        until(lambda: site.ledger.off_word(host) is None, 90.0)
        (row,) = json.loads(command(site, "host", "list", "-f", "json").stdout)
        assert (row["Ended by"], row["Why"]) == ("detachd", "its nova-compute is up")
        until(lambda: f"host {host} was said to be powered off" in site.detachd.logs(), 60.0)
        assert service.terminate() == 0
    assert not site.cloud.hazards()


def _rule(site: Site) -> str | None:
    return next((case.rule for case in site.ledger.cases()), None)
