"""The ledger is restored from a backup that is older than the cloud: docs/install.md."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from consumer.demo.scenes import SCENES
from consumer.ledger import Ledger
from handlers.case import CaseState, Conclusion, Trigger
from tests.bus import until
from tests.integration.service_process import UNHURRIED
from tests.integration.site import Act, Broker, Site, open_site
from tests.integration.test_service_sweep import SWEEP
from tests.services import ledgers
from tests.services.database import PrivateDatabase
from tests.services.ledgers import LEDGERS

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def play(site: Site, name: str) -> Act:
    """Have the bus tell of a scene, on a volume of its own."""
    (act,) = site.arrange([scene for scene in SCENES if scene.name.startswith(name)])
    site.introduce([act])
    site.publish([act])
    return act


def states(site: Site, act: Act) -> set[CaseState]:
    """Return the states of the cases of a volume; the sweep may have opened one of its own."""
    return {record.case.state for record in site.cases(act.volume_id)}


class Sqlite:
    """SQLite as its file: what a server of a database does for its own."""

    def back_up(self, url: str) -> Path:
        """Copy the ledger while the service uses it, as `sqlite3 FILE ".backup COPY"` does."""
        file = Path(str(make_url(url).database))
        copy = file.with_name("backup.sqlite")
        with (
            contextlib.closing(sqlite3.connect(file)) as one,
            contextlib.closing(sqlite3.connect(copy)) as other,
        ):
            one.backup(other)
        return copy

    def restore(self, url: str, backup: Path) -> None:
        """Put the copy in the place of the ledger, and remove what belongs to the old one."""
        file = Path(str(make_url(url).database))
        for name in ("-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)
        file.unlink()
        file.write_bytes(backup.read_bytes())


Server = Sqlite | PrivateDatabase


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A site, and where its ledger is."""

    site: Site
    server: Server
    url: str


@pytest.fixture(params=LEDGERS)
def stored(request: pytest.FixtureRequest, broker: Broker, tmp_path: Path) -> Iterator[Stored]:
    """Give a site on each kind of ledger in turn."""
    sqlite = request.param == "sqlite"
    server: Server = Sqlite() if sqlite else request.getfixturevalue(request.param)
    with ledgers.each(request, tmp_path) as url, open_site(broker, tmp_path, url) as site:
        yield Stored(site, server, url)
        site.check_logs()


def reopened(site: Site) -> Ledger:
    """Open the ledger that is there now; the test's own still has the old one open."""
    site.ledger.close()
    return site.leaving.enter_context(site.detachd.ledger())


def test_ledger_of_before_harms_nothing_and_the_sweep_finds_what_it_lacks(
    stored: Stored,
) -> None:
    """A backup, then an hour of work, then the backup again -> no harm, and nothing stays stuck.

    Since the backup one case was opened and mended, one was mended and its volume attached anew by
    its user, and one was opened and not begun.
    """
    site, server, url = stored.site, stored.server, stored.url
    site.detachd.configure(UNHURRIED, sweep=SWEEP)
    with site.detachd.serve() as service:
        service.ready()
        site.ledger.pause("test", "so that a case is open in the backup")
        reattached = play(site, "UC4")
        until(lambda: states(site, reattached) != set(), 30)
        backup = server.back_up(url)
        site.ledger.resume("test", "")
        until(lambda: states(site, reattached) == {CaseState.CLOSED}, 60)
        site.cloud.attach(reattached.volume_id, site.cloud.boot_server(host="compute-9"))
        mended = play(site, "UC3")
        until(lambda: states(site, mended) == {CaseState.CLOSED}, 60)
        site.ledger.pause("test", "so that a case is not begun")
        lost = play(site, "UC1")
        until(lambda: states(site, lost) != set(), 30)
        assert service.terminate() == 0
    acts = (reattached, mended)
    before = [site.writes(act.volume_id) for act in acts]
    server.restore(url, backup)
    site.ledger = reopened(site)
    assert states(site, mended) == states(site, lost) == set()
    assert site.ledger.paused() is not None
    site.ledger.resume("test", "")
    with site.detachd.serve() as service:
        service.ready()
        until(lambda: states(site, lost) == {CaseState.CLOSED}, 60)
        until(lambda: states(site, reattached) == {CaseState.CLOSED}, 60)
        assert service.terminate() == 0
    (record,) = site.cases(lost.volume_id)
    assert (record.case.trigger, record.case.conclusion) == (Trigger.SWEEP, Conclusion.MENDED)
    assert [site.writes(act.volume_id) for act in acts] == before
    assert site.status(reattached.volume_id) == "in-use"
    assert site.cloud.exported_to(reattached.volume_id) == ("compute-9",)
    assert site.cloud.hazards() == ()
