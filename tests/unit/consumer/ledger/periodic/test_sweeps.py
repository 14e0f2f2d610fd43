"""Sweeps in the ledger: one at a time, and what they saw, on all three databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database.tables import sightings, sweeps
from drivers.base import Connector
from handlers.correlation.sweep import Sighting, Standing
from handlers.notification import Phase
from tests.unit.consumer.ledger.making import accept, seen, told

VOLUME = Sighting("vol", None, "attaching", "v1")
ROW = Sighting("vol", "row", "attaching", "r1")
OTHER = Sighting("other", None, "detaching", "v1")


def noted(ledger: Ledger, *seen: Sighting, whole: bool = True) -> dict[Sighting, Standing]:
    """Note a sweep's sightings; return the standing of each."""
    return {s.sighting: s for s in ledger.sweeps.note(seen, whole=whole)}


def back(ledger: Ledger, table: sa.Table, column: str, seconds: float) -> None:
    """Put a time in every row of a table back by so much."""
    keys = list(table.primary_key.columns)
    with ledger._database.engine.begin() as connection:
        for row in connection.execute(sa.select(table)).mappings().all():
            mine = sa.and_(*(key == row[key.name] for key in keys))
            then: Any = row[column] - timedelta(seconds=seconds)
            connection.execute(sa.update(table).where(mine).values({column: then}))


def test_one_replica_sweeps_in_an_interval(ledger: Ledger, second: Ledger) -> None:
    """Two replicas come for the same sweep -> one gets it, the other not until the interval."""
    begun = [ledger.sweeps.begin("one", 300.0), second.sweeps.begin("two", 300.0)]
    assert [sweep is None for sweep in begun] == [False, True]
    back(ledger, sweeps, "next_at", 301)
    assert second.sweeps.begin("two", 300.0) is not None
    assert ledger.sweeps.begin("one", 300.0) is None


def test_count_is_kept_for_the_next_sweep(ledger: Ledger) -> None:
    """A sweep counted 7 volumes -> the next one is told, whoever makes it."""
    first = ledger.sweeps.begin("one", 0.0)
    ledger.sweeps.believed(7)
    after = ledger.sweeps.begin("two", 0.0)
    assert first is not None
    assert after is not None
    assert (first.counted, after.counted) == (None, 7)


def test_doubt_lasts_from_its_first_sweep_to_the_next_believed(ledger: Ledger) -> None:
    """Two sweeps are doubted, an hour apart -> since the first; one is believed -> no doubt."""
    ledger.sweeps.begin("one", 0.0)
    ledger.sweeps.believed(7)
    ledger.sweeps.doubted()
    back(ledger, sweeps, "doubted_at", 3600)
    ledger.sweeps.doubted()
    sweep = ledger.sweeps.begin("one", 0.0)
    assert sweep is not None
    assert sweep.counted == 7
    assert 3600 <= (sweep.doubted_seconds or 0) < 3700
    ledger.sweeps.believed(3)
    sweep = ledger.sweeps.begin("one", 0.0)
    assert sweep is not None
    assert (sweep.counted, sweep.doubted_seconds) == (3, None)


def test_sighting_ages_while_it_is_the_same(ledger: Ledger) -> None:
    """Seen unchanged after an hour -> an hour old; what is new beside it -> no age."""
    assert noted(ledger, VOLUME, ROW)[VOLUME].age_seconds == 0.0
    back(ledger, sightings, "first_seen_at", 3600)
    standings = noted(ledger, VOLUME, ROW, OTHER)
    assert 3600 <= standings[VOLUME].age_seconds < 3700
    assert 3600 <= standings[ROW].age_seconds < 3700
    assert standings[OTHER].age_seconds == 0.0


def test_sighting_that_moved_begins_anew(ledger: Ledger) -> None:
    """Another version after an hour -> no age, and never offered; its row keeps its own."""
    noted(ledger, VOLUME, ROW)
    back(ledger, sightings, "first_seen_at", 3600)
    ledger.sweeps.offered([VOLUME.key])
    moved = Sighting("vol", None, "attaching", "v2")
    standings = noted(ledger, moved, ROW)
    assert (standings[moved].age_seconds, standings[moved].offers) == (0.0, 0)
    assert standings[ROW].age_seconds >= 3600
    again = noted(ledger, moved, ROW)[moved]
    assert again.age_seconds < 3600
    assert again.offered_seconds is None


def test_not_listed_is_forgotten_where_the_list_was_whole(ledger: Ledger) -> None:
    """A whole list without it -> forgotten, so that it begins anew when it comes back."""
    noted(ledger, VOLUME, OTHER)
    back(ledger, sightings, "first_seen_at", 3600)
    noted(ledger, OTHER)
    standings = noted(ledger, VOLUME, OTHER)
    assert standings[VOLUME].age_seconds == 0.0
    assert standings[OTHER].age_seconds >= 3600


def test_not_listed_is_kept_where_the_list_was_doubted(ledger: Ledger) -> None:
    """A doubted list shows nothing -> what was seen before keeps its age."""
    noted(ledger, VOLUME)
    back(ledger, sightings, "first_seen_at", 3600)
    assert noted(ledger, whole=False) == {}
    assert noted(ledger, VOLUME)[VOLUME].age_seconds >= 3600


def test_offer_is_remembered(ledger: Ledger) -> None:
    """Made a case of twice -> two offers, and how long ago the last was; another's: none."""
    noted(ledger, VOLUME, ROW)
    ledger.sweeps.offered([VOLUME.key])
    ledger.sweeps.offered([VOLUME.key])
    back_to = noted(ledger, VOLUME, ROW)
    assert (back_to[VOLUME].offers, back_to[ROW].offers) == (2, 0)
    assert back_to[ROW].offered_seconds is None
    assert 0 <= (back_to[VOLUME].offered_seconds or 0.0) < 60


def test_clouds_do_not_see_each_other(ledger: Ledger, ledger_url: str) -> None:
    """Another cloud in the same database -> sweeps and sightings of its own."""
    noted(ledger, VOLUME)
    ledger.sweeps.begin("one", 300.0)
    neighbour = Ledger(ledger_url, cloud="neighbour")
    assert neighbour.sweeps.begin("two", 300.0) is not None
    assert noted(neighbour) == {}
    assert noted(ledger, VOLUME)[VOLUME].age_seconds > 0.0
    neighbour.close()


def test_hosts_are_known_by_what_storage_calls_them(ledger: Ledger) -> None:
    """Three hosts' connectors, two with one initiator -> only the third is known by its own."""
    for number, initiator in enumerate(("iqn-shared", "iqn-shared", "iqn-own")):
        connector = Connector(host=f"compute-{number}", initiator=initiator)
        row = seen("attached", host=connector.host, connector=connector)
        accept(ledger, told(phase=Phase.END, attachment_id=row.attachment_id, attachments=(row,)))
    assert ledger.sweeps.hosts() == {"iqn-own": "compute-2"}
